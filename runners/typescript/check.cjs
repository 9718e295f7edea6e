// Use the transformer once, as warm/hooks.cjs does: syntax of every kind that Node itself cannot take.
"use strict";

const assert = require("node:assert");

const swc = require("/usr/local/lib/typescript/swc.node");
const options = { swcrc: false, configFile: false, jsc: { target: "esnext", parser: { syntax: "typescript" } } };
const transform = (source) => swc.transformSync(source, false, Buffer.from(JSON.stringify(options))).code;

assert.equal(transform("let a: number = <any>1").trim(), "let a = 1;");
assert.equal(eval(`${transform("enum A { B = 7 }")}; A.B`), 7);
assert.equal(eval(`${transform("namespace A { export let b = 7 }")}; A.b`), 7);
assert.throws(() => transform("let = ;"), /\^/);
