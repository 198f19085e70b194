"""Content for an unpacked skeleton: every file gets its bytes, every owner is mapped, privileges are noted.

One walk. What umoci made of a token's file (place, mode, owner, times, hard links) stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap
from pipeline.oci.inflate import no_space
from pipeline.oci.skeleton import TOKEN_BYTES, read_token
from pipeline.oci.tarheaders import Header
from pipeline.oci.tarscan import Scan, is_privileged

_COPY_BYTES = 1 << 20
_THREADS = 2
_BATCH = 32
_CAPABILITY = "security.capability"


@dataclass(frozen=True)
class Privileged:
    """A file that would give whoever runs it other rights; `capabilities` is the xattr's value in hex."""

    path: str
    mode: str
    capabilities: str
    kept: bool


@dataclass
class Filled:
    """What `fill` found and did."""

    files: int = 0
    content_bytes: int = 0
    adopted: int = 0
    privileged: list[Privileged] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    path: str
    layer: int
    header: Header
    keep: bool


def fill(rootfs: Path, scan: Scan, tars: Sequence[Path], keep: frozenset[str]) -> Filled:
    """Put the content of every file in its place and give unowned folders to the container's root.

    `keep` has the paths (`/usr/bin/ping`, links resolved) whose set-id bits and capabilities are restored.
    Raises PipelineError `unpack-mismatch` when the tree is not what the scan of the layers led to,
    `no-space`.
    """
    filled = Filled()
    jobs = list(_jobs(os.fspath(rootfs), scan, keep, filled))
    jobs.sort(key=lambda job: (job.layer, job.header.offset))
    batches = [jobs[start : start + _BATCH] for start in range(0, len(jobs), _BATCH)]
    with ExitStack() as opened, ThreadPoolExecutor(_THREADS) as pool:
        fds = [opened.enter_context(tar.open("rb")).fileno() for tar in tars]
        try:
            list(pool.map(lambda batch: _fill_batch(fds, batch), batches))
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_space(rootfs) from None
            raise
    filled.files = len(jobs)
    filled.content_bytes = sum(job.header.size for job in jobs)
    filled.privileged.sort(key=lambda file: file.path)
    return filled


def _jobs(top: str, scan: Scan, keep: frozenset[str], filled: Filled) -> Iterator[_Job]:
    seen: dict[int, Header] = {}
    for path, status in walk(top):
        filled.adopted += _adopt(path, status, scan.mapping)
        if not stat.S_ISREG(status.st_mode):
            _refuse_special(path[len(top) :], status.st_mode)
            continue
        if not status.st_size and status.st_ino not in seen:
            continue
        linked = status.st_ino in seen
        layer, header = (0, seen[status.st_ino]) if linked else _identify(path, top, scan)
        inside = path[len(top) :]
        if is_privileged(header):
            filled.privileged.append(_privileged(inside, header, inside in keep))
        if not linked:
            if status.st_nlink > 1:
                seen[status.st_ino] = header
            yield _Job(path, layer, header, inside in keep)


def walk(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every path at and below `top` with its lstat(2); no link is followed, any depth goes."""
    yield top, os.lstat(top)
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            for child in listing:
                yield child.path, child.stat(follow_symlinks=False)
                if child.is_dir(follow_symlinks=False):
                    waiting.append(child.path)


def _adopt(path: str, status: os.stat_result, mapping: IdMap) -> int:
    """A folder that no layer lists is made by umoci as the host's root; it is the container's root's."""
    mapped = range(mapping.host_id, mapping.host_id + mapping.size)
    uid = -1 if status.st_uid in mapped else mapping.host_id
    gid = -1 if status.st_gid in mapped else mapping.host_id
    if uid == gid == -1:
        return 0
    os.lchown(path, uid, gid)
    return 1


def _refuse_special(path: str, mode: int) -> None:
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise _mismatch(path, "is a device or a socket, which no layer asked for")


def _identify(path: str, top: str, scan: Scan) -> tuple[int, Header]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        token = read_token(os.read(fd, TOKEN_BYTES + 1))
    finally:
        os.close(fd)
    if token is None:
        raise _mismatch(path[len(top) :], "holds something that no layer has")
    layer, number, size = token
    header = scan.items[layer][number].header
    if header.size != size:
        raise _mismatch(path[len(top) :], f"should have {header.size} bytes, and its token says {size}")
    return layer, header


def _privileged(path: str, header: Header, kept: bool) -> Privileged:
    capabilities = header.xattrs.get(_CAPABILITY.encode(), b"").hex()
    return Privileged(path, f"{header.mode:04o}", capabilities, kept)


def _fill_batch(fds: Sequence[int], jobs: Sequence[_Job]) -> None:
    for job in jobs:
        fd = os.open(job.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            before = os.fstat(fd)
            _copy(fds[job.layer], fd, job.header)
            if job.keep:
                _restore(fd, job.header)
            os.utime(fd, ns=(before.st_mtime_ns, before.st_mtime_ns))
        finally:
            os.close(fd)


def _copy(source: int, target: int, header: Header) -> None:
    position = 0
    while position < header.size:
        piece = os.pread(source, min(_COPY_BYTES, header.size - position), header.offset + position)
        if not piece:
            raise _mismatch(header.name.decode("utf-8", "backslashreplace"), "lies beyond the end of its tar")
        while piece:
            written = os.pwrite(target, piece, position)
            position += written
            piece = piece[written:]
    if header.size < TOKEN_BYTES:
        os.ftruncate(target, header.size)


def _restore(fd: int, header: Header) -> None:
    """Give a file back the privileges that the spec wants kept."""
    os.fchmod(fd, header.mode)
    capability = header.xattrs.get(_CAPABILITY.encode())
    if capability:
        os.setxattr(fd, _CAPABILITY, capability)


def _mismatch(path: str, reason: str) -> PipelineError:
    return PipelineError(
        "unpack-mismatch",
        f"{path} in the rootfs {reason}",
        hint="umoci and this program read the image differently: please report it, with the image's digest",
    )
