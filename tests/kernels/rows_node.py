"""Cells of Node and TypeScript."""

from __future__ import annotations

import re

from tests.kernels.rows import ANY, Cell, text

INTERRUPT = ("Interrupt", "", "Interrupt")
PLACE = r"cell-{}\.[jt]s"

BOTH: dict[str, tuple[Cell, ...]] = {
    "variables": (
        Cell("let x = 42; const y = 1; class A {}"),
        Cell("console.log(x * 2)", "84\n"),
        Cell("let x = 3; const y = 2; class A { b = x }; new A()", results=(text("A { b: 3 }"),)),
        Cell("y = 3", exception=("TypeError", "Assignment to constant variable.", None), exit_code=1),
    ),
    "values": (
        Cell("undefined"),
        Cell("null", results=(text("null"),)),
        Cell("'a'", results=(text("'a'"),)),
        Cell("5n", results=(text("5n"),)),
        Cell("-0", results=(text("-0"),)),
        Cell("Symbol('q')", results=(text("Symbol(q)"),)),
        Cell("Promise.resolve(5)", results=(text("Promise { 5 }"),)),
        Cell("if (true) { 7 }", results=(text("7"),)),
    ),
    "objects": (
        Cell(
            "{ a: [1, NaN] }", results=({"text/plain": "{ a: [ 1, NaN ] }", "application/json": {"a": [1, None]}},)
        ),
        Cell("const c = {}; c.c = c; c", results=(text("<ref *1> { c: [Circular *1] }"),)),
        Cell("new Map([[1, 2]])", results=(text("Map(1) { 1 => 2 }"),)),
    ),
    "await": (
        Cell("await new Promise((r) => setTimeout(() => r(7), 20))", results=(text("7"),)),
        Cell("for await (const z of [1, Promise.resolve(2)]) console.log(z)", "1\n2\n"),
        Cell("const w = await Promise.resolve(3)"),
        Cell("w", results=(text("3"),)),
    ),
    "imports": (
        Cell("import fs, { existsSync as e } from 'fs'\nimport * as p from 'node:path'"),
        Cell("[typeof fs.statSync, e('/'), p.sep].join()", results=(text("'function,true,/'"),)),
        Cell("(await import('os')).EOL", results=(text("'\\n'"),)),
        Cell("const util = require('util'); util.format('%s', 1)", results=(text("'1'"),)),
        Cell("fs.writeFileSync('m.mjs', 'export default 6'); import m from './m.mjs'; m", results=(text("6"),)),
        Cell("export function run(x) { return x + 1 }"),
        Cell("run(1)", results=(text("2"),)),
    ),
    "exceptions": (
        Cell(
            "function f() { throw new TypeError('bad') }\nf()",
            exception=(
                "TypeError",
                "bad",
                re.compile(rf"TypeError: bad\n    at f \({PLACE.format(1)}:1:\d+\)\n    at {PLACE.format(1)}:2:1"),
            ),
            exit_code=1,
        ),
        Cell("throw { a: 1 }", exception=("Uncaught", "{ a: 1 }", None), exit_code=1),
        Cell("await Promise.reject(new RangeError('r'))", exception=("RangeError", "r", None), exit_code=1),
        Cell("let = ;", exception=("SyntaxError", ANY, ANY), exit_code=1),
        Cell("1", results=(text("1"),)),
    ),
    "stdin": (
        Cell("require('fs').readFileSync(0, 'utf8')", stdin=b"line", results=(text("'line'"),)),
        Cell(
            "process.stdin.on('data', (d) => console.log(`${d}`)); await new Promise((r) => process.stdin.on('end', r))",
            "in\n",
            stdin=b"in",
        ),
        Cell("require('child_process').execSync('cat', { stdio: 'inherit' }); undefined", "kid", stdin=b"kid"),
        Cell("require('fs').readFileSync(0, 'utf8')", results=(text("''"),)),
    ),
    "environment": (Cell("process.env.V", env={"V": "1"}, results=(text("'1'"),)), Cell("process.env.V")),
    "interrupts": (
        Cell("var kept = 1; while (true) {}", exception=INTERRUPT, exit_code=1, interrupt_s=0.5),
        Cell("await new Promise(() => {})", exception=INTERRUPT, exit_code=1, interrupt_s=0.3),
        Cell(
            "try { await new Promise(() => {}) } finally { console.log('f') }",
            "f\n",
            exception=INTERRUPT,
            exit_code=1,
            interrupt_s=0.3,
        ),
        Cell(
            "for await (const z of (async function* () { yield 1; await new Promise(() => {}) })()) ;",
            exception=INTERRUPT,
            exit_code=1,
            interrupt_s=0.3,
        ),
        Cell("kept", results=(text("1"),)),
    ),
    "between cells": (
        Cell("setTimeout(() => console.log('late'), 50); undefined"),
        Cell("await new Promise((r) => setTimeout(r, 100)); undefined", "late\n"),
        Cell(
            "setTimeout(() => { throw new Error('t') }); Promise.reject(new Error('p')); await new Promise((r) => setTimeout(r, 50))",
            stderr=re.compile(r"Uncaught Error: p[\s\S]*Uncaught Error: t[\s\S]*"),
        ),
        Cell("1", results=(text("1"),)),
    ),
    "display": (
        Cell(
            "display.html('<b>'); console.log('a'); display({ 'image/png': Buffer.from('ab') }); console.log('b')",
            "a\nb\n",
            results=({"text/html": "<b>"}, {"image/png": "YWI="}),
        ),
        Cell(
            "display.json({ a: Infinity }); display(new Map()); undefined",
            results=({"application/json": {"a": None}}, text("Map(0) {}")),
        ),
        Cell(
            "({ [Symbol.for('Jupyter.display')]: () => ({ 'text/markdown': '*a*' }) })",
            results=({"text/markdown": "*a*"},),
        ),
        Cell("for (let i = 0; i < 105; i++) display.text(i); undefined", results=({},) * 100, dropped=5),
        Cell(
            "for (let i = 0; i < 12; i++) display.text('x'.repeat(1 << 20)); undefined",
            results=({},) * 10,
            dropped=2,
        ),
    ),
    "formats": (
        Cell(
            "for (const f of ['markdown', 'svg', 'latex', 'javascript', 'text']) display[f](f); undefined",
            results=(
                {"text/markdown": "markdown"},
                {"image/svg+xml": "svg"},
                {"text/latex": "latex"},
                {"application/javascript": "javascript"},
                {"text/plain": "text"},
            ),
        ),
        Cell(
            "display.png(new Uint8Array([1, 2])); display.jpeg('AQI='); display.pdf(Buffer.from('%PDF')); undefined",
            results=({"image/png": "AQI="}, {"image/jpeg": "AQI="}, {"application/pdf": "JVBERg=="}),
        ),
        Cell(
            "({ 'text/html': '<b>', 'text/plain': 'b', 'text/x-own': 5 })",
            results=({"text/html": "<b>", "text/plain": "b", "text/x-own": "5"},),
        ),
    ),
    "hostile values": (
        Cell(
            "({ get a() { throw 1 }, [Symbol.for('nodejs.util.inspect.custom')]() { throw new Error('no') } })",
            results=(text("[cannot be inspected: no]"),),
        ),
        Cell("new Proxy({}, { get() { throw 1 }, ownKeys() { throw 2 } })", results=(text(ANY),)),
        Cell("Array(1e6).fill('é'.repeat(1e4))", results=(text(re.compile(r"[\s\S]{1,262144}… \(truncated\)")),)),
        Cell("throw { get stack() { throw 1 } }", exception=("Uncaught", ANY, ANY), exit_code=1),
    ),
    "replaced output": (
        Cell("console.log = 3; process.stdout.write = null; JSON.stringify = null; undefined"),
        Cell("globalThis.process = globalThis.Buffer = undefined"),
        Cell("require('fs').closeSync(0); [1]", results=({"application/json": [1]},)),
        Cell("require('child_process').execSync('echo a', { stdio: 'inherit' }); undefined", "a\n"),
        Cell("require('fs').writeSync(3, 'x')", exception=("Error", re.compile("EBADF.*"), None), exit_code=1),
    ),
    "characters": (Cell("1\r\n+ 'é'", results=(text("'1é'"),)), Cell("'\0ü'.length", results=(text("2"),))),
}

NODE: dict[str, tuple[Cell, ...]] = {
    "syntax error": (
        Cell(
            "let q = 1;\nlet = ;",
            exception=("SyntaxError", ANY, re.compile(r"SyntaxError: .*\n    at cell-1\.js:2:\d+")),
            exit_code=1,
        ),
    ),
}

TYPESCRIPT: dict[str, tuple[Cell, ...]] = {
    "types": (
        Cell("let x: number = 1; enum Colour { Red, Green }\ninterface P { a: number }"),
        Cell("const p: P = { a: Colour.Green }; p", results=(text("{ a: 1 }"),)),
        Cell("namespace N { export const v = 3 }\nN.v as number", results=(text("3"),)),
        Cell("await Promise.resolve<number>(x)", results=(text("1"),)),
        Cell("@((c: any) => c) class D {}\nnew D()", results=(text("D {}"),)),
    ),
    "imports": (
        Cell("import fs from 'fs'\nimport type { Stats } from 'fs'"),
        Cell(
            "fs.writeFileSync('m.ts', 'export const v: number = 5'); import { v } from './m'; v",
            results=(text("5"),),
        ),
    ),
    "traceback": (
        Cell(
            "interface Q {\n  a: 1\n}\nfunction f(): void {\n  throw new RangeError('bad')\n}\nf()",
            exception=(
                "RangeError",
                "bad",
                re.compile(r"RangeError: bad\n    at f \(cell-1\.ts:5:\d+\)\n    at cell-1\.ts:7:1"),
            ),
            exit_code=1,
        ),
        Cell(
            "let a = 1\nlet q: = 1",
            exception=("SyntaxError", ANY, re.compile(r"[\s\S]*cell-2\.ts:2:\d+")),
            exit_code=1,
        ),
    ),
}
