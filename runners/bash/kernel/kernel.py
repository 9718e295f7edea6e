"""The kernel of bash: a shell that keeps variables, functions, options, traps and its directory between cells.

`exit N` and a failure under `set -e` end the cell, not the state: a new shell is started with the variables,
functions, options, aliases, traps and the directory of the one that exited. Its process id and its list of jobs are
new. The state is lost, and the kernel ends with the cell's status, when the same cell has set an EXIT trap, has
replaced the shell (`exec`) or has killed it. `exec >FILE` holds until the end of the cell.
"""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from messages import Messages
from shell import Shell, ShellEnded, quote

MATCHES = 1000
TEXT_BYTES = 64 << 10
#: Characters that end a word when the cursor stands behind them.
BREAK = re.compile(r"[^\s;|&()<>{}`\"'=]*$")
COMMAND = re.compile(r"(?:^|[;|&({`]|\b(?:then|do|else|if|while|until|time)\s)\s*$")


def main():
    """Serve requests until they end."""
    messages = Messages()
    shell = Shell()
    messages.write({"type": "ready"})
    count = 0
    while True:
        request, parts = messages.read()
        if request is None:
            break
        code = parts.get("code", b"").decode("utf-8", "replace")
        if request["op"] == "execute":
            count += 1
            if not _execute(messages, shell, code, parts.get("stdin", b""), request.get("env") or {}, count):
                return
        elif request["op"] == "complete":
            _complete(messages, shell, code, request["cursor"])
        elif request["op"] == "inspect":
            _inspect(messages, shell, code, request["cursor"])
    shell.end()


def _execute(messages, shell, code, stdin, env, count):
    """Run a cell and write its replies; return False where the shell's state is lost."""
    kept = True
    interrupted = False
    try:
        status, interrupted = shell.execute(code, stdin, env)
    except ShellEnded as ended:
        status = ended.status
        kept = shell.restart()
    if interrupted and status >= 128:
        messages.write({"type": "exception"}, name="Interrupt", value="", traceback="Interrupt")
    messages.write({"type": "done", "exit_code": status, "execution_count": count, "dropped": 0})
    return kept


def _complete(messages, shell, code, cursor):
    before = code[:cursor]
    word = BREAK.search(before).group()
    if word.startswith("$"):
        prefix, action = "$", "-v"
    elif COMMAND.search(before[: len(before) - len(word)]) and "/" not in word:
        prefix, action = "", "-c"
    else:
        prefix, action = "", "-f"
    found = shell.ask(f"builtin compgen {action} -- {quote(word[len(prefix) :])}")
    matches = sorted({prefix + line for line in found.splitlines()})[:MATCHES]
    reply = {"type": "complete", "start": cursor - len(word), "end": cursor}
    messages.write(reply, matches="\n".join(matches))


def _inspect(messages, shell, code, cursor):
    before = re.search(r"[\w.+-]*$", code[:cursor]).group()
    word = before + re.match(r"[\w.+-]*", code[cursor:]).group()
    dollar = code[: cursor - len(before)].endswith(("$", "${"))
    command = "builtin declare -p" if dollar else "builtin type"
    text = shell.ask(f"{command} -- {quote(word)}").strip() if word else ""
    if not text and not dollar and word.isidentifier():
        text = shell.ask(f"builtin declare -p -- {quote(word)}").strip()
    text = text.encode()[:TEXT_BYTES].decode("utf-8", "ignore")
    messages.write({"type": "inspect", "found": bool(text)}, text=text)


if __name__ == "__main__":
    main()
