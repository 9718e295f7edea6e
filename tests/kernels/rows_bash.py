"""Cells of bash."""

from __future__ import annotations

import re

from tests.kernels.rows import Cell

INTERRUPT = ("Interrupt", "", None)

ROWS: dict[str, tuple[Cell, ...]] = {
    "variables": (Cell("x=42"), Cell("echo $((x * 2))", "84\n")),
    "functions and aliases": (
        Cell("f() { echo f$1; }\nalias hi='echo hi'"),
        Cell("f 1; hi there", "f1\nhi there\n"),
    ),
    "arrays": (Cell("declare -A m=([a]=1 [b]=2); l=(x 'y z')"), Cell('echo "${m[b]} ${l[1]}"', "2 y z\n")),
    "directory": (Cell("cd /tmp"), Cell("pwd", "/tmp\n")),
    "traps": (Cell("trap 'echo usr' USR1"), Cell("kill -USR1 $$; echo end", "usr\nend\n")),
    "status of the last command": (Cell("false", exit_code=1), Cell("(exit 3)", exit_code=3), Cell("true")),
    "unknown command": (Cell("nosuch", stderr="bash: nosuch: command not found\n", exit_code=127),),
    "syntax error": (
        Cell("echo a\nif then", "a\n", re.compile(r"bash: eval: line \d+: syntax error near [\s\S]*"), exit_code=2),
        Cell("echo b", "b\n"),
    ),
    "here-document": (Cell("cat <<E\na 'q' $((1 + 1))\nE\nprintf end", "a 'q' 2\nend"),),
    "several lines": (Cell("for i in 1 2\ndo\n  echo $i\ndone", "1\n2\n"),),
    "no script around it": (Cell('echo "[${BASH_SOURCE[0]}] $0 $#"', "[] bash 0\n"),),
    "stdin": (
        Cell("read a; read b || echo eof; echo $a", "eof\nline\n", stdin=b"line\n"),
        Cell("cat", "kid", stdin=b"kid"),
        Cell("cat"),
        Cell("read x", exit_code=1),
    ),
    "environment": (
        Cell("V=old"),
        Cell("echo $V; sh -c 'echo $V'", "q'1\nq'1\n", env={"V": "q'1"}),
        Cell("echo $V", "old\n"),
    ),
    "interrupted command": (
        Cell("x=1"),
        Cell("sleep 9; echo no", stderr=re.compile(r"\n?"), exception=INTERRUPT, exit_code=130, interrupt_s=0.3),
        Cell("echo $x", "1\n"),
    ),
    "interrupted loop": (
        Cell(
            "f() { while :; do :; done; }; f",
            stderr=re.compile(r"\n?"),
            exception=INTERRUPT,
            exit_code=130,
            interrupt_s=0.3,
        ),
        Cell("type -t f", "function\n"),
    ),
    "exit keeps the state": (
        Cell("x=1; f() { echo f; }; cd /tmp; alias hi='echo hi'; declare -r r=2; shopt -s extglob"),
        Cell("f() { echo g; exit 7; }; (exit 3); f", "g\n", exit_code=7),
        Cell("f; exit 9", "g\n", exit_code=7),
        Cell("hi $x $r $PWD; shopt -q extglob; jobs", "hi 1 2 /tmp\n"),
    ),
    "exit keeps the parameters": (Cell("set -- a 'b c'; exit 1", exit_code=1), Cell('echo "$2"', "b c\n")),
    "exit restores the environment": (
        Cell("V=old; export W=w"),
        Cell("exit 2", env={"V": "new", "W": "new"}, exit_code=2),
        Cell("echo $V; sh -c 'echo $V$W'", "old\nw\n"),
    ),
    "errexit": (
        Cell("x=1; set -euo pipefail; false; echo no", exit_code=1),
        Cell("echo $x; false | true; echo no", "1\n", exit_code=1),
        Cell("set +e; false; echo yes", "yes\n"),
        Cell("echo $nope", stderr="bash: nope: unbound variable\n", exit_code=1),
    ),
    "failed expansion": (
        Cell("x=1; : ${y:?bad}; echo no", stderr="bash: y: bad\n", exit_code=1),
        Cell("echo $x", "1\n"),
    ),
    "exit trap": (
        Cell("trap 'echo bye' EXIT; x=5"),
        Cell("echo a; exit 3", "a\nbye\n", exit_code=3),
        Cell("echo $x; exit 4", "5\n", exit_code=4),
    ),
    "xtrace": (Cell("set -x; echo a", "a\n", "+++ echo a\n"), Cell("echo b", "b\n", "+++ echo b\n")),
    "background": (
        Cell("{ sleep 0.2; echo late; } &"),
        Cell("echo first; wait; echo last", "first\nlate\nlast\n"),
        Cell("jobs"),
    ),
    "binary output": (Cell(r"printf '\377\0x' | od -An -tx1", " ff 00 78\n"), Cell("printf x", "x")),
    "long code": (Cell(":\n" * 1000 + "echo " + "é" * 200_000 + " | wc -c", "400001\n"),),
    "characters": (Cell("echo 'é\0ü'", "éü\n"), Cell("echo a\r\n", "a\r\n")),
    "descriptors": (
        Cell("echo x >&3", stderr="bash: 3: Bad file descriptor\n", exit_code=1),
        Cell("exec 0<&- 1>&- 2>&-"),
        Cell("echo back", "back\n"),
        Cell("exec 9>/tmp/lock; flock 9; ls /proc/self/fd | wc -l", re.compile(r"5\n")),
    ),
}
