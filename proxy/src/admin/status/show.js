function showHead(state, ready) {
  const config = state.config, file = config.file;
  const kind = ready === "ready" ? "good-text" : "warn-text";
  byId("head").replaceChildren(
    fact("Status", ready, kind), fact("Version", state.version), fact("Up", span(state.uptime_seconds)),
    fact("Configuration", "generation " + count(config.generation)), fact("Hash", element("code", {}, config.hash)));
  speak("status", "Plimsoll is " + ready);
  speak("configuration", "Configuration generation " + config.generation);
  const error = file && file.last_error;
  notice("fault", error ? "The changed configuration is refused, the former one stays in force:\n" + faults(error) : "");
  speak("configuration error", error ? "A changed configuration is refused" : "");
  notice("restart", config.needs_restart.length ? "Waiting for a restart: " + config.needs_restart.join(", ") : "");
}

function faults(error) {
  const line = (fault) => (fault.path ? fault.path + ": " : "") + fault.message + (fault.hint ? " (" + fault.hint + ")" : "");
  return error.faults.map(line).join("\n");
}

function showTotals(totals) {
  const outcomes = Object.entries(totals.by_outcome).map(([name, value]) => count(value) + " " + name).join(", ");
  byId("totals").replaceChildren(
    fact("Requests", count(totals.requests)), fact("Prompt tokens asked", count(totals.tokens_before)),
    fact("Prompt tokens sent", count(totals.tokens_sent)), fact("of them cached", count(totals.tokens_cached)),
    fact("By result", outcomes || "none yet"));
  const removed = Object.entries(totals.removed_by_action).sort((a, b) => b[1] - a[1]);
  rows(byId("removed"), removed, ([rule, tokens]) => [rowHead(rule), number(count(tokens))], "Nothing was removed.");
  const tools = Object.entries(totals.removed_by_tool).sort((a, b) => b[1] - a[1]).slice(0, 8);
  rows(byId("tools"), tools, ([tool, tokens]) => [rowHead(tool), number(count(tokens))], "No tool's output was touched.");
}

function slots(engine) {
  const busy = engine.slots.filter((slot) => slot.busy).length;
  const table = element("table", {},
    element("caption", {}, count(busy) + " of " + count(engine.slots.length) + " busy, " + count(engine.queued) +
      " requests in the queue. A conversation is named by the request that began it; reused: tokens of its last prompt that were there already."),
    element("thead", {}, element("tr", {}, columnHead("Slot"), columnHead("State"), columnHead("Conversation"), columnHead("Tokens", "number"),
      columnHead("Limit", "number"), columnHead("Used", ""), columnHead("Reused", "number"))),
    element("tbody", {}));
  rows(table, engine.slots, (slot) => {
    const level = element("span", {});
    level.style.width = share(slot.tokens, slot.limit);
    const fill = element("span", { class: "fill", "aria-hidden": "true" }, level);
    const state_word = slot.busy ? "busy" : slot.tokens ? "idle " + span(slot.idle_seconds || 0) + ", kept" : "empty";
    return [rowHead(count(slot.id)), cell(state_word, slot.busy ? "busy" : ""), element("td", {}, conversation(slot)),
      number(count(slot.tokens)), number(count(slot.limit)), element("td", {}, fill, " " + share(slot.tokens, slot.limit)),
      number(known(slot.prompt_tokens) ? share(slot.reused_tokens, slot.prompt_tokens) : "–")];
  }, "No slots.");
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Slots and queue" }, element("h3", {}, "Slots and queue"), table);
}

function sharing(shared) {
  if (shared.mode !== "shared") return "none: " + (shared.reason || "prefixes are copied");
  const copied = shared.copied_for_want_of_maps ? ", " + count(shared.copied_for_want_of_maps) + " copied for want of maps" : "";
  return count(shared.segments) + ", " + bytes(shared.bytes) + copied;
}

function conversation(slot) {
  if (!known(slot.conversation)) return "–";
  const turns = slot.turns === 1 ? ", first turn" : ", turn " + count(slot.turns);
  return element("span", { title: "began with " + slot.conversation + ", last request " + slot.request },
    element("code", {}, "…" + slot.conversation.slice(-8)), turns);
}

function showUpstreams(upstreams, drift) {
  const made = Object.entries(upstreams).map(([name, engine], index) => {
    const id = "upstream-" + index;
    const title = element("h2", { id }, "Upstream " + name);
    if (engine.kind !== "engine") {
      return element("section", { "aria-labelledby": id }, title, ...server(engine, drift[name]));
    }
    const facts = element("dl", {},
      fact("Model", engine.model), fact("Device", engine.device), fact("Provider", engine.provider),
      fact("Context", count(engine.context_tokens) + " tokens"), fact("KV of a token", bytes(engine.kv_bytes_per_token)),
      fact("Queue", count(engine.queued)), fact("Shared prefixes", sharing(engine.kv_sharing)));
    const why = known(engine.device_reason) ? [element("p", { class: "soft" }, "Why this device: " + engine.device_reason)] : [];
    return element("section", { "aria-labelledby": id }, title, facts, ...why,
      element("div", { class: "columns" }, memory(engine, name), slots(engine)));
  });
  byId("upstreams").replaceChildren(...made);
}

function showRoutes(routes) {
  rows(byId("routes"), routes, (route) => [rowHead(route.name), cell(route.policy),
    cell(route.mode, route.mode === "enforce" ? "" : "warn-text"), cell(route.upstream), number(count(route.window_tokens))], "No routes yet.");
}

function show(state, ready) {
  byId("ask").hidden = true;
  byId("figures").hidden = false;
  notice("lost", "");
  speak("connection", "");
  showHead(state, ready);
  showTotals(state.totals);
  showUpstreams(state.upstreams, state.totals.drift_by_upstream);
  showRunning(state.running);
  showRoutes(state.routes);
  showRequests(state.requests, state.trace_url);
}
