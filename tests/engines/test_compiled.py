"""Languages that are compiled first: programs of every common kind, and a compile phase that keeps to itself."""

from __future__ import annotations

import os
import threading
import time
import tomllib

import pytest

from sandbox.images import ImageStore
from tests.support.service import REPO

LANGUAGES = ("go", "rust")
MAIN = {"go": "main.go", "rust": "main.rs"}
HELLO = {
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n',
    "rust": 'fn main() { println!("hello"); }\n',
}


def go(body, *imports):
    """A Go program: what `main` does, and the packages that it needs."""
    listed = "".join(f'import "{name}"\n' for name in imports)
    return f"package main\n\n{listed}\nfunc main() {{\n{body}\n}}\n"


def rust(body, uses=""):
    """A Rust program: what `main` does, and the lines before it."""
    return f"{uses}\nfn main() {{\n{body}\n}}\n"


# name: (language, program, fields of the job, stdout)
PROGRAMS = {
    "go text": (
        "go",
        go('fmt.Println(strings.ToUpper("abc"), strconv.Itoa(42), len("é"))', "fmt", "strings", "strconv"),
        {},
        "ABC 42 2\n",
    ),
    "go unicode": ("go", go('fmt.Println("日本語 🎉", []rune("é日")[1] == \'日\')', "fmt"), {}, "日本語 🎉 true\n"),
    "go stdin": (
        "go",
        go(
            "s := bufio.NewScanner(os.Stdin)\nn := 0\nfor s.Scan() { n += len(s.Text()) }\nfmt.Println(n)",
            "bufio",
            "fmt",
            "os",
        ),
        {"stdin": "one\ntwo\n" * 1000},
        "6000\n",
    ),
    "go args": (
        "go",
        go("fmt.Println(os.Args[1:], len(os.Args), os.Args[0])", "fmt", "os"),
        {"args": ["a b", "é", "-x"]},
        "[a b é -x] 4 /opt/build/main\n",
    ),
    "go env": ("go", go('fmt.Println(os.Getenv("MODE"))', "fmt", "os"), {"env": {"MODE": "x"}}, "x\n"),
    "go files": (
        "go",
        go(
            'b, _ := os.ReadFile("in.txt")\nos.WriteFile("out.txt", append(b, b...), 0o644)\n'
            'e, _ := os.ReadDir(".")\nfor _, f := range e { fmt.Print(f.Name(), " ") }',
            "fmt",
            "os",
        ),
        {"files": {"in.txt": "data"}},
        "in.txt inputs main.go out.txt outputs ",
    ),
    "go several files": (
        "go",
        go("fmt.Println(twice(21))", "fmt"),
        {"files": {"helper.go": "package main\n\nfunc twice(x int) int { return 2 * x }\n"}},
        "42\n",
    ),
    "go files that are not of the program": (
        "go",
        go('fmt.Println("one")', "fmt"),
        {"files": {"main_test.go": "package main\n\nnonsense", "only_windows.go": "package main\n\nnonsense"}},
        "one\n",
    ),
    "go beside another package": ("go", HELLO["go"], {"files": {"b.go": "package b\n"}}, "hello\n"),
    "go module": (
        "go",
        go("fmt.Println(util.Twice(21))", "example/app/util", "fmt"),
        {
            "files": {
                "go.mod": "module example/app\n\ngo 1.24\n",
                "util/util.go": "package util\n\nfunc Twice(x int) int { return 2 * x }\n",
            }
        },
        "42\n",
    ),
    "go embed": (
        "go",
        'package main\n\nimport _ "embed"\nimport "fmt"\n\n//go:embed hello.txt\nvar text string\n\n'
        "func main() { fmt.Print(text) }\n",
        {"files": {"hello.txt": "inside\n"}},
        "inside\n",
    ),
    "go entry in a folder": (
        "go",
        None,
        {
            "entrypoint": "cmd/app/app.go",
            "files": {"cmd/app/app.go": go("wd, _ := os.Getwd()\nfmt.Println(wd)", "fmt", "os")},
        },
        "/work\n",
    ),
    "go goroutines": (
        "go",
        go(
            "var wg sync.WaitGroup\nvar n atomic.Int64\nfor i := range 1000 {\nwg.Add(1)\n"
            "go func() { defer wg.Done(); n.Add(int64(i)) }()\n}\nwg.Wait()\nfmt.Println(n.Load())",
            "fmt",
            "sync",
            "sync/atomic",
        ),
        {},
        "499500\n",
    ),
    "go subprocess": (
        "go",
        go(
            'if len(os.Args) > 1 { fmt.Print("child "); return }\n'
            'out, err := exec.Command("sh", "-c", "echo $((6*7))").Output()\nfmt.Print(string(out), err, " ")\n'
            'self, _ := os.Executable()\nout, err = exec.Command(self, "x").Output()\nfmt.Println(string(out), err)',
            "fmt",
            "os",
            "os/exec",
        ),
        {},
        "42\n<nil> child  <nil>\n",
    ),
    "go json": (
        "go",
        go(
            'var v struct{ Name string; Tags []string }\njson.Unmarshal([]byte(`{"name":"é","tags":["a"]}`), &v)\n'
            "out, _ := json.Marshal(v)\nfmt.Println(v.Name, string(out))",
            "encoding/json",
            "fmt",
        ),
        {},
        'é {"Name":"é","Tags":["a"]}\n',
    ),
    "go dates": (
        "go",
        go(
            't, _ := time.Parse(time.DateOnly, "2024-02-28")\nz, err := time.LoadLocation("Asia/Tokyo")\n'
            'fmt.Println(t.AddDate(0, 0, 1).Format(time.DateOnly), t.In(z).Format("15h MST"), err)',
            "fmt",
            "time",
        ),
        {},
        "2024-02-29 09h JST <nil>\n",
    ),
    "go http on its own loopback": (
        "go",
        go(
            's := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "pong") }))\n'
            "r, err := http.Get(s.URL)\nif err != nil { panic(err) }\nb, _ := io.ReadAll(r.Body)\nfmt.Println(string(b))",
            "fmt",
            "io",
            "net/http",
            "net/http/httptest",
        ),
        {},
        "pong\n",
    ),
    "rust text": (
        "rust",
        rust('println!("{} {:>5.2} {:?}", "abc".to_uppercase(), 3.14159, "a,b".split(\',\').collect::<Vec<_>>());'),
        {},
        'ABC  3.14 ["a", "b"]\n',
    ),
    "rust unicode": (
        "rust",
        rust('println!("日本語 🎉 {} {}", "é日".chars().count(), "é日".len());'),
        {},
        "日本語 🎉 2 5\n",
    ),
    "rust stdin": (
        "rust",
        rust(
            'let n: usize = io::stdin().lock().lines().map(|l| l.unwrap().len()).sum();\nprintln!("{n}");',
            "use std::io::{self, BufRead};",
        ),
        {"stdin": "one\ntwo\n" * 1000},
        "6000\n",
    ),
    "rust args": (
        "rust",
        rust('println!("{:?}", std::env::args().collect::<Vec<_>>());'),
        {"args": ["a b", "é", "-x"]},
        '["/opt/build/main", "a b", "é", "-x"]\n',
    ),
    "rust env": (
        "rust",
        rust('println!("{:?} {:?}", std::env::var("MODE"), option_env!("MODE"));'),
        {"env": {"MODE": "x"}},
        'Ok("x") None\n',
    ),
    "rust files": (
        "rust",
        rust(
            'let text = fs::read_to_string("in.txt").unwrap();\nfs::write("out.txt", text.repeat(2)).unwrap();\n'
            'let mut names: Vec<_> = fs::read_dir(".").unwrap().map(|e| e.unwrap().file_name()).collect();\n'
            'names.sort();\nprintln!("{names:?}");',
            "use std::fs;",
        ),
        {"files": {"in.txt": "data"}},
        '["in.txt", "inputs", "main.rs", "out.txt", "outputs"]\n',
    ),
    "rust several files": (
        "rust",
        'mod helper;\nmod deep;\nfn main() { println!("{} {}", helper::twice(21), deep::er::X); }\n',
        {
            "files": {
                "helper.rs": "pub fn twice(x: i32) -> i32 { 2 * x }\n",
                "deep/mod.rs": "pub mod er;\n",
                "deep/er.rs": "pub const X: i32 = 7;\n",
            }
        },
        "42 7\n",
    ),
    "rust included file": (
        "rust",
        rust('print!("{}", include_str!("hello.txt"));'),
        {"files": {"hello.txt": "inside\n"}},
        "inside\n",
    ),
    "rust entry in a folder": (
        "rust",
        None,
        {
            "entrypoint": "app/app.rs",
            "files": {
                "app/app.rs": 'mod b;\nfn main() { println!("{:?} {}", std::env::current_dir().unwrap(), b::B); }\n',
                "app/b.rs": "pub const B: u8 = 1;\n",
            },
        },
        '"/work" 1\n',
    ),
    "rust threads": (
        "rust",
        rust(
            "let total = Arc::new(AtomicUsize::new(0));\nlet all: Vec<_> = (0..50).map(|n| { let t = total.clone();\n"
            "thread::spawn(move || { t.fetch_add(n, Ordering::SeqCst); }) }).collect();\n"
            'for one in all { one.join().unwrap(); }\nprintln!("{}", total.load(Ordering::SeqCst));',
            "use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};\nuse std::thread;",
        ),
        {},
        "1225\n",
    ),
    "rust subprocess": (
        "rust",
        rust(
            'if std::env::args().count() > 1 { print!("child"); return; }\n'
            'let out = Command::new("sh").args(["-c", "echo $((6*7))"]).output().unwrap();\n'
            'let me = Command::new(std::env::current_exe().unwrap()).arg("x").output().unwrap();\n'
            'println!("{:?} {:?}", String::from_utf8(out.stdout), String::from_utf8(me.stdout));',
            "use std::process::Command;",
        ),
        {},
        'Ok("42\\n") Ok("child")\n',
    ),
    "rust json by hand": (
        "rust",
        rust(
            'let rows = BTreeMap::from([("b", 2), ("a", 1)]);\n'
            'let inner: Vec<_> = rows.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();\n'
            'println!("{{{}}}", inner.join(","));',
            "use std::collections::BTreeMap;",
        ),
        {},
        '{"a":1,"b":2}\n',
    ),
    "rust dates": (
        "rust",
        rust(
            "let day = Duration::from_secs(86_400);\nlet then = UNIX_EPOCH + 19_782 * day;\n"
            'println!("{} {}", then.duration_since(UNIX_EPOCH).unwrap().as_secs(), SystemTime::now() > then);',
            "use std::time::{Duration, SystemTime, UNIX_EPOCH};",
        ),
        {},
        "1709164800 true\n",
    ),
    "rust macros, traits and closures": (
        "rust",
        rust(
            'let shapes: Vec<Box<dyn Area>> = vec![Box::new(Square(2)), Box::new(Square(3))];\n'
            'println!("{}", sum!(shapes[0].area(), shapes[1].area()));',
            "trait Area { fn area(&self) -> u32; }\nstruct Square(u32);\n"
            "impl Area for Square { fn area(&self) -> u32 { self.0 * self.0 } }\n"
            "macro_rules! sum { ($($x:expr),*) => { 0 $(+ $x)* } }",
        ),
        {},
        "13\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs(run, name):
    language, code, fields, stdout = PROGRAMS[name]
    result = run(language, code, **fields)
    assert (result["status"], result["stdout"], result["stderr"]) == ("succeeded", stdout, ""), result
    assert result["compile"]["exit_code"] == 0


def test_the_cache_of_go_is_never_too_old(service):
    """A day after its last cleaning `go build` cleans its cache again, and fails if it cannot note that it has."""
    image = ImageStore(service.images).get("go")
    notes = [
        found for layer in image.layers if os.path.lexists(found := f"{layer}/usr/local/lib/go/cache/trim.txt")
    ]
    assert [os.readlink(note) for note in notes] == ["/opt/build/trim.txt"]
    path = f"/v1/sessions/{service.post('/v1/sessions', json={'language': 'go'}).body['id']}"
    line = (
        "printf 'module m\\n' > go.mod; printf 'package main\\nfunc main() { println(42) }\\n' > main.go; "
        "rm -f /opt/build/trim.txt; go build -o /opt/build/m . && test -s /opt/build/trim.txt && /opt/build/m"
    )
    env = tomllib.loads((REPO / "runners/go/runner.toml").read_text())["compile"]["env"]
    done = service.post(f"{path}/processes", json={"command": line, "env": env, "wait": True}).body
    service.request("DELETE", path)
    assert (done["exit_code"], done["stderr"]) == (0, "42\n"), done


# name: (language, program, what the compiler's or the program's stderr must hold)
NOT_COMPILED = {
    "go type": ("go", go("x := 1\nfmt.Println(x + `a`)", "fmt"), "main.go:7:"),
    "go syntax": ("go", "package main\n\nfunc main() {\n\tif {\n}\n", "main.go:4:"),
    "go unused": ("go", go("x := 1"), "main.go:5:1: declared and not used: x"),
    "go unknown package": ("go", go("bar.X()", "foo/bar"), "package foo/bar is not in std"),
    "go internal package": ("go", go("_ = goos.GOOS", "internal/goos"), "use of internal package"),
    "go c": ("go", 'package main\n\nimport "C"\n\nfunc main() {}\n', "main.go: is excluded"),
    "go without main": ("go", "package main\n\nfunc helper() {}\n", "function main is undeclared"),
    "go library": ("go", "package helper\n", "main.go: package helper is not a main package"),
    "go library in a module": ("go", ("package helper\n", {"go.mod": "module x\n"}), "is not a main package"),
    "go excluded": ("go", "//go:build windows\n\npackage main\n", "main.go: is excluded"),
    "go in another file": ("go", (go("f()"), {"b.go": "package main\n\nfunc f() { g() }\n"}), "./b.go:3:12: undefined: g"),
    "rust type": ("rust", 'fn main() {\n    let x: i32 = "a";\n}\n', "--> main.rs:2:18"),
    "rust syntax": ("rust", "fn main() {\n    let x = ;\n}\n", "--> main.rs:2:13"),
    "rust borrow": ("rust", rust('let a = String::new();\nlet b = a;\nprintln!("{a}{b}");'), "error[E0382]"),
    "rust without main": ("rust", "fn helper() {}\n", "`main` function not found"),
    "rust unknown crate": ("rust", "use serde::Serialize;\nfn main() {}\n", "main.rs:1:5"),
    "rust in another file": ("rust", ("mod b;\nfn main() {}\n", {"b.rs": "\nfn f() -> u8 { true }\n"}), "--> b.rs:2:16"),
    "rust linking": (
        "rust",
        'extern "C" { fn nowhere(); }\nfn main() { unsafe { nowhere() } }\n',
        "undefined symbol: nowhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_COMPILED)
def test_what_does_not_compile_is_told_and_not_run(run, name):
    language, code, said = NOT_COMPILED[name]
    code, files = code if isinstance(code, tuple) else (code, {})
    result = run(language, code, files=files)
    compiled = result["compile"]
    assert (result["status"], result["exit_code"], result["signal"]) == ("failed", None, None)
    assert (result["stdout"], result["stderr"], compiled["exit_code"]) == ("", "", 1)
    assert said in compiled["stderr"], compiled
    assert "runyard" not in compiled["stderr"] + compiled["stdout"]
    assert (result["usage"]["wall_ms"], result["usage"]["cpu_ms"]) == (0, 0)


ENDS = {
    "go panic": ("go", go("var m map[string]int\nm[``] = 1"), 2, None, "/work/main.go:6"),
    "go exit": ("go", go("os.Exit(42)", "os"), 42, None, ""),
    "go index": ("go", go("a := []int{}\nprintln(a[len(a)])"), 2, None, "index out of range"),
    "go killed": ("go", go("syscall.Kill(os.Getpid(), syscall.SIGKILL)\nselect {}", "os", "syscall"), None, "SIGKILL", ""),
    "rust panic": ("rust", "fn main() {\n    None::<u8>.unwrap();\n}\n", 101, None, "main.rs:2:16"),
    "rust overflow": ("rust", rust("let a: u8 = std::env::args().count() as u8 + 254;\nlet b = a + 1;\ndrop(b);"), 101, None, "overflow"),
    "rust exit": ("rust", rust("std::process::exit(42)"), 42, None, ""),
    "rust abort": ("rust", rust("std::process::abort()"), None, "SIGABRT", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_a_program_ends_as_it_does_anywhere(run, name):
    language, code, exit_code, signal, said = ENDS[name]
    result = run(language, code)
    assert (result["status"], result["exit_code"], result["signal"]) == ("failed", exit_code, signal)
    assert said in result["stderr"]
    assert result["compile"]["exit_code"] == 0


def test_warnings_are_the_compilers_and_not_the_programs(run):
    result = run("rust", 'fn unused() {}\nfn main() { eprintln!("mine"); }\n')
    assert "never used" in result["compile"]["stderr"]
    assert (result["status"], result["stderr"]) == ("succeeded", "mine\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_small_program_is_quick_and_finds_nothing_but_its_own_file(run, language):
    best = min(run(language, HELLO[language])["compile"]["cpu_ms"] for _ in range(5))
    assert best < 2000  # a quarter of that on a machine of 2023; processor time, because a machine may be loaded
    looks = {
        "go": go(
            'for _, d := range []string{"/work", "/opt/build", "/tmp", "/work/outputs"} {\n'
            'e, _ := os.ReadDir(d)\nfor _, f := range e { fmt.Print(f.Name(), " ") }\n}',
            "fmt",
            "os",
        ),
        "rust": rust(
            'for d in ["/work", "/opt/build", "/tmp", "/work/outputs"] {\n'
            "let mut n: Vec<_> = std::fs::read_dir(d).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();\n"
            'n.sort();\nfor x in n { print!("{x} "); }\n}'
        ),
    }
    assert run(language, looks[language])["stdout"] == f"inputs {MAIN[language]} outputs main "


#: A function that takes its compiler a while, by its number.
MUCH = {
    "go": "func f%d(a []int) int { s := 0; for i, n := range a { s += n * i * %d }; return s }\n",
    "rust": "#[allow(dead_code)]\nfn f%d(a: &[i64]) -> i64 { a.iter().map(|n| n * %d).sum() }\n",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_clocks_and_counters_are_the_programs_own(run, language):
    code = {
        "go": go("time.Sleep(50 * time.Millisecond)", "time"),
        "rust": rust("std::thread::sleep(std::time::Duration::from_millis(50));"),
    }[language]
    # So much that also a quick machine needs longer to compile it than the program may run.
    code += "".join(MUCH[language] % (number, number) for number in range(1000))
    result = run(language, code, limits={"cpu_ms": 60, "timeout_ms": 5000})
    assert result["status"] == "succeeded"
    assert result["usage"]["wall_ms"] >= 50
    assert result["usage"]["cpu_ms"] < 60
    assert result["compile"]["wall_ms"] > 60
    assert 60 < result["compile"]["cpu_ms"] <= 2.2 * result["compile"]["wall_ms"] + 20


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_programs_time_is_its_own(run, language):
    code = {"go": go("println(1)\nfor {\n}"), "rust": rust('eprintln!("1");\nloop {}')}[language]
    result = run(language, code, limits={"timeout_ms": 300})
    assert (result["status"], result["timed_out"], result["stderr"]) == ("timeout", True, "1\n")
    assert 300 <= result["usage"]["wall_ms"] < 3000
    assert result["compile"]["exit_code"] == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_programs_limits_are_back_in_force_before_it_runs(run, language):
    eat = {
        "go": go("b := make([]byte, 400<<20)\nfor i := range b { b[i] = 1 }\nprintln(len(b))"),
        "rust": rust(
            'let b = vec![1u8; 400 << 20];\nprintln!("{}", b.iter().map(|x| *x as usize).sum::<usize>());'
        ),
    }[language]
    result = run(language, eat, limits={"memory_mb": 100})
    assert (result["status"], result["oom_killed"], result["signal"]) == ("oom", True, "SIGKILL")
    # A process that is being killed may still be charged a few pages beyond: far from the compiler's budget.
    assert result["usage"]["max_rss_mb"] <= 104
    assert run(language, HELLO[language], limits={"memory_mb": 16, "cpus": 0.2})["stdout"] == "hello\n"


def test_processes_are_bounded_by_what_was_asked_for(run):
    code = rust(
        "let mut n = 0;\nlet mut all = vec![];\nloop {\n"
        "match std::thread::Builder::new().spawn(|| std::thread::sleep(std::time::Duration::from_secs(9))) {\n"
        'Ok(t) => { all.push(t); n += 1; }\nErr(_) => { println!("{n}"); std::process::exit(0) }\n}\n}'
    )
    assert run("rust", code, limits={"pids": 10})["stdout"] == "9\n"
    assert run("rust", code)["stdout"] == "255\n"


def test_the_build_directory_is_closed_before_the_program_runs(run):
    code = go(
        'for _, f := range []func() error{\n'
        'func() error { return os.WriteFile("/opt/build/x", nil, 0o755) },\n'
        'func() error { return os.Remove("/opt/build/main") },\n'
        'func() error { return os.Chmod("/opt/build/main", 0) },\n'
        'func() error { _, err := os.OpenFile("/opt/build/main", os.O_RDWR, 0); return err },\n'
        "} { fmt.Println(errors.Is(f(), syscall.EROFS)) }",
        "errors",
        "fmt",
        "os",
        "syscall",
    )  # fmt: skip
    assert run("go", code)["stdout"] == "true\n" * 4


def test_artifacts_are_the_programs(run):
    result = run("go", go('os.WriteFile("outputs/a.txt", []byte("abc"), 0o644)', "os"))
    assert [(a["path"], a["size"]) for a in result["artifacts"]] == [("a.txt", 3)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_much_output_arrives_whole(run, language):
    code = {
        "go": go(
            "w := bufio.NewWriter(os.Stdout)\nfor i := range 100000 { fmt.Fprintln(w, i) }\nw.Flush()",
            "bufio",
            "fmt",
            "os",
        ),
        "rust": rust('for i in 0..100000 { println!("{i}"); }'),
    }[language]  # fmt: skip
    result = run(language, code)
    assert result["stdout"] == "".join(f"{n}\n" for n in range(100_000))


# -- compilers that are asked for too much ---------------------------------------------------------

#: Left alone, the compiler would refuse this by itself after a while.
CONST_LOOP = (
    "#![allow(long_running_const_eval)]\n"
    "const X: u64 = { let mut i = 0u64; while i < u64::MAX { i += 1; } i };\n"
    'fn main() { println!("{X}"); }\n'
)
#: More initialised data than there is memory.
LARGE_DATA = "package main\n\nvar a = [1 << 33]byte{1 << 32: 1}\n\nfunc main() { println(a[0]) }\n"


#: For compiling, of the worker that is started for it; the service has thirty.
TIMEOUT_S = 3


def hello_is_quick(run):
    began = time.monotonic()
    assert run("bash", "echo hi")["stdout"] == "hi\n"
    assert time.monotonic() - began < 2


def test_a_compiler_that_takes_too_long_is_ended(start_worker):
    worker = start_worker(COMPILE_TIMEOUT_S=str(TIMEOUT_S), LANGUAGES="rust,bash", WARM_POOL="rust=1,bash=1")
    began = time.monotonic()
    result = worker.run("rust", CONST_LOOP, limits={"timeout_ms": 100})
    assert (result["status"], result["timed_out"], result["exit_code"]) == ("timeout", True, None)
    assert result["compile"]["exit_code"] is None
    assert 1000 * TIMEOUT_S <= result["compile"]["wall_ms"] < 1000 * TIMEOUT_S + 3000
    assert time.monotonic() - began < TIMEOUT_S + 10
    assert result["usage"]["wall_ms"] == 0
    hello_is_quick(worker.run)


MEMORY_BOMBS = {
    "rust constants": (
        "rust",
        "#![allow(long_running_const_eval)]\nconst fn f(n: usize) -> [u8; 1 << 26] { [n as u8; 1 << 26] }\n"
        + "".join(f"static S{n}: [u8; 1 << 26] = f({n});\n" for n in range(1, 40))
        + 'fn main() { println!("{}", ' + " + ".join(f"S{n}[1] as usize" for n in range(1, 40)) + "); }\n",
    ),
    "go data": ("go", LARGE_DATA),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY_BOMBS)
def test_a_compiler_that_takes_too_much_memory_is_an_oom(run, name):
    language, code = MEMORY_BOMBS[name]
    result = run(language, code)
    assert (result["status"], result["oom_killed"], result["timed_out"]) == ("oom", True, False)
    assert (result["exit_code"], result["signal"], result["compile"]["exit_code"]) in [
        (None, None, None),
        (None, None, 1),
    ]
    assert result["usage"] | {"queue_ms": 0} == {
        "wall_ms": 0,
        "cpu_ms": 0,
        "max_rss_mb": 0,
        "queue_ms": 0,
        "egress_bytes": 0,
        "shared": False,
    }
    hello_is_quick(run)


def test_a_program_larger_than_its_memory_is_an_oom_and_is_not_run(run):
    code = 'static BIG: [u8; 40 << 20] = [7; 40 << 20];\nfn main() { println!("{}", BIG[std::env::args().count()]); }\n'
    result = run("rust", code, limits={"memory_mb": 24})
    assert (result["status"], result["oom_killed"], result["stdout"]) == ("oom", True, "")
    assert result["compile"]["exit_code"] == 0
    assert run("rust", code, limits={"memory_mb": 256})["stdout"] == "7\n"


def test_a_flood_of_errors_is_cut(run):
    code = "fn main() {\n" + '    let x: i32 = "a";\n' * 500 + "}\n"
    result = run("rust", code, limits={"max_output_bytes": 5000})
    assert (result["status"], len(result["compile"]["stderr"])) == ("failed", 5000)


def test_the_programs_input_is_not_the_compilers(run):
    result = run("rust", rust('println!("{:?}", std::io::stdin().lines().next());'), stdin="mine\n" * 100_000)
    assert result["stdout"] == 'Some(Ok("mine"))\n'


def test_a_compiler_reads_files_of_its_image_only(run):
    result = run("rust", rust('print!("{}", include_str!("/etc/passwd"));'))
    assert "runner:x:1000" in result["stdout"]
    for path in ("/proc/1/environ", "/etc/shadow"):
        refused = run("rust", rust(f'print!("{{}}", include_str!("{path}"));'))
        assert refused["status"] == "failed"


FORGERY = """
for fd := range 64 {
    syscall.Write(fd, append([]byte{'P', 0, 0, 0, 20}, []byte("\\x00\\x00\\x00\\x04exit\\x00\\x00\\x00\\x010\\x00\\x00\\x00\\x010\\x00\\x00\\x00\\x010")...))
}
if f, err := os.OpenFile("/proc/1/mem", os.O_RDWR, 0); err == nil { f.Close(); os.Exit(1) }
os.Exit(9)
"""


def test_a_program_cannot_ask_to_be_compiled_again(run):
    result = run("go", go(FORGERY, "os", "syscall"))
    assert (result["status"], result["exit_code"]) == ("failed", 9)


def test_a_client_of_many_compiles_side_by_side(run):
    """More at a time than there are warm sandboxes or processors."""
    results = []
    threads = [
        threading.Thread(target=lambda language=language: results.append(run(language, HELLO[language])["stdout"]))
        for language in LANGUAGES * 6
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == ["hello\n"] * 12
