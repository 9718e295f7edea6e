// The language of Node's kernel that is TypeScript: code is run without its types, by the transformer of the image's runs. Types are not checked.
"use strict";

const swc = require("/usr/local/lib/typescript/swc.node");

const { Buffer } = require("node:buffer");

const { parse, stringify } = JSON; // a cell may replace these

// An import is kept although its cell does not use it: a later one may.
const options = (filename) => ({
  filename,
  sourceMaps: true,
  swcrc: false,
  configFile: false,
  isModule: true,
  jsc: {
    target: "esnext",
    keepClassNames: true,
    parser: { syntax: "typescript", decorators: true },
    transform: { decoratorVersion: "2023-11", verbatimModuleSyntax: true },
  },
});

function toJavaScript(code, file) {
  try {
    const { code: script, map } = swc.transformSync(code, false, Buffer.from(stringify(options(file))));
    return { code: script, map: parse(map) };
  } catch (error) {
    throw syntaxError(error.message, file);
  }
}

// The transformer's text is a drawing of the code: its first line is the message, `,-[file:LINE:COLUMN]` the place.
function syntaxError(said, file) {
  const message = said.split("\n")[0].replace(/^\s*x\s*/, "");
  const [, line = "1", column = "1"] = /-\[[^\]]*?:(\d+):(\d+)\]/.exec(said) ?? [];
  const error = new SyntaxError(message);
  error.stack = `SyntaxError: ${message}\n    at ${file}:${line}:${column}`;
  return error;
}

// Imports of .ts files work as in runs.
module.exports = { extension: "ts", toJavaScript, hooks: "/opt/runyard/typescript/hooks.cjs" };
