"use strict";
// A test holds this script to what /state has: an object of it keeps its name here (state, config, file, error, fault, totals,
// engine, leak, slot, route, flight, request, context, action), and `name.field` is always a field of it.
const EVERY = 2000, KEY = "plimsoll.token";
const byId = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const count = (value) => known(value) ? value.toLocaleString("en-US") : "–";

function bytes(value) {
  if (!known(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return value.toLocaleString("en-US", { maximumFractionDigits: unit ? 1 : 0 }) + " " + units[unit];
}

function time(millis) {
  if (!known(millis)) return "–";
  const [value, unit] = millis < 1000 ? [millis, " ms"] : [millis / 1000, " s"];
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 1 : 0 }) + unit;
}

function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const words = parts.map(([size, unit]) => {
    const whole = Math.floor(seconds / size);
    seconds -= whole * size;
    return whole ? whole + " " + unit : "";
  });
  return words.filter(Boolean).slice(0, 2).join(" ") || "0 s";
}

// Texts are set as text, never as HTML.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") made.className = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const cell = (text, kind) => element("td", kind ? { class: kind } : {}, text);
const number = (text) => cell(text, "number");
const rowHead = (...content) => element("th", { scope: "row" }, ...content);
const columnHead = (text, kind) => element("th", kind ? { scope: "col", class: kind } : { scope: "col" }, text);
const fact = (name, value, kind) => element("div", {}, element("dt", {}, name), element("dd", kind ? { class: kind } : {}, value));

function rows(table, items, row, none) {
  const made = items.map((item) => element("tr", {}, ...row(item)));
  const columns = table.tHead.rows[0].cells.length;
  table.tBodies[0].replaceChildren(...(made.length ? made : [element("tr", {}, element("td", { class: "soft", colspan: columns }, none))]));
}

function notice(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

// Only changes are spoken: readings come every two seconds.
const said = {};
function speak(topic, text) {
  const before = said[topic];
  said[topic] = text;
  if (before !== undefined && before !== text) byId("spoken").textContent = text || topic + ": resolved";
}
