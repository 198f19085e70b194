"""Mount points made in a rootfs before it is closed, and taken away again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap
from pipeline.oci.mounts import IDENTITY_FILES, SYSTEM_POINTS, MountPoint
from pipeline.oci.rootfs import KINDS, resolve

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

    For a rootfs that nobody else can reach. Raises PipelineError `bad-mount-point` where something else
    is in the way.
    """
    return [_prepare(rootfs, point, mapping) for point in points]


def undo(rootfs: Path, prepared: Iterable[Prepared]) -> None:
    """Take away what `prepare` made and give back the modes; for a rootfs that is as `prepare` left it."""
    for point in reversed(list(prepared)):
        if point.mode_was is not None:
            _inside(rootfs, point.place).chmod(point.mode_was)
        for path in reversed(point.made):
            made = _inside(rootfs, path)
            if made.is_dir():
                made.rmdir()
            else:
                made.unlink()


def _prepare(rootfs: Path, point: MountPoint, mapping: IdMap) -> Prepared:
    try:
        place = resolve(rootfs, point.path)
    except OSError as fault:
        raise _bad(point, f"cannot be resolved in the image: {fault.strerror}") from None
    if place == "/":
        raise _bad(point, "is the root of the container")
    made = [_make(rootfs, parent, "dir", mapping) for parent in _missing(rootfs, place, point)]
    mode_was, hides = None, 0
    status = _status(rootfs, place)
    if status is None:
        made.append(_make(rootfs, place, point.kind, mapping))
    else:
        _check_kind(point, place, status)
        hides = _hidden(rootfs, place, point, status)
    if point.mode is not None:
        mode_was = _set_mode(_inside(rootfs, place), point.mode, status)
    return Prepared(point.path, place, point.kind, point.reason, tuple(made), mode_was, hides)


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
    full = _inside(rootfs, path)
    if kind == "dir":
        full.mkdir()
        full.chmod(_FOLDER_MODE)
    else:
        os.close(os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC))
        full.chmod(_FILE_MODE)
    owner = 0 if mapping.is_identity else mapping.host_id
    os.chown(full, owner, owner)
    return path


def _check_kind(point: MountPoint, place: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode) == (point.kind == "dir"):
        return
    wanted = "a directory" if point.kind == "dir" else "a file"
    where = f"{place}, where it leads, is" if place != point.path else "it is"
    raise _bad(point, f"needs {wanted} to mount on, and in the image {where} {_kind(status)}")


def _hidden(rootfs: Path, place: str, point: MountPoint, status: os.stat_result) -> int:
    if point.path in SYSTEM_POINTS or point.path in IDENTITY_FILES:
        return 0
    if point.kind == "dir":
        return sum(1 for _ in _inside(rootfs, place).iterdir())
    return int(status.st_size > 0)


def _set_mode(path: Path, mode: int, status: os.stat_result | None) -> int | None:
    before = stat.S_IMODE(status.st_mode) if status else None
    if before == mode:
        return None
    path.chmod(mode)
    return before


def _status(rootfs: Path, path: str) -> os.stat_result | None:
    try:
        return _inside(rootfs, path).lstat()
    except FileNotFoundError:
        return None


def _inside(rootfs: Path, path: str) -> Path:
    return rootfs / path.lstrip("/")


def _kind(status: os.stat_result) -> str:
    return KINDS[stat.S_IFMT(status.st_mode)]


def _bad(point: MountPoint, reason: str) -> PipelineError:
    return PipelineError(
        "bad-mount-point",
        f"{point.path} ({point.reason}) {reason}",
        hint="mount it somewhere else, or change the image",
    )
