"""Probes that change the process they run in: `python -m pipeline.doctor.child PROBE [ARGUMENT…]`.

Each does one thing for real and prints what came of it as JSON; the end of the process undoes it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.run import run

# sched.h, sys/mount.h, linux/prctl.h, linux/seccomp.h, linux/filter.h.
_NAMESPACES = {
    "mount": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "net": 0x40000000,
    "cgroup": 0x02000000,
    "pid": 0x20000000,
}
_CLONE_NEWUSER = 0x10000000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
# getppid by uname(2) machine; the generic table of the newer architectures has 173.
_GETPPID = {"x86_64": 110}
_GETPPID_GENERIC = 173
_ODD_ERRNO = 99

_libc = ctypes.CDLL(None, use_errno=True)


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def namespaces() -> dict[str, str]:
    """Unshare every kind; return the refused ones with the reason."""
    refused = {}
    if os.geteuid() != 0:
        try:
            _enter_own_user_namespace()
        except OSError as fault:
            return {"user": _words(fault)}
    for name, flag in _NAMESPACES.items():
        try:
            _unshare(flag)
        except OSError as fault:
            refused[name] = _words(fault)
    return refused


def id_map(base: str, size: str) -> str:
    """Map container ids 0… to `base`… in a new user namespace, become its root; return the kernel's map."""
    go_in, go_out = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        # Else its own copy of the pipe's end would keep it waiting for a parent that gave up.
        os.close(go_out[1])
        os._exit(_mapped(go_out[0], go_in[1]))
    os.close(go_in[1])
    try:
        if os.read(go_in[0], 1) != b"u":
            raise OSError(os.read(go_in[0], 200).decode() or "no user namespace")
        _write_maps(child, int(base), int(size))
        seen = Path(f"/proc/{child}/uid_map").read_text()
        os.write(go_out[1], b"m")
        if os.read(go_in[0], 1) != b"r":
            raise OSError("the mapped root could not become user 0")
        return " ".join(seen.split())
    finally:
        os.close(go_out[1])
        os.waitpid(child, 0)


def tmpfs() -> str:
    """Mount a tmpfs in a mount namespace of our own and write to it."""
    if os.geteuid() != 0:
        _enter_own_user_namespace()
    _unshare(_NAMESPACES["mount"])
    _mount("none", "/", "", _MS_REC_PRIVATE, "")
    _mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0700,size=64k")
    Path("/tmp/cooperage").write_text("x")
    return "mounted"


def cgroup(*folders: str) -> dict[str, str]:
    """Make and remove a cgroup in each folder; return the controllers of each, or the reason why not."""
    said = {}
    for folder in folders:
        path = Path(folder) / f"cooperage-doctor-{os.getpid()}"
        try:
            path.mkdir()
            controllers = path / "cgroup.controllers"
            said[folder] = controllers.read_text().strip() if controllers.exists() else "made"
        except OSError as fault:
            said[folder] = "!" + _words(fault)
        finally:
            with suppress(OSError):
                path.rmdir()
    return said


def seccomp() -> str:
    """Load a filter that gives one system call an odd errno, and make that call."""
    call = _GETPPID.get(platform.machine(), _GETPPID_GENERIC)
    program = (
        (_LOAD_WORD, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, call),
        (_RETURN, 0, 0, _RET_ERRNO | _ODD_ERRNO),
        (_RETURN, 0, 0, _RET_ALLOW),
    )
    instructions = (_Instruction * len(program))(*(_Instruction(*words) for words in program))
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    loaded = _Program(len(program), ctypes.cast(instructions, ctypes.POINTER(_Instruction)))
    _call(_libc.prctl, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0)
    ctypes.set_errno(0)
    if _libc.syscall(call) != -1 or ctypes.get_errno() != _ODD_ERRNO:
        raise OSError("the filter was loaded and did not bite")
    return "bites"


def xattr(folder: str) -> str:
    """Write and read an extended attribute on a file of its own in `folder`."""
    # security.* is what file capabilities need, and only root may write it; trusted needs CAP_SYS_ADMIN.
    name = "user.cooperage"
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.setxattr(fd, name, b"x")
    return os.getxattr(fd, name).decode()


def _mapped(go: int, say: int) -> int:
    """The process that is mapped: `u` when unshared, wait for the map, `r` when it is root inside."""
    try:
        _unshare(_CLONE_NEWUSER)
    except OSError as fault:
        os.write(say, b"!" + _words(fault).encode())
        return 1
    os.write(say, b"u")
    os.read(go, 1)
    with suppress(OSError):
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.write(say, b"r")
    return 0


def _write_maps(pid: int, base: int, size: int) -> None:
    """As root by /proc (user_namespaces(7)); else by newuidmap(1), our own id first."""
    if os.geteuid() == 0:
        for kind in ("uid", "gid"):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {base} {size}\n")
        return
    for program, own in (("newuidmap", os.getuid()), ("newgidmap", os.getgid())):
        words = [program, str(pid), "0", str(own), "1", "1", str(base), str(size)]
        try:
            run(words, timeout_s=10)
        except PipelineError as error:
            raise OSError(error.message.replace("\n", ";")) from error


def _enter_own_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _unshare(flag: int) -> None:
    _call(_libc.unshare, flag)


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    texts = [text.encode() for text in (source, target, kind, options)]
    _call(_libc.mount, *texts[:3], ctypes.c_ulong(flags), texts[3])


def _call(function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _words(fault: OSError) -> str:
    return fault.strerror or str(fault)


_PROBES: dict[str, Callable[..., Any]] = {
    probe.__name__: probe for probe in (namespaces, id_map, tmpfs, cgroup, seccomp, xattr)
}


def main(words: list[str]) -> int:
    """Run the probe and print {"said": …} or {"refused": …}."""
    try:
        answer = {"said": _PROBES[words[0]](*words[1:])}
    except OSError as fault:
        answer = {"refused": _words(fault)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
