"""A runner's list of packages and its lock file: what is kept, what is noticed, what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ops import lock, upkeep
from ops.images.packages import LOCK, SOURCE, is_locked, list_digest, pins, wanted
from ops.images.run import BuildProgress
from ops.install import InstallError
from tests.engines.python_libraries import LIBRARIES
from tests.support.python_packages import documented_licences, normalized

REPO = Path(__file__).resolve().parents[2]
PYTHON = REPO / "runners/python"
#: Permissive, and the MPL, which asks for nothing from who runs unchanged files.
ACCEPTED = {
    "MIT",
    "MIT-CMU",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Apache-2.0",
    "PSF-2.0",
    "MPL-2.0",
    "0BSD",
    "Zlib",
    "CC0-1.0",
}


@pytest.fixture
def runner(tmp_path):
    """A folder with a list and the lock file that was made from it."""
    folder = tmp_path / "snake"
    folder.mkdir()
    (folder / SOURCE).write_text("# Comment.\nnumpy\npandas  # tables\n")
    (folder / LOCK).write_text(
        f"# Made by `make lock`.\n# sha256 of its lines: {list_digest(folder)}\n"
        "numpy==1.0 \\\n    --hash=sha256:aa\npandas==2.0 \\\n    --hash=sha256:bb\n"
    )
    return folder


def test_comments_and_order_are_no_change(runner):
    (runner / SOURCE).write_text("pandas\n\n# Another.\nnumpy\n")
    assert wanted(runner) == ["numpy", "pandas"]
    assert is_locked(runner)


@pytest.mark.parametrize("text", ["numpy\npandas\nhumanize\n", "numpy\n", "numpy==1.0\npandas\n", ""])
def test_a_changed_list_is_noticed(runner, text):
    (runner / SOURCE).write_text(text)
    assert not is_locked(runner)


def test_a_lock_file_from_before_is_judged_by_names(runner):
    (runner / LOCK).write_text("numpy==1.0 \\\n    --hash=sha256:aa\nPan_das==2.0 \\\n    --hash=sha256:bb\n")
    (runner / SOURCE).write_text("numpy\npan-das>=1\n")
    assert is_locked(runner)
    (runner / SOURCE).write_text("numpy\npan-das\nhumanize\n")
    assert not is_locked(runner)


def test_a_runner_without_a_list_needs_no_lock_and_one_without_a_lock_needs_it(runner):
    (runner / LOCK).unlink()
    assert not is_locked(runner)
    assert pins(runner / LOCK) == []
    (runner / SOURCE).unlink()
    assert is_locked(runner)


def _wheel(name, version):
    return {
        "metadata": {"name": name, "version": version},
        "download_info": {"archive_info": {"hashes": {"sha256": "cc"}}},
    }


def test_locked_versions_are_kept_unless_the_list_needs_others(runner, monkeypatch, capsys):
    given = []

    def resolve(_source, constraints, _scratch):
        given.append(constraints.read_text())
        if fails:
            fails.pop()
            raise subprocess.CalledProcessError(1, "pip")
        return [_wheel("numpy", "1.0"), _wheel("Humanize", "4.0")]

    monkeypatch.setattr(lock, "_resolve", resolve)
    fails: list[int] = []
    (runner / SOURCE).write_text("numpy\nhumanize\n")
    lock.lock_runner(runner)
    assert given == ["numpy==1.0\npandas==2.0\n"]
    assert is_locked(runner)
    assert pins(runner / LOCK) == ["humanize==4.0", "numpy==1.0"]
    fails = [1]
    lock.lock_runner(runner)
    assert given[1:] == ["humanize==4.0\nnumpy==1.0\n", ""]
    assert "resolving all" in capsys.readouterr().err
    lock.lock_runner(runner, upgrade=True)
    assert given[3:] == [""]


def test_a_list_that_cannot_be_resolved_leaves_the_lock_file(runner, monkeypatch):
    def resolve(*_):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(lock, "_resolve", resolve)
    before = (runner / LOCK).read_text()
    with pytest.raises(subprocess.CalledProcessError):
        lock.lock_runner(runner)
    assert (runner / LOCK).read_text() == before


def test_an_unknown_language_is_refused_with_those_that_have_a_list(capsys):
    assert lock.main(["bash", "python"]) == 1
    said = capsys.readouterr().err
    assert "bash has no requirements.in" in said
    assert "python" in said


def test_make_images_locks_a_changed_list_of_the_languages_asked_for(runner, monkeypatch):
    calls = []

    def run(argv, **_):
        calls.append(argv[-3:])
        return subprocess.CompletedProcess(argv, status)

    monkeypatch.setattr(upkeep, "RUNNERS", runner.parent)
    monkeypatch.setattr(upkeep.install, "main", lambda: 0)
    monkeypatch.setattr(upkeep.subprocess, "run", run)
    status = 0
    upkeep._lock_changed_lists(BuildProgress(), [])
    assert calls == []
    (runner / SOURCE).write_text("numpy\nhumanize\n")
    upkeep._lock_changed_lists(BuildProgress(), ["other"])
    assert calls == []
    upkeep._lock_changed_lists(BuildProgress(), ["snake"])
    assert calls == [["-m", "ops.lock", "snake"]]
    status = 1
    with pytest.raises(InstallError, match="no image was changed"):
        upkeep._lock_changed_lists(BuildProgress(), [])


def test_the_lock_file_of_python_is_made_from_its_list():
    assert is_locked(PYTHON)
    assert {normalized(line) for line in wanted(PYTHON)} <= {
        normalized(pin.split("==")[0]) for pin in pins(PYTHON / LOCK)
    }


def test_every_locked_package_has_a_documented_and_accepted_licence():
    licences = {normalized(name): licence for name, licence in documented_licences().items()}
    assert set(licences) == {normalized(pin.split("==")[0]) for pin in pins(PYTHON / LOCK)}
    used = {part for licence in licences.values() for part in licence.replace(" OR ", " AND ").split(" AND ")}
    assert used <= ACCEPTED


def test_every_library_of_the_list_is_shown_at_work():
    older = {
        "matplotlib",
        "numpy",
        "openpyxl",
        "pandas",
        "pillow",
        "polars",
        "requests",
        "scikit-learn",
        "scipy",
        "sympy",
    }
    assert {normalized(line) for line in wanted(PYTHON)} - older == set(LIBRARIES)
