"""Named volumes: folders of this machine that hold a bundle's data and outlive every build."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError

_MODE = 0o750
_PARENT_MODE = 0o755
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Made:
    """A volume's folder, and whether it was made now."""

    path: Path
    is_new: bool


def ensure_volume(path: Path, uid: int, gid: int) -> Made:
    """Make the folder of a volume if it is absent: owner uid:gid (host ids), mode 0750, parents root's 0755.

    One that is there is left as it is, whoever owns it: it holds data. No link is followed on the way.
    Raises PipelineError `bad-volume` where something else stands in the way.
    """
    try:
        with _folder(path.parent) as parent:
            try:
                os.mkdir(path.name, 0o700, dir_fd=parent)
            except FileExistsError:
                os.close(os.open(path.name, _FLAGS, dir_fd=parent))
                return Made(path, False)
            _own(path.name, parent, uid, gid)
    except OSError as fault:
        raise _bad(path, fault) from None
    return Made(path, True)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Open a folder by steps, making those that are absent (umask does not matter)."""
    fd = os.open("/", _FLAGS)
    try:
        for part in path.parts[1:]:
            _make(part, fd)
            inner = os.open(part, _FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _make(name: str, parent: int) -> None:
    try:
        os.mkdir(name, _PARENT_MODE, dir_fd=parent)
    except FileExistsError:
        return
    os.chmod(name, _PARENT_MODE, dir_fd=parent, follow_symlinks=True)


def _own(name: str, parent: int, uid: int, gid: int) -> None:
    fd = os.open(name, _FLAGS, dir_fd=parent)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, _MODE)
        os.fsync(fd)
    finally:
        os.close(fd)


def _bad(path: Path, fault: OSError) -> PipelineError:
    message = f"the volume {path} cannot be made: {fault.strerror}"
    if os.path.lexists(path) and not stat.S_ISDIR(os.lstat(path).st_mode):
        message = f"the volume {path} is not a directory"
    return PipelineError(
        "bad-volume", message, hint="move what is in the way; no part of the path may be a link"
    )
