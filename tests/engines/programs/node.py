"""Node programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-e", "console.log('dash')")

WARM_AND_COLD = {
    "argv": ("console.log(process.argv, process.execArgv, process.argv0)", {"args": ["a b", "é", "--x=1"]}),
    "node's own flags as args": ("console.log(process.argv.slice(2))", {"args": ["--require", "x", "-e", "1"]}),
    "commonjs": (
        "console.log(__filename, __dirname, require.main === module, module.id, module.children.length)",
        {},
    ),
    "module paths": ("console.log(module.paths, Object.keys(require.cache), module.parent)", {}),
    "esm": ("import fs from 'node:fs'; console.log(import.meta.url, import.meta.filename, typeof require)", {}),
    "top-level await": ("const x = await Promise.resolve(5); console.log(x)", {}),
    "esm sibling": ("import { x } from './h.mjs'; console.log(x)", {"files": {"h.mjs": "export const x = 1"}}),
    "cjs sibling": ("console.log(require('./h.js'))", {"files": {"h.js": "module.exports = 3"}}),
    "json sibling": ("console.log(require('./h.json').a)", {"files": {"h.json": '{"a": 1}'}}),
    "package type": (
        "import fs from 'fs'; console.log(typeof fs)",
        {"files": {"package.json": '{"type":"module"}'}},
    ),
    "cwd": ("console.log(process.cwd(), require('fs').readdirSync('.').sort())", {}),
    "env": ("console.log(Object.entries(process.env).sort())", {"env": {"MODE": "x", "EMPTY": "", "U": "é"}}),
    "env of a child": (
        "console.log(require('child_process').execSync('env | sort').toString())",
        {"env": {"MODE": "x"}},
    ),
    "env at boot": ("console.log(process.env.NODE_OPTIONS)", {"env": {"NODE_OPTIONS": "--no-warnings"}}),
    "time zone": ("console.log(new Date(0).toString())", {"env": {"TZ": "Asia/Tokyo"}}),
    "exit code": ("process.exit(42)", {}),
    "exitCode": ("process.exitCode = 7", {}),
    "exit hooks": (
        "process.on('exit', (c) => console.log('bye', c)); process.on('beforeExit', () => console.log('b'))",
        {},
    ),
    "uncaught": ("function f() {\n  throw new Error('no');\n}\nf();", {}),
    "uncaught esm": ("import fs from 'fs';\nthrow new TypeError('no');", {}),
    "rejection": ("Promise.reject(new Error('r'))", {}),
    "handler": ("process.on('uncaughtException', (e) => console.log('caught', e.message)); null.x", {}),
    "syntax error": ("const x = ;", {}),
    "stack": ("console.log(new Error('x').stack)", {}),
    "signal": ("process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 1000)", {}),
    "signal handler": (
        "process.on('SIGUSR2', () => console.log('got')); process.kill(process.pid, 'SIGUSR2'); setTimeout(() => {}, 50)",
        {},
    ),
    "stdin events": (
        "let s = ''; process.stdin.on('data', (d) => s += d).on('end', () => console.log(JSON.stringify(s)))",
        {"stdin": "one\ntwo é\n"},
    ),
    "stdin sync": ("console.log(require('fs').readFileSync(0, 'utf8'))", {"stdin": "one\n"}),
    "no stdin": ("process.stdin.on('end', () => console.log('end')).resume()", {}),
    "streams": (
        "for (const s of [process.stdin, process.stdout, process.stderr]) console.log(s.constructor.name, s.isTTY, s.fd)",
        {},
    ),
    "descriptors": (
        "const fs = require('fs'); const m = fs.readdirSync('/proc/self/fd').map((f) => { try { return "
        "fs.readlinkSync('/proc/self/fd/' + f) } catch { return '' } }); console.log(m.filter((x) => x.startsWith('pipe')).length)",
        {},
    ),
    "workers": (
        "const { Worker, isMainThread, parentPort } = require('worker_threads');\n"
        "if (isMainThread) new Worker(__filename).on('message', (m) => console.log('from worker', m));\n"
        "else parentPort.postMessage([process.argv.length, process.execArgv]);",
        {},
    ),
    "fork": (
        "const cp = require('child_process');\nif (process.send) process.send(process.execArgv);\n"
        "else cp.fork(__filename).on('message', (m) => console.log('from child', m));",
        {},
    ),
    "timers and microtasks": (
        "setTimeout(() => console.log(3)); Promise.resolve().then(() => console.log(2)); console.log(1)",
        {},
    ),
    "globals": ("console.log(Object.getOwnPropertyNames(globalThis).sort().join())", {}),
    "process": (
        "console.log(process.title, process.ppid, process.umask(), process.getuid(), process.features.inspector)",
        {},
    ),
    "preloads": ("console.log(process._preload_modules, process.listenerCount('exit'))", {}),
    "fetch fails": ("fetch('http://192.0.2.1/').catch((e) => console.log(e.cause.code))", {}),
    "unicode": ("console.log('日本語 🎉')", {}),
    "big output": ("process.stdout.write('x'.repeat(300000) + '\\n'); console.log('end')", {}),
    "memory": ("console.log(require('v8').getHeapStatistics().heap_size_limit)", {}),
    "another entry": (
        None,
        {"entrypoint": "app/run.mjs", "files": {"app/run.mjs": "console.log(import.meta.url)"}},
    ),
}

SAMPLES = {
    "text": Sample("console.log('hello')", "hello\n"),
    "files": Sample(
        "const fs = require('fs'); fs.mkdirSync('outputs/out');\n"
        "fs.writeFileSync('outputs/out/m.txt', String(2 * fs.readFileSync('inputs/n.txt', 'utf8')))",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        "import readline from 'node:readline';\nconst lines = [];\n"
        "for await (const line of readline.createInterface({ input: process.stdin })) lines.push(line);\n"
        "console.log('hi', lines[0], lines.slice(1).reduce((a, b) => a + Number(b), 0))",
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample(
        "console.log(JSON.stringify(process.argv.slice(2)))", '["-x","a b","é"]\n', job={"args": ["-x", "a b", "é"]}
    ),
    "env": Sample("console.log(process.env.MODE)", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "const { area } = require('./lib/shapes'); console.log(area(3))",
        "9\n",
        job={
            "files": {
                "lib/shapes.js": "const { square } = require('./power');\nexports.area = square;",
                "lib/power.js": "exports.square = (n) => n * n;",
            }
        },
    ),
    "threads": Sample(
        "const { Worker } = require('worker_threads');\n"
        "const run = (n) => new Promise((done) => new Worker(\"const w = require('worker_threads'); "
        "w.parentPort.postMessage(w.workerData ** 2)\", { eval: true, workerData: n }).on('message', done));\n"
        "Promise.all([1, 2, 3].map(run)).then((found) => console.log(found))",
        "[ 1, 4, 9 ]\n",
    ),
    "subprocess": Sample(
        "console.log(require('child_process').execSync('echo from a child').toString())", "from a child\n\n"
    ),
    "json": Sample(
        "console.log(JSON.stringify({ b: [1, null, true], a: JSON.parse('\"\\\\u00e9\"') }))",
        '{"b":[1,null,true],"a":"é"}\n',
    ),
    "dates": Sample(
        "console.log(new Date(Date.UTC(2024, 1, 28) + 2 * 864e5).toISOString());\n"
        "console.log(new Date(Date.UTC(2024, 6, 1)).toLocaleString('de-DE', { timeZone: 'Europe/Berlin' }))",
        "2024-03-01T00:00:00.000Z\n1.7.2024, 02:00:00\n",
    ),
    "unicode": Sample(
        "const s = 'naïve 日本 🎉'; console.log(s.toUpperCase(), [...s].length)", "NAÏVE 日本 🎉 10\n"
    ),
    "big output": Sample("console.log('x'.repeat(700_000))", "x" * 700_000 + "\n"),
    "error": Sample(
        "function f() {\n  throw new Error('no good');\n}\n\nf();",
        stderr=("/work/main.js:2", "no good"),
        exit_code=1,
    ),
}
