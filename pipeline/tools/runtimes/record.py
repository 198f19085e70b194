"""The record of a running container: made and locked before the container, gone after it.

A record that nobody holds locked is the mark of an owner that died; see `sweep`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_SUFFIX = ".json"
_UNFINISHED = ".tmp"


@dataclass(frozen=True)
class Record:
    """What must be known to remove a container: its id, and the runtime that has it."""

    container: str
    runtime: str
    program: str
    root: str
    bundle: str
    project: str


class HeldRecord:
    """A record on disk, locked by this process until `release`."""

    def __init__(self, record: Record, path: Path, fd: int) -> None:
        self.record = record
        self.path = path
        self._fd = fd

    @classmethod
    def create(cls, folder: Path, record: Record) -> HeldRecord:
        """Write a record and lock it, in one step as others see it."""
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            # A sweep that comes between open and lock takes the file for a dead owner's and removes it.
            with suppress(FileNotFoundError):
                return cls._create(folder / (record.container + _SUFFIX), record)

    @classmethod
    def _create(cls, path: Path, record: Record) -> HeldRecord:
        unfinished = path.with_suffix(_UNFINISHED)
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # The inode tells a record from a copy of it in a copied checkout, whose container is not its own.
            content = {"version": 1, "inode": os.fstat(fd).st_ino, **asdict(record)}
            os.write(fd, json.dumps(content).encode())
            # The lock belongs to the inode, so it comes along.
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            os.close(fd)
            raise
        return cls(record, path, fd)

    def release(self, *, remove: bool) -> None:
        """Give up the lock; without `remove`, the record stays for a later sweep. A second call is fine."""
        if self._fd < 0:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        # An interrupt between the two must not lead to a second close, perhaps of another file.
        fd, self._fd = self._fd, -1
        os.close(fd)


@contextmanager
def abandoned(path: Path, project: Path) -> Iterator[HeldRecord | None]:
    """Lock the record at `path` if its owner is dead; None when it lives or the record is not ours."""
    held = _take(path, project)
    try:
        yield held
    finally:
        if held is not None:
            held.release(remove=False)


def _take(path: Path, project: Path) -> HeldRecord | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    record = _read(path, fd, project) if _lock(path, fd) else None
    if record is None:
        os.close(fd)
        return None
    return HeldRecord(record, path, fd)


def _lock(path: Path, fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and flock, the owner may have removed it, or another sweep.
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _read(path: Path, fd: int, project: Path) -> Record | None:
    """The record, or None when it is half of one or a copy; both are removed."""
    try:
        content = json.loads(os.pread(fd, 1 << 16, 0))
        same = content.pop("inode") == os.fstat(fd).st_ino or content["project"] == str(project)
        content.pop("version")
        record = Record(**content)
    except (ValueError, KeyError, TypeError):
        same = False
    if path.suffix == _UNFINISHED or not same:
        path.unlink(missing_ok=True)
        return None
    return record
