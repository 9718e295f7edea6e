"""Runs through the Python client, on the real service."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import time
from dataclasses import replace

import pytest
from runyard import (
    AsyncClient,
    AuthenticationError,
    BadRequest,
    Client,
    Conflict,
    ConnectionFailed,
    NotFound,
    PermissionDenied,
    RateLimited,
    RetryPolicy,
    StreamLost,
)


def texts(events, kind="stdout"):
    return "".join(event.data for event in events if event.event == kind)


def until_ended(client, run_id):
    return client.runs.wait(run_id, timeout_s=60)


def test_a_program_runs_with_everything_that_may_accompany_it(client):
    run = client.runs.create(
        "python",
        "import sys, os; print(sys.argv[1:], input(), os.environ['MODE'], open('a.txt').read(), open('b.bin','rb').read())",
        args=["--fast"],
        stdin="Alice\n",
        env={"MODE": "x"},
        files=[{"path": "a.txt", "content": "über"}, {"path": "b.bin", "content": b"\xff\x00"}],
        limits={"timeout_ms": 9000, "memory_mb": 128},
        metadata={"user": "42"},
    )
    assert (run.status, run.ok, run.ended, run.exit_code) == ("succeeded", True, True, 0)
    assert run.stdout == "['--fast'] Alice x über b'\\xff\\x00'\n"
    assert (run.limits["memory_mb"], run.metadata) == (128, {"user": "42"})


def test_a_run_is_streamed_as_it_prints(client):
    with client.runs.stream("python", "import time\nprint('one')\ntime.sleep(1.5)\nprint('two')") as stream:
        arrived = [(time.monotonic(), event) for event in stream]
        run = stream.result()
    pieces = [(at, event.text) for at, event in arrived if event.text]
    assert "".join(text for _, text in pieces) == run.stdout == "one\ntwo\n"
    assert pieces[-1][0] - pieces[0][0] > 0.7  # the first was not held back until the second
    assert [event.seq for _, event in arrived] == list(range(1, len(arrived) + 1))


def test_what_looks_like_line_ends_to_python_does_not_break_events(client):
    odd = "a\u2028b\u2029c\x85d\x0be\x0c\x1cf\r\n"
    with client.runs.stream("bash", f"printf '{odd}'") as stream:
        assert texts(stream) == odd


def test_leaving_a_stream_early_cancels_its_run(client):
    with client.runs.stream("bash", "echo up; sleep 50") as stream:
        assert next(event for event in stream if event.text).text == "up\n"
    run = client.runs.get(stream.run_id)
    assert (run.status, run.stdout) == ("cancelled", "up\n")


def test_leaving_the_events_of_a_run_leaves_it_alone(client):
    run = client.runs.start("bash", "echo up; sleep 2; echo done")
    with client.runs.events(run.id) as stream:
        next(event for event in stream if event.text)
    assert until_ended(client, run.id).stdout == "up\ndone\n"


def test_a_cut_connection_is_said_and_the_stream_goes_on(service, cut):
    """The wire breaks twice while output comes; every event arrives, each once, and the run is not ended."""
    cut.cut_at = [b'"data":"line 2', b'"data":"line 5']
    notices = []
    code = "import time\nfor i in range(8):\n    print('line', i); time.sleep(0.3)"
    with (
        Client(cut.url, service.token, retries=RetryPolicy(first_s=0.01)) as client,
        client.runs.stream("python", code, notice=lambda error, pause_s: notices.append(error)) as stream,
    ):
        events = list(stream)
        run = stream.result()
    assert (run.status, cut.cut_at) == ("succeeded", [])
    assert texts(events) == run.stdout == "".join(f"line {i}\n" for i in range(8))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(notices) >= 2
    assert all(isinstance(error, ConnectionFailed) for error in notices)


def test_a_stream_that_cannot_go_on_says_after_which_event(service, client, cut):
    with Client(cut.url, service.token, retries=RetryPolicy(retries=1, first_s=0.01)) as through:
        stream = through.runs.stream("bash", "echo up; sleep 3; echo done")
        first = next(event for event in stream if event.text)
        cut.close()
        with pytest.raises(StreamLost) as lost:
            list(stream)
    assert lost.value.after >= first.seq
    # From there, by another way.
    with client.runs.events(lost.value.run_id, after=lost.value.after) as rest:
        assert texts(rest) == "done\n"


def test_a_run_that_is_waited_for_is_cancelled_with_its_connection_and_that_is_said(service, cut):
    mark = f"mark-{time.monotonic_ns()}"

    def cut_once_it_runs():
        with Client(service.url, service.token) as watching:
            while not any(run.metadata.get("mark") == mark for run in watching.runs.list(status="running").data):
                time.sleep(0.05)
        cut.cut()

    cutting = threading.Thread(target=cut_once_it_runs, daemon=True)
    cutting.start()
    with Client(cut.url, service.token) as client, pytest.raises(ConnectionFailed, match="cancelled it"):
        client.runs.create("bash", "sleep 50", metadata={"mark": mark})
    cutting.join()


def test_the_same_idempotency_key_is_the_same_run(client):
    key = f"test-{time.monotonic_ns()}"
    first = client.runs.create("bash", "echo $RANDOM", idempotency_key=key)
    assert client.runs.create("bash", "echo $RANDOM", idempotency_key=key).id == first.id
    with pytest.raises(BadRequest) as refused:
        client.runs.create("bash", "echo other", idempotency_key=key)
    assert (refused.value.status, refused.value.code) == (422, "idempotency_mismatch")


def test_runs_are_listed_looked_at_cancelled_and_forgotten(client):
    ids = [client.runs.create("bash", f"echo {i}").id for i in range(3)]
    page = client.runs.list(limit=2)
    assert [run.id for run in page.data] == ids[:0:-1]
    assert page.has_more
    assert [run.id for run in client.runs.list(limit=1, after=page.last_id).data] == ids[:1]
    found = []
    for run in client.runs.iterate(status="succeeded", language="sh"):
        found.append(run.id)
        if run.id == ids[0]:
            break
    assert set(ids) <= set(found)
    assert client.runs.get(ids[0], include_request=True).raw["request"]["code"] == "echo 0"
    live = client.runs.start("bash", "sleep 50")
    with pytest.raises(Conflict) as refused:
        client.runs.delete(live.id)
    assert refused.value.code == "run_not_ended"
    with pytest.raises(TimeoutError):
        client.runs.wait(live.id, timeout_s=0.2)
    assert client.runs.cancel(live.id).status == "cancelled"
    assert client.runs.wait(live.id).cancelled
    client.runs.delete(live.id)
    with pytest.raises(NotFound):
        client.runs.get(live.id)


def test_a_refusal_carries_message_param_code_and_request_id(client):
    with pytest.raises(BadRequest) as refused:
        client.runs.create("python", "1", limits={"timeout_ms": 999_999})
    error = refused.value
    assert (error.status, error.param, error.code) == (400, "limits.timeout_ms", "limit_exceeds_maximum")
    assert "999999" in error.message
    assert error.request_id
    with pytest.raises(BadRequest) as refused, client.runs.stream("cobol", "1") as stream:
        list(stream)
    assert refused.value.code == "unknown_language"


def test_a_bad_key_is_an_authentication_error(service):
    with Client(service.url, "wrong") as client, pytest.raises(AuthenticationError) as refused:
        client.runs.list()
    assert (refused.value.status, refused.value.code) == (401, "invalid_token")


def test_a_full_rate_is_waited_out(service):
    """The key has one request a second, two at once: four are answered, since Retry-After is obeyed."""
    with Client(service.url, service.slow_token, retries=RetryPolicy(retries=10)) as client:
        assert [client.runs.create("bash", f"echo {i}").stdout for i in range(4)] == [f"{i}\n" for i in range(4)]
    hasty = Client(service.url, service.slow_token, retries=RetryPolicy(retries=0))
    with hasty as client, pytest.raises(RateLimited) as refused:
        [client.runs.create("bash", "true") for _ in range(6)]
    assert refused.value.retry_after_s >= 1


def test_files_go_there_and_back_with_progress(client, tmp_path):
    content = bytes(range(256)) * 2000
    (tmp_path / "in.bin").write_bytes(content)
    told = []
    file = client.files.upload(tmp_path / "in.bin", progress=lambda done, size: told.append((done, size)))
    assert (file.name, file.size, file.sha256) == ("in.bin", len(content), hashlib.sha256(content).hexdigest())
    assert told[-1] == (len(content), len(content))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 2
    run = client.runs.create(
        "python",
        "open('outputs/out.bin', 'wb').write(open('inputs/d/in.bin', 'rb').read()[::-1])",
        files=[{"path": "d/in.bin", "id": file.id}],
    )
    (artifact,) = run.artifacts
    assert client.files.read(artifact) == content[::-1]
    assert client.files.read(file.id) == client.files.read(file) == content
    assert client.files.get(file.id) == file
    assert file.id in [found.id for found in client.files.iterate()]
    client.files.delete(file.id)
    with pytest.raises(NotFound):
        client.files.read(file.id)


def test_an_artifact_is_fetched_by_its_link_without_the_key(service, client):
    run = client.runs.create("bash", "echo hi > outputs/a.txt")
    with Client(service.url, "wrong") as stranger:
        assert stranger.files.read(run.artifacts[0]) == b"hi\n"
        with pytest.raises(AuthenticationError):
            stranger.files.read(run.artifacts[0].id)


def test_a_link_that_is_not_good_any_more_is_replaced_by_the_key(client):
    (artifact,) = client.runs.create("bash", "echo hi > outputs/a.txt").artifacts
    spoilt = replace(artifact, url=artifact.url.replace("token=", "token=x"))
    assert client.files.read(spoilt) == b"hi\n"
    with Client(client.config.url, "wrong") as stranger, pytest.raises((PermissionDenied, AuthenticationError)):
        stranger.files.read(spoilt)


def test_a_download_that_breaks_off_goes_on_where_it_was(service, client, cut):
    content = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(60_000)) + b"the end"
    file = client.files.upload(content, name="big")
    cut.cut_at = [content[400_000:400_032]]
    held = io.BytesIO()
    with Client(cut.url, service.token, retries=RetryPolicy(first_s=0.01)) as through:
        assert through.files.download(file, held) == len(content)
    assert held.getvalue() == content
    assert cut.connections >= 2
    client.files.delete(file.id)


def test_the_asyncio_client_does_the_same(service, cut):
    async def story():
        async with AsyncClient(service.url, service.token) as client:
            run = await client.runs.create("bash", "echo hi; echo x > outputs/x")
            assert (run.stdout, await client.files.read(run.artifacts[0])) == ("hi\n", b"x\n")
            runs = await asyncio.gather(*(client.runs.create("bash", f"echo {i}") for i in range(4)))
            assert [run.stdout for run in runs] == [f"{i}\n" for i in range(4)]
            async with client.runs.stream("bash", "echo up; sleep 50") as stream:
                async for event in stream:
                    if event.text:
                        break
            assert (await client.runs.get(stream.run_id)).status == "cancelled"
            file = await client.files.upload(b"abc", name="a")
            assert file.id in [found.id async for found in client.files.iterate()]
            await client.files.delete(file.id)
            assert {language.id for language in await client.languages()} >= {"python", "bash"}
            assert (await client.health())["status"] in ("ok", "degraded")
            with pytest.raises(BadRequest):
                await client.runs.create("cobol", "1")
            live = await client.runs.start("bash", "sleep 50")
            with pytest.raises(TimeoutError):
                await client.runs.wait(live.id, timeout_s=0.2)
            await client.runs.cancel(live.id)
            assert (await client.runs.wait(live.id)).status == "cancelled"
        cut.cut_at = [b'"data":"line 2']
        quick = RetryPolicy(first_s=0.01)
        async with AsyncClient(cut.url, service.token, retries=quick) as client:
            code = "for i in 0 1 2 3 4; do echo line $i; sleep 0.2; done"
            async with client.runs.stream("bash", code) as stream:
                events = [event async for event in stream]
            assert texts(events) == (await stream.result()).stdout == "".join(f"line {i}\n" for i in range(5))
            assert cut.cut_at == []

    asyncio.run(story())


def test_an_asyncio_task_that_is_cancelled_cancels_its_run(service):
    async def story():
        async with AsyncClient(service.url, service.token) as client:
            started = asyncio.Event()
            ids = []

            async def watch():
                async with client.runs.stream("bash", "echo up; sleep 50") as stream:
                    async for event in stream:
                        if event.text:
                            ids.append(stream.run_id)
                            started.set()

            task = asyncio.create_task(watch())
            await asyncio.wait_for(started.wait(), 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.runs.get(ids[0])).status == "cancelled"

    asyncio.run(story())
