function prompt(request) {
  if (!known(request.tokens_before)) return "–";
  const about = request.estimated ? "≈ " : "";
  const after = known(request.tokens_after) ? count(request.tokens_after) : "refused";
  return about + count(request.tokens_before) + " → " + after + (request.mode === "shadow" ? " (shadow)" : "");
}

function result(request) {
  const head = [request.status, request.outcome].filter(known).join(" ");
  return known(request.error) ? head + "\n" + request.error : head;
}

function taken(request) {
  if (!known(request.route)) return request.method + " " + (request.path || "unknown path");
  return request.route + "\n" + request.policy + ", " + request.mode;
}

// Requests in progress: `flight` is one of them.
function showRunning(running) {
  rows(byId("running"), running, (flight) => [rowHead(element("code", {}, "…" + flight.id.slice(-8))), cell(flight.stage, flight.stage === "queued" ? "warn-text" : ""),
    cell(flight.route || flight.path || "–"), cell(flight.upstream || "–"),
    number(known(flight.tokens_before) ? count(flight.tokens_before) + " → " + count(flight.tokens_sent) : "–"), number(time(flight.age_ms))],
    "Nothing runs right now.");
}

// Why a prompt came out as it did, in words.
function why(request, trace_url) {
  const lines = [], context = request.context;
  const line = (...text) => lines.push(element("li", {}, ...text));
  if (known(context)) {
    line("The window of " + count(context.window) + " tokens is a budget of " + count(context.budget) + " for the prompt and " +
      count(context.reserved) + " for the answer, counted by " + context.tokenizer + (request.estimated ? " (estimated)." : " (exact)."));
    line("The policy left it " + context.outcome + " in " + time(context.took_ms) + ": " + count(context.messages_before) + " → " + count(context.messages_after) + " messages.");
  }
  for (const action of request.actions) {
    const tool = known(action.tool) ? " of the tool " + action.tool : "";
    const added = action.tokens_added ? ", +" + count(action.tokens_added) : "";
    line(element("strong", {}, action.policy), tool + ": " + action.reason + " (−" + count(action.tokens_removed) + added + " tokens, " + count(action.messages) + " touched)");
  }
  if (known(request.kv_bytes)) line("Its keys and values took " + bytes(request.kv_bytes) + ".");
  if (known(request.memory_peak_bytes)) line("Memory was " + bytes(request.memory_before_bytes) + " before, " + bytes(request.memory_peak_bytes) + " at most.");
  line("Request ", element("code", {}, request.id));
  if (known(request.trace_id)) line("Trace ", traced(request.trace_id, trace_url));
  return element("ul", {}, ...lines);
}

function traced(trace, trace_url) {
  const id = element("code", {}, trace);
  if (!known(trace_url)) return id;
  const link = element("a", { target: "_blank", rel: "noopener noreferrer" }, id);
  link.href = trace_url.replaceAll("{trace_id}", encodeURIComponent(trace));
  return link;
}

// Details that are open stay open when new requests come.
const unfolded = new Set();
let listed = "";
function details(request, trace_url) {
  const summary = element("summary", { "aria-label": "Why, request " + request.id.slice(-8) }, "why");
  const made = element("details", { id: "why-" + request.id }, summary, why(request, trace_url));
  made.open = unfolded.has(request.id);
  made.addEventListener("toggle", () => made.open ? unfolded.add(request.id) : unfolded.delete(request.id));
  return made;
}

function showRequests(requests, trace_url) {
  const list = requests.map((request) => request.id).join();
  if (list === listed && requests.length) return;
  listed = list;
  const focused = document.activeElement && document.activeElement.closest("details");
  const kinds = { completed: "good-text", disconnected: "soft", failed: "bad-text", rejected: "warn-text" };
  const did = (action) => action.policy + ": −" + count(action.tokens_removed) + " tokens, " + count(action.messages) + " touched";
  rows(byId("requests"), requests, (request) => [
    rowHead(new Date(request.ended_ms).toLocaleTimeString("en-GB")),
    cell(result(request), "list " + kinds[request.outcome]),
    cell(taken(request), "list"),
    cell(known(request.model) ? request.model + (request.model === request.upstream ? "" : "\nat " + request.upstream) : "–", "list"),
    number(prompt(request)), cell(request.actions.map(did).join("\n") || "–", "list"),
    number(count(request.cached_tokens) + (known(request.input_tokens) ? " of " + count(request.input_tokens) : "")),
    number(count(request.output_tokens)), number(time(request.queued_ms)), number(time(request.first_token_ms)), number(time(request.took_ms)),
    element("td", { class: "why" }, details(request, trace_url)),
  ], "No request has finished yet.");
  if (focused && byId(focused.id)) byId(focused.id).firstElementChild.focus();
}
