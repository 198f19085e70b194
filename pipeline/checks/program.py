"""The program that `process.args` names: found in the rootfs, for this machine, with all that it loads.

Sources: execve(2), ld.so(8), musl's dynamic linker, and the runtimes' search of PATH.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from pipeline.checks.access import EXECUTE, process_credentials
from pipeline.checks.elf import Elf, NotElf, read_elf
from pipeline.checks.launchers import env_program, started
from pipeline.checks.libraries import find_library, uncached_folder
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, covering, normal, options
from pipeline.checks.text import printable
from pipeline.model.nouns import Finding

_MOST_SHEBANGS = 4
# BINPRM_BUF_SIZE of linux/binfmts.h: the kernel looks no further for the end of the line (Linux 5.1).
_SHEBANG_BYTES = 256
_SET_ID = stat.S_ISUID | stat.S_ISGID
_MOST_LIBRARIES = 512
_MOST_LAUNCHERS = 4
_GLIBC_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
_NODES = ("/app/bin/node", "/nodejs/bin/node", "/usr/local/bin/node", "/usr/bin/node")


class Loader(Enum):
    """What starts a program: glibc's or musl's dynamic loader, the kernel alone, or nothing known."""

    GLIBC = "glibc"
    MUSL = "musl"
    STATIC = "static"
    UNKNOWN = "unknown"


@dataclass
class Trace:
    """What starting the programs would touch: faults, notes, the last program's path and its headers."""

    faults: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    program: str = ""
    elf: Elf | None = None


def starts(subject: Subject) -> Findings:
    """The program is there and can be executed, with its interpreters and its libraries."""
    found = trace(subject)
    yield from found.faults
    yield from found.notes


def trace(subject: Subject) -> Trace:
    """Follow what execve(2) would do with every program that `process.args` starts; done once a subject."""
    found = subject.cache.get("program")
    if not isinstance(found, Trace):
        found = Trace()
        for index, name in _programs(subject):
            _follow(subject, name, f"process.args[{index}]", found)
        subject.cache["program"] = found
    return found


def loader_of(subject: Subject) -> Loader:
    """Return what loads the program."""
    elf = trace(subject).elf
    if elf is None:
        # The program is missing or a mount's; most likely it is like the others of the image.
        return Loader.GLIBC if _first_there(subject, _GLIBC_LOADERS) else Loader.UNKNOWN
    if not elf.interpreter:
        return Loader.STATIC
    name = posixpath.basename(elf.interpreter)
    return Loader.MUSL if "musl" in name else Loader.GLIBC if name.startswith("ld-linux") else Loader.UNKNOWN


def interpreter_name(subject: Subject) -> str:
    """Return the name of the program whose code runs at last: `node` for a script with its shebang.

    Where the named program is missing, it is that of a node which lies where images have it.
    """
    return posixpath.basename(trace(subject).program or _first_there(subject, _NODES))


def _first_there(subject: Subject, paths: tuple[str, ...]) -> str:
    for path in paths:
        try:
            subject.rootfs.stat(path)
        except OSError:
            continue
        return path
    return ""


def _programs(subject: Subject) -> Iterator[tuple[int, str]]:
    args = subject.process.args or ()
    start = 0
    for _ in range(_MOST_LAUNCHERS):
        if start >= len(args) or not args[start]:
            return
        yield start, args[start]
        inner = started(args[start:])
        if inner is None:
            return
        start += inner


def _follow(subject: Subject, name: str, path: str, found: Trace, depth: int = 0) -> None:
    program = _locate(subject, name, path, found)
    if program is None:
        return
    try:
        with subject.rootfs.open(program) as stream:
            head = stream.read(_SHEBANG_BYTES)
            elf = None if head[:2] == b"#!" else read_elf(stream)
    except OSError as fault:
        found.faults.append(_unreadable(program, path, fault))
    except NotElf as fault:
        message = f"`{program}` cannot be executed: {fault}, and no script with `#!`"
        found.faults.append(Finding("program-format", HIGH, message, path, "", "execve(2), ENOEXEC"))
    else:
        if elf is None:
            _shebang(subject, program, head, path, found, depth)
        else:
            found.program, found.elf = program, elf
            _binary(subject, program, elf, path, found)


def _locate(subject: Subject, name: str, path: str, found: Trace) -> str | None:
    candidates = list(_candidates(subject, name))
    credentials = process_credentials(subject)
    for candidate in candidates:
        cover = covering(subject, candidate)
        if cover is not None:
            if _on_mount(subject, candidate, cover, path, found):
                return None
            continue
        try:
            real = subject.rootfs.realpath(candidate)
            status = subject.rootfs.stat(candidate)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode) or (credentials and not credentials.may(status, EXECUTE)):
            found.faults.append(_not_executable(subject, candidate, status.st_mode, path))
            return None
        if status.st_mode & _SET_ID:
            found.notes.append(_set_id(subject, real, status, path))
        return real
    found.faults.append(_missing(subject, name, candidates, path))
    return None


def _candidates(subject: Subject, name: str) -> Iterator[str]:
    if "/" in name:
        yield normal(posixpath.join(subject.process.cwd, name))
        return
    for folder in subject.environment.get("PATH", "").split(":"):
        yield normal(posixpath.join(subject.process.cwd, folder, name))


def _on_mount(subject: Subject, program: str, cover: tuple[str, str, bool], path: str, found: Trace) -> bool:
    """Judge a program that a mount brings in; True when it is there."""
    target, source, bound = cover
    status = subject.host_view.stat(source + program[len(target) :]) if bound else None
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    mount = next(m for _, m in reversed(subject.mounts) if normal(m.destination) == target)
    if "noexec" in options(mount) or not status.st_mode & 0o111:
        message = f"`{program}` comes from the mount on `{target}`, from which nothing can be executed"
        found.faults.append(
            Finding("program-not-executable", HIGH, message, path, "drop `noexec` there", "mount(8)")
        )
    return True


def _shebang(subject: Subject, program: str, head: bytes, path: str, found: Trace, depth: int) -> None:
    name, rest = _first_line(head)
    if not name or depth >= _MOST_SHEBANGS:
        message = f"the script `{program}` names no interpreter after `#!`"
        found.faults.append(Finding("program-interpreter", HIGH, message, path, "", "execve(2)"))
        return
    if b"\n" not in head and len(head) == _SHEBANG_BYTES:
        found.notes.append(_cut(program, rest, path))
        if not rest:
            return
    if "\r" in name + rest:
        found.faults.append(_windows_lines(program, name, rest, path))
        return
    before = len(found.faults)
    # The kernel knows no PATH: a bare name counts from the working directory.
    _follow(subject, name if "/" in name else f"./{name}", path, found, depth + 1)
    is_env = posixpath.basename(name) == "env"
    inner = env_program(rest) if is_env else None
    if is_env and _is_one_word(rest):
        found.faults.append(_unsplit(program, rest, path))
    elif inner:
        _follow(subject, inner, path, found, depth + 1)
    if len(found.faults) > before and not found.faults[before].message.startswith("the script"):
        fault = found.faults[before]
        message = f"the script `{program}` cannot be started by its `#!{name}`: {fault.message}"
        found.faults[before] = Finding("program-interpreter", HIGH, message, path, fault.mend, "execve(2)")


def _first_line(head: bytes) -> tuple[str, str]:
    """Split as the kernel does: at spaces and tabs, into the interpreter and one argument."""
    line = head[2:].split(b"\n", 1)[0].split(b"\0", 1)[0].decode("utf-8", "replace").strip(" \t")
    name, *rest = re.split("[ \t]+", line, maxsplit=1)
    return name, rest[0] if rest else ""


def _is_one_word(words: str) -> bool:
    """True for words of which env, without -S, makes the name of one program."""
    first, *more = words.split()[:2] or [""]
    return bool(more) and not first.startswith("-") and "=" not in first


def _unsplit(program: str, rest: str, path: str) -> Finding:
    message = (
        f"the script `{program}` has `env` look for a program called `{printable(rest)}`, space included"
    )
    mend = f"#!/usr/bin/env -S {printable(rest)}"
    return Finding("program-interpreter", HIGH, message, path, mend, "execve(2); env(1)")


def _cut(program: str, rest: str, path: str) -> Finding:
    """The kernel refuses an interpreter whose name does not end in what it reads, and cuts arguments."""
    length = f"the first line of the script `{program}` is longer than {_SHEBANG_BYTES - 1} characters"
    mend = "shorten it: a link to the interpreter, arguments in the script"
    if rest:
        message = f"{length}: what follows is cut off"
        return Finding("program-line-cut", MEDIUM, message, path, mend, "execve(2)")
    message = f"{length}: its interpreter cannot be read"
    return Finding("program-interpreter", HIGH, message, path, mend, "execve(2), ENOEXEC")


def _set_id(subject: Subject, program: str, status: os.stat_result, path: str) -> Finding:
    mend = f"chmod ug-s rootfs{program}, and `user:` for whom it shall run as"
    source = "execve(2); prctl(2), PR_SET_NO_NEW_PRIVS"
    if subject.process.no_new_privileges:
        message = (
            f"`{program}` has set-id bits, which noNewPrivileges makes useless: it runs as who starts it"
        )
        return Finding("program-set-id", LOW, message, path, mend, source)
    message = f"`{program}` has set-id bits (mode {status.st_mode & 0o7777:04o}): it runs as its owner"
    return Finding("program-set-id", HIGH, message, path, mend, source)


def _windows_lines(program: str, name: str, rest: str, path: str) -> Finding:
    asked = name if name.endswith("\r") else rest
    message = (
        f"the script `{program}` has Windows line ends: its first line asks for `{printable(asked)}`, "
        "carriage return included"
    )
    mend = "sed -i 's/\\r$//' on it where the image is built, and `*.sh text eol=lf` in .gitattributes"
    return Finding("program-interpreter", HIGH, message, path, mend, "execve(2), ENOENT")


def _binary(subject: Subject, program: str, elf: Elf, path: str, found: Trace) -> None:
    if elf.architecture != subject.host.architecture:
        message = f"`{program}` is built for {elf.architecture}, and this host is {subject.host.architecture}"
        mend = f"`platform: linux/{subject.host.architecture}` in the spec, then `doit update`"
        found.faults.append(Finding("program-architecture", HIGH, message, path, mend, "execve(2), ENOEXEC"))
        return
    if not elf.interpreter:
        return
    try:
        subject.rootfs.stat(elf.interpreter)
    except OSError:
        message = f"`{program}` needs the loader `{elf.interpreter}`, which is not in the rootfs"
        mend = (
            "the kernel would say that the program itself is not there: copy the loader, or link statically"
        )
        found.faults.append(Finding("program-loader", HIGH, message, path, mend, "ld.so(8)"))
        return
    _libraries(subject, program, elf, path, found)


def _libraries(subject: Subject, program: str, elf: Elf, path: str, found: Trace) -> None:
    waiting: list[tuple[str, Elf, str, tuple[str, ...]]] = [(program, elf, name, ()) for name in elf.needed]
    seen: set[str] = set()
    missing: list[str] = []
    while waiting and len(seen) < _MOST_LIBRARIES:
        owner, headers, name, inherited = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        # DT_RPATH of the loading chain counts only where there is no DT_RUNPATH (ld.so(8)).
        rpath = (*(() if headers.runpath else headers.rpath), *inherited)
        place = find_library(subject, name, owner, headers, rpath, elf)
        if place is None:
            missing.append(f"{name} (for {posixpath.basename(owner)})")
        else:
            waiting += [(place[0], place[1], inner, rpath) for inner in place[1].needed]
    if missing:
        message = f"`{program}` needs libraries that are not found in the rootfs: {', '.join(missing)}"
        mend = "set LD_LIBRARY_PATH where the image has them, or use an image that is complete"
        folder = uncached_folder(subject, missing[0].split(" ", 1)[0], elf)
        if folder:
            mend = f"ldconfig where the image is built: `{folder}` is in /etc/ld.so.conf, not in its cache"
        found.faults.append(Finding("library-missing", HIGH, message, path, mend, "ld.so(8)"))


def _missing(subject: Subject, name: str, candidates: list[str], path: str) -> Finding:
    where = (
        f"in PATH ({subject.environment.get('PATH', 'which is empty')})"
        if "/" not in name
        else "in the rootfs"
    )
    message = f"the program `{name}` is not {where}"
    mend = "name a program that the rootfs has"
    if subject.image and subject.image.entrypoint:
        mend = f"the image starts `{' '.join(subject.image.entrypoint)}`: drop `entrypoint` from the spec"
    elif node := _first_there(subject, _NODES):
        mend = f"the rootfs has `{node}`: name it, with its script"
    hidden = [cover[0] for candidate in candidates if (cover := covering(subject, candidate))]
    if hidden:
        message += f" (the mount on `{hidden[0]}` hides what the image has there)"
    return Finding("program-missing", HIGH, message, path, mend, "config.md, process.args")


def _not_executable(subject: Subject, program: str, mode: int, path: str) -> Finding:
    message = f"`{program}` (mode {mode & 0o7777:04o}) cannot be executed by user {subject.process.user.uid}"
    return Finding("program-not-executable", HIGH, message, path, "", "execve(2), EACCES")


def _unreadable(program: str, path: str, fault: OSError) -> Finding:
    return Finding("program-missing", HIGH, f"`{program}` cannot be read: {fault.strerror}", path)
