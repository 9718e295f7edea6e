"""The job as the host sends it: one packed list of fields, in the order and the forms of `FIELDS`."""

from agent.frames import pack, unpack

#: The host has the same table (`JOB_FIELDS` in `sandbox/agent_client/job_frames.py`); a test compares them.
FIELDS = (
    ("warm", "flag"),
    ("argv", "strings"),
    ("program_args", "strings"),
    ("env", "pairs"),
    ("deadline_ms", "number"),
    ("max_output_bytes", "number"),
    ("max_artifact_bytes", "number"),
    ("max_artifact_files", "number"),
    ("max_artifacts_bytes", "number"),
    ("compile_argv", "strings"),
    ("compile_env", "pairs"),
    ("compile_deadline_ms", "number"),
    ("outputs", "text"),
)


class AgentJob:
    """Hold what to start and within which bounds: an attribute for each field.

    `warm` releases the waiting child instead of executing `argv`. `compile_argv` is empty for a language without a
    compiler.
    """

    __slots__ = tuple(name for name, _ in FIELDS)

    def __init__(self, payload):
        for (name, read), packed in zip(_READERS, unpack(payload), strict=True):
            setattr(self, name, read(packed))


def _flag(packed):
    return packed == b"1"


def _pairs(packed):
    """Return `name=value` strings as a dict."""
    return dict([pair.split(b"=", 1) for pair in unpack(packed)])


_READ = {"flag": _flag, "number": int, "strings": unpack, "pairs": _pairs, "text": bytes}
_READERS = [(name, _READ[packing]) for name, packing in FIELDS]
#: The payload of a job that starts nothing.
NO_JOB = pack([b"0" if packing in ("flag", "number") else b"" for _, packing in FIELDS])
