"""Jobs given to the worker directly, over its own socket: what HTTP adds is not looked at here.

One suite judges every engine and runtime: a test that uses `run` is a row, the columns are in columns.py. The
column oci/crun/template is the service itself; the others have workers of their own, on the images that it has built.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from config.ids import new_id
from dispatch.unix import UnixDispatcher
from protocol.job import Job, JobFile
from tests.engines.columns import COLUMNS, SERVICE, chosen
from tests.support.slow_machine import default_limits, require_language
from tests.support.workers import Worker

START_TIMEOUT_S = 400
#: Rows of these modules are about the agent and the languages: one column tells, and one that starts agents otherwise.
ONE_COLUMN = {"test_warm_equals_cold", "test_samples", "test_compiled", "test_decorators"}
TELLING = (SERVICE.id, "oci/crun")
#: A layer of packages is given in as many ways as there are engines, and to gVisor in one more.
WAYS_OF_LAYERS = ("oci/crun", "oci/runsc", "docker/runc")
#: And of these, one column alone: they are about the image.
OF_THE_IMAGE = {"test_python_libraries"}


def pytest_generate_tests(metafunc):
    if "column" in metafunc.fixturenames:
        names = chosen()
        if metafunc.module.__name__.rpartition(".")[2] in ONE_COLUMN:
            names = [name for name in names if name in TELLING]
        if metafunc.module.__name__.rpartition(".")[2] in OF_THE_IMAGE:
            names = [name for name in names if name == SERVICE.id]
        if metafunc.module.__name__.rpartition(".")[2] == "test_layers":
            names = [name for name in names if name in WAYS_OF_LAYERS]
        # The first row of a column waits for its worker, under Docker for images to be loaded.
        rows = [pytest.param(name, marks=_marks(name)) for name in names]
        metafunc.parametrize("column", rows, indirect=True, scope="session")


def _marks(name):
    timeout = pytest.mark.timeout(START_TIMEOUT_S)
    return [timeout, pytest.mark.slow] if COLUMNS[name].slow else timeout


@pytest.fixture(scope="session")
def column(request):
    """The engine and runtime that this row is about."""
    return COLUMNS[request.param]


@pytest.fixture(autouse=True)
def _what_it_cannot_do(request):
    """A row that its column cannot satisfy must fail, for as long as columns.py says so."""
    if "column" in request.fixturenames:
        column, name = request.getfixturevalue("column"), request.node.originalname
        case = request.node.name.replace(f"[{column.id}-", "[")
        reason = column.cannot.get(case) or column.cannot.get(name)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def dispatcher(service, column, request):
    """Leads to a worker of this column."""
    if column is SERVICE:
        made = UnixDispatcher(service.worker_socket)
        yield made
        made.close()
        return
    settings = {"LANGUAGES": _languages_of(column, request.session.items), "WARM_POOL": column.warm_pool}
    with _worker_of(column, service, request, UID_BASE=str(0x7900_0000), **settings) as worker:
        worker.wait_until_filled(column.fill_s)
        yield worker.dispatcher


def _languages_of(column, items):
    """The languages that the chosen rows of a column use, for LANGUAGES: each is measured, and loaded by Docker."""
    if column.id in TELLING:
        return ""  # all
    rows = [item.callspec.params for item in items if hasattr(item, "callspec")]
    cases = [row["case"] for row in rows if row.get("column") == column.id and "case" in row]
    return ",".join(sorted({"python", "bash"} | {case.language for case in cases}))


@contextmanager
def _worker_of(column, service, request, prepare=lambda _state: None, **settings):
    """A worker with the engine and the runtime of a column, in a state directory of its own; it leaves nothing.

    `prepare` is called with that directory before.
    """
    settings = {"ENGINE": column.engine, "RUNTIME": column.runtime, "SANDBOX_SOURCE": column.source} | settings
    if column.engine == "docker":
        settings["DOCKER_HOST"] = request.getfixturevalue("dockerd").host
    state = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    state.chmod(0o755)
    prepare(state)
    worker = Worker(state, service.images, **settings)
    try:
        yield worker
        assert worker.stop() == 0
        assert worker.groups() == []
        if column.engine == "oci":  # a daemon keeps the parent that it was given
            assert worker.group_parents() == []
    finally:
        worker.end()
        shutil.rmtree(state)


@pytest.fixture
def start_worker(service, column, request):
    """Start a worker of the column with settings of the test's own: `start_worker(MAX_RUNS="1")`."""
    with ExitStack() as started:

        def start(**settings):
            worker = started.enter_context(
                _worker_of(column, service, request, UID_BASE=str(0x7A00_0000), **settings)
            )
            worker.wait_until_filled(column.fill_s)
            return worker

        yield start


@pytest.fixture
def run(dispatcher):
    """Run a job; files are a dict of path to text or bytes. The result as the worker's JSON."""

    def run(language="python", code=None, *, files=None, **fields):
        made = tuple(
            JobFile(path, content.encode() if isinstance(content, str) else content)
            for path, content in (files or {}).items()
        )
        require_language(language)
        fields["args"] = tuple(fields.get("args", ()))
        fields["limits"] = default_limits(fields.get("limits"))
        job = Job(run_id=new_id("run"), language=language, code=code, files=made, key="test", **fields)
        result = dispatcher.run(job)
        assert isinstance(result, dict), result
        return result

    return run
