function server(upstream, drift) {
  const from = { configured: "as configured", fallback: "as configured, until the server tells" };
  const window_text = known(upstream.context_tokens)
    ? count(upstream.context_tokens) + " tokens, " + (from[upstream.context_from] || "by " + upstream.context_from)
    : "not known";
  const facts = [fact("Context", window_text)];
  if (drift) {
    facts.push(fact("Counted against reported", (drift.counted_tokens / drift.reported_tokens).toFixed(3) + " over " +
      count(drift.requests) + " requests"));
  }
  return [element("dl", {}, ...facts), endpoints(upstream)];
}

function endpoints(upstream) {
  const several = upstream.affinity ? "Each conversation keeps to one server; of one that is out another takes over."
    : "Each request goes to the server with least to do.";
  const table = element("table", {},
    element("caption", {}, upstream.endpoints.length > 1 ? several : "All requests go to one server."),
    element("thead", {}, element("tr", {}, columnHead("Server"), columnHead("State"), columnHead("Under way", "number"),
      columnHead("Answered", "number"), columnHead("Failed", "number"), columnHead("Left out", "number"))),
    element("tbody", {}));
  rows(table, upstream.endpoints, (endpoint) => {
    const word = { in: "asked", out: "out for " + span(endpoint.out_seconds || 0), probing: "to be tried again" }[endpoint.health];
    const { answered, ...failed } = endpoint.attempts;
    const failures = Object.values(failed).reduce((sum, value) => sum + value, 0);
    return [rowHead(endpoint.url), cell(word, endpoint.health === "in" ? "" : "warn-text"), number(count(endpoint.in_flight)),
      number(count(answered)), number(count(failures)), number(count(endpoint.ejections))];
  }, "No servers.");
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Servers" }, table);
}

