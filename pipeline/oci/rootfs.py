"""Look-ups inside a rootfs that no link leads out of and no FIFO hangs.

A path here is a path of the container: `/etc/passwd` with or without the slash. It is resolved as the
container would, with the rootfs as `/` (openat2(2), RESOLVE_IN_ROOT), so a link to `/etc/shadow` is a
link to the rootfs's own. Names that are not UTF-8 are surrogate escapes (PEP 383).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat as status_bits
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pipeline.errors import PipelineError

# linux/openat2.h; the syscall has this number on every architecture but alpha.
_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
# The kernel answers EAGAIN when a rename somewhere races with a `..`; it asks for another try.
_TRIES = 64
_MAX_LINKS = 40  # path_resolution(7)

KINDS = {
    status_bits.S_IFREG: "a regular file",
    status_bits.S_IFDIR: "a directory",
    status_bits.S_IFLNK: "a symbolic link",
    status_bits.S_IFCHR: "a character device",
    status_bits.S_IFBLK: "a block device",
    status_bits.S_IFIFO: "a FIFO",
    status_bits.S_IFSOCK: "a socket",
}
"""What a file type is called in messages."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def read_file(root: Path, path: str, limit_bytes: int) -> bytes:
    """Return the content of a regular file inside the rootfs.

    Raises OSError where there is none; PipelineError `unsafe-file` when it is anything but a regular
    file, or longer than `limit_bytes`.
    """
    with opened(root, path) as fd:
        status = os.fstat(fd)
        if not status_bits.S_ISREG(status.st_mode):
            kind = KINDS[status_bits.S_IFMT(status.st_mode)]
            raise PipelineError("unsafe-file", f"{path} in the rootfs is {kind}, not a regular file")
        # Opened again only now that it is known to be no FIFO and no device.
        with open(f"/proc/self/fd/{fd}", "rb", opener=_without_waiting) as stream:
            content: bytes = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise PipelineError(
            "unsafe-file", f"{path} in the rootfs has {status.st_size} bytes; at most {limit_bytes} are read"
        )
    return content


def stat(root: Path, path: str, *, follow: bool = True) -> os.stat_result:
    """Return the status of what is at a path inside the rootfs. Raises OSError where there is nothing."""
    with opened(root, path, 0 if follow else os.O_NOFOLLOW) as fd:
        return os.fstat(fd)


def realpath(root: Path, path: str) -> str:
    """Return the path of the container without links, `..` and doubled slashes. Raises OSError."""
    with opened(root, "/") as top, opened(root, path) as fd:
        base, full = (str(Path(f"/proc/self/fd/{number}").readlink()) for number in (top, fd))
    return "/" + full[len(base) :].lstrip("/")


def resolve(root: Path, path: str) -> str:
    """Return where a path leads inside the rootfs, though its last parts need not be there yet.

    Raises OSError: ENOTDIR for a way through a file, ELOOP for too many links. By name, step by step:
    only for a tree that nobody else changes meanwhile.
    """
    waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del done[-1:]
            continue
        here = root.joinpath(*done, part)
        mode = _mode(here)
        if status_bits.S_ISLNK(mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = str(here.readlink())
            done = [] if target.startswith("/") else done
            waiting += [step for step in reversed(target.split("/")) if step not in ("", ".")]
            continue
        if mode and waiting and not status_bits.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        done.append(part)
    return "/" + "/".join(done)


@contextmanager
def opened(root: Path, path: str, flags: int = 0) -> Iterator[int]:
    """Yield a descriptor of what a path leads to in the rootfs; O_PATH: it opens nothing. Raises OSError."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "a NUL byte in a path", path)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise OSError(errno.EINVAL, "half a surrogate pair in a path", path) from None
    fd = _open(root, path, os.O_PATH | os.O_CLOEXEC | flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _open(root: Path, path: str, flags: int) -> int:
    if not _has_openat2():
        return _open_by_name(root, path, flags)
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            fd, number = _openat2(top, path or "/", flags)
            if number != errno.EAGAIN:
                break
    finally:
        os.close(top)
    if fd < 0:
        raise OSError(number, os.strerror(number), path)
    return fd


def _openat2(top: int, path: str, flags: int) -> tuple[int, int]:
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    ctypes.set_errno(0)
    fd = libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(top), os.fsencode(path), ctypes.byref(how), size)
    return int(fd), ctypes.get_errno()


@cache
def _has_openat2() -> bool:
    top = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        fd, number = _openat2(top, "/", os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(top)
    if fd >= 0:
        os.close(fd)
    return number != errno.ENOSYS


def _open_by_name(root: Path, path: str, flags: int) -> int:
    """For kernels before 5.6. Safe because a finished rootfs is closed to everybody but root."""
    if flags & os.O_NOFOLLOW:
        parent, _, name = path.rstrip("/").rpartition("/")
        inside = f"{resolve(root, parent)}/{name}"
    else:
        inside = resolve(root, path)
    return os.open(f"{root}/{inside}", flags | os.O_NOFOLLOW)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
