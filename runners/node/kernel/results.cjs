// Results: values as MIME bundles, within the bounds of a cell.
"use strict";

const { Buffer } = require("node:buffer");
const util = require("node:util");
const { reply, waitForReader } = require("./messages.cjs");

const MAX_RESULTS = 100;
const MAX_TYPES = 64;
const MAX_ID = 1000;
const MAX_BYTES = 10 * 1024 * 1024;
const MAX_TEXT = 256 * 1024;
const MAX_JSON = 1024 * 1024;
const MAX_NODES = 100_000;
const CUT = "… (truncated)";
const BINARY = /^image\/(?!svg)|^application\/pdf$/;
const BUNDLE = Symbol.for("Jupyter.display"); // the method by which Deno's kernel shows objects
const HELPERS = {
  html: "text/html",
  markdown: "text/markdown",
  text: "text/plain",
  svg: "image/svg+xml",
  png: "image/png",
  jpeg: "image/jpeg",
  pdf: "application/pdf",
  latex: "text/latex",
  javascript: "application/javascript",
  json: "application/json",
};
const { inspect } = util;
const { stringify, parse } = JSON;

let state = { results: 0, bytes: 0, dropped: 0, wanted: true };

function begin(wanted) {
  state = { results: 0, bytes: 0, dropped: 0, wanted };
}

const dropped = () => state.dropped;

// Return a value's text in the form of the REPL, whatever its getters and methods do.
function textOf(value) {
  let text;
  try {
    text = inspect(value);
  } catch (error) {
    text = `[cannot be inspected: ${messageOf(error)}]`;
  }
  return cut(text);
}

function cut(text) {
  if (text.length * 3 <= MAX_TEXT || Buffer.byteLength(text) <= MAX_TEXT) return text;
  const bytes = Buffer.from(text).subarray(0, MAX_TEXT - Buffer.byteLength(CUT));
  return bytes.toString().replace(/\ufffd+$/, "") + CUT;
}

function messageOf(error) {
  try {
    return String(error?.message ?? error);
  } catch {
    return "an error without a message";
  }
}

// Return the value as JSON, or undefined where it has none or a large one.
function jsonOf(value) {
  let nodes = 0;
  const counted = (_key, part) => {
    if (++nodes > MAX_NODES) throw new RangeError();
    return typeof part === "number" && !Number.isFinite(part) ? null : part;
  };
  try {
    const text = stringify(value, counted);
    return text !== undefined && text.length <= MAX_JSON ? parse(text) : undefined;
  } catch {
    return undefined;
  }
}

// Only what JSON keeps: a Map or a class would become `{}`.
function isData(value) {
  if (Array.isArray(value)) return true;
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function bundleOf(value) {
  try {
    if (isData(value) && !Array.isArray(value)) {
      const keys = Object.keys(value);
      if (keys.length > 0 && keys.every((key) => /^[\w.+-]+\/[\w.+-]+$/.test(key))) return encoded(value);
    }
    const json = isData(value) ? jsonOf(value) : undefined;
    if (json !== undefined) return { "text/plain": textOf(value), "application/json": json };
  } catch {
    // The traps of a proxy may throw.
  }
  return { "text/plain": textOf(value) };
}

function encoded(bundle) {
  const data = {};
  for (const [type, value] of Object.entries(bundle)) {
    if (value === undefined) continue;
    if (value instanceof Uint8Array || value instanceof ArrayBuffer) {
      const bytes = Buffer.from(value);
      data[type] = BINARY.test(type) ? bytes.toString("base64") : bytes.toString();
    } else if (/[/+]json$/.test(type)) {
      data[type] = jsonOf(value) ?? null;
    } else {
      data[type] = BINARY.test(type) || typeof value === "string" ? String(value) : textOf(value);
    }
  }
  return data;
}

function send(data, { isMain = false, id = null, update = false } = {}) {
  if (!state.wanted) return;
  const parts = {};
  let size = 0;
  for (const [type, value] of Object.entries(data).slice(0, MAX_TYPES)) {
    parts[type] = /[/+]json$/.test(type) ? stringify(value) : value;
    size += Buffer.byteLength(parts[type]);
  }
  if (state.results >= MAX_RESULTS || state.bytes + size > MAX_BYTES) {
    state.dropped += 1;
    return;
  }
  state.results += 1;
  state.bytes += size;
  const display_id = id === null || id === undefined ? null : String(id).slice(0, MAX_ID);
  reply({ type: "display", is_main_result: isMain, display_id, update: Boolean(update) }, parts);
  if (!isMain) waitForReader();
}

function sendMain(value) {
  if (value === undefined) return;
  const custom = customBundle(value);
  send(custom ?? bundleOf(value), { isMain: true });
}

function customBundle(value) {
  try {
    const made = typeof value?.[BUNDLE] === "function" ? value[BUNDLE]() : undefined;
    return made !== null && typeof made === "object" && typeof made.then !== "function" ? encoded(made) : undefined;
  } catch {
    return undefined;
  }
}

// display(value, { id, update }), display.html(text, …) and so on for HELPERS, display.update(id, value) and
// display.clear({ wait }). An object whose keys are MIME types is shown as these, and so is what a value's method
// [Symbol.for("Jupyter.display")] returns.
function display(value, options = {}) {
  send(customBundle(value) ?? bundleOf(value), options ?? {});
}
for (const [name, type] of Object.entries(HELPERS)) {
  display[name] = (value, options) => send(encoded({ [type]: value }), options ?? {});
}
display.update = (id, value) => display(value, { id, update: true });
display.clear = ({ wait = false } = {}) => {
  reply({ type: "clear", wait: Boolean(wait) });
  waitForReader();
};

module.exports = { begin, cut, display, dropped, messageOf, sendMain, textOf };
