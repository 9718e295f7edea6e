"""The tests of `make test-quick`: part of every folder, on the default column, with the databases and stores at hand."""

from __future__ import annotations

from collections.abc import Iterable

#: For each folder files, or single tests of a file as `file.py::test`.
QUICK: dict[str, tuple[str, ...]] = {
    "amqp": ("test_runs.py::test_a_life_of_runs",),
    "adversarial": (
        "test_demands.py",
        "test_fuzz.py::test_frames_from_a_forged_agent",
        "test_neighbours.py::test_nothing_is_found_of_the_run_before",
        "test_readers.py",
        "test_tenants.py::test_a_hello_beside_an_attack",
    ),
    "api": (
        "test_http_artifacts.py",
        "test_http_background.py",
        "test_http_errors.py",
        "test_http_files.py",
        "test_http_keys.py",
        "test_http_observability.py",
        "test_http_posture.py",
        "test_http_records.py",
        "test_http_runs.py",
        "test_http_streams.py",
        "test_http_transport.py",
        "test_http_usage.py",
        "test_make_keys.py",
        "test_openapi_answers.py",
    ),
    "clients": ("test_client_cli.py", "test_client_runs.py"),
    "contract": ("test_client_docs.py", "test_docs.py", "test_docs_examples.py", "test_keys_docs.py"),
    "engines": (
        "test_artifacts.py",
        "test_confinement.py",
        "test_facts.py",
        "test_landlock.py",
        "test_samples.py",
    ),
    "faults": (
        "test_live.py::test_a_full_queue_refuses_every_kind_of_run",
        "test_records.py::test_a_background_run_outlives_an_api_that_is_killed",
        "test_worker.py::test_a_client_that_leaves_ends_its_run",
        "test_worker.py::test_a_malformed_request_is_refused_and_the_worker_lives",
        "test_worker.py::test_only_api_and_root_may_speak_to_the_worker",
    ),
    "kernels": (
        "test_kernels.py::test_results_and_output_in_order",
        "test_kernels.py::test_interrupt_between_cells",
    ),
    "limits": ("test_limits_redis.py",),
    "records": ("test_records_idempotency.py", "test_records_keys.py", "test_records_runs.py"),
    "storage": ("test_areas.py", "test_contract.py"),
    "web": ("test_web_serving.py",),
}
#: Folders with nothing in QUICK: unit tests are `make check`, and the load takes twenty minutes.
LEFT_OUT = frozenset({"unit", "load"})
#: Variants of a test that need a server of their own.
OTHER_VARIANTS = frozenset({"postgresql", "s3"})


def is_quick(nodeid: str, variants: Iterable[object]) -> bool:
    """Return whether a test is one of QUICK. `variants` are the values of its parameters."""
    path, _, test = nodeid.partition("::")
    _, _, place = path.partition("/")
    folder, _, file = place.partition("/")
    wanted = QUICK.get(folder, ())
    named = file in wanted or f"{file}::{test.partition('[')[0]}" in wanted
    return named and not any(isinstance(value, str) and value in OTHER_VARIANTS for value in variants)
