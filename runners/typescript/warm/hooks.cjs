// TypeScript for Node: what is loaded is turned into JavaScript on its way in, and imports find .ts files the way a
// TypeScript compiler finds them. Types are not checked.
"use strict";

const fs = require("node:fs");
const { registerHooks } = require("node:module");
const path = require("node:path");
const { fileURLToPath, pathToFileURL } = require("node:url");
const { compileFunction, Script } = require("node:vm");

const swc = require("/usr/local/lib/typescript/swc.node");

const TYPESCRIPT = /\.[cm]?tsx?$/;
// What an import that leaves out or "compiles" the extension may stand for, in the compiler's order.
const ENDINGS = [".ts", ".tsx", ".mts", ".cts", ".js", ".mjs", ".cjs", ".json", "/index.ts", "/index.tsx", "/index.js"];
const COMPILED = { ".js": [".ts", ".tsx"], ".jsx": [".tsx"], ".mjs": [".mts"], ".cjs": [".cts"] };
// Of a program that may have decorators; in a text or a comment it costs time and changes nothing.
const DECORATORS = /@\s*[\w$(\u0080-\uffff]|\baccessor\b/;
const CJS_PARAMETERS = ["exports", "require", "module", "__filename", "__dirname"];
const ONLY_IN_A_MODULE =
  /Cannot use import statement|Unexpected token 'export'|Cannot use 'import\.meta'|await is only valid|Unexpected reserved word|Identifier '(?:exports|require|module|__filename|__dirname)' has already been declared/;

process.setSourceMapsEnabled(true);
registerHooks({ resolve, load });

function resolve(specifier, context, next) {
  const found = find(specifier, context.parentURL);
  const wanted = context.conditions?.includes("require") || !found ? found : pathToFileURL(found).href;
  return asNode(() => next(wanted ?? specifier, context));
}

// An error from in here shows the innermost frames, which are Node's own, and not this file's beneath them.
function asNode(step) {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = Math.min(limit, 4);
  try {
    return step();
  } finally {
    Error.stackTraceLimit = limit;
  }
}

function find(specifier, parent) {
  if (!/^(?:\.{0,2}\/|\.{1,2}$|file:)/.test(specifier)) return undefined;
  const name = fileURLToPath(new URL(specifier, parent ?? pathToFileURL("/work/")));
  return isFile(name) ? undefined : candidates(name).find(isFile);
}

function isFile(name) {
  return fs.statSync(name, { throwIfNoEntry: false })?.isFile();
}

function candidates(name) {
  const extension = path.extname(name);
  const stem = name.slice(0, name.length - extension.length);
  return [...(COMPILED[extension] ?? []).map((other) => stem + other), ...ENDINGS.map((ending) => name + ending)];
}

function load(url, context, next) {
  const file = url.startsWith("file:") ? fileURLToPath(url) : url;
  const imported = context.conditions?.includes("import");
  if (imported && context.format === "json" && context.importAttributes?.type !== "json") {
    return { format: "module", source: `export default ${fs.readFileSync(file, "utf8")}`, shortCircuit: true };
  }
  if (!TYPESCRIPT.test(file)) return asNode(() => next(url, context));
  const { code, map } = transform(file, fs.readFileSync(file, "utf8"));
  const comment = Buffer.from(map).toString("base64");
  return {
    format: format(file, context.format, code),
    source: `${code}\n//# sourceMappingURL=data:application/json;base64,${comment}`,
    shortCircuit: true,
  };
}

function format(file, found, code) {
  if (file.endsWith(".mts")) return "module";
  if (file.endsWith(".cts")) return "commonjs";
  if (found?.startsWith("module")) return "module"; // as a package.json says
  if (!/\b(?:import|export|await)\b/.test(code)) return "commonjs";
  const wrong = compileError(code);
  if (wrong === undefined) return "commonjs";
  // What is only wrong outside an async function is an await that only a module may have there.
  return ONLY_IN_A_MODULE.test(wrong.message) || !compileError(`async () => {${code}\n}`) ? "module" : "commonjs";
}

function compileError(code) {
  try {
    compileFunction(code, CJS_PARAMETERS);
    return undefined;
  } catch (error) {
    return error;
  }
}

function transform(file, source) {
  const parser = { syntax: "typescript", tsx: file.endsWith("x"), decorators: true };
  const options = {
    filename: file,
    sourceMaps: true,
    swcrc: false,
    configFile: false,
    isModule: "unknown",
    jsc: {
      target: "esnext",
      keepClassNames: true,
      parser,
      transform: decorators(),
    },
  };
  try {
    if (DECORATORS.test(source)) {
      const { prepare } = require("./decorators.cjs");
      const form = buffer({ ...parser, target: "esnext", isModule: "unknown" });
      const tree = prepare((code) => swc.parseSync(code, form, file), source, options.jsc.transform.legacyDecorator);
      return swc.transformSync(tree, true, buffer(options));
    }
    return swc.transformSync(source, false, buffer(options));
  } catch (error) {
    throw syntaxError(file, error.message);
  }
}

function buffer(options) {
  return Buffer.from(JSON.stringify(options));
}

// Standard ones unless the program's own settings ask for the older kind.
function decorators() {
  let settings = "";
  try {
    settings = fs.readFileSync("/work/tsconfig.json", "utf8");
  } catch {
    // There need not be one.
  }
  return /"experimentalDecorators"\s*:\s*true/.test(settings)
    ? { legacyDecorator: true, decoratorMetadata: /"emitDecoratorMetadata"\s*:\s*true/.test(settings) }
    : { decoratorVersion: "2023-11" };
}

// As Node shows one of its own: the place, the line, the message. It is made by compiling nonsense, because Node shows
// the line that threw an error, which would be one of this file, unless compiling gave the error its own.
function syntaxError(file, said) {
  const rows = said.split("\n");
  const message = rows[0].replace(/^\s*x\s*/, "");
  const at = rows.findIndex((row, number) => /^\s*:[ ]+\^/.test(row) && /^\s*\d+ \|/.test(rows[number - 1]));
  const [, margin, line, text] = /^(\s*(\d+) \| )(.*)/.exec(rows[at - 1]) ?? [, "", "1", ""];
  const mark = (rows[at] ?? "").slice(margin.length).replace(/\^.*/, "^");
  try {
    new Script("}", { filename: file });
  } catch (error) {
    error.message = message;
    error.stack = `${file}:${line}\n${text}\n${mark}\n\nSyntaxError: ${message}\n    at ${file}:${line}:${mark.length}`;
    return error;
  }
}

module.exports = { transform };
