// What the components are.
const MEANING = {
  weights: "the model", kv_cache: "keys and values of conversations", workspace: "buffers of runs",
  slack: "held by the runtime for later runs", context: "code and driver, before any work", unattributed: "nobody accounts for it",
};

function memory(engine, name) {
  const limit = engine.memory_limit_bytes;
  const parts = Object.entries(engine.memory_bytes);
  const used = parts.reduce((sum, [, size]) => sum + size, 0);
  const words = parts.map(([name, size]) => name + " " + bytes(size)).join(", ");
  const label = "Memory: " + bytes(used) + " of " + bytes(limit) + ": " + words;
  const bar = element("div", { class: "bar", role: "img", "aria-label": label });
  const color = (index) => "var(--c" + index % 6 + ")";
  const legend = element("tbody", {});
  const line = (part, size, paint) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = paint;
    legend.append(element("tr", {}, rowHead(swatch, part), cell(MEANING[part] || "", "soft"), number(bytes(size)), number(share(size, limit))));
  };
  parts.forEach(([part, size], index) => {
    const piece = element("span", { title: part + ": " + bytes(size) });
    piece.style.width = share(size, limit);
    piece.style.background = color(index);
    bar.append(piece);
    line(part, size, color(index));
  });
  line("free", limit - used, "var(--free)");
  const head = element("thead", {}, element("tr", {}, columnHead("Component"), columnHead("What it is", ""), columnHead("Size", "number"), columnHead("Share", "number")));
  const caption = bytes(used) + " of " + bytes(limit) + ", by " + engine.memory_source + "; of the KV cache, " +
    bytes(engine.kv_reserved_bytes) + " reserved by running requests";
  return element("div", {}, element("h3", {}, "Memory"), bar, leaking(engine.leak, name),
    element("table", { class: "wrapped" }, element("caption", {}, caption), head, legend), element("p", { class: "soft" }, around(engine)));
}

// The leak detector's word, spoken where it changes.
function leaking(leak, name) {
  const kinds = { ok: "good-text", suspect: "warn-text", leak: "bad-text" };
  const words = { ok: "memory stays where it was", suspect: leak.component + " rose by " + bytes(leak.growth_bytes) + " and stayed there",
    leak: leak.component + " grew by " + bytes(leak.growth_bytes) + " and goes on, or did not come back after unloading" };
  const text = "Leak check: " + leak.state + " – " + words[leak.state];
  speak("leak check of " + name, text);
  const basis = leak.threshold_bytes ? ", growth up to " + bytes(leak.threshold_bytes) + " is no leak" : "";
  return element("p", {}, element("strong", { class: kinds[leak.state] }, text),
    element("span", { class: "soft" }, " (" + count(leak.samples) + " readings while nothing ran" + basis + ")"));
}

// What the process and the device hold besides.
function around(engine) {
  const process = "Whole process in main memory: " + bytes(engine.process_rss_bytes) + ".";
  if (!known(engine.device_total_bytes)) return process;
  const whose = { process: "its own, by its id", only_process: "the device's only process", device: "the device's growth since the start" };
  return process + " Device, by everybody: " + bytes(engine.device_used_bytes) + " of " + bytes(engine.device_total_bytes) +
    ". Of it, this process's part is told by: " + (whose[engine.memory_attribution] || "nobody") + ".";
}

const share = (part, whole) => whole ? (100 * part / whole).toFixed(1) + "%" : "0%";
