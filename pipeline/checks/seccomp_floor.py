"""The calls that something needs before or as the program starts, measured by forbidding one at a time.

Each set was taken on x86_64 with everything else allowed: the calls whose refusal (EPERM) keeps a program
from starting. `tests/real/test_validate.py` measures the installed runtime again.
"""

from __future__ import annotations

import re

# Between loading the filter and execve. With noNewPrivileges the filter comes last; without, it also judges
# the dropping of ids and capabilities.
_RUNTIME_FLOORS: dict[tuple[str, tuple[int, int]], frozenset[str]] = {
    ("runc", (1, 1)): frozenset({"close", "execve", "fstatfs", "getdents64", "openat", "write"}),
    ("runc", (1, 3)): frozenset(
        {"close", "execve", "fstatfs", "getdents64", "openat", "openat2", "seccomp", "write"}
    ),
    ("crun", (1, 8)): frozenset({"execve"}),
    ("crun", (1, 28)): frozenset({"close_range", "execve"}),
}
_PRIVILEGED_FLOORS: dict[str, frozenset[str]] = {
    "runc": frozenset(
        {
            *(
                "capget",
                "capset",
                "chdir",
                "close",
                "execve",
                "fstat",
                "fstatfs",
                "getcwd",
                "getdents64",
                "getppid",
            ),
            *("newfstatat", "openat", "prctl", "read", "setgid", "setgroups", "setuid", "write"),
        }
    ),
    "crun": frozenset(
        {"capset", "execve", "prctl", "rt_sigaction", "rt_sigprocmask", "setresgid", "setresuid", "write"}
    ),
}
# runc is a Go program: its scheduler makes these when threads meet, so their lack fails now and then.
GO_RUNTIME = frozenset(
    {"futex", "getpid", "madvise", "mmap", "nanosleep", "rt_sigreturn", "sched_yield", "sigaltstack"}
)

# glibc's loader with its start-up code, for a program that then does nothing (glibc 2.36).
GLIBC_LOADER = frozenset(
    {"arch_prctl", "close", "mmap", "mprotect", "newfstatat", "openat", "pread64", "read"}
)
# node 20 that serves one request to itself.
NODE = frozenset(
    {
        *(
            "accept4",
            "bind",
            "connect",
            "epoll_create1",
            "epoll_ctl",
            "epoll_pwait",
            "eventfd2",
            "exit",
            "fcntl",
        ),
        *(
            "fstat",
            "futex",
            "getrandom",
            "getsockopt",
            "listen",
            "madvise",
            "munmap",
            "pipe2",
            "rt_sigaction",
        ),
        *("rt_sigprocmask", "setsockopt", "socket", "uname", "write", "writev"),
    }
)
# What the same server needs for files it changes and children it starts (libuv: unix/fs.c, unix/process.c).
NODE_WORK = frozenset({"getsockname", "mkdir", "rename", "socketpair", "statx", "unlink", "wait4"})

# Calls that only one architecture has.
_ONLY_X86 = frozenset({"arch_prctl", "mkdir", "rename", "unlink"})


def runtime_floor(runtime: str, version: str, *, no_new_privileges: bool) -> frozenset[str]:
    """Return the calls that a runtime needs after it has loaded the filter; nothing for an unknown runtime.

    Of several measured versions the newest counts that is not newer than `version`.
    """
    if not no_new_privileges and runtime in _PRIVILEGED_FLOORS:
        return _PRIVILEGED_FLOORS[runtime]
    numbers = [int(part) for part in re.findall(r"[0-9]+", version)[:2]]
    major, minor, *_ = [*numbers, 0, 0]
    found = (major, minor)
    measured = sorted(known for name, known in _RUNTIME_FLOORS if name == runtime)
    fitting = [known for known in measured if known <= found] or measured[:1]
    return _RUNTIME_FLOORS[(runtime, fitting[-1])] if fitting else frozenset()


def native(calls: frozenset[str], architecture: str) -> frozenset[str]:
    """Return the calls of a set that exist on the architecture (`amd64`, `arm64`, …)."""
    return calls if architecture == "amd64" else calls - _ONLY_X86
