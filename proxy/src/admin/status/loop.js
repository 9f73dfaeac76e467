function askForToken() {
  byId("refused").textContent = sessionStorage.getItem(KEY) ? "That token was refused." : "";
  sessionStorage.removeItem(KEY);
  byId("figures").hidden = true;
  byId("ask").hidden = false;
  byId("token").focus();
}

let latest = null, waiting = 0;
async function read() {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { authorization: "Bearer " + token } : {};
  const limit = { signal: AbortSignal.timeout(10000), cache: "no-store" };
  const answer = await fetch("/state", { headers, ...limit });
  if (answer.status === 401) { askForToken(); return false; }
  if (!answer.ok) throw new Error("status " + answer.status);
  const ready = await (await fetch("/readyz", limit)).text();
  show(await answer.json(), ready.trim());
  latest = new Date();
  return true;
}

async function loop() {
  clearTimeout(waiting);
  let again = true;
  try {
    if (!document.hidden || !latest) again = await read();
  } catch (reason) {
    const since = latest ? " The figures below are of " + latest.toLocaleTimeString("en-GB") + "." : "";
    notice("lost", "The sidecar does not answer (" + reason.message + ")." + since);
    speak("connection", "The sidecar does not answer");
  }
  clearTimeout(waiting);
  if (again) waiting = setTimeout(loop, EVERY);
}

byId("token-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  sessionStorage.setItem(KEY, byId("token").value);
  byId("token").value = "";
  loop();
});
said.connection = "";
loop();
