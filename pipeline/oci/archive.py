"""An image layout out of a tar (`oci-archive:`), taken within limits and without what is no part of it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from pipeline.errors import PipelineError
from pipeline.oci.limits import Limits
from pipeline.oci.manifest import MAX_MANIFEST_BYTES

_PART = re.compile(r"(?:\./)?(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})")
_PIECE_BYTES = 1 << 20
_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
    (b"", open),
)
_FAULTS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


def extract(archive: Path, target: Path, limits: Limits) -> None:
    """Put `oci-layout`, `index.json` and the blobs of an archive into the new folder `target`, nothing else.

    Contents are not verified here. Raises PipelineError `bad-archive`, `limit-entries`, `limit-total`,
    `copy-no-space`.
    """
    (target / "blobs" / "sha256").mkdir(parents=True)
    try:
        with _plain(archive) as stream, tarfile.open(fileobj=cast(Any, _Guard(stream)), mode="r:") as entries:
            for entry, name in _parts(archive, entries, limits):
                _check_space(archive, target, entry.size)
                with (target / name).open("xb") as file:
                    shutil.copyfileobj(cast(IO[bytes], entries.extractfile(entry)), file, _PIECE_BYTES)
    except _FAULTS as fault:
        raise _bad(archive, f"cannot be read as an archive: {fault}") from None


class _Guard:
    """A stream that gives no large piece at once: tarfile would take a whole extended header into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell = stream.seek, stream.tell
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        if not 0 <= size <= _PIECE_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _plain(archive: Path) -> IO[bytes]:
    with archive.open("rb") as stream:
        head = stream.read(8)
    opener = next(opener for magic, opener in _OPENERS if head.startswith(magic))
    return cast(IO[bytes], opener(archive, "rb"))


def _parts(archive: Path, entries: tarfile.TarFile, limits: Limits) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yield what belongs to a layout, with its name there; what is passed over counts as well."""
    total_bytes, seen = 0, set[str]()
    for number, entry in enumerate(entries, start=1):
        # tarfile keeps every header; here none is looked up again.
        cast(Any, entries).members = []
        total_bytes += max(0, entry.size)
        if number > limits.entries:
            raise limits.exceeded("entries", f"{archive} has more than {limits.entries} entries")
        if total_bytes > limits.total_bytes:
            raise limits.exceeded("total_bytes", f"{archive} has more than {limits.total_bytes} bytes")
        match = _PART.fullmatch(entry.name)
        if match is None:
            continue
        _check(archive, entry, match[1])
        if match[1] in seen:
            raise _bad(archive, f"has {match[1]} twice")
        seen.add(match[1])
        yield entry, match[1]


def _check(archive: Path, entry: tarfile.TarInfo, name: str) -> None:
    if not entry.isreg() or entry.issparse():
        raise _bad(archive, f"has {name} as something else than a plain file")
    if not name.startswith("blobs/") and entry.size > MAX_MANIFEST_BYTES:
        raise _bad(archive, f"has {name} of {entry.size} bytes, more than {MAX_MANIFEST_BYTES}")


def _check_space(archive: Path, target: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(target).free
    if size_bytes > free:
        raise PipelineError(
            "copy-no-space",
            f"{archive}: {size_bytes} bytes are to come and the disk has {free} left",
            hint="make room below out/ (`doit clean`), then run it again",
        )


def _bad(archive: Path, reason: str) -> PipelineError:
    return PipelineError(
        "bad-archive", f"{archive} {reason}", hint="write it again: `skopeo copy … oci-archive:FILE`"
    )
