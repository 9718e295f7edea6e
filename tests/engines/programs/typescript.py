"""TypeScript programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample, node

AN_OPTION_FOR_A_NAME = ("-e.ts", "const x: string = 'dash'; console.log(x)")

#: What is JavaScript is TypeScript too.
WARM_AND_COLD = {
    **node.WARM_AND_COLD,
    "enums": (
        "enum A { X, Y = 'y', Z = 1 << 3 }\nconst enum B { Q = 2 }\nenum A { W = 9 }\nconsole.log(A, A[8], B.Q)",
        {},
    ),
    "namespaces": (
        "namespace A.B { export let n = 1; export function up() { return ++n; } export type T = number; }\n"
        "namespace A { export const m = B.up(); }\nimport up = A.B.up;\nconsole.log(A.B.n, A.m, up(), A.B.n)",
        {},
    ),
    "classes": (
        "abstract class A<T> { constructor(protected readonly x: T, public y?: number) {} abstract f(): T; declare z: 1; }\n"
        "class B extends A<number> implements I { static #n = 1; override f(): number { return this.x + B.#n; } }\n"
        "interface I { f(): number }\nconsole.log(new B(1).f(), new B(2, 3))",
        {},
    ),
    "types only": (
        "type A = { [K in 'a' | 'b']?: K };\ninterface B extends A {}\ndeclare const q: B;\n"
        "function f(x: string): void;\nfunction f(x: number): void;\nfunction f(x: any) { console.log(x!); }\n"
        "f(<any>'a'); f(1 as unknown as number); const c = { a: 'a' } satisfies A; console.log(c)",
        {},
    ),
    "type errors do not stop it": (
        "const n: number = 'a string';\nn.nothing;\nconsole.log(n, typeof undeclaredName)",
        {},
    ),
    "standard decorators": (
        "function twice(f: Function, c: ClassMethodDecoratorContext) { return function (this: any, n: number) { return f.call(this, n) * 2; }; }\n"
        "class A { @twice m(n: number) { return n; } }\nconsole.log(new A().m(4))",
        {},
    ),
    "a decorated class": (
        "function mark(c: Function, x: ClassDecoratorContext) { console.log(x.name); }\n"
        "@mark class Job {}\nconsole.log(new Job(), Object.keys(require.cache).length, new Error('x').stack)",
        {},
    ),
    "legacy decorators": (
        "function log(target: any, key: string, d: PropertyDescriptor) { console.log(key, typeof d.value); }\n"
        "class A { @log m() {} }\nnew A()",
        {"files": {"tsconfig.json": '{"compilerOptions": {"experimentalDecorators": true}}'}},
    ),
    "imports of types are left out": (
        "import { User, make } from './user';\nconst u: User = make('x');\nconsole.log(u)",
        {
            "files": {
                "user.ts": "export interface User { name: string }\nexport const make = (name: string): User => ({ name });"
            }
        },
    ),
    "imports without and with extensions": (
        "import { a } from './a';\nimport { b } from './b.js';\nimport { c } from './c.ts';\nimport { d } from './d';\n"
        "import e from './e.mjs';\nimport * as f from './f.cjs';\nconsole.log(a, b, c, d, e, f.f)",
        {
            "files": {
                "a.ts": "export const a: number = 1",
                "b.ts": "export const b: number = 2",
                "c.ts": "export const c: number = 3",
                "d/index.ts": "export { d } from './deep';",
                "d/deep.ts": "export const d: number = 4",
                "e.mts": "export default 5 as number",
                "f.cts": "exports.f = 6 as number",
            }
        },
    ),
    "required": (
        "const { x } = require('./a');\nimport path = require('path');\nconsole.log(x, path.sep, __filename, require.main === module)",
        {"files": {"a.ts": "const x: number = 1;\nexport = { x };"}},
    ),
    "requires a module": ("console.log(require('./a').x)", {"files": {"a.ts": "export const x: number = 1"}}),
    "data": (
        "import data from './data.json';\nconsole.log(data.a)",
        {"files": {"data.json": '{"a": 1}'}},
    ),
    "imports nothing that is there": ("import { x } from './nowhere'; console.log(x)", {}),
    "requires nothing that is there": ("const x = require('./nowhere')", {}),
    "top-level await alone": ("console.log(await Promise.resolve(3 as number))", {}),
    "main of a module": ("console.log(import.meta.main, import.meta.filename, import.meta.dirname)", {}),
    "syntax error in the types": ("interface A {\n  x: ;\n}", {}),
    "syntax error after more than ascii": ("const é = '日本';\nconst y: = 1;", {}),
    "syntax error in a sibling": (
        "import { x } from './h'; console.log(x)",
        {"files": {"h.ts": "export const x: number = ;"}},
    ),
    "uncaught in a sibling": (
        "import { f } from './h';\n\nf();",
        {
            "files": {
                "h.ts": "interface A {\n  a: number;\n}\n\nexport function f(): A {\n  throw new Error('no');\n}"
            }
        },
    ),
    "stack behind types": (
        "interface A {\n  a: 1;\n}\n\nfunction f(): A { return null!.a; }\ntry { f() } catch (e: any) { console.log(e.stack) }",
        {},
    ),
    "worker": (
        "import { Worker } from 'node:worker_threads';\nnew Worker(new URL('./w.ts', import.meta.url)).on('message', console.log)",
        {
            "files": {
                "w.ts": "import { parentPort } from 'worker_threads';\nenum A { B = 7 }\nparentPort!.postMessage(A.B as number)"
            }
        },
    ),
    "child": (
        "import { fork } from 'node:child_process';\nfork('./c.ts', ['x']).on('exit', (code: number) => console.log(code))",
        {
            "files": {
                "c.ts": "enum A { B = 7 }\nconsole.log(process.argv.length, process.execArgv)\nprocess.exit(A.B)"
            }
        },
    ),
    "another entry": (
        None,
        {
            "entrypoint": "app/run.mts",
            "files": {"app/run.mts": "const x: string = import.meta.url; console.log(x)"},
        },
    ),
}

SAMPLES = {
    "text": Sample("const text: string = 'hello';\nconsole.log(text)", "hello\n"),
    "files": Sample(
        "import * as fs from 'fs';\nfs.mkdirSync('outputs/out');\n"
        "const n: number = Number(fs.readFileSync('inputs/n.txt', 'utf8'));\nfs.writeFileSync('outputs/out/m.txt', `${2 * n}`)",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        "import readline from 'node:readline';\nconst lines: string[] = [];\n"
        "for await (const line of readline.createInterface({ input: process.stdin })) lines.push(line);\n"
        "console.log('hi', lines[0], lines.slice(1).reduce((a: number, b) => a + Number(b), 0))",
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample(
        "const args: string[] = process.argv.slice(2);\nconsole.log(JSON.stringify(args))",
        '["-x","a b","é"]\n',
        job={"args": ["-x", "a b", "é"]},
    ),
    "env": Sample("console.log(process.env.MODE!)", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "import { area, type Shape } from './lib/shapes';\nconst s: Shape = { n: 3 };\nconsole.log(area(s))",
        "9\n",
        job={
            "files": {
                "lib/shapes.ts": "import { square } from './power.js';\nexport interface Shape { n: number }\nexport const area = (s: Shape) => square(s.n);",
                "lib/power.ts": "export function square(n: number): number { return n * n; }",
            }
        },
    ),
    "threads": Sample(
        "import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';\n"
        "const run = (n: number) => new Promise<number>((done) => new Worker(import.meta.filename, { workerData: n }).on('message', done));\n"
        "if (isMainThread) console.log(await Promise.all([1, 2, 3].map(run)));\nelse parentPort!.postMessage((workerData as number) ** 2)",
        "[ 1, 4, 9 ]\n",
    ),
    "subprocess": Sample(
        "import { execSync } from 'child_process';\nconst said: Buffer = execSync('echo from a child');\nconsole.log(said.toString())",
        "from a child\n\n",
    ),
    "json": Sample(
        "type A = { b: (number | null | boolean)[]; a: string };\nconst x: A = { b: [1, null, true], a: JSON.parse('\"\\u00e9\"') };\nconsole.log(JSON.stringify(x))",
        '{"b":[1,null,true],"a":"é"}\n',
    ),
    "dates": node.SAMPLES["dates"],
    "unicode": Sample(
        "const s: string = 'naïve 日本 🎉'; console.log(s.toUpperCase(), [...s].length)", "NAÏVE 日本 🎉 10\n"
    ),
    "big output": Sample("console.log('x'.repeat(700_000 as number))", "x" * 700_000 + "\n"),
    "error": Sample(
        "interface A {\n  a: number;\n}\n\nfunction f(): A {\n  throw new Error('no good');\n}\n\nf();",
        stderr=("/work/main.ts:6", "throw new Error('no good')", "at f (/work/main.ts:6:9)"),
        exit_code=1,
    ),
    "a syntax error": Sample(
        "console.log('never');\nconst n: string = ;",
        stderr=(
            "/work/main.ts:2\nconst n: string = ;\n                  ^\n",
            "SyntaxError: ",
            "at /work/main.ts:2:19",
        ),
        exit_code=1,
    ),
    "enums and namespaces": Sample(
        "enum A { X, Y = 'y', Z = 1 << 3 }\nconst enum B { Q = 2 }\n"
        "namespace N.M { export let n = 1; export function up() { return ++n; } }\n"
        "namespace N { export const twice = M.up() * 2; }\nimport up = N.M.up;\nconsole.log(A[8], A.Y, B.Q, N.twice, up(), N.M.n)",
        "Z y 2 4 3 3\n",
    ),
    "decorators": Sample(
        "function twice(f: Function, c: ClassMethodDecoratorContext) { return function (this: any, n: number) { return f.call(this, n) * 2; }; }\n"
        "class A { @twice m(n: number) { return n; } }\nconsole.log(new A().m(4))",
        "8\n",
    ),
    "a decorated class": Sample(
        "function mark(c: Function, x: ClassDecoratorContext) { console.log('mark', x.name); }\n"
        "@mark class Job { id: number = 1 }\nconsole.log(new Job().id, Job.name)",
        "mark Job\n1 Job\n",
    ),
    "decorators of the older kind": Sample(
        "function key(target: any, name: string) { console.log('key', name); }\nclass A { @key x = 1 }\nconsole.log(new A().x)",
        "key x\n1\n",
        job={"files": {"tsconfig.json": '{"compilerOptions": {"experimentalDecorators": true}}'}},
    ),
    "errors in types": Sample(
        "const n: number = 'a string'; console.log(n, (n as any).nothing)", "a string undefined\n"
    ),
}
