"""Mount points made in a rootfs before it is closed, and taken away again.

What is changed is reached from a descriptor of the rootfs, folder by folder, and no link is followed: even a
tree that somebody writes to meanwhile lends no way to the host's files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap
from pipeline.oci.mounts import IDENTITY_FILES, SYSTEM_POINTS, WORKDIR, MountPoint
from pipeline.oci.rootfs import KINDS, resolve

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


@dataclass(frozen=True)
class Prepared:
    """A mount point as it is in the rootfs.

    `place` is where its path leads (a link on the way leads elsewhere); `made` are the paths that were
    made for it, parents first; `mode_was` is the mode of a folder that was there and got another;
    `hides` counts what is there and will not be seen.
    """

    path: str
    place: str
    kind: str
    reason: str
    made: tuple[str, ...] = ()
    mode_was: int | None = None
    hides: int = 0

    def to_facts(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**vars(self), "made": list(self.made)}

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Prepared:
        """The inverse of `to_facts`."""
        return cls(**{**facts, "made": tuple(facts["made"])})


def prepare(rootfs: Path, points: Iterable[MountPoint], mapping: IdMap) -> list[Prepared]:
    """Make what is missing of each mount point, owned by the container's root; no link leads out.

    Raises PipelineError `bad-mount-point` where something else is in the way.
    """
    return [_prepare(rootfs, point, mapping) for point in points]


def undo(rootfs: Path, prepared: Iterable[Prepared]) -> None:
    """Take away what `prepare` made and give back the modes; for a rootfs that is as `prepare` left it.

    Raises OSError where it is not.
    """
    for point in reversed(list(prepared)):
        if point.mode_was is not None:
            _set_mode(rootfs, point.place, point.mode_was)
        for path in reversed(point.made):
            _unmake(rootfs, path)


def _prepare(rootfs: Path, point: MountPoint, mapping: IdMap) -> Prepared:
    place = _place(rootfs, point)
    made = [_make(rootfs, parent, "dir", mapping) for parent in _missing(rootfs, place, point)]
    mode_was, hides = None, 0
    status = _status(rootfs, place)
    if status is None:
        made.append(_make(rootfs, place, point.kind, mapping))
    else:
        _check_kind(point, place, status)
        hides = _hidden(rootfs, place, point, status)
    if point.mode is not None:
        before = _set_mode(rootfs, place, point.mode)
        mode_was = before if status is not None and before != point.mode else None
    return Prepared(point.path, place, point.kind, point.reason, tuple(made), mode_was, hides)


def _place(rootfs: Path, point: MountPoint) -> str:
    """Where the path leads. Raises PipelineError where nothing can be mounted there."""
    try:
        place = resolve(rootfs, point.path)
    except OSError as fault:
        raise _bad(point, f"cannot be resolved in the image: {fault.strerror}") from None
    if place == "/" and point.reason != WORKDIR:
        raise _bad(point, "is the root of the container")
    if point.path in SYSTEM_POINTS and place != point.path:
        # Runtimes differ in what they make of it, and runc refuses it (CVE-2019-19921).
        raise PipelineError(
            "bad-mount-point",
            f"{point.path} is a link to {place} in the image, and runtimes mount the kernel's files there",
            hint=f"build the image with a folder {point.path}, or with nothing in its place",
        )
    return place


def _missing(rootfs: Path, place: str, point: MountPoint) -> list[str]:
    """The folders above `place` that are not there. Raises PipelineError where one is no folder."""
    parents = place.split("/")[1:-1]
    paths = ["/" + "/".join(parents[: count + 1]) for count in range(len(parents))]
    missing: list[str] = []
    for path in paths:
        status = None if missing else _status(rootfs, path)
        if status is None:
            missing.append(path)
        elif not stat.S_ISDIR(status.st_mode):
            raise _bad(point, f"lies below {path}, which is {_kind(status)} in the image")
    return missing


def _make(rootfs: Path, path: str, kind: str, mapping: IdMap) -> str:
    owner = 0 if mapping.is_identity else mapping.host_id
    with _parent(rootfs, path) as (parent, name):
        if kind == "dir":
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _FOLDER if kind == "dir" else _NEW_FILE, 0o600, dir_fd=parent)
        try:
            os.fchown(fd, owner, owner)
            os.fchmod(fd, _FOLDER_MODE if kind == "dir" else _FILE_MODE)
        finally:
            os.close(fd)
    return path


def _unmake(rootfs: Path, path: str) -> None:
    with _parent(rootfs, path) as (parent, name):
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)


def _check_kind(point: MountPoint, place: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode) == (point.kind == "dir"):
        return
    wanted = "a directory" if point.kind == "dir" else "a file"
    purpose = "start in" if point.reason == WORKDIR else "mount on"
    where = f"{place}, where it leads, is" if place != point.path else "it is"
    raise _bad(point, f"needs {wanted} to {purpose}, and in the image {where} {_kind(status)}")


def _hidden(rootfs: Path, place: str, point: MountPoint, status: os.stat_result) -> int:
    if point.path in (*SYSTEM_POINTS, *IDENTITY_FILES) or point.reason == WORKDIR:
        return 0
    if point.kind == "dir":
        with _opened(rootfs, place) as fd:
            return len(os.listdir(fd))
    return int(status.st_size > 0)


def _set_mode(rootfs: Path, place: str, mode: int) -> int:
    """Give a folder a mode and return the one that it had."""
    with _opened(rootfs, place) as fd:
        before = stat.S_IMODE(os.fstat(fd).st_mode)
        if before != mode:
            os.fchmod(fd, mode)
    return before


def _status(rootfs: Path, path: str) -> os.stat_result | None:
    if path == "/":
        return rootfs.lstat()
    try:
        with _parent(rootfs, path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextmanager
def _parent(rootfs: Path, path: str) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the folder that holds `path`, and the name in it."""
    above, _, name = path.rpartition("/")
    with _opened(rootfs, above) as fd:
        yield fd, name


@contextmanager
def _opened(rootfs: Path, path: str) -> Iterator[int]:
    """Yield a descriptor of a folder of the rootfs. Raises OSError, also where a link is on the way.

    `path` is a place: without links and without `..`.
    """
    fd = os.open(rootfs, _FOLDER)
    try:
        for part in filter(None, path.split("/")):
            inner = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _kind(status: os.stat_result) -> str:
    return KINDS[stat.S_IFMT(status.st_mode)]


def _bad(point: MountPoint, reason: str) -> PipelineError:
    hint = "mount it somewhere else, or change the image"
    if point.reason == WORKDIR:
        hint = "name a folder of the image in the spec, such as `working_dir: /`"
    return PipelineError("bad-mount-point", f"{point.path} ({point.reason}) {reason}", hint=hint)
