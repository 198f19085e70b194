"""Files written whole or not at all, and the digests that name their content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, Place
from pipeline.run import run

_CHUNK_BYTES = 1 << 20
_SMALL_BYTES = 1 << 16


def canonical_json(value: object) -> bytes:
    """Return the one byte form of `value`: sorted keys, two spaces, UTF-8, final newline."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def compact_json(value: object) -> bytes:
    """Return the one-line byte form of `value` that keys are hashed from."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_bytes(content: bytes) -> str:
    """Return the hex SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def read_small(path: str | Path) -> bytes:
    """Return the content of a small file; a start reads thousands, and `Path.read_bytes` costs thrice."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(fd, _SMALL_BYTES)
        while len(content) % _SMALL_BYTES == 0 and (more := os.read(fd, _SMALL_BYTES)):
            content += more
        return content
    finally:
        os.close(fd)


def sha256_file(path: str | Path) -> str:
    """Return the hex SHA-256 of a file's content, read in pieces."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        digest = hashlib.sha256(os.read(fd, _SMALL_BYTES))
        while more := os.read(fd, _CHUNK_BYTES):
            digest.update(more)
        return digest.hexdigest()
    finally:
        os.close(fd)


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` so that `path` holds the old bytes or the new ones, never part of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, mode)
            stream.write(content)
            stream.flush()
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the renames and removals within a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(path: Path) -> None:
    """Make everything written to the filesystem of `path` durable (syncfs(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)


def read_json(path: Path) -> Any:
    """Return the JSON value in a file. Raises PipelineError `bad-json` with the place of the fault."""
    text = path.read_bytes()
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        line = fault.doc.splitlines()[fault.lineno - 1 : fault.lineno] or [""]
        place = Place(str(path), fault.lineno, fault.colno, 1, line[0])
        raise PipelineError("bad-json", f"not JSON: {fault.msg}", place=place) from None
    except (UnicodeDecodeError, RecursionError) as fault:
        raise PipelineError("bad-json", f"not JSON: {fault}", place=Place(str(path))) from None


def remove_tree(path: Path) -> None:
    """Remove a file or a tree of any depth; follow no link; an absent path is fine."""
    try:
        # An empty folder is what is left of most work; a process for that would be the dearest part of it.
        os.rmdir(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
    except OSError:
        # rm(1), since shutil.rmtree recurses and dies on a tree that is 1,000 folders deep.
        run(["rm", "-rf", "--one-file-system", "--", path], timeout_s=600)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree as lstat(2) sees it. `what` is content hash, link target or device numbers."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    what: str
    xattrs: dict[str, str]
    seen: tuple[int, int, int]

    def identity(self) -> list[object]:
        """All that the entry is, without when and where it lies."""
        return [self.path, self.kind, self.mode, self.uid, self.gid, self.size, self.what, self.xattrs]


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def scan_tree(root: Path) -> list[Entry]:
    """Return every entry of a tree in path order, `.` first, each file's content hashed (two threads)."""
    from concurrent.futures import ThreadPoolExecutor

    found = [(path, status, os.path.join(root, path)) for path, status, _ in _walk(root)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda item: _entry(*item), found, chunksize=64))


def entry_of(root: Path, path: str) -> Entry:
    """Return what `scan_tree` says of one path below `root`."""
    return _entry(path, os.lstat(root / path), os.path.join(root, path))


def tree_digest(entries: Iterable[Entry]) -> str:
    """Return `sha256:…` over what the entries are; times and inode numbers do not count."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(json.dumps(entry.identity(), sort_keys=True).encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def write_record(path: Path, entries: Iterable[Entry]) -> None:
    """Write what `changed_entries` compares a tree with later."""
    # ASCII: names that are not UTF-8 stand as surrogate escapes.
    text = json.dumps([[*entry.identity(), *entry.seen] for entry in entries])
    write_atomic(path, text.encode())


def read_record(path: Path) -> list[Entry]:
    """Return the entries that `write_record` wrote."""
    # A row is the fields in order, with the three numbers of `seen` at its end.
    return [
        Entry(name, kind, mode, uid, gid, size, what, xattrs, (inode, mtime_ns, ctime_ns))
        for name, kind, mode, uid, gid, size, what, xattrs, inode, mtime_ns, ctime_ns in read_json(path)
    ]


def changed_entries(root: Path, record: Path, *, reread: bool = False) -> list[str]:
    """Return the paths below `root` that are not as recorded; nothing when it is intact.

    An entry whose inode, size and times are as recorded counts as unchanged, any other is read again;
    with `reread`, every one is: that alone sees a bit that flipped on the disk.
    """
    return changed_from(root, read_record(record), reread=reread)


def changed_from(root: Path, entries: Iterable[Entry], *, reread: bool = False) -> list[str]:
    """Return the same, for a record that has been read."""
    recorded = {entry.path: entry for entry in entries}
    changed = []
    for path, status, reached in _walk(root):
        entry = recorded.pop(path, None)
        unread = entry is not None and not reread and _same(entry, status)
        if not unread and (entry is None or not _is_still(entry, status, reached)):
            changed.append(path)
    return sorted([*changed, *recorded])


def _is_still(entry: Entry, status: os.stat_result, reached: str) -> bool:
    try:
        return _entry(entry.path, status, reached).identity() == entry.identity()
    except OSError:
        # A running container may write its root: what was a file a moment ago is a link, or gone.
        return False


def _same(entry: Entry, status: os.stat_result) -> bool:
    return entry.seen == _seen(status) and (entry.mode, entry.uid, entry.gid) == (
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def _seen(status: os.stat_result) -> tuple[int, int, int]:
    # The top folder is renamed when it is committed, which touches its ctime alone; that costs one re-read.
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result, str]]:
    """Each entry's path, lstat(2), and a way to it through its folder's descriptor, good until the next one.

    No link is followed, even if somebody swaps one in meanwhile.
    """
    yield ".", os.lstat(root), os.fspath(root)
    start = len(os.path.join(root, ""))
    for folder, below, others, fd in os.fwalk(root, follow_symlinks=False):
        below.sort()
        prefix = os.path.join(folder, "")[start:]
        for name in sorted([*below, *others]):
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield prefix + name, status, f"/proc/self/fd/{fd}/{name}"


def _entry(path: str, status: os.stat_result, reached: str) -> Entry:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    what, size = "", 0
    if kind == "file":
        what, size = _content(reached), status.st_size
    elif kind == "link":
        what = os.readlink(reached)
    elif kind in ("char", "block"):
        what = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    mode = stat.S_IMODE(status.st_mode)
    return Entry(path, kind, mode, status.st_uid, status.st_gid, size, what, _xattrs(reached), _seen(status))


def _content(path: str) -> str:
    # Not a link and not a FIFO, whatever it was when it was listed.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no regular file any more")
        first = stream.read(_CHUNK_BYTES)
        if len(first) < _CHUNK_BYTES:
            return hashlib.sha256(first).hexdigest()
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _xattrs(path: str) -> dict[str, str]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names}
