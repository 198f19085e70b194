"""The calls that something needs before or as the program starts, measured by forbidding one at a time.

Each set was taken on x86_64 with everything else allowed: the calls whose refusal (EPERM) keeps a program
from starting. What runtimes need is measured on each host (`doit floor`) and comes with its facts.
"""

from __future__ import annotations

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


def native(calls: frozenset[str], architecture: str) -> frozenset[str]:
    """Return the calls of a set that exist on the architecture (`amd64`, `arm64`, …)."""
    return calls if architecture == "amd64" else calls - _ONLY_X86
