"""libseccomp.so.2 by ctypes: syscall names and numbers per architecture, and filters as BPF.

The one module that touches the library (seccomp_syscall_resolve_name(3), seccomp_rule_add(3)).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cache
from typing import Any

from pipeline.errors import PipelineError

# seccomp.h: SCMP_ARCH_NATIVE, __NR_SCMP_ERROR, SCMP_FLTATR_CTL_NNP.
_NATIVE = 0
_UNRESOLVED = -1
_ATTRIBUTE_NNP = 3
# The highest number that is looked at when names are listed; numbers below it are dense.
_HIGHEST_NUMBER = 1023


class Architecture(Enum):
    """An architecture by its name in config.json; the value is its token in seccomp.h."""

    SCMP_ARCH_X86_64 = 0xC000003E
    SCMP_ARCH_AARCH64 = 0xC00000B7


# seccomp.h; the errno goes in the low 16 bits.
_ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
# enum scmp_compare in seccomp.h.
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


def version() -> str:
    """Return the version of the library, as `2.5.4`."""
    found = _library().seccomp_version().contents
    return f"{found.major}.{found.minor}.{found.micro}"


def number(name: str, architecture: Architecture) -> int | None:
    """Return the syscall's number, or None when the architecture (or the library) has no such call."""
    found: int = _library().seccomp_syscall_resolve_name_arch(architecture.value, name.encode())
    # Below -1 are the library's pseudo numbers: calls that exist on other architectures only.
    return found if found >= 0 else None


def is_known(name: str) -> bool:
    """True when the library knows the name for any architecture at all."""
    found: int = _library().seccomp_syscall_resolve_name_arch(
        Architecture.SCMP_ARCH_X86_64.value, name.encode()
    )
    return found != _UNRESOLVED


@cache
def numbers(architecture: Architecture) -> Mapping[str, int]:
    """Return the number of every syscall that the library knows for the architecture."""
    return {name: n for n in range(_HIGHEST_NUMBER + 1) if (name := _name(n, architecture))}


def export_bpf(profile: Mapping[str, Any], architecture: Architecture) -> bytes:
    """Compile an OCI profile (`linux.seccomp` of config.json) to classic BPF for one architecture.

    Eight bytes an instruction. Raises PipelineError `bad-filter` on what the library refuses.
    """
    with _filter(profile, architecture) as context:
        fd = os.memfd_create("filter", os.MFD_CLOEXEC)
        try:
            _check(_library().seccomp_export_bpf(context, fd), "export the filter")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)


def load(profile: Mapping[str, Any], architecture: Architecture) -> None:
    """Put this thread under an OCI profile, with no_new_privs, for good.

    Raises PipelineError `bad-filter`.
    """
    with _filter(profile, architecture) as context:
        _check(_library().seccomp_attr_set(context, _ATTRIBUTE_NNP, 1), "set no_new_privs")
        _check(_library().seccomp_load(context), "load the filter")


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        raise PipelineError(
            "missing-tool",
            "libseccomp.so.2, needed to compile seccomp profiles, is not installed",
            hint="./bootstrap installs it; "
            "or: apt install libseccomp2 | dnf install libseccomp | pacman -S libseccomp",
        ) from None
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    word, text, pointer = ctypes.c_uint32, ctypes.c_char_p, ctypes.c_void_p
    prototypes: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("seccomp_version", ctypes.POINTER(_Version), ()),
        ("seccomp_syscall_resolve_name", ctypes.c_int, (text,)),
        ("seccomp_syscall_resolve_name_arch", ctypes.c_int, (word, text)),
        ("seccomp_syscall_resolve_num_arch", pointer, (word, ctypes.c_int)),
        ("seccomp_init", pointer, (word,)),
        ("seccomp_release", None, (pointer,)),
        ("seccomp_attr_set", ctypes.c_int, (pointer, ctypes.c_int, word)),
        ("seccomp_arch_add", ctypes.c_int, (pointer, word)),
        ("seccomp_arch_exist", ctypes.c_int, (pointer, word)),
        ("seccomp_arch_remove", ctypes.c_int, (pointer, word)),
        (
            "seccomp_rule_add_array",
            ctypes.c_int,
            (pointer, word, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison)),
        ),
        ("seccomp_export_bpf", ctypes.c_int, (pointer, ctypes.c_int)),
        ("seccomp_load", ctypes.c_int, (pointer,)),
    )
    for name, result, arguments in prototypes:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def _name(value: int, architecture: Architecture) -> str | None:
    # The string is malloc'ed: the caller frees it (seccomp_syscall_resolve_num_arch(3)).
    address = _library().seccomp_syscall_resolve_num_arch(architecture.value, value)
    if not address:
        return None
    try:
        return ctypes.string_at(address).decode()
    finally:
        _free(address)


def _free(address: int) -> None:
    free = ctypes.CDLL(None).free
    free.argtypes, free.restype = (ctypes.c_void_p,), None
    free(address)


@contextmanager
def _filter(profile: Mapping[str, Any], architecture: Architecture) -> Iterator[int]:
    library = _library()
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise PipelineError("bad-filter", f"libseccomp takes no {profile['defaultAction']} as the default")
    try:
        _select(context, architecture)
        for rule in profile.get("syscalls", ()):
            _add_rule(context, rule, default, architecture)
        yield context
    finally:
        library.seccomp_release(context)


def _select(context: int, architecture: Architecture) -> None:
    library = _library()
    if library.seccomp_arch_exist(context, architecture.value):
        # A fresh filter holds the native architecture; it is not there, so that one is foreign.
        _check(library.seccomp_arch_remove(context, _NATIVE), "drop the native architecture")
        _check(library.seccomp_arch_add(context, architecture.value), f"add {architecture.name}")


def _add_rule(context: int, rule: Mapping[str, Any], default: int, architecture: Architecture) -> None:
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == default:
        return
    comparisons = _comparisons(rule.get("args", ()))
    for name in rule["names"]:
        if number(name, architecture) is None:
            continue
        # A rule's number is always the native one, or the library's pseudo number for what this machine's
        # architecture lacks: seccomp_rule_add(3) translates it for the architecture of the filter.
        native = _library().seccomp_syscall_resolve_name(name.encode())
        code = _library().seccomp_rule_add_array(context, action, native, len(comparisons), comparisons)
        _check(code, f"add the rule for {name}")


def _comparisons(arguments: Iterable[Mapping[str, Any]]) -> ctypes.Array[_Comparison]:
    items = [
        _Comparison(a["index"], _OPERATORS[a["op"]], a["value"], a.get("valueTwo", 0)) for a in arguments
    ]
    return (_Comparison * len(items))(*items)


def _action(name: str, number: int | None) -> int:
    # runtime-spec config-linux.md, seccomp: an ERRNO without errnoRet means EPERM.
    value = _ACTIONS[name]
    return value | (errno.EPERM if number is None else number) if name == "SCMP_ACT_ERRNO" else value


def _check(code: int, what: str) -> None:
    if code < 0:
        raise PipelineError("bad-filter", f"libseccomp could not {what}: {os.strerror(-code)}")
