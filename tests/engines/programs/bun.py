"""Bun programs: run in a warm sandbox and in a cold one to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-e.ts", "const x: string = 'dash'; console.log(x)")

WARM_AND_COLD = {
    "args": ("console.log(process.argv, Bun.argv, process.execArgv)", {"args": ["a b", "é", "--x=1", "--preload"]}),
    "main": ("console.log(import.meta.main, import.meta.url, import.meta.path, Bun.main, import.meta.dir)", {}),
    "commonjs": ("console.log(__filename, require.main === module, typeof require)", {}),
    "sibling": (
        "import { x } from './h';\nconsole.log(x)",
        {"files": {"h.ts": "export const x: string = import.meta.path"}},
    ),
    "a package": (
        "import { x } from 'thing';\nconsole.log(x)",
        {
            "files": {
                "node_modules/thing/package.json": '{"main": "i.js"}',
                "node_modules/thing/i.js": "exports.x = 8",
            }
        },
    ),
    "a package that is not there": ("import { x } from 'thing';\nconsole.log(x)", {}),
    "paths": (
        "import { x } from '@/h';\nconsole.log(x)",
        {
            "files": {
                "tsconfig.json": '{"compilerOptions": {"baseUrl": ".", "paths": {"@/*": ["./lib/*"]}}}',
                "lib/h.ts": "export const x = 9",
            }
        },
    ),
    "cwd": ("console.log(process.cwd(), require('fs').readdirSync('.').sort())", {}),
    "env": ("console.log(Object.entries(process.env).sort())", {"env": {"MODE": "x", "EMPTY": "", "U": "é"}}),
    "exit code": ("process.exit(42)", {}),
    "exit hooks": (
        "process.on('exit', (c) => console.log('bye', c)); process.on('beforeExit', () => console.log('b'))",
        {},
    ),
    "rejection": ("Promise.reject(new Error('r'))", {}),
    "syntax error": ("const n: number = ;", {}),
    "type errors do not stop it": ("const n: number = 'a string'; console.log(n)", {}),
    "stdin": ("console.log(await Bun.stdin.text())", {"stdin": "one\ntwo é\n"}),
    "signal": ("process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 1000)", {}),
    "what is left in the directory": (
        "console.log('x'.length, require('fs').readdirSync('.'), 0)\n/*" + "x" * 100_000 + "*/",
        {},
    ),
    "a command's name for an entry": (
        None,
        {"entrypoint": "test", "files": {"test": "echo no"}, "compare": ("status",)},
    ),
    "another entry": (
        None,
        {"entrypoint": "app/run.ts", "files": {"app/run.ts": "console.log(import.meta.path as string)"}},
    ),
}

SAMPLES = {
    "text": Sample("const text: string = 'hello';\nconsole.log(text)", "hello\n"),
    "files": Sample(
        "import { mkdirSync } from 'fs';\nmkdirSync('outputs/out');\n"
        "await Bun.write('outputs/out/m.txt', `${2 * Number(await Bun.file('inputs/n.txt').text())}`)",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        "const lines: string[] = [];\nfor await (const line of console) lines.push(line);\n"
        "console.log('hi', lines[0], lines.slice(1).reduce((a: number, b) => a + Number(b), 0))",
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample(
        "console.log(JSON.stringify(process.argv.slice(2)))", '["-x","a b","é"]\n', job={"args": ["-x", "a b", "é"]}
    ),
    "env": Sample("console.log(Bun.env.MODE)", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "import { area, type Shape } from './lib/shapes';\nconst s: Shape = { n: 3 };\nconsole.log(area(s))",
        "9\n",
        job={
            "files": {
                "lib/shapes.ts": "import { square } from './power';\nexport interface Shape { n: number }\nexport const area = (s: Shape) => square(s.n);",
                "lib/power.ts": "export function square(n: number): number { return n * n; }",
            }
        },
    ),
    "threads": Sample(
        "const run = (n: number) => new Promise<number>((done) => {\n"
        "  const w = new Worker('./w.ts');\n  w.onmessage = (e) => { done(e.data); w.terminate(); };\n  w.postMessage(n);\n});\n"
        "console.log(JSON.stringify(await Promise.all([1, 2, 3].map(run))))",
        "[1,4,9]\n",
        job={"files": {"w.ts": "self.onmessage = (e: MessageEvent<number>) => self.postMessage(e.data ** 2)"}},
    ),
    "subprocess": Sample(
        "import { $ } from 'bun';\nconst done = Bun.spawnSync(['sh', '-c', 'echo from a child; exit 3']);\n"
        "console.log(done.stdout.toString(), done.exitCode, (await $`echo shell`.text()).trim())",
        "from a child\n 3 shell\n",
    ),
    "json": Sample(
        "type A = { b: unknown[]; a: string };\nconst x: A = { b: [1, null, true], a: JSON.parse('\"\\u00e9\"') };\nconsole.log(JSON.stringify(x))",
        '{"b":[1,null,true],"a":"é"}\n',
    ),
    "dates": Sample(
        "console.log(new Date(Date.UTC(2024, 1, 28) + 2 * 864e5).toISOString());\n"
        "console.log(new Date(Date.UTC(2024, 6, 1)).toLocaleString('de-DE', { timeZone: 'Europe/Berlin' }))",
        "2024-03-01T00:00:00.000Z\n1.7.2024, 02:00:00\n",
    ),
    "unicode": Sample(
        "const s: string = 'naïve 日本 🎉'; console.log(s.toUpperCase(), [...s].length)", "NAÏVE 日本 🎉 10\n"
    ),
    "big output": Sample("console.log('x'.repeat(700_000))", "x" * 700_000 + "\n"),
    "error": Sample(
        "interface A {\n  a: number;\n}\n\nfunction f(): A {\n  throw new Error('no good');\n}\n\nf();",
        stderr=("error: no good", "at f (/work/main.ts:6:"),
        exit_code=1,
    ),
    "enums, namespaces, decorators": Sample(
        "enum A { X, Y = 'y' }\nnamespace N { export let n = 1; n++ }\n"
        "function twice(f: Function, c: ClassMethodDecoratorContext) { return function (this: any, n: number) { return f.call(this, n) * 2; }; }\n"
        "class B { constructor(private x = 1) {} @twice m(n: number) { return n + this.x; } }\nconsole.log(A[0], A.Y, N.n, new B().m(4))",
        "X y 2 10\n",
    ),
    "sqlite": Sample(
        "import { Database } from 'bun:sqlite';\nconsole.log(new Database(':memory:').query('select 1 + 1 as n').get().n)",
        "2\n",
    ),
}
