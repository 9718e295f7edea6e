// Completion and inspection. Cursors count code points.
"use strict";

const { lexicalNames, peek } = require("./evaluate.cjs");
const { textOf } = require("./results.cjs");

const MAX_MATCHES = 1000;
const MAX_TEXT = 64 * 1024;
const KEYWORDS = (
  "async await break case catch class const continue debugger default delete do else export extends false finally " +
  "for function if import in instanceof let new null of return static super switch this throw true try typeof " +
  "undefined var void while with yield"
).split(" ");
const PATH = /(?:([\w$\u0080-\uffff.[\]'"]+)\.)?([\w$\u0080-\uffff]*)$/;

function complete(code, cursor) {
  const before = [...code].slice(0, cursor).join("");
  const [, object, prefix] = PATH.exec(before);
  const names = new Set(object === undefined ? [...KEYWORDS, ...lexicalNames(), ...members(globalThis)] : of(object));
  const matches = [...names].filter((name) => name.startsWith(prefix) && /^[\w$\u0080-\uffff]+$/.test(name));
  matches.sort();
  const start = cursor - [...prefix].length;
  return [{ type: "complete", start, end: cursor }, { matches: matches.slice(0, MAX_MATCHES).join("\n") }];
}

function of(expression) {
  const found = peek(expression);
  return found === undefined || found.value === undefined || found.value === null ? [] : members(found.value);
}

function members(value) {
  const names = [];
  try {
    for (let at = Object(value); at !== null && names.length < 20_000; at = Object.getPrototypeOf(at)) {
      for (const name of Object.getOwnPropertyNames(at)) if (!/^\d|^__runyard/.test(name)) names.push(name);
    }
  } catch {
    // A proxy's traps may throw.
  }
  return names;
}

function inspect(code, cursor) {
  const points = [...code];
  const before = PATH.exec(points.slice(0, cursor).join(""))[0];
  const expression = before + /^[\w$\u0080-\uffff]*/.exec(points.slice(cursor).join(""))[0];
  const found = expression && peek(expression);
  if (!found) return [{ type: "inspect", found: false }, { text: "" }];
  let text = textOf(found.value);
  if (typeof found.value === "function") {
    const source = Function.prototype.toString.call(found.value);
    if (!source.includes("[native code]")) text += `\n${source}`;
  }
  text = Buffer.from(text).subarray(0, MAX_TEXT).toString().replace(/\ufffd+$/, "");
  return [{ type: "inspect", found: true }, { text }];
}

module.exports = { complete, inspect };
