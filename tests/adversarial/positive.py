"""What ordinary programs do and no wall may stand in the way of: a filter that breaks numpy is switched off."""

from __future__ import annotations

from tests.adversarial.rows import Case

ROOMY = {"limits": {"memory_mb": 512, "timeout_ms": 60_000, "pids": 128}}
LONG = {"limits": {"timeout_ms": 60_000}}


def python(code: str, stdout: str = "ok\n", **more) -> Case:
    return Case("python", code, **({"stdout": stdout, "job": ROOMY} | more))


CASES: dict[str, Case] = {
    "python threads": python(
        "import threading\nn = []\nts = [threading.Thread(target=lambda: n.append(1)) for _ in range(30)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; print('ok' if len(n) == 30 else n)"
    ),
    "python subprocess": python(
        "import subprocess\np = subprocess.run('echo o; cat; exit 3', shell=True, input='k', capture_output=True, text=True)\n"
        "print(p.stdout.replace('\\n', ''), p.returncode)",
        "ok 3\n",
    ),
    "python multiprocessing pools": python(
        "import multiprocessing as m\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    for how in ('fork', 'spawn', 'forkserver'):\n"
        "        with ProcessPoolExecutor(2, mp_context=m.get_context(how)) as pool: print(sum(pool.map(abs, range(-3, 3))))\n",
        "9\n9\n9\n",
    ),
    "python multiprocessing locks and queues": python(
        "import multiprocessing as m\n"
        "def f(q, l, v):\n with l:\n  v.value += 1\n q.put('ok')\n"
        "if __name__ == '__main__':\n"
        " q, l, v = m.Queue(), m.Lock(), m.Value('i', 0)\n"
        " ps = [m.Process(target=f, args=(q, l, v)) for _ in range(3)]\n"
        " [p.start() for p in ps]; [q.get() for _ in ps]; [p.join() for p in ps]; print('ok', v.value)",
        "ok 3\n",
    ),
    "python shared memory": python(
        "from multiprocessing import shared_memory\n"
        "a = shared_memory.SharedMemory(create=True, size=64); a.buf[:2] = b'ok'\n"
        "b = shared_memory.SharedMemory(a.name); print(bytes(b.buf[:2]).decode()); b.close(); a.close(); a.unlink()"
    ),
    "python asyncio": python(
        "import asyncio\n"
        "async def main():\n"
        "    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)\n"
        "    out, _ = await p.communicate(b'ok')\n"
        "    s = await asyncio.start_server(lambda r, w: w.write(b'k') or w.close(), '127.0.0.1', 0)\n"
        "    r, w = await asyncio.open_connection(*s.sockets[0].getsockname()[:2])\n"
        "    print(out.decode(), await r.read(), await asyncio.to_thread(lambda: 1)); s.close()\n"
        "asyncio.run(main())",
        "ok b'k' 1\n",
    ),
    "python sqlite": python(
        "import sqlite3\nfor path in (':memory:', 'a.db', '/tmp/b.db'):\n"
        "    d = sqlite3.connect(path); d.execute('pragma journal_mode=wal'); d.execute('create table t(x)')\n"
        "    d.execute('insert into t values (1)'); d.commit(); print(d.execute('select x from t').fetchall())",
        "[(1,)]\n" * 3,
    ),
    "python socket options": python(
        "import asyncio, socket, http.server, threading, urllib.request\n"
        "s = socket.socket()\n"
        "for level, option in ((1, 2), (1, 7), (1, 8), (1, 9), (1, 15), (1, 20), (6, 1), (6, 4), (6, 5), (6, 6), (6, 12), (6, 18), (0, 1)): s.setsockopt(level, option, 1) if option != 20 else s.settimeout(9)\n"
        "s.setsockopt(1, 13, b'\\1\\0\\0\\0\\0\\0\\0\\0'); print(s.getsockopt(1, 4), s.getsockopt(6, 11, 104) != b'', s.getsockopt(1, 17, 12) != b'' )\n"
        "six = socket.socket(10); six.setsockopt(41, 26, 1)\n"
        "a, b = socket.socketpair(); b.setsockopt(1, 16, 1); a.send(b'x'); print(len(b.recvmsg(1, 99)[1]))\n"
        "u = socket.socket(2, 2); u.setsockopt(1, 6, 1); u.setsockopt(0, 33, 1); u.setsockopt(0, 34, 1); u.setsockopt(0, 8, 1)\n"
        "h = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=h.serve_forever, daemon=True).start()\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{h.server_port}/').status)\n"
        "class P(asyncio.DatagramProtocol):\n"
        "    def datagram_received(self, data, addr): done.set_result(data)\n"
        "async def main():\n"
        "    global done; done = asyncio.get_running_loop().create_future(); loop = asyncio.get_running_loop()\n"
        "    t, _ = await loop.create_datagram_endpoint(P, ('127.0.0.1', 0), reuse_port=True, allow_broadcast=True)\n"
        "    c, _ = await loop.create_datagram_endpoint(P, remote_addr=t.get_extra_info('sockname')); c.sendto(b'ok')\n"
        "    print((await done).decode())\n"
        "asyncio.run(main())",
        "0 True True\n1\n200\nok\n",
    ),
    "python requests on the loopback": python(
        "import http.server, threading, requests\n"
        "h = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=h.serve_forever, daemon=True).start()\n"
        "print('ok' if requests.get(f'http://127.0.0.1:{h.server_port}/').status_code == 200 else '')"
    ),
    "python mkfifo": python(
        "import os\nos.mkfifo('p')\nif os.fork() == 0:\n    open('p', 'w').write('ok'); os._exit(0)\nprint(open('p').read())"
    ),
    "python signals, timers, epoll, inotify": python(
        "import select, signal, ctypes, os, time\n"
        "got = []\nsignal.signal(signal.SIGALRM, lambda *_: got.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "signal.pause(); e = select.epoll(); r, w = os.pipe(); e.register(r, 1); os.write(w, b'x')\n"
        "l = ctypes.CDLL(None); fd = l.inotify_init1(0); l.inotify_add_watch(fd, b'/work', 0x100); open('new', 'w')\n"
        "print('ok', got, len(e.poll(1)), len(os.read(fd, 99)) > 16, time.clock_gettime(time.CLOCK_BOOTTIME) > 0)",
        "ok [1] 1 True True\n",
    ),
    "python files, locks, extended attributes that fail": python(
        "import fcntl, os, tempfile, shutil, mmap\n"
        "f = tempfile.NamedTemporaryFile(); fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)\n"
        "f.write(b'ok'); f.flush(); shutil.copy(f.name, 'c'); shutil.copytree('.', '/tmp/t'); shutil.move('c', '/tmp/c')\n"
        "print(mmap.mmap(f.fileno(), 2)[:].decode()); os.sendfile(1, f.fileno(), 0, 0)"
    ),
    "numpy": python("import numpy as n\na = n.random.rand(200, 200)\nprint('ok' if n.allclose(a @ n.linalg.inv(a), n.eye(200)) else '')"),
    "pandas": python(
        "import pandas as p\nd = p.DataFrame({'a': [1, 2, 2], 'b': [3, 4, 5]})\nd.to_csv('x.csv', index=False)\n"
        "print(p.read_csv('x.csv').groupby('a').sum().b.tolist())",
        "[3, 9]\n",
    ),
    "matplotlib": python(
        "import matplotlib.pyplot as p\np.plot([1, 2]); p.title('ü $x^2$'); p.savefig('outputs/a.png'); p.savefig('outputs/b.svg'); print('ok')"
    ),
    "scipy": python("from scipy import optimize, linalg, sparse\nprint(round(optimize.brentq(lambda x: x * x - 2, 0, 2), 6))", "1.414214\n"),
    "scikit-learn": python(
        "from sklearn.ensemble import RandomForestClassifier\nfrom sklearn.datasets import load_iris\n"
        "x, y = load_iris(return_X_y=True)\nm = RandomForestClassifier(20, n_jobs=2, random_state=1).fit(x, y)\nprint('ok' if m.score(x, y) > 0.9 else '')"
    ),
    "node Workers": Case(
        "node",
        "const { Worker } = require('worker_threads');\n"
        "const w = new Worker('require(\"worker_threads\").parentPort.postMessage(\"ok\")', { eval: true });\n"
        "w.on('message', m => console.log(m));",
        stdout="ok\n",
    ),
    "node execSync": Case("node", "console.log(require('child_process').execSync('echo ok').toString().trim())", stdout="ok\n"),
    "node fs.watch": Case(
        "node",
        "const fs = require('fs');\nconst w = fs.watch('.', (kind, name) => { if (name === 'f') { console.log('ok'); w.close(); clearInterval(t); } });\n"
        "const t = setInterval(() => fs.writeFileSync('f', String(Math.random())), 50);",
        stdout="ok\n",
        job=LONG,
    ),
    "node http on the loopback": Case(
        "node",
        "const s = require('http').createServer((q, r) => r.end('ok')).listen(0, async () => {\n"
        "  console.log(await (await fetch('http://127.0.0.1:' + s.address().port)).text()); s.close(); });",
        stdout="ok\n",
        job=LONG,
    ),
    "node dgram and net options": Case(
        "node",
        "const d = require('dgram').createSocket({ type: 'udp4', reuseAddr: true }), net = require('net');\n"
        "d.on('message', m => { console.log(m.toString()); d.close(); });\n"
        "d.bind(0, '127.0.0.1', () => { d.setTTL(9); d.setMulticastTTL(1); d.setMulticastLoopback(true); d.setBroadcast(true);\n"
        "  d.setRecvBufferSize(4096); d.send('datagram', d.address().port, '127.0.0.1'); });\n"
        "const s = net.createServer(c => c.end('stream')).listen(0, () => {\n"
        "  const c = net.connect(s.address().port); c.setNoDelay(true); c.setKeepAlive(true, 1000);\n"
        "  c.on('data', x => { console.log(x.toString()); c.end(); s.close(); }); });",
        contains=("datagram\n", "stream\n"),
        job=LONG,
    ),
    "typescript workers and crypto": Case(
        "typescript",
        "import { scryptSync, createHash } from 'node:crypto';\nimport { availableParallelism } from 'node:os';\n"
        "const n: number = availableParallelism();\nscryptSync('a', 'b', 32);\nconsole.log(n > 0 ? 'ok' : n, createHash('md5').update('').digest('hex').length);",
        stdout="ok 32\n",
    ),
    "deno workers, processes, files": Case(
        "deno",
        "const p = await new Deno.Command('echo', { args: ['ok'] }).output();\n"
        "console.log(new TextDecoder().decode(p.stdout).trim());\n"
        "await Deno.writeTextFile('a', 'x'); await Deno.rename('a', 'outputs/b'); console.log(await Deno.readTextFile('outputs/b'));\n"
        "const w = new Worker(URL.createObjectURL(new Blob(['postMessage(1)'])), { type: 'module' });\n"
        "w.onmessage = e => { console.log(e.data); w.terminate(); };",
        stdout="ok\nx\n1\n",
        job=LONG,
    ),
    "bun workers, processes, files": Case(
        "bun",
        "import { $ } from 'bun';\nconsole.log((await $`echo ok`.text()).trim());\n"
        "await Bun.write('outputs/a', 'x'); console.log(await Bun.file('outputs/a').text());\n"
        "console.log(Bun.spawnSync(['sh', '-c', 'exit 3']).exitCode);\n"
        "const s = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('served') });\n"
        "console.log(await (await fetch('http://127.0.0.1:' + s.port)).text()); s.stop(true);",
        stdout="ok\nx\n3\nserved\n",
        job=LONG,
    ),
    "ruby fork and threads": Case(
        "ruby",
        "r, w = IO.pipe\npid = fork { w.write 'ok' }\nProcess.wait pid; w.close\n"
        "puts r.read, Thread.new { 2 }.value, `echo sub`, Ractor.count",
        stdout="ok\n2\nsub\n1\n",
    ),
    "php proc_open": Case(
        "php",
        "<?php $p = proc_open(['cat'], [['pipe', 'r'], ['pipe', 'w']], $io); fwrite($io[0], 'ok'); fclose($io[0]);\n"
        "echo stream_get_contents($io[1]), proc_close($p), trim(shell_exec('echo sub')), \"\\n\";",
        stdout="ok0sub\n",
    ),
    "goroutines and exec": Case(
        "go",
        'package main\nimport ("fmt"; "os/exec"; "sync"; "net"; "time")\nfunc main() {\n\tvar w sync.WaitGroup; var m sync.Mutex; n := 0\n'
        "\tfor range 1000 { w.Add(1); go func() { defer w.Done(); time.Sleep(time.Millisecond); m.Lock(); n++; m.Unlock() }() }\n"
        '\tw.Wait(); out, _ := exec.Command("echo", "sub").Output()\n\tl, err := net.Listen("tcp", "127.0.0.1:0"); _ = l\n'
        '\tfmt.Println(n, string(out), err)\n}',
        stdout="1000 sub\n <nil>\n",
        job=LONG,
    ),
    "go's net": Case(
        "go",
        'package main\nimport ("fmt"; "io"; "net"; "net/http"; "time")\nfunc main() {\n'
        '\tl, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { panic(err) }\n'
        '\tgo http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))\n'
        '\tr, err := http.Get("http://" + l.Addr().String()); if err != nil { panic(err) }\n'
        '\tb, _ := io.ReadAll(r.Body)\n'
        '\tu, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); if err != nil { panic(err) }\n'
        '\tc, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); if err != nil { panic(err) }\n'
        '\tfmt.Println(string(b), u.SetReadBuffer(4096), c.SetNoDelay(false), c.SetKeepAlivePeriod(time.Second), c.SetLinger(1))\n}',
        stdout="ok <nil> <nil> <nil> <nil>\n",
        job=LONG,
    ),
    "rust threads and Command": Case(
        "rust",
        "use std::{process::Command, thread, sync::mpsc};\nfn main() {\n    let (s, r) = mpsc::channel();\n"
        "    for i in 0..8 { let s = s.clone(); thread::spawn(move || s.send(i).unwrap()); }\n    drop(s);\n"
        '    println!("{}", r.iter().sum::<i32>());\n'
        '    print!("{}", String::from_utf8(Command::new("echo").arg("sub").output().unwrap().stdout).unwrap());\n}',
        stdout="28\nsub\n",
        job=LONG,
    ),
    "bash pipes and process substitution": Case(
        "bash",
        "diff <(printf 'a\\nb\\n') <(printf 'a\\n') | tail -1; seq 5 | sort -rn | head -1; coproc cat; echo k >&${COPROC[1]}; "
        "read -r x <&${COPROC[0]}; echo $x; cat <<< here; exec 7<>/dev/null; timeout 5 true && echo ok; kill $COPROC_PID; trap 'echo bye' EXIT",
        contains=("< b", "5\n", "k\n", "here\n", "ok\n", "bye\n"),
    ),
    "bash tools": Case(
        "bash",
        "tar c inputs | tar t; echo hi | gzip | zcat; find . -name main.sh | xargs ls; mktemp -d >/dev/null && nproc >/dev/null && date >/dev/null && ps >/dev/null 2>&1; echo ok",
        contains=("inputs/", "hi", "./main.sh", "ok"),
    ),
}  # fmt: skip
