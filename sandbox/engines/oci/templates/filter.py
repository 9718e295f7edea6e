"""Compiling a seccomp profile as the OCI runtimes do, with the library they use: libseccomp."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any

from sandbox.engines import EngineUnusable

LIBRARY = "libseccomp.so.2"
#: SCMP_FLTATR_CTL_OPTIMIZE of seccomp_attr_set(3).
OPTIMIZE, AS_A_TREE = 8, 2
ACTIONS = {
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
}
ERRNO = 0x0005_0000
COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ARCHITECTURES = {"SCMP_ARCH_X86_64"}
UNKNOWN = -1
EPERM = 1


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`, see seccomp_rule_add(3)."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def compile_filter(profile: dict[str, Any]) -> bytes:
    """Return the profile in the kernel's format: consecutive `struct sock_filter`.

    Raises EngineUnusable for one that cannot be compiled here to the same meaning.
    """
    unknown = set(profile.get("architectures", ())) - ARCHITECTURES
    if unknown:
        raise EngineUnusable(f"the seccomp profile is for {', '.join(sorted(unknown))} too")
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as e:
        raise EngineUnusable(f"{LIBRARY} is not installed: {e}") from e
    library.seccomp_init.restype = ctypes.c_void_p
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    if not context:
        raise EngineUnusable("libseccomp does not take the profile's default action")
    # A tree of comparisons instead of a list: for every sandbox the kernel works out the filter's answer to each
    # call, which takes a third of the time. A library that does not know it (before 2.5) makes the list.
    library.seccomp_attr_set(context, OPTIMIZE, ctypes.c_uint32(AS_A_TREE))
    try:
        for rule in profile.get("syscalls", ()):
            action = _action(rule["action"], rule.get("errnoRet"))
            if action != default:
                _add(library, context, action, rule)
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _action(name: str, number: int | None) -> int:
    if name == "SCMP_ACT_ERRNO":
        return ERRNO | (EPERM if number is None else number)
    if name not in ACTIONS:
        raise EngineUnusable(f"the seccomp profile asks for {name}, which is not known here")
    return ACTIONS[name]


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, action: int, rule: dict[str, Any]) -> None:
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == UNKNOWN:  # as the runtimes have it: what is not known is not there to be allowed
            continue
        for group in _argument_groups(rule.get("args") or []):
            array = (_Comparison * len(group))(*map(_comparison, group))
            result = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(group)), array
            )
            if result != 0:
                raise EngineUnusable(f"libseccomp does not take the rule for {name}: {os.strerror(-result)}")


def _argument_groups(arguments: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Group conditions: those on different arguments hold together, several on one argument are alternatives."""
    indexes = [argument["index"] for argument in arguments]
    if len(set(indexes)) == len(indexes):
        yield arguments
    else:
        for argument in arguments:
            yield [argument]


def _comparison(argument: dict[str, Any]) -> _Comparison:
    operation = COMPARISONS[argument["op"]]
    return _Comparison(argument["index"], operation, argument["value"], argument.get("valueTwo", 0))


def _exported(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    try:
        result = library.seccomp_export_bpf(context, ctypes.c_int(fd))
        if result != 0:
            raise EngineUnusable(f"libseccomp does not compile the profile: {os.strerror(-result)}")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
