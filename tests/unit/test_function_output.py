"""The output of a function: a claim of its sandbox, in a file that no artifact can be."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from protocol.function import MAX_OUTPUT_BYTES, OUTPUT_NAME
from protocol.limits import Limits
from protocol.result import Result
from sandbox.agent_client.artifacts import Receiver
from sandbox.agent_client.output_file import OutputFile
from sandbox.frames import ProtocolError, pack
from sandbox.function_output import OutputInvalid, json_output, text_output, with_output
from tests.unit.test_sandbox_artifacts import Blobs

NAME = OUTPUT_NAME.encode()
LIMITS = replace(Limits.resolve({}), max_artifact_files=1, max_artifact_bytes=4)
DONE = Result(status="succeeded", language="python", limits=LIMITS)


def received(*files, skipped=(), limits=LIMITS):
    """A receiver that was sent these files, and the output that it took."""
    output = OutputFile()
    receiver = Receiver(limits, Blobs(), output)
    for path, content in files:
        receiver.begin(pack([path, b"%d" % len(content)]))
        if content:
            receiver.data(content)
    for path, reason in skipped:
        receiver.skip(pack([path, reason]))
    receiver.end(b"%d" % len(skipped))
    receiver.store()
    return receiver, output


def test_the_output_is_no_artifact_and_takes_no_place_of_one():
    receiver, output = received((NAME, b'{"a":1}'), (b"b", b"1234"))
    assert output.whole() == b'{"a":1}'
    assert [artifact.path for artifact in receiver.artifacts] == ["b"]
    assert receiver.skipped == []


def test_the_limits_of_artifacts_hold_beside_it():
    receiver, output = received((NAME, b"1"), (b"b", b"12345"), (b"c", b"1"))
    assert output.whole() == b"1"
    assert receiver.artifacts == []
    assert receiver.skipped == [{"path": "b", "reason": "too_large"}, {"path": "c", "reason": "too_many"}]


def test_without_a_call_the_name_is_one_that_cannot_be_kept():
    receiver = Receiver(LIMITS, Blobs())
    receiver.begin(pack([NAME, b"1"]))
    receiver.data(b"1")
    receiver.end(b"0")
    assert [item["reason"] for item in receiver.skipped] == ["bad_name"]


def test_a_second_output_and_bytes_beyond_it_break_the_protocol():
    with pytest.raises(ProtocolError):
        received((NAME, b"1"), (NAME, b"2"))
    receiver = Receiver(LIMITS, Blobs(), OutputFile())
    receiver.begin(pack([NAME, b"1"]))
    with pytest.raises(ProtocolError):
        receiver.data(b"12")


@pytest.mark.parametrize(
    ("files", "skipped", "name"),
    [
        ((), (), "OutputMissing"),
        ((), ((NAME, b"symlink"),), "OutputMissing"),
        ((), ((NAME, b"too_large"),), "OutputTooLarge"),
        (((NAME, b"x" * (MAX_OUTPUT_BYTES + 1)),), (), "OutputTooLarge"),
        (((NAME, b""),), (), "OutputInvalid"),
        (((NAME, b"{"),), (), "OutputInvalid"),
        (((NAME, b"NaN"),), (), "OutputInvalid"),
        (((NAME, b'"\\ud800"'),), (), "OutputInvalid"),
        (((NAME, b'"\xff"'),), (), "OutputInvalid"),
        (((NAME, b"[" * 5000 + b"]" * 5000),), (), "OutputInvalid"),
    ],
)
def test_a_run_without_an_output_has_failed(files, skipped, name):
    _, output = received(*files, skipped=skipped, limits=replace(LIMITS, max_artifact_bytes=2 * MAX_OUTPUT_BYTES))
    result = with_output(DONE, "json", output)
    assert (result.status, result.output, result.exception.name) == ("failed", None, name)


def test_a_run_that_failed_has_none_whatever_it_wrote():
    _, output = received((NAME, b"1"))
    assert with_output(replace(DONE, status="failed"), "json", output).output is None
    assert with_output(DONE, "", None) is DONE


def test_json_keeps_its_numbers_and_stands_on_one_line():
    assert json_output(b'{\n "a": 123456789012345678901234567890,\r\n "b": "\\n"}').count("\n") == 0
    assert "123456789012345678901234567890" in json_output(b"[123456789012345678901234567890]")


def test_text_loses_one_newline():
    assert text_output(b"a\n\n") == '"a\\n"'
    assert orjson.loads(text_output(b"\xff\x00")) == "\ufffd\0"
    with pytest.raises(OutputInvalid):
        text_output(b"x" * (MAX_OUTPUT_BYTES + 1))


def test_what_is_printed_is_the_output_of_bash():
    assert with_output(replace(DONE, stdout="hi\n"), "stdout", None).output == '"hi"'
    cut = with_output(replace(DONE, stdout="hi", stdout_truncated=True), "stdout", None)
    assert (cut.status, cut.exception.name) == ("failed", "OutputTooLarge")
