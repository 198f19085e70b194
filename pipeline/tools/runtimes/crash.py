"""What the last words of a runtime or a program mean, and where to look."""

from __future__ import annotations

import json
import re
from contextlib import suppress

# The first match counts, so the particular comes before the general. Wordings are those of runc, crun, glibc,
# musl, the kernel's errors in C, and Node.js.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"exec format error|cannot execute binary file",
        "the program is built for another processor, or is a script without a #! line: compare the spec's "
        "`platform` with the image",
    ),
    (
        r"executable file not found in \$PATH|executable file `[^`]*` not found",
        "the image has no such program on its PATH: set `entrypoint` or `command`, or PATH in `environment`",
    ),
    (
        r"error while loading shared libraries|cannot open shared object|Error loading shared library",
        "a shared library of the program is missing in the image, or LD_LIBRARY_PATH does not lead to it",
    ),
    (
        r"\bexec[^\n]*no such file or directory|exec: [^\n]*ENOENT|open executable: No such file",
        "the program, or the interpreter or loader that it names, is not in the image: see `entrypoint`",
    ),
    (
        r"exec[^\n]*permission denied|open executable: Permission denied",
        "the program is not executable for the spec's `user`, or lies on a mount with noexec",
    ),
    (
        r"cannot set uid to unmapped user|setgroups: Invalid argument|unmapped",
        "the process's user or a group lies outside the mapped ids: see `user`, `group_add`, `userns`",
    ),
    (
        r"setting rlimit|setrlimit|RLIMIT_",
        "a limit in `ulimits` is above what this host lets anyone set: lower it (`ulimit -H -a` shows them)",
    ),
    (
        r"cgroups in hybrid mode not supported",
        "crun cannot use this mix of cgroup v1 and v2: use runc, or boot with pure cgroup v2",
    ),
    (
        r"unable to apply caps|capset|can't set caps",
        "a capability in `cap_add` is one that this host cannot give",
    ),
    (
        r"mkdir[^\n]*(permission denied|read-only file system)|cannot mkdir|mkdir `[^`]*`: ",
        "a mount point is missing in the rootfs: `doit forget unpack:NAME && doit` prepares them",
    ),
    (
        r"mount[^\n]*no such file or directory|bind source path does not exist|openat2? `[^`]*`: No such",
        "the host's side of a volume does not exist: see `volumes`",
    ),
    (
        r"rootfs[^\n]*permission denied|change to container root[^\n]*permission denied|mount `[^`]*` to",
        "a folder on the way to the rootfs or a volume is closed to the container's mapped root: chmod o+x",
    ),
    (
        r"seccomp|\bprctl\b[^\n]*not permitted",
        "the seccomp profile was refused or stops the runtime itself: see `seccomp`",
    ),
    (
        r"EROFS|read-only file system",
        "the program writes to its image: give that path a `tmpfs` or a volume",
    ),
    (
        r"EADDRINUSE|address already in use",
        "something else has the port: with `network_mode: host`, that is a program of this host",
    ),
    (
        r"EMFILE|ENFILE|too many open files",
        "raise `ulimits.nofile`",
    ),
    (
        r"EAGAIN|resource temporarily unavailable|can't fork|pthread_create",
        "the program wants more processes or threads than `pids_limit` allows",
    ),
    (
        r"ENOMEM|cannot allocate memory|out of memory",
        "raise `mem_limit`",
    ),
    (
        r"ENOSPC|no space left on device",
        "a tmpfs is full: raise its `size`",
    ),
    (
        r"EAI_AGAIN|ENOTFOUND|bad address '|Temporary failure in name resolution",
        "the program looks up a name, and its network has nobody to ask: see `network_mode`",
    ),
    (
        r"EPERM|operation not permitted|ENOSYS|function not implemented",
        "a system call was refused: compare the program's needs with `seccomp` and `cap_add`",
    ),
    (
        r"EACCES|permission denied",
        "a file is closed to the mapped user: a volume's owner must be the host's id of the spec's `user`",
    ),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), meaning) for pattern, meaning in _MEANINGS)

# 128 plus a signal is what a shell or an init returns for a child that a signal ended.
_ENDINGS = {
    "SIGSYS": "the seccomp profile killed the program: it made a call whose action is kill; see `seccomp`",
    "SIGSEGV": "the program crashed by itself (bad memory access)",
    "SIGABRT": "the program gave up by itself (abort)",
    "SIGILL": "the program has instructions that this processor lacks: see `platform`",
}
_CODES = {159: "SIGSYS", 139: "SIGSEGV", 134: "SIGABRT", 132: "SIGILL"}


def plain(line: str) -> str:
    """Return what a line says; of JSON from a runtime (crun writes it to the container), the message."""
    if line.startswith("{"):
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            if {"msg", "level"} <= entry.keys():
                return str(entry["msg"]).strip()
    return line


def printable(text: str) -> str:
    """Return text of a container or an image as a terminal may get it: no control characters but \\n and \\t.

    An image could else move the cursor, recolour our words or retitle the window; bidirectional marks
    count as control characters here.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def explain(said: str) -> str | None:
    """Return what to look at, from what a runtime or a program said last; None when nothing is known."""
    for pattern, meaning in _COMPILED:
        if pattern.search(said):
            return meaning
    return None


def explain_exit(
    code: int | None, signal_name: str | None, oom_killed: bool, last_lines: list[str]
) -> str | None:
    """Return what to look at, from how a program ended and what it said last."""
    if oom_killed:
        return "the kernel ended it for want of memory: raise `mem_limit`"
    ending = signal_name or _CODES.get(code or 0)
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if code == 126:
        return "exit 126: the program was found and could not be executed"
    return explain("\n".join(last_lines)) or _quiet(code)


def _quiet(code: int | None) -> str | None:
    if code == 127:
        return "exit 127: a shell did not find the program"
    if code == 0:
        return "it ended of its own will: a bundle's program must stay in the foreground"
    return None
