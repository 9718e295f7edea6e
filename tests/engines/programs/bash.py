"""Bash programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-c", "echo dash")

WARM_AND_COLD = {
    "arguments": ('echo "$0" "$#" "$@"', {"args": ["a b", "é", "$HOME"]}),
    "stdin": ('read -r x; echo "got $x"; cat', {"stdin": "one\ntwo\n"}),
    "environment": ("env | sort", {"env": {"MODE": "x"}}),
    "exit": ("trap 'echo bye' EXIT; exit 9", {}),
    "tools": ("echo '{\"a\": 1}' | jq .a; echo 'a b' | awk '{print $2}' | sed s/b/c/; seq 3 | grep 2 | wc -l", {}),
    "substitution": ("cat <(echo one) <(echo two); diff <(echo a) <(echo b); echo $((2 ** 10))", {}),
    "error line": ("echo ok\nnope\nfalse", {}),
    "a file beside": ("source ./lib.sh; greet", {"files": {"lib.sh": "greet() { echo hello; }"}}),
    "signals": ("grep '^Sig[BIC]' /proc/self/status", {}),
}

SAMPLES = {
    "text": Sample("echo hello", "hello\n"),
    "files": Sample(
        "mkdir outputs/out; echo -n $((2 * $(cat inputs/n.txt))) > outputs/out/m.txt",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample('read -r name; echo "hi $name $(paste -sd+ | bc)"', "hi Ada 3\n", job={"stdin": "Ada\n1\n2\n"}),
    "args": Sample("printf '[%s]' \"$@\"", "[-x][a b][é]", job={"args": ["-x", "a b", "é"]}),
    "env": Sample("echo $MODE", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        ". lib/shapes.sh; area 3",
        "9\n",
        job={
            "files": {
                "lib/shapes.sh": ". lib/power.sh\narea() { square $1; }",
                "lib/power.sh": "square() { echo $(($1 * $1)); }",
            }
        },
    ),
    "threads": Sample("for n in 1 2 3; do (sleep 0.$n; echo $n) & done; wait", "1\n2\n3\n"),
    "subprocess": Sample("sh -c 'echo from a child'; echo $(sh -c 'exit 3'; echo $?)", "from a child\n3\n"),
    "json": Sample("echo '{\"b\": [1, null, true]}' | jq -c '.a = \"\\u00e9\"'", '{"b":[1,null,true],"a":"é"}\n'),
    "dates": Sample(
        "date -d '2024-02-28 + 2 days' +%F; TZ=Europe/Berlin date -d @1719828000 +%FT%T%z",
        "2024-03-01\n2024-07-01T12:00:00+0200\n",
    ),
    "unicode": Sample("s='naïve 日本 🎉'; echo \"${s^^} ${#s}\"", "NAÏVE 日本 🎉 10\n"),
    "big output": Sample("head -c 700000 /dev/zero | tr '\\0' x", "x" * 700_000),
    "error": Sample(
        "set -e\n\nnot_a_command\necho never", stderr=("main.sh: line 3", "not_a_command"), exit_code=127
    ),
}
