"""A layer blob becomes the plain tar that it holds, verified on the way: size, digest and diffID.

Two threads: one hashes and inflates what it reads (igzip is four times as fast as zlib), the other hashes
and writes what came out. A bomb is stopped while it unfolds.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.errors import PipelineError
from pipeline.oci.limits import Limits

_READ_BYTES = 256 << 10
_WRITE_BYTES = 1 << 20
_AHEAD = 8
# A layer of empty folders packs 30 to 1 and one of zeros 1000 to 1; neither matters while it is small.
_RATIO_FREE_BYTES = 64 << 20
# zstd frames may ask the reader for gigabytes; 128 MiB is what `zstd -d` grants (zstd(1), --memory).
_ZSTD_WINDOW_BYTES = 128 << 20

_PACKINGS = {
    "application/vnd.oci.image.layer.v1.tar": "plain",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "plain",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "plain",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}

Report = Callable[[int], None]


@dataclass(frozen=True)
class Layer:
    """A layer as the manifest and the config describe it, and the file that should hold it."""

    digest: str
    size_bytes: int
    media_type: str
    diff_id: str
    blob: Path

    @property
    def packing(self) -> str:
        """`plain`, `gzip` or `zstd`. Raises PipelineError `bad-layer` for any other media type."""
        if self.media_type not in _PACKINGS:
            known = "known are tar, tar+gzip and tar+zstd layers"
            raise bad_layer(self, f"is of the type {self.media_type}", known)
        return _PACKINGS[self.media_type]


def bad_layer(layer: Layer, reason: str, hint: str | None = None) -> PipelineError:
    """Return the error for a layer that is not what it should be."""
    mend = hint or "the image is damaged: make it again at its source, then run again"
    return PipelineError("bad-layer", f"layer {layer.digest} {reason}", hint=mend)


def inflate(layer: Layer, tar: Path, limits: Limits, room_bytes: int, report: Report) -> int:
    """Write the plain tar of a layer to `tar` and return its size in bytes.

    `room_bytes` is what is left of the image's total; `report` is told of bytes read. Raises PipelineError
    `bad-layer` when size, digest, packing or diffID are wrong, `limit-…` beyond a limit, `no-space`.
    """
    try:
        with _Source(layer, report) as source, _Sink(tar) as sink:
            for piece in _pieces(layer, source):
                sink.write(piece)
                _check_size(layer, sink.size_bytes, limits, room_bytes)
            source.drain()
    except OSError as fault:
        raise _io_fault(fault, layer, tar) from None
    _compare(layer, source, sink)
    return sink.size_bytes


class _Source:
    """The blob's bytes in order, counted and hashed as they are read."""

    def __init__(self, layer: Layer, report: Report) -> None:
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()
        self._report = report
        fd = os.open(layer.blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        self._stream = io.FileIO(fd, "rb")

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        piece = self._stream.read(size if size > 0 else _READ_BYTES)
        self.size_bytes += len(piece)
        self.sha256.update(piece)
        self._report(len(piece))
        return piece

    def drain(self) -> None:
        """Read what is left."""
        while self.read():
            pass


class _Sink:
    """Hashes and writes in a thread of its own, at most `_AHEAD` pieces behind."""

    def __init__(self, path: Path) -> None:
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()
        self._stream = path.open("xb")
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            while self._waiting:
                waiting = self._waiting.popleft()
                if kind is None:
                    waiting.result()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._stream.close()

    def write(self, piece: bytes) -> None:
        """Append a piece. Raises the OSError of an earlier one."""
        self.size_bytes += len(piece)
        self._waiting.append(self._thread.submit(self._put, piece))
        if len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def _put(self, piece: bytes) -> None:
        self.sha256.update(piece)
        self._stream.write(piece)


def _pieces(layer: Layer, source: _Source) -> Iterator[bytes]:
    if layer.packing == "gzip":
        return _gunzip(layer, source)
    if layer.packing == "zstd":
        return _unzstd(layer, source)
    return iter(lambda: source.read(_WRITE_BYTES), b"")


def _gunzip(layer: Layer, source: _Source) -> Iterator[bytes]:
    """RFC 1952: one or more members, and nothing else."""
    from isal import igzip_lib

    packed, wrong, short = source.read(), "is not gzip, or damaged", "is cut short: the gzip data has no end"
    while packed:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            try:
                yield member.decompress(packed, _WRITE_BYTES)
            except igzip_lib.IsalError as fault:  # type: ignore[misc]  # the stub has it wrong
                raise bad_layer(layer, f"{wrong}: {fault}") from None
            packed = source.read() if member.needs_input and not member.eof else b""
            if member.needs_input and not member.eof and not packed:
                raise bad_layer(layer, short)
        packed = member.unused_data or source.read()
        wrong = short = "has bytes after its gzip data that are no more of it"


def _unzstd(layer: Layer, source: _Source) -> Iterator[bytes]:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    try:
        with reader.stream_reader(
            cast("Any", source), read_size=_READ_BYTES, read_across_frames=True
        ) as stream:
            while piece := stream.read(_WRITE_BYTES):
                yield piece
    except zstandard.ZstdError as fault:
        raise bad_layer(layer, f"is not zstd, or damaged: {fault}") from None


def _check_size(layer: Layer, size_bytes: int, limits: Limits, room_bytes: int) -> None:
    if size_bytes > max(_RATIO_FREE_BYTES, limits.ratio * layer.size_bytes):
        raise limits.exceeded(
            "ratio",
            f"layer {layer.digest}: more than {size_bytes} bytes come out of {layer.size_bytes}; at most "
            f"{limits.ratio} to 1 is believed: this looks like a decompression bomb",
        )
    if size_bytes > room_bytes:
        raise limits.exceeded(
            "total_bytes",
            f"layer {layer.digest}: the image unpacks to more than {limits.total_bytes} bytes; "
            "this may be a decompression bomb",
        )


def _compare(layer: Layer, source: _Source, sink: _Sink) -> None:
    if source.size_bytes != layer.size_bytes:
        raise bad_layer(layer, f"has {source.size_bytes} bytes, and the manifest says {layer.size_bytes}")
    digest = f"sha256:{source.sha256.hexdigest()}"
    if digest != layer.digest:
        raise bad_layer(layer, f"has other content: its bytes are {digest}")
    diff_id = f"sha256:{sink.sha256.hexdigest()}"
    if diff_id != layer.diff_id:
        raise bad_layer(layer, f"unpacks to {diff_id}, and the config's diff_ids say {layer.diff_id}")


def _io_fault(fault: OSError, layer: Layer, tar: Path) -> PipelineError:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(tar)
    return bad_layer(layer, f"cannot be read: {fault.strerror} ({fault.filename or layer.blob})")


def no_space(path: Path) -> PipelineError:
    """Return the error for a disk that is full."""
    return PipelineError(
        "no-space",
        f"no space left on the file system of {path.parent}",
        hint="unpacking takes about twice the size of the unpacked image; make room and run again",
    )
