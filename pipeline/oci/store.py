"""The blob store: each blob once on disk, hard-linked into every bundle's image layout."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline.files import sha256_bytes
from pipeline.oci.layout import blob_fault, blob_path
from pipeline.oci.manifest import Descriptor
from pipeline.paths import Project

_BLOB = re.compile(r"[0-9a-f]{64}")
_LEFTOVER_AGE_S = 3600


@contextmanager
def using(project: Project, *, alone: bool = False) -> Iterator[Path]:
    """Hold the store while copying, or `alone` to remove from it; give the folder of blobs.

    Copies share the lock; whoever removes waits until no copy runs, or a blob that a copy has seen
    and not yet linked would vanish.
    """
    project.locks.mkdir(parents=True, exist_ok=True)
    (project.blobs / "sha256").mkdir(parents=True, exist_ok=True)
    fd = os.open(project.locks / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield project.blobs
    finally:
        os.close(fd)


class Intake:
    """Blobs on their way through a copy's private folder into the store, hashed as they become complete.

    The private folder lies on the store's filesystem and shares files with it by hard links. What is in
    the store was hashed before, and skopeo never writes there: it writes manifests in place, which would
    change a file under another copy.
    """

    def __init__(self, blobs: Path, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._seen: dict[tuple[str, tuple[int, int]], Future[str | None]] = {}
        # hashlib lets go of the interpreter's lock, so two threads use two cores.
        self._pool = ThreadPoolExecutor(2)
        (folder / "sha256").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def reuse(self, wanted: Iterable[Descriptor]) -> dict[str, str]:
        """Take what the store has of `wanted`; return digest -> fault of what was damaged and is removed."""
        for blob in wanted:
            try:
                os.link(blob_path(self._blobs, blob.digest), self.path(blob.digest), follow_symlinks=False)
            except (FileNotFoundError, FileExistsError):
                continue
        return self._damaged(blob for blob in wanted if self.path(blob.digest).exists())

    def look(self, wanted: Iterable[Descriptor]) -> int:
        """Begin to hash what has become complete; return how many bytes of `wanted` are complete."""
        complete = [blob for blob in wanted if self.path(blob.digest).exists()]
        for blob in complete:
            self._begin(blob)
        return sum(blob.size_bytes for blob in complete)

    def finish(self, wanted: Iterable[Descriptor]) -> dict[str, str]:
        """Hash what is not hashed yet; return digest -> fault, empty when all of `wanted` is right."""
        return self._damaged(wanted)

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """Put bytes of ours into the folder and return what names them."""
        blob = Descriptor(media_type, f"sha256:{sha256_bytes(content)}", len(content))
        self.path(blob.digest).unlink(missing_ok=True)
        self.path(blob.digest).write_bytes(content)
        return blob

    def path(self, digest: str) -> Path:
        """Return where a blob lies in the private folder."""
        return blob_path(self._folder, digest)

    def link_into(self, layout: Path, wanted: Iterable[Descriptor]) -> None:
        """Give a layout the blobs, by hard links."""
        (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for digest in {blob.digest for blob in wanted}:
            os.link(self.path(digest), blob_path(layout / "blobs", digest))

    def _begin(self, blob: Descriptor) -> Future[str | None]:
        # The same name may be another file: skopeo fetches a config anew, though it is there.
        key = (blob.digest, _seen(self.path(blob.digest)))
        if key not in self._seen:
            self._seen[key] = self._pool.submit(self._check, blob)
        return self._seen[key]

    def _damaged(self, wanted: Iterable[Descriptor]) -> dict[str, str]:
        checks = {blob.digest: self._begin(blob) for blob in wanted}
        faults = {digest: fault for digest, check in checks.items() if (fault := check.result())}
        for digest in faults:
            discard(self._blobs, self.path(digest))
            # The next file may get the same inode number at the same time.
            self._seen = {key: check for key, check in self._seen.items() if key[0] != digest}
        return faults

    def _check(self, blob: Descriptor) -> str | None:
        path = self.path(blob.digest)
        fault = blob_fault(path, blob)
        if fault is None:
            _keep(path, blob_path(self._blobs, blob.digest), blob)
        return fault


def discard(blobs: Path, path: Path) -> None:
    """Remove a damaged blob and, if the store has the very same file, that too."""
    stored = blobs / "sha256" / path.name
    # Another copy may have healed the store meanwhile: its file must stay.
    if stored.exists() and (not path.exists() or path.samefile(stored)):
        stored.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _seen(path: Path) -> tuple[int, int]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)


def _keep(path: Path, stored: Path, blob: Descriptor) -> None:
    """Let the store and `path` be one file, whose content was checked."""
    try:
        os.link(path, stored)
        return
    except FileExistsError:
        if path.samefile(stored):
            return
    # Another copy was first, or what it left is damaged.
    winner, loser = (path, stored) if blob_fault(stored, blob) else (stored, path)
    temporary = loser.with_name(f".{loser.name}.{uuid.uuid4().hex[:8]}.tmp")
    os.link(winner, temporary)
    temporary.rename(loser)


def sweep_store(project: Project) -> int:
    """Remove what killed copies left in the store; return the bytes freed.

    Only what is no blob and an hour old: a younger file may belong to a copy that runs now.
    """
    freed = 0
    oldest = time.time() - _LEFTOVER_AGE_S
    for path in _files(project.blobs / "sha256"):
        status = os.lstat(path)
        if not _BLOB.fullmatch(path.name) and status.st_mtime < oldest:
            freed += status.st_size
            path.unlink(missing_ok=True)
    return freed


def collect(project: Project) -> int:
    """Remove the blobs that no bundle's image links to, and leftovers; return the bytes freed."""
    freed = 0
    with using(project, alone=True) as blobs:
        for path in _files(blobs / "sha256"):
            status = os.lstat(path)
            if not _BLOB.fullmatch(path.name) or status.st_nlink == 1:
                freed += status.st_size
                path.unlink(missing_ok=True)
    return freed


def stored_bytes(folder: Path) -> int:
    """Return the bytes of all regular files below a folder that others may be changing."""
    total = 0
    waiting = [folder]
    while waiting:
        for path in _files(waiting.pop()):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
            elif stat.S_ISREG(status.st_mode):
                total += status.st_size
    return total


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
