// Programs with decorators: their syntax tree, changed where swc makes something else of it than the TypeScript
// compiler does. Loaded only for such programs, since parsing and transforming apart takes longer.
"use strict";

const STATEMENTS = { BlockStatement: "stmts", SwitchCase: "consequent", TsModuleBlock: "body", Module: "body" };

// `parse` turns code into a tree of swc's, as JSON.
function prepare(parse, source, legacy) {
  const tree = JSON.parse(parse(source));
  // In a script, swc renames a decorated class and leaves the program with a name that nothing has. As a module it is
  // transformed correctly; that nothing is imported or exported is seen in the result all the same.
  tree.program.type = "Module";
  const names = new Set();
  const nodes = [];
  for (const node of walk(tree.program)) {
    nodes.push(node);
    if (node.type === "Identifier") names.add(node.value);
  }
  const fragment = (code, span) => respanned(JSON.parse(parse(code)).program.body, span);
  for (const node of nodes) {
    if (legacy) {
      if (node.type === "ClassDeclaration" || node.type === "ClassExpression") withoutAccessors(node, fragment);
      if (node.type in STATEMENTS) withAliases(node[STATEMENTS[node.type]], names, fragment);
    } else {
      if (node.type === "TsModuleBlock") node.body = node.body.map(asConstant);
      nameClass(node);
    }
  }
  // What each name belongs to is found again: swc takes marks of an earlier parse for those of another name.
  for (const node of walk(tree.program)) {
    if ("ctxt" in node) node.ctxt = 0;
  }
  return JSON.stringify(tree);
}

function* walk(top) {
  const waiting = [top];
  while (waiting.length > 0) {
    const node = waiting.pop();
    if (node === null || typeof node !== "object") continue;
    if (typeof node.type === "string") yield node;
    for (const part of Object.values(node)) waiting.push(part);
  }
}

// New nodes stand where the one stood that they replace.
function respanned(nodes, span) {
  for (const node of walk(nodes)) {
    if ("span" in node) node.span = span;
  }
  return nodes;
}

function isDecorated(node) {
  return node?.decorators?.length > 0;
}

// `export class` with a decorator in a namespace: swc refuses its own intermediate form, but takes a constant.
function asConstant(statement) {
  const found = statement.declaration;
  if (statement.type !== "ExportDeclaration" || found.type !== "ClassDeclaration" || !isDecorated(found)) return statement;
  const { declare: _, ...rest } = found;
  const { span, identifier } = found;
  const init = { ...rest, type: "ClassExpression" };
  const id = { ...identifier, typeAnnotation: null };
  const declarations = [{ type: "VariableDeclarator", span, id, init, definite: false }];
  const declaration = { type: "VariableDeclaration", span, ctxt: 0, kind: "const", declare: false, declarations };
  return { ...statement, declaration };
}

// A decorated class without a name has that of what it is assigned to; swc loses it.
function nameClass(node) {
  const [target, value] = {
    VariableDeclarator: [node.id, node.init],
    AssignmentExpression: node.operator === "=" ? [node.left, node.right] : [],
    AssignmentPattern: [node.left, node.right],
    KeyValueProperty: [node.key, node.value],
    ClassProperty: [node.key, node.value],
  }[node.type] ?? [];
  if (value?.type !== "ClassExpression" || value.identifier || !isDecorated(value)) return;
  if (target?.type !== "Identifier" || refersTo(value, target.value)) return;
  value.identifier = { type: "Identifier", span: value.span, ctxt: 0, value: target.value, optional: false };
}

function refersTo(node, name, ctxt) {
  for (const found of walk(node)) {
    if (found.type === "Identifier" && found.value === name && (ctxt === undefined || found.ctxt === ctxt)) return true;
  }
  return false;
}

// The older decorators know no `accessor`, and swc leaves it in: it is a private field with a getter and a setter.
function withoutAccessors(node, fragment) {
  const used = new Set(node.body.map((member) => member.key?.value));
  node.body = node.body.flatMap((member) => {
    if (member.type !== "AutoAccessor") return [member];
    let hidden = typeof member.key.value === "string" ? `${member.key.value.replace(/[^\w$]/g, "_")}_storage` : "storage";
    while (used.has(hidden)) hidden += "_";
    used.add(hidden);
    const code = `class A { #${hidden}; get a() { return this.#${hidden}; } set a(v) { this.#${hidden} = v; } }`;
    const [field, getter, setter] = fragment(code, member.span)[0].body;
    field.value = member.value;
    getter.function.decorators = member.decorators;
    for (const part of [field, getter, setter]) part.isStatic = member.isStatic;
    for (const part of [getter, setter]) {
      part.key = structuredClone(member.key);
      if (member.key.type === "PrivateName") part.type = "PrivateMethod";
    }
    return [field, getter, setter];
  });
}

// A class that a decorator of the older kind replaces: its own name, inside of it, is the replacement.
function withAliases(statements, names, fragment) {
  for (let at = 0; at < statements.length; at++) {
    const found = statements[at].declaration ?? statements[at].decl ?? statements[at];
    const { identifier, span } = found;
    if (!/^Class(Declaration|Expression)$/.test(found.type) || !identifier || !isDecorated(found)) continue;
    if (!refersTo(found.body, identifier.value, identifier.ctxt)) continue;
    let alias = `${identifier.value}_1`;
    while (names.has(alias)) alias += "_";
    names.add(alias);
    for (const node of walk(found.body)) {
      if (node.type !== "Identifier" || node.value !== identifier.value || node.ctxt !== identifier.ctxt) continue;
      node.value = alias;
    }
    const [declared, holder, assigned] = fragment(
      `let ${alias}; class A { static { ${alias} = this; } } ${alias} = ${identifier.value};`,
      span,
    );
    found.body.unshift(holder.body[0]);
    statements.splice(at, 1, declared, statements[at], assigned);
    at += 2;
  }
}

module.exports = { prepare };
