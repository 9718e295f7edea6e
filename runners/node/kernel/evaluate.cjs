// Evaluation by V8's own mode for REPLs: `let`, `const` and `class` can be declared again, and `await` needs no
// function around it.
"use strict";

const { Session } = require("node:inspector");
const { builtinModules, createRequire, Module, SourceMap } = require("node:module");
const path = require("node:path");
const vm = require("node:vm");

const { extension, hooks, toJavaScript } = require(process.argv[2]);
const { IMPORT, ITERATE, WAIT, asObject, prepare } = require("./prepare.cjs");
const { messageOf, textOf } = require("./results.cjs");
const { Interrupt, iterate, wait } = require("./waits.cjs");

const GROUP = "cell";
const STEP = Symbol.for("runyard.kernel.step");
const FRAME = new RegExp(`\\bcell-(\\d+)\\.${extension}\\b`);
const session = new Session();
session.connect();
const step = new vm.Script('globalThis[Symbol.for("runyard.kernel.step")]()', { filename: "kernel" });
// The method of Node's own class: that of `Script` removes the listeners of SIGINT for a while.
const { runInContext } = Object.getPrototypeOf(vm.Script.prototype);
const maps = new Map();

// Call a function; SIGINT ends it, even in a loop without end. Throws an Interrupt then.
function interruptible(action) {
  let result;
  const call = () => (result = action());
  Object.defineProperty(globalThis, STEP, { value: call, configurable: true, enumerable: false, writable: true });
  try {
    runInContext.call(step, null, -1, true, true, false); // the last but one: breakOnSigint
  } catch (error) {
    if (error?.code === "ERR_SCRIPT_EXECUTION_INTERRUPTED") throw new Interrupt();
    throw error;
  }
  return result;
}

// Evaluate a cell, and call `finish` once with { value } or { failure: { name, value, traceback } }. A cell that has
// to wait calls it later.
function evaluate(code, number, finish) {
  const file = `cell-${number}.${extension}`;
  let script;
  try {
    const translated = toJavaScript(asObject(code), file);
    if (translated.map) maps.set(number, new SourceMap(translated.map));
    script = prepare(translated.code);
  } catch (error) {
    finish({ failure: failed(error) });
    return;
  }
  const expression = `${script}\n//# sourceURL=${file}`;
  interruptible(() =>
    session.post(
      "Runtime.evaluate",
      { expression, replMode: true, awaitPromise: true, objectGroup: GROUP, silent: false },
      // The only error, of a cell that can be compiled: it was terminated by SIGINT.
      (error, answer) => finish(error ? { failure: failed(new Interrupt()) } : outcome(answer, file)),
    ),
  );
}

function outcome({ result, exceptionDetails }, file) {
  if (!exceptionDetails) return { value: unwrap(result) };
  const error = unwrap(exceptionDetails.exception ?? {});
  const failure = failed(error);
  if (failure.name === "SyntaxError" && failure.traceback.length < 2) {
    failure.traceback.push(`    at ${file}:${exceptionDetails.lineNumber + 1}:${exceptionDetails.columnNumber + 1}`);
  }
  return { failure };
}

let taken;

function unwrap(remote) {
  if (remote.objectId === undefined) {
    if (remote.type === "bigint") return BigInt(remote.unserializableValue.slice(0, -1));
    return "unserializableValue" in remote ? Number(remote.unserializableValue) : remote.value;
  }
  Object.defineProperty(globalThis, STEP, { value: (it) => (taken = it), configurable: true, writable: true });
  session.post("Runtime.callFunctionOn", {
    functionDeclaration: 'function (it) { globalThis[Symbol.for("runyard.kernel.step")](it); }',
    arguments: [{ objectId: remote.objectId }],
    objectId: remote.objectId,
  });
  session.post("Runtime.releaseObjectGroup", { objectGroup: GROUP });
  const value = taken;
  taken = undefined;
  return value;
}

// Describe something thrown.
function failed(error) {
  let stack;
  try {
    if (error instanceof Error || typeof error?.stack === "string") {
      const name = String(error.name ?? error.constructor?.name ?? "Error");
      stack = String(error.stack);
      return { name, value: messageOf(error), traceback: [title(name, error), ...frames(stack)] };
    }
  } catch {
    // Its getters throw.
  }
  const text = textOf(error);
  return { name: "Uncaught", value: text, traceback: [`Uncaught ${text}`] };
}

function title(name, error) {
  const message = messageOf(error);
  return message ? `${name}: ${message}` : name;
}

function frames(stack) {
  return stack
    .split("\n")
    .filter((line) => /^\s+at /.test(line) && FRAME.test(line))
    .slice(0, 100)
    .map((line) => line.replace(/(cell-(\d+)\.\w+):(\d+):(\d+)/, placed));
}

function placed(text, file, number, line, column) {
  const entry = maps.get(Number(number))?.findEntry(Number(line) - 1, Number(column) - 1);
  return entry?.originalLine === undefined ? text : `${file}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
}

// Evaluate for completion: nothing that has effects, and not for long.
function peek(expression) {
  let found;
  session.post(
    "Runtime.evaluate",
    { expression, throwOnSideEffect: true, timeout: 200, objectGroup: GROUP },
    (error, answer) => {
      if (!error && !answer.exceptionDetails) found = { value: unwrap(answer.result) };
    },
  );
  return found;
}

function lexicalNames() {
  let names = [];
  session.post("Runtime.globalLexicalScopeNames", {}, (error, answer) => {
    if (!error) names = answer.names;
  });
  return names;
}

// Make `require`, `import` and Node's own modules known to cells, as the REPL does.
function setUp() {
  if (hooks !== null) require(hooks);
  const place = path.join(process.cwd(), `main.${extension}`);
  const loader = new Module(place);
  loader._compile("module.exports = (name, options) => import(name, options)", place);
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
  define(IMPORT, loader.exports);
  define(WAIT, wait);
  define(ITERATE, iterate);
  define("require", createRequire(place));
  define("module", { exports: {} });
  define("exports", globalThis.module.exports);
  for (const name of builtinModules.filter((each) => !/^_|[/:]/.test(each) && !(each in globalThis))) {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      enumerable: false,
      get: () => require(`node:${name}`),
      set: (value) => define(name, value),
    });
  }
}

module.exports = { evaluate, failed, interruptible, lexicalNames, peek, setUp };
