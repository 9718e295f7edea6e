"""The job on its way between api and worker."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import decode_job, encode_job
from protocol.job import Job, JobFile
from protocol.limits import JobInvalid

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    code=st.none() | st.text(max_size=20),
    content=st.binary(max_size=30),
    args=st.lists(st.text(max_size=5), max_size=3),
    env=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_a_job_survives_the_journey(code, content, args, env):
    job = Job(
        "run_x",
        "python",
        code=code,
        files=(JobFile("a/b", content),),
        args=tuple(args),
        env=env,
        limits={"timeout_ms": 5},
        key="k",
        isolation="container",
        packages=tuple(args),
    )
    assert decode_job(json.loads(json.dumps(encode_job(job)))) == job


@given(ANYTHING)
def test_anything_else_is_a_job_or_refused(data):
    try:
        decode_job(data)
    except JobInvalid:
        return


@given(st.sampled_from(sorted(Job.__slots__)), ANYTHING)
def test_one_wrong_field_is_a_job_or_refused(name, value):
    data = encode_job(Job("run_x", "python", code="x")) | {name: value}
    try:
        job = decode_job(data)
    except JobInvalid:
        return
    assert isinstance(job.language, str)
    assert isinstance(job.env, dict)


def test_an_unknown_field_is_refused():
    with pytest.raises(JobInvalid):
        decode_job(encode_job(Job("run_x", "python", code="x")) | {"root": True})
