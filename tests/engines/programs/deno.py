"""Deno programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-A.ts", "const x: string = 'dash'; console.log(x)")

WARM_AND_COLD = {
    "args": ("console.log(Deno.args, Deno.args.length)", {"args": ["a b", "é", "--x=1", "-A"]}),
    "argv": (
        "import process from 'node:process';\nconsole.log(process.argv, process.execArgv, process.argv0)",
        {"args": ["a b"]},
    ),
    "main": (
        "console.log(import.meta.main, import.meta.url, import.meta.filename, import.meta.dirname, Deno.mainModule)",
        {},
    ),
    "deno's own options as args": (
        "console.log(Deno.args)",
        {"args": ["--preload", "x", "--allow-none", "--", "-"]},
    ),
    "syntax": (
        "enum A { X, Y = 'y' }\nnamespace N { export let n = 1; n++ }\nabstract class B { constructor(private x = 1) {} }\n"
        "class C extends B { declare z: number }\nconsole.log(A, N.n, new C(), 1 as unknown as string)",
        {},
    ),
    "standard decorators": (
        "function twice(f: any, c: ClassMethodDecoratorContext) { return function (this: any, n: number) { return f.call(this, n) * 2; }; }\n"
        "class A { @twice m(n: number) { return n; } }\nconsole.log(new A().m(4))",
        {},
    ),
    "type errors do not stop it": ("const n: number = 'a string';\nconsole.log(n)", {}),
    "syntax error": ("const n: number = ;", {}),
    "sibling": (
        "import { x } from './h.ts';\nconsole.log(x)",
        {"files": {"h.ts": "export const x: string = import.meta.url"}},
    ),
    "sibling without its extension": (
        "import { x } from './h';\nconsole.log(x)",
        {"files": {"h.ts": "export const x = 1"}},
    ),
    "siblings in folders": (
        "import { a } from './lib/a.ts';\nconsole.log(a)",
        {"files": {"lib/a.ts": "export { b as a } from './b.js';", "lib/b.js": "export const b = 2;"}},
    ),
    "json": (
        "import d from './d.json' with { type: 'json' };\nconsole.log(d.a)",
        {"files": {"d.json": '{"a": 1}'}},
    ),
    "later import": ("console.log((await import('./h.ts')).x)", {"files": {"h.ts": "export const x = 5"}}),
    "commonjs": (
        "import { x } from './h.cjs';\nconsole.log(x)",
        {"files": {"h.cjs": "exports.x = require('node:path').sep"}},
    ),
    "require": ("console.log(typeof require, typeof module, typeof __filename)", {}),
    "an import map": (
        "import { x } from '@/h.ts';\nconsole.log(x)",
        {"files": {"deno.json": '{"imports": {"@/": "./lib/"}}', "lib/h.ts": "export const x = 9"}},
    ),
    "a package": (
        "import { x } from 'thing';\nconsole.log(x)",
        {
            "files": {
                "package.json": '{"dependencies": {"thing": "1.0.0"}}',
                "node_modules/thing/package.json": '{"name": "thing", "version": "1.0.0", "main": "i.js", "type": "module"}',
                "node_modules/thing/i.js": "export const x = 8;",
            }
        },
    ),
    "node's libraries": (
        "import fs from 'node:fs';\nimport { Buffer } from 'node:buffer';\nconsole.log(fs.readdirSync('.').sort(), Buffer.from('é'))",
        {},
    ),
    "cwd": ("console.log(Deno.cwd(), [...Deno.readDirSync('.')].map((e) => e.name).sort())", {}),
    "env": (
        "console.log(Object.entries(Deno.env.toObject()).sort())",
        {"env": {"MODE": "x", "EMPTY": "", "U": "é"}},
    ),
    "env in node's way": (
        "import process from 'node:process';\nconsole.log(process.env.MODE, Object.keys(process.env).sort())",
        {"env": {"MODE": "x"}},
    ),
    "env of a child": (
        "const said = await new Deno.Command('sh', { args: ['-c', 'env | sort'] }).output();\nconsole.log(new TextDecoder().decode(said.stdout))",
        {"env": {"MODE": "x"}},
    ),
    "env at boot": ("console.error('%cx', 'color: red')", {"env": {"FORCE_COLOR": "1"}}),
    "time zone": ("console.log(new Date(0).toString())", {"env": {"TZ": "Asia/Tokyo"}}),
    "exit code": ("Deno.exit(42)", {}),
    "exit code later": ("Deno.exitCode = 7", {}),
    "exit hooks": (
        "addEventListener('unload', () => console.log('unload'));\naddEventListener('beforeunload', () => console.log('before'));\n"
        "addEventListener('load', () => console.log('load'));\nconsole.log('hi')",
        {},
    ),
    "node's exit hooks": (
        "import process from 'node:process';\nprocess.on('exit', (c) => console.log('bye', c));",
        {},
    ),
    "uncaught": ("function f(): never {\n  throw new Error('no');\n}\nf();", {}),
    "uncaught in a sibling": (
        "import { f } from './h.ts';\n\nf();",
        {"files": {"h.ts": "export function f() {\n  null!.x;\n}"}},
    ),
    "uncaught cause": ("throw new Error('later', { cause: new TypeError('first') })", {}),
    "rejection": ("Promise.reject(new Error('r'))", {}),
    "handlers": (
        "addEventListener('error', (e) => { console.log('error', e.message); e.preventDefault(); });\n"
        "addEventListener('unhandledrejection', (e) => { console.log('rejection', e.reason); e.preventDefault(); });\n"
        "Promise.reject(3); setTimeout(() => { throw new Error('t'); }, 300)",
        {},
    ),
    "stack": ("console.log(new Error('x').stack)", {}),
    "warning": ("console.warn('careful');", {}),
    "imports nothing that is there": ("import './nowhere.ts'", {}),
    "imports from the network": ("import 'https://192.0.2.1/x.ts'", {"compare": ("status", "exit_code")}),
    "stdin": ("console.log(await new Response(Deno.stdin.readable).text())", {"stdin": "one\ntwo é\n"}),
    "stdin sync": ("const b = new Uint8Array(9); console.log(Deno.stdin.readSync(b), b)", {"stdin": "one"}),
    "prompt": ("console.log(prompt('name?'), prompt('next?'))", {"stdin": "Ada\n"}),
    "no stdin": ("console.log(await new Response(Deno.stdin.readable).text())", {}),
    "streams": ("console.log([Deno.stdin, Deno.stdout, Deno.stderr].map((s) => s.isTerminal()))", {}),
    "descriptors": (
        "console.log([...Deno.readDirSync('/proc/self/fd')].map((f) => { try { return Deno.readLinkSync(`/proc/self/fd/${f.name}`); } catch { return ''; } }).filter((x) => x.startsWith('pipe')).length)",
        {},
    ),
    "descriptors of a child": (
        "const said = await new Deno.Command('ls', { args: ['/proc/self/fd'] }).output();\nconsole.log(new TextDecoder().decode(said.stdout))",
        {},
    ),
    "resources": (
        "import { closeSync, openSync } from 'node:fs';\nconst fd = openSync('main.ts', 'r'); closeSync(fd); console.log(fd > 2)",
        {},
    ),
    "process": (
        "console.log(Deno.ppid, Deno.uid(), Deno.umask(), Deno.execPath(), Deno.hostname(), Deno.build.target)",
        {},
    ),
    # Not which are caught: Deno sets some of those up on another thread, sooner or later.
    "signals": ("console.log((await Deno.readTextFile('/proc/self/status')).match(/Sig(Blk|Ign).*/g))", {}),
    "signals of a child": (
        "const said = await new Deno.Command('grep', { args: ['^Sig[BIC]', '/proc/self/status'] }).output();\nconsole.log(new TextDecoder().decode(said.stdout))",
        {},
    ),
    "signal": ("Deno.kill(Deno.pid, 'SIGTERM'); setTimeout(() => {}, 1000)", {}),
    "signal handler": (
        "Deno.addSignalListener('SIGUSR2', () => { console.log('got'); Deno.exit(); }); Deno.kill(Deno.pid, 'SIGUSR2'); setTimeout(() => {}, 500)",
        {},
    ),
    "permissions": (
        "for (const name of ['run', 'read', 'net', 'env', 'ffi'] as const) console.log((await Deno.permissions.query({ name })).state)",
        {},
    ),
    "globals": (
        "console.log(Object.getOwnPropertyNames(globalThis).sort().join(), Object.keys(Deno).sort().join())",
        {},
    ),
    "deno's properties": (
        "console.log(Object.getOwnPropertyDescriptor(Deno, 'args'), Object.isFrozen(Deno.args), navigator.userAgent)",
        {},
    ),
    "timers and microtasks": (
        "setTimeout(() => console.log(3)); Promise.resolve().then(() => console.log(2)); queueMicrotask(() => console.log(2.5)); console.log(1)",
        {},
    ),
    "worker": (
        "const w = new Worker(import.meta.resolve('./w.ts'), { type: 'module' });\nw.onmessage = (e) => { console.log(e.data); w.terminate(); };",
        {"files": {"w.ts": "self.postMessage([Deno.args, import.meta.main])"}, "args": ["x"]},
    ),
    "another deno": (
        "const said = await new Deno.Command(Deno.execPath(), { args: ['eval', 'console.log(Deno.args)', 'x'] }).output();\nconsole.log(new TextDecoder().decode(said.stdout))",
        {},
    ),
    "test functions": ("Deno.test('x', () => {}); console.log('on')", {}),
    "key values": ("console.log(typeof localStorage, typeof caches)", {}),
    "unicode": ("console.log('日本語 🎉')", {}),
    "another entry": (
        None,
        {"entrypoint": "app/run.ts", "files": {"app/run.ts": "console.log(import.meta.url as string)"}},
    ),
    "javascript as entry": (None, {"entrypoint": "run.js", "files": {"run.js": "console.log(import.meta.url)"}}),
    "main as entry": (
        None,
        {"entrypoint": "main.ts", "files": {"main.ts": "console.log(import.meta.url as string)"}},
    ),
}

SAMPLES = {
    "text": Sample("const text: string = 'hello';\nconsole.log(text)", "hello\n"),
    "files": Sample(
        "Deno.mkdirSync('outputs/out');\nDeno.writeTextFileSync('outputs/out/m.txt', String(2 * Number(Deno.readTextFileSync('inputs/n.txt'))))",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        "const [name, ...rest]: string[] = (await new Response(Deno.stdin.readable).text()).split('\\n');\n"
        "console.log('hi', name, rest.reduce((a, b) => a + Number(b), 0))",
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample(
        "console.log(JSON.stringify(Deno.args))", '["-x","a b","é"]\n', job={"args": ["-x", "a b", "é"]}
    ),
    "env": Sample("console.log(Deno.env.get('MODE'))", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "import { area, type Shape } from './lib/shapes.ts';\nconst s: Shape = { n: 3 };\nconsole.log(area(s))",
        "9\n",
        job={
            "files": {
                "lib/shapes.ts": "import { square } from './power.ts';\nexport interface Shape { n: number }\nexport const area = (s: Shape) => square(s.n);",
                "lib/power.ts": "export function square(n: number): number { return n * n; }",
            }
        },
    ),
    "threads": Sample(
        "const run = (n: number) => new Promise<number>((done) => {\n"
        "  const w = new Worker(import.meta.resolve('./w.ts'), { type: 'module' });\n"
        "  w.onmessage = (e) => { done(e.data); w.terminate(); };\n  w.postMessage(n);\n});\n"
        "console.log(await Promise.all([1, 2, 3].map(run)))",
        "[ 1, 4, 9 ]\n",
        job={"files": {"w.ts": "self.onmessage = (e: MessageEvent<number>) => self.postMessage(e.data ** 2)"}},
    ),
    "subprocess": Sample(
        "const { stdout, code } = await new Deno.Command('sh', { args: ['-c', 'echo from a child; exit 3'] }).output();\nconsole.log(new TextDecoder().decode(stdout), code)",
        "from a child\n 3\n",
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
        stderr=("error: Uncaught (in promise) Error: no good", "at f (file:///work/main.ts:6:9)"),
        exit_code=1,
    ),
}
