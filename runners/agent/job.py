"""The job as the host sends it: one packed list, numbers in decimal."""

from agent.frames import unpack


class Job:
    """What to start and within which bounds. `warm` releases the waiting child instead of executing `argv`.

    `compile_argv` is empty for a language without a compiler.
    """

    __slots__ = (
        "argv",
        "compile_argv",
        "compile_deadline_ms",
        "compile_env",
        "deadline_ms",
        "env",
        "max_artifact_bytes",
        "max_artifact_files",
        "max_artifacts_bytes",
        "max_output_bytes",
        "program_args",
        "warm",
    )

    def __init__(self, payload):
        (
            warm,
            argv,
            program_args,
            env,
            deadline_ms,
            max_output_bytes,
            max_artifact_bytes,
            max_artifact_files,
            max_artifacts_bytes,
            compile_argv,
            compile_env,
            compile_deadline_ms,
        ) = unpack(payload)
        self.warm = warm == b"1"
        self.argv = unpack(argv)
        self.program_args = unpack(program_args)
        self.env = _pairs(env)
        self.deadline_ms = int(deadline_ms)
        self.max_output_bytes = int(max_output_bytes)
        self.max_artifact_bytes = int(max_artifact_bytes)
        self.max_artifact_files = int(max_artifact_files)
        self.max_artifacts_bytes = int(max_artifacts_bytes)
        self.compile_argv = unpack(compile_argv)
        self.compile_env = _pairs(compile_env)
        self.compile_deadline_ms = int(compile_deadline_ms)


def _pairs(packed):
    """`name=value` strings as a dict."""
    return dict(pair.split(b"=", 1) for pair in unpack(packed))
