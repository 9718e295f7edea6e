"""The image store and the keys of layers; building itself is tested by `make test`, which stands on it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ops.environment import clean
from ops.images.errors import BuildFailed, HostLacks
from ops.images.inputs import BuildInputs, place
from ops.images.layers import _version
from ops.images.run import BuildProgress, run
from ops.images.store import Store
from sandbox.layer_digest import hash_tree

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def runners(tmp_path):
    """A folder of runners like the real one, small."""
    files = {
        "base/build.sh": "base",
        "base/tidy.sh": "tidy",
        "base/Dockerfile": "FROM x",
        "agent/main.py": "agent",
        "snake/build.sh": "snake",
        "snake/runner.toml": "id = 'snake'",
        "snake/requirements.in": "numpy",
        "snake/requirements.lock": "numpy==1",
        "snake/warm/hold.py": "hold",
        "snake/warm/sitecustomize.py": "import hold",
        "shell/build.sh": "shell",
        "shell/runner.toml": "id = 'shell'",
    }
    for name, text in files.items():
        path = tmp_path / "runners" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "runners"


def keys(runners):
    inputs = BuildInputs(runners)
    return {
        "base": inputs.base_key(),
        "agent": inputs.agent_key(),
        "snake": inputs.language_key("snake"),
        "shell": inputs.language_key("shell"),
    }


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("base/build.sh", {"base", "agent", "snake", "shell"}),
        ("base/tidy.sh", {"base", "agent", "snake", "shell"}),
        ("agent/main.py", {"agent"}),
        ("snake/build.sh", {"snake"}),
        ("snake/requirements.lock", {"snake"}),
        ("snake/warm/hold.py", {"agent"}),
        ("snake/warm/sitecustomize.py", {"snake"}),
        ("snake/runner.toml", set()),
        ("snake/requirements.in", set()),
        ("base/Dockerfile", set()),
    ],
)
def test_a_change_rebuilds_the_layers_it_goes_into_and_no_other(runners, changed, rebuilt):
    before = keys(runners)
    path = runners / changed
    path.write_text(path.read_text() + " changed")
    after = keys(runners)
    assert {name for name in before if before[name] != after[name]} == rebuilt


def test_modes_times_and_byte_code_are_no_inputs(runners):
    before = keys(runners)
    (runners / "base/build.sh").chmod(0o700)
    os.utime(runners / "agent/main.py", (1, 1))
    (runners / "agent/__pycache__").mkdir()
    (runners / "agent/__pycache__/main.pyc").write_bytes(b"x")
    assert keys(runners) == before


def test_refresh_names_everything_anew(runners):
    assert BuildInputs(runners, refresh="a").image_key("snake") != BuildInputs(runners).image_key("snake")


def test_placed_files_can_be_read_by_the_sandbox_whatever_the_umask(runners, tmp_path):
    previous = os.umask(0o077)
    try:
        place({"a/b.py": runners / "agent/main.py"}, tmp_path / "to")
    finally:
        os.umask(previous)
    assert (tmp_path / "to/a/b.py").stat().st_mode & 0o777 == 0o644


def test_every_real_runner_has_what_the_builder_and_the_worker_need():
    import tomllib

    inputs = BuildInputs(REPO / "runners")
    assert {"bash", "bun", "deno", "node", "php", "python", "ruby", "typescript"} <= set(inputs.languages())
    for language in inputs.languages():
        about = tomllib.loads((REPO / "runners" / language / "runner.toml").read_text())
        assert about["id"] == language
        assert about["version_argv"]
        assert (REPO / "runners" / language / "build.sh").exists()
        assert (REPO / "runners" / language / "Dockerfile").exists()


def test_every_wheel_of_a_runner_is_locked_by_hash_and_from_nowhere_in_particular():
    locks = [*REPO.glob("runners/*/requirements.lock"), *REPO.glob("requirements*.lock")]
    assert len(locks) >= 4
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock
        logical = [line for line in text.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
        assert logical, lock
        for line in logical:
            assert "==" in line, (lock, line)
            assert "--hash=sha256:" in line, (lock, line)


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d/f").write_text("hello")
    (root / "link").symlink_to("d/f")
    return root


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "d/f").write_text("hellO"),
        lambda root: (root / "d/f").chmod(0o600),
        lambda root: (root / "d/f").rename(root / "d/g"),
        lambda root: (root / "new").mkdir(),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("d/F")),
        lambda root: ((root / "d/f").unlink(), (root / "d/f").symlink_to("hello")),
    ],
)
def test_any_change_of_content_changes_the_digest(tree, change):
    before = hash_tree(tree)
    assert before.size_bytes == 5
    change(tree)
    assert hash_tree(tree).digest != before.digest


def test_the_digest_does_not_depend_on_time_or_place(tree, tmp_path):
    before = hash_tree(tree)
    os.utime(tree / "d/f", (1, 1))
    tree.rename(tmp_path / "elsewhere")
    assert hash_tree(tmp_path / "elsewhere") == before


def make_layer(store, name):
    with store.building(name) as folder:
        (folder / "diff").mkdir()
        (folder / "image.json").write_text("{}")
    return store.folder / name / "diff"


def test_a_layer_takes_its_place_only_when_it_is_complete(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(FileNotFoundError), store.building("a-1") as folder:
        (folder / "half/way").write_text("x")
    assert list(tmp_path.iterdir()) == []
    make_layer(store, "a-1")
    assert store.layer("a-1") == {}


def test_a_pointer_to_a_layer_that_is_gone_counts_as_none(tmp_path):
    store = Store(tmp_path)
    layer = make_layer(store, "a-1")
    store.point("a", {"layers": [str(layer)]})
    assert store.pointer("a") == {"layers": [str(layer)]}
    layer.rmdir()
    assert store.pointer("a") is None


def test_a_damaged_pointer_counts_as_none(tmp_path):
    store = Store(tmp_path)
    for text in ("", "[]", "{"):
        (tmp_path / "a.json").write_text(text)
        assert store.pointer("a") is None


def test_collecting_keeps_what_a_pointer_names_and_what_is_nobodys(tmp_path):
    store = Store(tmp_path)
    kept = make_layer(store, "a-2")
    make_layer(store, "a-1")
    (tmp_path / "my-data").mkdir()
    store.point("a", {"layers": [str(kept)]})
    assert store.collect() == ["a-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2", "a.json", "my-data"]


def test_the_lock_waits_for_another_builder_and_clears_up_after_a_dead_one(tmp_path, capsys):
    store, order = Store(tmp_path), []
    (tmp_path / ".building-x-1/deep").mkdir(parents=True)
    entered, leave = threading.Event(), threading.Event()

    def first():
        with store.locked(BuildProgress()):
            order.append("first")
            entered.set()
            leave.wait(10)
            order.append("first ends")

    def second():
        with Store(tmp_path).locked(BuildProgress()):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    entered.wait(10)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "first ends", "second"]
    assert not (tmp_path / ".building-x-1").exists()


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Python 3.13.5\n", "3.13.5"),
        ("v24.19.0\n", "24.19.0"),
        ("GNU bash, version 5.2.37(1)-release (x86_64-pc-linux-gnu)\nmore", "5.2.37"),
        ("ruby 3.3.8 (2025-04-09 revision b200bad6cd) [x86_64-linux-gnu]", "3.3.8"),
        ("", ""),
    ],
)
def test_a_version_is_found_in_what_interpreters_say(said, version):
    assert _version(said) == version


def test_a_step_that_fails_shows_the_end_of_what_it_said():
    argv = ["sh", "-c", "echo first; echo last words >&2; exit 3"]
    with pytest.raises(BuildFailed, match=r"(?s)snake: sh ended with 3.*last words"):
        run(argv, env=clean(), what="snake")


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(HostLacks, match="base: no-such-program is not installed"):
        run(["no-such-program"], env=clean(), what="base")


def test_progress_is_json_in_the_log_of_the_service(monkeypatch, capsys):
    monkeypatch.setenv("RUNYARD_LOG", "json")
    BuildProgress().say('node: "ready"\n')
    assert json.loads(capsys.readouterr().err)["message"].endswith('node: "ready"\n')


def test_the_builder_needs_no_library(tmp_path):
    """`make up` builds images beside installing the service: pydantic and the rest are not there yet."""
    done = subprocess.run(
        [
            "/usr/bin/python3",
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(REPO)!r})\nimport ops.images.__main__, ops.up, ops.down, ops.doctor, ops.status, ops.upkeep",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_language_is_refused_with_the_known_ones(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ops.images", "--images", str(tmp_path), "cobol"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
    )
    assert done.returncode == 1
    known = ", ".join(BuildInputs(REPO / "runners").languages())
    assert f"no runner for cobol; available: {known}" in done.stderr
