"""What a program leaves in /work/outputs, and what of it comes back."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.slow_machine import default_limits

MIB = 1024 * 1024


def test_files_come_back_with_name_size_hash_and_type(run):
    code = (
        "mkdir -p outputs/a; printf hello > outputs/a/note.txt; printf '\\211PNG\\r\\n\\032\\n' > outputs/plot.png"
    )
    artifacts = {a["path"]: a for a in run("bash", code)["artifacts"]}
    assert set(artifacts) == {"a/note.txt", "plot.png"}
    note = artifacts["a/note.txt"]
    assert (note["name"], note["size"], note["content_type"]) == ("note.txt", 5, "text/plain")
    assert note["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert artifacts["plot.png"]["content_type"] == "image/png"


def test_a_big_file_is_hashed_whole(run):
    code = "open('outputs/x', 'wb').write(bytes(range(256)) * 4096 * 9)"
    (artifact,) = run("python", code)["artifacts"]
    assert artifact["sha256"] == hashlib.sha256(bytes(range(256)) * 4096 * 9).hexdigest()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        ("ln -s /etc/passwd outputs/x", "symlink"),
        ("ln -s /proc/1/mem outputs/x", "symlink"),
        ("ln -s nowhere outputs/x", "symlink"),
        ("ln -s . outputs/x", "symlink"),
        ("mkfifo outputs/x", "special_file"),
        ("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"outputs/x\")'", "special_file"),
        ("echo hi > outputs/x; chmod 000 outputs/x", "unreadable"),
        ("truncate -s 11M outputs/x", "too_large"),
        ("truncate -s 900G outputs/x || truncate -s 1000M outputs/x", "too_large"),
        ("rmdir outputs; touch outputs", "special_file"),
        ("rmdir outputs; ln -s /etc outputs", "symlink"),
        ("printf x > $'outputs/a\\nb'", "bad_name"),
        ("printf x > $'outputs/a\\xff'", "bad_name"),
        ("d=outputs; for i in $(seq 40); do d=$d/d; done; mkdir -p $d; echo x > $d/x", "too_deep"),
    ],
)
def test_what_is_not_a_plain_small_file_is_left_out_with_its_reason(run, make, reason):
    result = run("bash", make)
    assert result["artifacts"] == []
    assert [skip["reason"] for skip in result["skipped_artifacts"]] == [reason]
    assert result["skipped_artifacts_count"] == 1


def test_the_cap_itself_is_kept_and_one_more_is_not(run):
    limits = {"max_artifact_bytes": 1000}
    code = "head -c 1000 /dev/zero > outputs/a; head -c 1001 /dev/zero > outputs/b"
    result = run("bash", code, limits=limits)
    assert [(a["path"], a["size"]) for a in result["artifacts"]] == [("a", 1000)]
    assert result["skipped_artifacts"] == [{"path": "b", "reason": "too_large"}]


def test_too_many_are_counted_and_a_hundred_listed(run):
    code = "for i in range(300): open(f'outputs/{i:03}', 'w').close()"
    result = run("python", code, limits={"max_artifact_files": 3})
    assert [a["path"] for a in result["artifacts"]] == ["000", "001", "002"]
    assert len(result["skipped_artifacts"]) == 100
    assert result["skipped_artifacts_count"] == 297


def test_none_are_wanted(run):
    result = run("bash", "echo x > outputs/a", limits={"max_artifact_files": 0})
    assert result["artifacts"] == []
    assert result["skipped_artifacts"] == [{"path": "a", "reason": "too_many"}]


def test_an_empty_file_is_a_file(run):
    (artifact,) = run("bash", "touch outputs/a", limits={"max_artifact_bytes": 0})["artifacts"]
    assert (artifact["size"], artifact["sha256"]) == (0, hashlib.sha256(b"").hexdigest())


def test_what_was_written_before_a_timeout_comes_back(run, column):
    result = run("bash", "echo x > outputs/a; sleep 60", limits={"timeout_ms": column.begun_ms})
    assert result["status"] == "timeout"
    assert [a["path"] for a in result["artifacts"]] == ["a"]


def test_what_was_written_before_an_oom_comes_back(run):
    code = "open('outputs/a', 'w').write('x')\nx = bytearray(400 << 20)"
    result = run("python", code, limits={"memory_mb": 64})
    assert result["status"] == "oom"
    assert [a["path"] for a in result["artifacts"]] == ["a"]


def test_all_together_are_bounded(run):
    code = "for n in range(9): open(f'outputs/{n}', 'wb').write(bytes(9 << 20))"
    result = run("python", code, limits={"memory_mb": 1024} | default_limits({}))
    assert result["status"] == "succeeded", result["stderr"]
    assert sum(a["size"] for a in result["artifacts"]) <= 25 * MIB
    assert result["skipped_artifacts_count"] == 7
    assert {skip["reason"] for skip in result["skipped_artifacts"]} == {"too_large"}


def test_sparse_files_cost_no_more_than_the_cap(run):
    code = "for n in range(50): open(f'outputs/{n}', 'wb').truncate(1 << 29)"
    result = run("python", code, limits={"timeout_ms": 5000})
    assert result["skipped_artifacts_count"] == 50
    assert result["usage"]["wall_ms"] < 3000
