"""Sessions through the Python client and the command line, on the real service."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import tarfile
import time
from contextlib import suppress

import pytest
from runyard import (
    ApiError,
    AsyncClient,
    AuthenticationError,
    BadRequest,
    Client,
    Conflict,
    ConnectionFailed,
    NotFound,
    Process,
    RetryPolicy,
)

from tests.clients.conftest import COMMAND, SECONDS

SMALL = {"memory_mb": 128}


@pytest.fixture
def session(client):
    with client.sessions.create("python", limits=SMALL, env={"MODE": "x"}, metadata={"of": "test"}) as made:
        yield made


def test_a_session_lives_as_long_as_its_block(client):
    name = f"block-{time.monotonic_ns()}"
    with client.sessions.create(
        "bash", name=name, limits=SMALL, files=[{"path": "a.bin", "content": b"\xff"}]
    ) as made:
        assert (made.info.status, made.info.name, made.info.limits["memory_mb"]) == ("ready", name, 128)
        assert made.files.read("a.bin") == b"\xff"
        assert client.sessions.create("bash", name=name, limits=SMALL).id == made.id
        assert client.sessions.get(made.id).info.id == made.id
        assert [info.id for info in client.sessions.iterate(status="live", name=name)] == [made.id]
        assert client.sessions.list(limit=1, status="live").data[0].id == made.id
        with pytest.raises(Conflict) as e:
            client.sessions.create("python", name=name)
        assert e.value.code == "session_differs"
    assert made.refresh().ended
    assert (made.info.end_reason, made.info.ended) == ("deleted", True)
    client.sessions.delete(made.id)  # again
    client.sessions.delete("sess_aaaaaaaaaaaaaaaaaaaaaaaaaa")
    with pytest.raises(ApiError) as gone:
        made.processes.list()
    assert (gone.value.status, gone.value.code) == (410, "session_ended")


def test_a_session_is_changed_paused_and_resumed(session):
    assert session.update(idle_timeout_s=900, metadata={"a": "b"}).metadata == {"a": "b"}
    assert session.update(network={"allow": []}).raw["network"] == {"allow": [], "deny": []}
    assert session.refresh().raw["idle_timeout_s"] == 900
    assert session.pause().status == "paused"
    with pytest.raises(Conflict) as e:
        session.processes.run("true")
    assert e.value.code == "session_paused"
    assert session.resume().status == "ready"
    assert session.processes.run("echo on").stdout == "on\n"


def test_variables_stay_and_results_come_back(client):
    with client.sessions.create("python") as made:
        made.run("x = 42")
        assert made.run("x * 2").results[0].text == "84"
        figure = made.run("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()").results[0]
        assert base64.b64decode(figure.png).startswith(b"\x89PNG")
        failed = made.run("1 / 0")
        assert (failed.exception.name, failed.state) == ("ZeroDivisionError", "kept")


def test_a_directory_travels_as_a_tar(session, tmp_path):
    session.files.write("from/a.txt", "one")
    session.files.write("from/b.log", "two")
    session.files.write("from/c.tmp", "three")
    archive = tmp_path / "from.tar"
    size = session.files.archive("from", archive, exclude=["*.log", "*.tmp"])
    with tarfile.open(archive) as found:
        assert [entry.name.removeprefix("./") for entry in found if entry.isfile()] == ["a.txt"]
    assert size == archive.stat().st_size
    assert session.files.unpack("to", archive).type == "directory"
    assert session.files.read("to/a.txt") == b"one"
    with pytest.raises(BadRequest) as e:
        session.files.unpack("to", b"x" * 1024)
    assert e.value.code == "invalid_archive"


def test_a_token_of_a_session_opens_that_session_alone(service, session):
    made = session.token()
    assert made.token.startswith("st_")
    assert made.token not in repr(made)
    with Client(service.url, made.token) as guest:
        assert guest.sessions.get(session.id).processes.run("echo in").stdout == "in\n"
        with pytest.raises(AuthenticationError):
            guest.usage()


def test_the_error_of_a_block_is_the_one_that_is_heard(service):
    client = Client(service.url, service.token, retries=RetryPolicy(retries=0))
    made = client.sessions.create("bash", limits=SMALL)

    def fail():
        with made:
            client.config = Client("http://127.0.0.1:1", "key").config
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    client.config = Client(service.url, service.token).config
    assert client.sessions.get(made.id).info.status == "ready"
    client.sessions.delete(made.id)
    client.close()


def test_runs_of_a_session_share_their_files(client, session):
    run = session.runs.create("open('a', 'w').write('kept'); print(input())", stdin="in\n")
    assert (run.status, run.stdout) == ("succeeded", "in\n")
    with session.runs.stream("import os\nprint(open('a').read())\nprint(os.getcwd())") as stream:
        texts = [event.text for event in stream]
    assert ("".join(texts), stream.result().ok) == ("kept\n/work\n", True)
    started = session.runs.start("print(1)")
    assert client.runs.wait(started.id, timeout_s=60).stdout == "1\n"
    with pytest.raises(BadRequest) as e:
        session.runs.create("1", isolation="gvisor")
    assert e.value.param == "isolation"
    assert session.refresh().runs == 3


def test_processes(session):
    done = session.processes.run("echo $MODE; pwd; echo no >&2; exit 3", cwd="/tmp")
    assert (done.stdout, done.stderr, done.exit_code, done.ok) == ("x\n/tmp\n", "no\n", 3, False)
    assert (
        session.processes.run(["python3", "-c", "import sys; print(sys.argv[1:])", "a b", ""]).stdout
        == "['a b', '']\n"
    )
    assert session.processes.run("cat", stdin="über").stdout == "über"
    late = session.processes.run("sleep 60", timeout_ms=300)
    assert (late.timed_out, late.signal, late.ended) == (True, "SIGKILL", True)
    with pytest.raises(BadRequest) as e:
        session.processes.start([])
    assert e.value.param == "argv"
    with pytest.raises(NotFound):
        session.processes.get("proc_unknown")
    with pytest.raises(ValueError, match="process"):
        session.processes.get("..")


def test_a_process_is_written_to_followed_and_ended(session):
    cat = session.processes.start("while read line; do echo got $line; done; echo end", stdin_open=True, tag="loop")
    assert not cat.ended
    session.processes.write("tag:loop", "one\n")
    session.processes.write(cat, b"two\n", close=True)
    with session.processes.stream(cat) as stream:
        events = list(stream)
    assert "".join(event.text for event in events) == "got one\ngot two\nend\n"
    assert isinstance(events[-1].data, Process)
    assert events[-1].data.exit_code == 0
    assert [event.text for event in session.processes.stream(cat, after=events[-2].seq) if event.text] == []
    endless = session.processes.start("trap 'echo int; exit 7' INT; while :; do sleep 0.05; done")
    assert {process.id for process in session.processes.list()} >= {cat.id, endless.id}
    assert session.processes.get(endless, wait_s=1).ended is False
    session.processes.signal(endless, "SIGINT")
    assert session.processes.wait(endless).exit_code == 7
    tree = session.processes.start("sleep 300 & sleep 300")
    session.processes.kill(tree)
    assert session.processes.wait(tree).signal == "SIGKILL"
    for _ in range(15):  # before it has been started, sometimes
        young = session.processes.start("sleep 300")
        session.processes.kill(young)
        assert session.processes.wait(young).signal == "SIGKILL"


def test_a_process_outlives_a_broken_connection(service, cut):
    """The wire drops in the midst of the output: nothing is lost, and nothing comes twice."""
    policy = RetryPolicy(retries=5, first_s=0.01)
    with (
        Client(cut.url, service.token, retries=policy) as client,
        client.sessions.create("bash", limits=SMALL) as made,
    ):
        process = made.processes.start("for i in $(seq 40); do echo $i; sleep 0.05; done")
        got = ""
        for number, event in enumerate(made.processes.stream(process)):
            got += event.text
            if number in (2, 5):
                cut.cut()
        assert got.split() == [str(number) for number in range(1, 41)]


def test_files(session, tmp_path):
    files = session.files
    assert files.write("d/a.txt", "über", mode="640").size == 5
    assert (files.read("d/a.txt").decode(), files.stat("d/a.txt").mode) == ("über", "0640")
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 4096)
    told = []
    files.write("/work/big", big, progress=lambda done, size: told.append((done, size)))
    assert told[-1] == (2**20, 2**20)
    back = io.BytesIO()
    assert files.download("big", back) == 2**20
    assert back.getvalue() == big.read_bytes()
    assert files.download("big", tmp_path / "copy") == 2**20
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()
    files.write("empty", b"")
    assert files.read("empty") == b""
    files.write("odd ü?#&=%", io.BytesIO(b"x"))
    assert "odd ü?#&=%" in [entry.name for entry in files.list()]
    files.mkdir("e/f", parents=True)
    files.move("d/a.txt", "e/f/b.txt")
    files.copy("e/f/b.txt", "c.txt")
    files.chmod("c.txt", "600")
    assert {entry.path: entry.type for entry in files.list("e", depth=3)} == {
        "e/f": "directory",
        "e/f/b.txt": "file",
    }
    assert [entry.name for entry in files.list(glob="*.txt")] == ["c.txt"]
    with pytest.raises(ApiError):
        files.remove("e")
    files.remove("e", recursive=True)
    with pytest.raises(NotFound):
        files.read("e/f/b.txt")
    with pytest.raises(Conflict):
        files.mkdir("c.txt")


class Cutting(io.BytesIO):
    """Breaks a wire at every write."""

    def __init__(self, wire):
        super().__init__()
        self._wire = wire

    def write(self, data):
        self._wire.cut()
        return super().write(data)


def test_a_file_that_is_cut_is_not_taken_for_whole(service, cut):
    policy = RetryPolicy(retries=0)
    with (
        Client(cut.url, service.token, retries=policy) as client,
        client.sessions.create("bash", limits=SMALL) as made,
    ):
        made.processes.run("head -c 20000000 /dev/zero > big")
        with pytest.raises(ConnectionFailed):
            made.files.download("big", Cutting(cut))


def test_the_same_for_asyncio(service, tmp_path):
    async def main():
        async with AsyncClient(service.url, service.token) as client:
            async with await client.sessions.create("python", limits=SMALL) as session:
                assert (await session.runs.create("open('a', 'w').write('kept')")).ok
                async with session.runs.stream("print(open('a').read())") as stream:
                    texts = [event.text async for event in stream]
                assert "".join(texts) == "kept\n"
                started = await session.runs.start("print(1)")
                assert (await client.runs.wait(started.id)).stdout == "1\n"
                done = await asyncio.gather(*(session.processes.run(f"echo {number}") for number in range(3)))
                assert [process.stdout for process in done] == ["0\n", "1\n", "2\n"]
                cat = await session.processes.start(["cat"], stdin_open=True)
                await session.processes.write(cat, "hi", close=True)
                async with session.processes.stream(cat) as output:
                    events = [event async for event in output]
                assert (events[0].text, events[-1].data.exit_code) == ("hi", 0)
                assert (await session.processes.wait(cat)).stdout == "hi"
                sleeper = await session.processes.start("sleep 100")
                await session.processes.signal(sleeper, "TERM")
                assert (await session.processes.get(sleeper, wait_s=20)).signal == "SIGTERM"
                await session.processes.kill(sleeper)
                assert len(await session.processes.list()) == 5
                big = bytes(range(256)) * 4096
                (tmp_path / "big").write_bytes(big)
                told = []
                entry = await session.files.write("b", tmp_path / "big", progress=lambda *far: told.append(far))
                assert (entry.size, told[-1], await session.files.read("b")) == (2**20, (2**20, 2**20), big)
                await session.files.download("b", tmp_path / "copy")
                assert (tmp_path / "copy").read_bytes() == big
                await session.files.mkdir("d")
                await session.files.move("b", "d/b")
                await session.files.copy("d/b", "c")
                await session.files.chmod("c", "600")
                assert (await session.files.stat("c")).mode == "0600"
                assert sorted(entry.name for entry in await session.files.list()) >= ["a", "c", "d"]
                await session.files.archive("d", tmp_path / "d.tar")
                assert (await session.files.unpack("e", tmp_path / "d.tar")).name == "e"
                assert await session.files.read("e/b") == big
                await session.files.remove("d", recursive=True)
                assert (await session.token()).token.startswith("st_")
                assert (await session.update(idle_timeout_s=900)).raw["idle_timeout_s"] == 900
                assert [(await session.pause()).status, (await session.resume()).status] == ["paused", "ready"]
                assert session.id in [info.id async for info in client.sessions.iterate(status="live")]
                assert (await session.refresh()).runs == 3
                assert (await client.sessions.get(session.id)).info.status in ("ready", "busy")
            assert (await session.refresh()).end_reason == "deleted"
            with pytest.raises(ApiError):
                await session.processes.list()

    asyncio.run(main())


# -- the command line --------------------------------------------------------------------------------


@pytest.fixture
def made(runyard, client):
    """A session made by typing; its id."""
    code, out, err = runyard("sessions", "create", "bash", "-m", "128", "--idle", "600", "-e", "MODE=x")
    assert (code, err) == (0, b"")
    session_id = out.decode().strip()
    yield session_id
    with suppress(ApiError):
        client.sessions.delete(session_id)


def test_sessions_from_a_shell(runyard, here, made, tmp_path):
    assert made.encode() in here("sessions", "list")[1]
    assert json.loads(here("sessions", "get", made, "--json")[1])["idle_timeout_s"] == 600
    code, out, err = here("sessions", "exec", made, "echo $MODE; echo no >&2; exit 3")
    assert (code, out, err) == (3, b"x\n", b"no\n")
    assert here("sessions", "exec", made, "printf", "%s|", "a b", "--flag")[1] == b"a b|--flag|"
    assert here("sessions", "exec", "-w", "/tmp", "-e", "A=b", made, "pwd; echo $A")[1] == b"/tmp\nb\n"
    assert here("sessions", "exec", "-t", "300ms", made, "sleep 30")[0] == 124
    assert here("sessions", "exec", made, "kill -SEGV $$")[0] == 139
    assert runyard("sessions", "exec", "--stdin", "-", made, "cat", stdin=b"typed")[1] == b"typed"
    process = here("sessions", "exec", "-d", made, "sleep 100")[1].decode().strip()
    assert f"-- {process}  running  bash -c sleep 100".encode() in here("sessions", "get", made)[1]

    (tmp_path / "a.txt").write_bytes(b"in")
    assert here("sessions", "cp", "a.txt", f"{made}:d/") == (0, b"", b"runyard: wrote /work/d/a.txt (2 bytes)\n")
    assert here("sessions", "ls", made, "d")[1].split()[-1] == b"a.txt"
    assert here("sessions", "exec", made, "mv d/a.txt b.txt")[0] == 0
    assert here("sessions", "cp", f"{made}:b.txt", ".")[0] == 0
    assert (tmp_path / "b.txt").read_bytes() == b"in"
    assert here("sessions", "cp", f"{made}:b.txt", "-")[1] == b"in"
    code, _, err = here("sessions", "cp", f"{made}:none", "kept")
    assert (code, b"file_not_found" in err, (tmp_path / "kept").exists()) == (125, True, False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.txt", "b.txt"]

    assert here("sessions", "delete", made, made)[1] == f"{made}  deleted\n".encode() * 2
    assert b"-- ended: deleted" in here("sessions", "get", made)[1]
    assert made.encode() not in here("sessions", "list")[1]
    assert made.encode() in here("sessions", "list", "--all")[1]
    code, _, err = here("sessions", "exec", made, "ls")
    assert (code, b"runyard sessions create" in err) == (125, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("cp", "a", "b"), ("cp", "sess_a:x", "sess_b:y"), ("cp", "sess_a:", "."), ("cp", "sess_a:d/", "."), ("exec", "sess_a"),
        ("create", "-m", "much"), ("list", "-n", "0"), ("delete",), ("ls", "sess_a", "--depth", "0"),
    ],
)  # fmt: skip
def test_a_wrong_use_of_sessions(here, arguments):
    assert here("sessions", *arguments)[0] == 2


def test_ctrl_c_kills_the_command_and_not_the_session(environment, made, client):
    typed = subprocess.Popen(
        [*COMMAND, "sessions", "exec", made, "echo up; sleep 100"], env=environment, stdout=subprocess.PIPE
    )
    assert typed.stdout.readline() == b"up\n"
    typed.send_signal(2)
    assert typed.wait(SECONDS) == 130
    typed.stdout.close()
    session = client.sessions.get(made)
    assert session.info.ended is False
    assert all(session.processes.wait(process).signal == "SIGKILL" for process in session.processes.list())


def test_code_in_a_session_has_results_figures_and_hints(runyard, environment, client, tmp_path):
    with client.sessions.create("python") as made:
        on = ("sessions", "exec", "--results")
        assert runyard(*on, made.id, "x = 6") == (0, b"", b"")
        assert runyard(*on, made.id, "print('out'); x * 7") == (0, b"out\n42\n", b"")
        assert runyard(*on, made.id, "-", stdin=b"x") == (0, b"6\n", b"")
        assert runyard(*on, "--stdin", "-", made.id, "input()", stdin=b"typed\n") == (0, b"'typed'\n", b"")

        def fails(*words):  # with a traceback of the cell's
            argv = [*COMMAND, *on, *words]
            done = subprocess.run(argv, env=environment, capture_output=True, timeout=SECONDS, check=False)
            return done.returncode, done.stderr

        code, err = fails(made.id, "import nunpy")
        assert (code, b"ModuleNotFoundError" in err) == (1, True)
        assert b"runyard: There is no module 'nunpy' here" in err
        code, err = fails("-t", "500ms", made.id, "while True: pass")
        assert (code, b"runyard: timed out" in err) == (124, True), err
        figure = "import matplotlib.pyplot as plt; plt.plot([1]); plt.show()"
        assert b"saved figures/figure-1.png" in runyard(*on, "--save", "figures", made.id, figure)[2]
        assert (tmp_path / "figures/figure-1.png").read_bytes().startswith(b"\x89PNG")
        code, _, err = runyard(*on, made.id, "import os; os._exit(3)")
        assert (code, b"its variables are gone" in err) == (3, True)


@pytest.mark.parametrize("more", [("--cwd", "/tmp"), ("--detach",), ("--results",)])
def test_options_that_a_cell_has_not_are_refused(runyard, more):
    words = ("echo", "a") if more == ("--results",) else ("1",)
    code, _, err = runyard("sessions", "exec", "--results", *more, "sess_x", *words)
    assert (code, b"--results takes" in err) == (2, True)
    assert runyard("sessions", "exec", "--save", "figures", "sess_x", "true")[0] == 2


def test_a_session_without_results_refuses_them(runyard, client):
    with client.sessions.create("bash", limits=SMALL) as made:
        code, _, err = runyard("sessions", "exec", "--results", made.id, "echo 1")
        assert (code, b"results" in err) == (125, True)
