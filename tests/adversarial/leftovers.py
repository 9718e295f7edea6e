"""Programs that leave in /work/outputs what should not be followed, opened, or kept; here over HTTP, to the end."""

from __future__ import annotations

from tests.adversarial.rows import Case, on_gvisor


def case(code: str, reasons: dict[str, str], **more) -> Case:
    return Case("bash", code, reasons=reasons, **({"lacks": ("root:x",)} | more))


CASES: dict[str, Case] = {
    "a link out": case("ln -s /etc/passwd outputs/a", {"a": "symlink"}),
    "a link to the host": case("ln -s {state}/log/service.log outputs/a; ln -s ../../../../etc outputs/b", {"a": "symlink", "b": "symlink"}),
    "links to /proc": case("ln -s /proc/1/environ outputs/a; ln -s /proc/self/root outputs/b", {"a": "symlink", "b": "symlink"}),
    "a dangling link": case("ln -s nowhere outputs/a", {"a": "symlink"}),
    "a loop of links": case("ln -s b outputs/a; ln -s a outputs/b", {"a": "symlink", "b": "symlink"}),
    "outputs is a link": case("rmdir outputs; ln -s /etc outputs", {"outputs": "symlink"}, on=on_gvisor("it opens a link that O_NOFOLLOW forbids; what it leads to is the sandbox's own")),
    "outputs is a file": case("rmdir outputs; echo x > outputs", {"outputs": "special_file"}),
    "outputs is gone": case("rmdir outputs", {}),
    "a pipe": case("mkfifo outputs/a", {"a": "special_file"}),
    "a socket": Case("python", "import socket\nsocket.socket(socket.AF_UNIX).bind('outputs/a')", reasons={"a": "special_file"}),
    "mode 000": case("echo x > outputs/a; chmod 000 outputs/a; mkdir -m 000 outputs/d", {"a": "unreadable", "d": "unreadable"}),
    "more than the cap": case("head -c 1000 /dev/zero > outputs/a; head -c 1001 /dev/zero > outputs/b", {"b": "too_large"}, job={"limits": {"max_artifact_bytes": 1000}}),
    "more than may be": case("touch outputs/{1..5}", {"4": "too_many", "5": "too_many"}, job={"limits": {"max_artifact_files": 3}}),
    "a deep tree": case("d=outputs; for n in {1..40}; do d=$d/d; mkdir $d; echo x > $d/f; done", {"d/" * 31 + "d": "too_deep"}, job={"limits": {"max_artifact_files": 100}}),
    "hard links": case("echo x > outputs/a; ln outputs/a outputs/b; ln /etc/passwd outputs/c 2>/dev/null; ln main.sh outputs/d", {}),
    "sparse": case("truncate -s 900M outputs/a", {"a": "too_large"}),
    "a file that grows": case("(while :; do echo x >> outputs/a; done) & sleep 0.2", {}),
    "outputs changed by what is left behind": Case(
        "bash", "(while :; do rm -rf outputs; ln -s /etc outputs; rm -f outputs; mkdir outputs; done) 2>/dev/null & sleep 0.2", lacks=("root:x",)
    ),
}  # fmt: skip
