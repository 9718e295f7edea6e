"""Jobs given to the worker directly, over its own socket: what HTTP adds is not looked at here."""

from __future__ import annotations

import pytest

from config.ids import new_id
from dispatch.unix import UnixDispatcher
from sandbox.job import Job, JobFile


@pytest.fixture(scope="session")
def dispatcher(service):
    made = UnixDispatcher(service.worker_socket)
    yield made
    made.close()


@pytest.fixture
def run(dispatcher):
    """Run a job; files are a dict of path to text or bytes. The result as the worker's JSON."""

    def run(language="python", code=None, *, files=None, **fields):
        made = tuple(
            JobFile(path, content.encode() if isinstance(content, str) else content)
            for path, content in (files or {}).items()
        )
        fields["args"] = tuple(fields.get("args", ()))
        job = Job(run_id=new_id("run"), language=language, code=code, files=made, key="test", **fields)
        result = dispatcher.run(job)
        assert isinstance(result, dict), result
        return result

    return run
