"""What is remembered of the worker's languages, and for how long."""

from __future__ import annotations

import pytest

from api.system.languages import Languages
from dispatch import WorkerUnavailable


def language(name, *, ready=True, **fields):
    return {
        "id": name,
        "aliases": [name[:2]],
        "version": "1",
        "entry_file": f"main.{name[:2]}",
        "packages": [],
        "ready": ready,
        "example": "",
        "pids_default": 64,
    } | fields


class FakeWorker:
    def __init__(self):
        self.languages = [language("python"), language("go", ready=False)]
        self.asked = 0
        self.down = False

    def status(self):
        self.asked += 1
        if self.down:
            raise WorkerUnavailable("down")
        return {"languages": self.languages}


class Clock:
    at = 100.0

    def __call__(self):
        return self.at


def test_the_memory_of_languages():
    worker, clock = FakeWorker(), Clock()
    languages = Languages(worker, clock)
    assert languages.find("py").id == "python"
    clock.at += 20
    assert languages.find("python").entry_file == "main.py"
    assert worker.asked == 1, "a ready language is remembered"
    clock.at += 20
    languages.find("python")
    assert worker.asked == 2, "but not for ever"
    worker.languages.append(language("ruby"))
    clock.at += 0.3
    assert languages.find("ruby").id == "ruby"
    assert worker.asked == 3, "a language just built is seen"
    clock.at += 0.1
    languages.catalogue()
    assert worker.asked == 3
    clock.at += 2
    languages.catalogue()
    assert worker.asked == 4


def test_a_worker_that_has_gone_is_not_shown_for_another_moment():
    worker, clock = FakeWorker(), Clock()
    languages = Languages(worker, clock)
    languages.catalogue()
    worker.down = True
    assert languages.catalogue().languages, "an answer a moment old will do"
    languages.forget()
    with pytest.raises(WorkerUnavailable):
        languages.catalogue()
    worker.down = False
    clock.at += 0.3
    assert languages.find("python").ready


def test_a_worker_that_hangs_is_waited_for_once():
    worker, clock = FakeWorker(), Clock()
    worker.down = True
    languages = Languages(worker, clock)
    for _ in range(5):
        with pytest.raises(WorkerUnavailable):
            languages.catalogue()
    assert worker.asked == 1
    clock.at += 0.3
    worker.down = False
    assert languages.catalogue().languages


@pytest.mark.parametrize("status", [{}, {"languages": None}, {"languages": [{}]}, {"languages": ["x"]}])
def test_an_unreadable_status_is_no_worker(status):
    worker = FakeWorker()
    worker.status = lambda: status
    with pytest.raises(WorkerUnavailable):
        Languages(worker, Clock()).catalogue()
