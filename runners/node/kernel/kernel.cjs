// The kernel of Node, and of TypeScript: keeps variables between cells. See docs/kernels.md.
//
// SIGINT ends a cell that calculates or waits. It does not end one that calculates after it has waited: then the
// worker starts another kernel.
"use strict";

const { Buffer } = require("node:buffer");
const process = require("node:process"); // a cell may replace the globals

process.execArgv.length = 0; // child processes do without the options of this one

const { complain, listen, reply, setStdin } = require("./messages.cjs");
const { complete, inspect } = require("./complete.cjs");
const { evaluate, failed, interruptible, setUp } = require("./evaluate.cjs");
const results = require("./results.cjs");
const sigint = require("./sigint.cjs");
const { Interrupt, interrupt } = require("./waits.cjs");

process.argv.length = 2; // the language is none of the cells' matter

const exit = process.reallyExit.bind(process);
const waiting = [];
let running = null; // the cell under way: { number, restore }
let count = 0;

function next() {
  while (running === null && waiting.length > 0) {
    const request = waiting.shift();
    if (request.op === "execute") execute(request);
    else if (request.op === "complete") reply(...complete(String(request.code), request.cursor));
    else if (request.op === "inspect") reply(...inspect(String(request.code), request.cursor));
  }
}

function execute({ code, stdin = Buffer.alloc(0), env = {}, results: wanted = true }) {
  const cell = { number: ++count, restore: setEnv(env) };
  running = cell;
  results.begin(wanted);
  sigint.arrived(); // those between cells have no effect
  try {
    setStdin(stdin);
    evaluate(String(code), cell.number, (outcome) => finish(cell, outcome));
  } catch (error) {
    finish(cell, { failure: failed(error) });
  }
  if (running === cell) {
    sigint.watch(() => {
      if (!interrupt()) finish(cell, { failure: failed(new Interrupt()) });
    });
  }
}

function finish(cell, outcome) {
  if (running !== cell) return; // it was interrupted while it waited
  if (!outcome.failure) {
    try {
      interruptible(() => results.sendMain(outcome.value));
    } catch (error) {
      outcome = { failure: failed(error) };
    }
  }
  if (outcome.failure) {
    const { name, value, traceback } = outcome.failure;
    const parts = { name: results.cut(name), value: results.cut(value), traceback: results.cut(traceback.join("\n")) };
    reply({ type: "exception" }, parts);
  }
  done(cell, outcome.failure ? 1 : 0);
  setImmediate(next);
}

function done(cell, exit_code) {
  running = null;
  sigint.unwatch();
  cell.restore();
  reply({ type: "done", exit_code, execution_count: cell.number, dropped: results.dropped() });
}

function setEnv(env) {
  const earlier = Object.keys(env).map((name) => [name, process.env[name]]);
  for (const [name, value] of Object.entries(env)) process.env[name] = value;
  return () => {
    for (const [name, value] of earlier) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
}

process.on("exit", (code) => {
  if (running !== null) done(running, code & 255);
});
// Of a timer or a promise: the variables are worth more than the rule that a program ends with these.
process.on("uncaughtException", (error, origin) => {
  const { traceback } = failed(error);
  complain(`Uncaught ${traceback.join("\n")}${origin === "unhandledRejection" ? "\n(in a promise)" : ""}\n`);
});

Object.defineProperty(globalThis, "display", { value: results.display, configurable: true, writable: true });
setUp();
reply({ type: "ready" });
listen(
  (request) => {
    waiting.push(request);
    next();
  },
  () => exit(0),
);
