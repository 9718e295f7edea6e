"""Seccomp filters as the kernel sees them: compiled by libseccomp, read out of a live process, and simulated.

A profile says what is wanted; what is in force is a program of the classic Berkeley packet filter over `struct
seccomp_data`. See seccomp(2), and Documentation/networking/filter.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from typing import Any

ALLOW, KILL_THREAD, KILL_PROCESS, ERRNO = 0x7FFF_0000, 0x0000_0000, 0x8000_0000, 0x0005_0000
X86_64, I386, AARCH64 = 0xC000_003E, 0x4000_0003, 0xC000_00B7
X32 = 0x4000_0000
OPERATORS = {
    f"SCMP_CMP_{name}": number for number, name in enumerate(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"], 1)
}
INSTRUCTION = struct.Struct("<HBBI")
DATA = struct.Struct("<iIQ6Q")
WORDS = 1 << 64
#: Calls that libseccomp of Debian 12 has no name for yet; from arch/x86/entry/syscalls/syscall_64.tbl.
NEWER = {
    "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455,
    "futex_requeue": 456, "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460,
    "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465,
    "removexattrat": 466, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


@functools.cache
def _library() -> ctypes.CDLL:
    """libseccomp: apt itself and both runtimes stand on it."""
    found = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    return found


@functools.cache
def known_to_the_library(name: str) -> int | None:
    """The x86-64 number of a call, if the installed libseccomp knows one."""
    number = _library().seccomp_syscall_resolve_name_arch(ctypes.c_uint32(X86_64), name.encode())
    return number if number >= 0 else None


def number_of(name: str) -> int | None:
    """The x86-64 number of a call; None for one that this architecture does not have."""
    found = known_to_the_library(name)
    return NEWER.get(name) if found is None else found


@functools.cache
def all_calls() -> dict[str, int]:
    """Every x86-64 call that has a name."""
    calls = dict(NEWER)
    for number in range(512):
        text = _library().seccomp_syscall_resolve_num_arch(ctypes.c_uint32(X86_64), number)
        if text:
            calls[ctypes.string_at(text).decode()] = number
    return calls


def action_of(rule: dict[str, Any]) -> int:
    """An OCI rule's action as the filter returns it."""
    if rule["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    assert rule["action"] == "SCMP_ACT_ERRNO"
    return ERRNO | rule["errnoRet"]


def compile_profile(profile: dict[str, Any]) -> bytes:
    """The program that libseccomp makes of an OCI profile, in the way in which a runtime asks for it."""
    library = _library()
    default = ERRNO | profile["defaultErrnoRet"]
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    try:
        for rule in profile["syscalls"]:
            action = action_of(rule)
            if action == default:
                continue  # a runtime skips it: libseccomp takes it for a mistake
            compared = [
                _Comparison(a["index"], OPERATORS[a["op"]], a["value"], a.get("valueTwo", 0))
                for a in rule.get("args") or []
            ]
            array = (_Comparison * max(1, len(compared)))(*compared)
            for name in rule["names"]:
                if (number := known_to_the_library(name)) is not None:
                    result = library.seccomp_rule_add_array(
                        context, ctypes.c_uint32(action), number, len(compared), array
                    )
                    assert result == 0, (name, result)
        fd = os.memfd_create("filter")
        try:
            assert library.seccomp_export_bpf(context, fd) == 0
            os.lseek(fd, 0, os.SEEK_SET)
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)


class Filter:
    """A program to ask: `filter(number, arguments)` is what the kernel would do, in so many `steps`."""

    steps: int

    def __init__(self, program: bytes) -> None:
        self.code = list(INSTRUCTION.iter_unpack(program))

    def __call__(self, number: int, *arguments: int, arch: int = X86_64) -> int:
        given = [value % WORDS for value in arguments] + [0] * (6 - len(arguments))
        return self.simulate(DATA.pack(number, arch, 0, *given))

    def simulate(self, data: bytes) -> int:
        """Run the program over one `struct seccomp_data`. KeyError for an instruction that no filter has."""
        at = accumulator = self.steps = 0
        while True:
            code, if_true, if_false, k = self.code[at]
            at += 1
            self.steps += 1
            if code == 0x06:  # RET K
                return k
            if code == 0x20:  # LD W ABS
                accumulator = int.from_bytes(data[k : k + 4], "little")
            elif code == 0x54:  # ALU AND K
                accumulator &= k
            elif code == 0x05:  # JMP JA
                at += k
            else:
                at += if_true if COMPARE[code](accumulator, k) else if_false


COMPARE = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}


def wanted(profile: dict[str, Any], name: str, *arguments: int) -> int:
    """What a profile says of a call, read rule by rule: first what names it, else the default."""
    given = [value % WORDS for value in arguments] + [0] * (6 - len(arguments))
    for rule in profile["syscalls"]:
        if name in rule["names"] and all(_holds(a, given[a["index"]]) for a in rule.get("args") or []):
            return action_of(rule)
    return ERRNO | profile["defaultErrnoRet"]


def _holds(compared: dict[str, Any], value: int) -> bool:
    if compared["op"] == "SCMP_CMP_EQ":
        return value == compared["value"]
    assert compared["op"] == "SCMP_CMP_MASKED_EQ", "a range is passed by high bits: use EQ"
    return value & compared["value"] == compared["valueTwo"]


# -- out of a live process ---------------------------------------------------------------------------

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, PTRACE_SECCOMP_GET_FILTER = 0x4206, 0x4207, 17, 0x420C


def filters_of(pid: int) -> list[Filter]:
    """The filters in force for a process, the latest first. Needs root, and a kernel with CHECKPOINT_RESTORE."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request: int, address: int, data: Any) -> int:
        result = libc.ptrace(request, pid, ctypes.c_void_p(address), data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {pid}")
        return int(result)

    ptrace(PTRACE_SEIZE, 0, None)
    try:
        ptrace(PTRACE_INTERRUPT, 0, None)
        os.waitpid(pid, 0x4000_0000)  # __WALL
        found: list[Filter] = []
        while True:
            try:
                length = ptrace(PTRACE_SECCOMP_GET_FILTER, len(found), None)
            except FileNotFoundError:
                return found
            buffer = ctypes.create_string_buffer(length * INSTRUCTION.size)
            ptrace(PTRACE_SECCOMP_GET_FILTER, len(found), buffer)
            found.append(Filter(buffer.raw))
    finally:
        ptrace(PTRACE_DETACH, 0, None)
