// Cells as scripts: `import` and `export` are statements of modules, which a script cannot have, and what a cell
// awaits must be known to the kernel (see waits.cjs).
"use strict";

const { Parser } = require("internal/deps/acorn/acorn/dist/acorn");

const OPTIONS = { ecmaVersion: "latest", sourceType: "module", allowAwaitOutsideFunction: true, allowHashBang: true };
// The name of the function that does what `import()` does in a module in the working directory.
const IMPORT = "__runyard_import";
const WAIT = "__runyard_wait";
const ITERATE = "__runyard_iterate";
const FUNCTION = /^(?:Arrow)?Function|^MethodDefinition$|^PropertyDefinition$/;

// Return the script of a cell; a cell that is no program is returned as it is, for V8 to say what is wrong.
function prepare(code) {
  if (!/\b(?:import|export|await)\b/.test(code)) return code;
  let tree;
  try {
    tree = Parser.parse(code, OPTIONS);
  } catch {
    return code;
  }
  const edits = [];
  for (const node of tree.body) editStatement(node, code, edits);
  for (const node of walk(tree)) {
    if (node.type === "ImportExpression") edits.push([node.start, node.start + "import".length, IMPORT]);
  }
  for (const node of walk(tree, (each) => FUNCTION.test(each.type))) {
    if (node.type === "AwaitExpression") surround(node.argument, WAIT, edits);
    else if (node.type === "ForOfStatement" && node.await) surround(node.right, ITERATE, edits);
  }
  edits.sort((one, other) => other[0] - one[0] || other[1] - one[1]);
  let script = code;
  for (const [start, end, text] of edits) {
    const lines = script.slice(start, end).split("\n").length - text.split("\n").length;
    script = script.slice(0, start) + text + "\n".repeat(Math.max(0, lines)) + script.slice(end);
  }
  return script;
}

function surround(node, name, edits) {
  edits.push([node.start, node.start, `${name}(`], [node.end, node.end, ")"]);
}

// As in the REPL, braces at the beginning are an object if the whole is one.
function asObject(code) {
  if (!/^\s*\{/.test(code) || /;\s*$/.test(code)) return code;
  try {
    Parser.parse(`(${code}\n)`, OPTIONS);
    return `(${code}\n)`;
  } catch {
    return code;
  }
}

function editStatement(node, code, edits) {
  if (node.type === "ImportDeclaration") {
    edits.push([node.start, node.end, importing(node, code)]);
  } else if (node.type === "ExportNamedDeclaration") {
    if (node.declaration) edits.push([node.start, node.declaration.start, ""]);
    else edits.push([node.start, node.end, node.source ? `await ${IMPORT}(${node.source.raw});` : ";"]);
  } else if (node.type === "ExportDefaultDeclaration") {
    const { declaration } = node;
    const named = /Declaration$/.test(declaration.type) && declaration.id;
    edits.push([node.start, declaration.start, named ? "" : "("]);
    if (!named) edits.push([declaration.end, declaration.end, ")"]);
  } else if (node.type === "ExportAllDeclaration") {
    edits.push([node.start, node.end, `await ${IMPORT}(${node.source.raw});`]);
  }
}

function importing(node, code) {
  const attributes = (node.attributes ?? []).map((each) => code.slice(each.start, each.end)).join(", ");
  const argument = attributes ? `${node.source.raw}, { with: { ${attributes} } }` : node.source.raw;
  const module = `await ${IMPORT}(${argument})`;
  const names = [];
  let space;
  for (const each of node.specifiers) {
    if (each.type === "ImportNamespaceSpecifier") space = each.local.name;
    else if (each.type === "ImportDefaultSpecifier") names.push(`default: ${each.local.name}`);
    else names.push(`${each.imported.raw ?? each.imported.name}: ${each.local.name}`);
  }
  if (space !== undefined) {
    return `const ${space} = ${module};` + (names.length ? ` const { ${names.join(", ")} } = ${space};` : "");
  }
  return names.length ? `const { ${names.join(", ")} } = ${module};` : `${module};`;
}

function* walk(top, skipped = () => false) {
  const waiting = [top];
  while (waiting.length > 0) {
    const node = waiting.pop();
    if (node === null || typeof node !== "object" || skipped(node)) continue;
    if (typeof node.type === "string") yield node;
    for (const part of Object.values(node)) if (typeof part === "object") waiting.push(part);
  }
}

module.exports = { IMPORT, ITERATE, WAIT, asObject, prepare };
