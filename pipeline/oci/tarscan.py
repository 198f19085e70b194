"""What the entries of an image's layers may be: names, kinds, sizes, ids. Refuses before anything is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap
from pipeline.oci.limits import Limits
from pipeline.oci.tarheaders import (
    BLOCK_DEVICE,
    CHAR,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Header,
    HeaderTooLarge,
    TarFault,
    headers,
)

WHITEOUT = b".wh."
_NAME_MAX = 255  # limits.h
_LINK_MAX = 4095  # PATH_MAX without its NUL, symlink(2)
_IDS_SHOWN = 8
_SET_ID = 0o6000
_FILE_CAPABILITIES = b"security.capability"


@dataclass(slots=True)
class Item:
    """An entry that is to be unpacked: its clean name, its header, the layer it comes from."""

    path: bytes
    header: Header
    layer: int


@dataclass
class Scan:
    """What the layers hold, from the lowest up; grows with `add`."""

    mapping: IdMap
    limits: Limits
    items: list[list[Item]] = field(default_factory=list)
    entries: int = 0
    content_bytes: int = 0
    devices: dict[bytes, str] = field(default_factory=dict)
    fifos: list[bytes] = field(default_factory=list)
    dropped_xattrs: dict[str, int] = field(default_factory=dict)
    unmapped: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def add(self, digest: str, tar: Path) -> None:
        """Scan the next layer's plain tar. Raises PipelineError `bad-layer`, `unsafe-image`, `limit-…`."""
        fd = os.open(tar, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.items.append(list(self._scan(digest, fd)))
        except HeaderTooLarge as fault:
            message = f"layer {digest} {fault.reason}: this looks like a bomb"
            raise self.limits.exceeded("header_bytes", message) from None
        except TarFault as fault:
            raise _damaged(digest, fault) from None
        finally:
            os.close(fd)

    def check_ids(self) -> None:
        """Raise PipelineError `unmapped-id` when entries belong to ids that the bundle does not map."""
        if not self.unmapped:
            return
        shown = sorted(self.unmapped.items())[:_IDS_SHOWN]
        listed = ", ".join(f"{kind} {number} ({display(path)})" for (kind, number), path in shown)
        more = f" and {len(self.unmapped) - len(shown)} more" if len(self.unmapped) > len(shown) else ""
        highest = max(number for _, number in self.unmapped)
        raise PipelineError(
            "unmapped-id",
            f"the image has files of ids outside the mapped 0 to {self.mapping.size - 1}: {listed}{more}",
            hint=f"map more ids in the spec, for example `userns: {self.mapping.host_id}:{highest + 1}`",
        )

    def _scan(self, digest: str, fd: int) -> Iterator[Item]:
        layer = len(self.items)
        for header in headers(fd, self.limits.header_bytes):
            self._count(digest, header)
            path = _clean(digest, header, self.limits)
            if header.kind == HARD_LINK:
                header.link = _clean_target(digest, header)
            if self._is_device(path, header):
                # It stands for nothing now, and so does what an earlier layer had in its place.
                yield Item(_whiteout_of(path), _nothing(header), layer)
                continue
            self._note(path, header)
            yield Item(path, header, layer)

    def _count(self, digest: str, header: Header) -> None:
        self.entries += 1
        self.content_bytes += header.size
        if self.entries > self.limits.entries:
            message = f"layer {digest}: the image has more than {self.limits.entries} entries"
            raise self.limits.exceeded("entries", message)
        if header.size > self.limits.file_bytes:
            raise self.limits.exceeded(
                "file_bytes",
                f"layer {digest}: {display(header.name)} has {header.size} bytes; "
                f"at most {self.limits.file_bytes} a file",
            )

    def _is_device(self, path: bytes, header: Header) -> bool:
        if header.kind in (CHAR, BLOCK_DEVICE):
            letter = "c" if header.kind == CHAR else "b"
            self.devices[path] = f"{letter} {header.device[0]}:{header.device[1]}"
            return True
        if header.kind == HARD_LINK and header.link in self.devices:
            self.devices[path] = f"hard link to {display(header.link)}"
            return True
        self.devices.pop(path, None)
        return False

    def _note(self, path: bytes, header: Header) -> None:
        if header.kind == FIFO:
            self.fifos.append(path)
        for kind, number in (("uid", header.uid), ("gid", header.gid)):
            if number >= self.mapping.size:
                self.unmapped.setdefault((kind, number), path)
        for name in list(header.xattrs):
            if not _is_kept(name, header):
                shown = display(name)
                self.dropped_xattrs[shown] = self.dropped_xattrs.get(shown, 0) + 1
                del header.xattrs[name]


def display(name: bytes) -> str:
    """Return a name as text of one line: what is not printable or not UTF-8 is escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_privileged(header: Header) -> bool:
    """True for a regular file that gives whoever runs it other rights: set-id bits, file capabilities."""
    return header.kind == REGULAR and bool(header.mode & _SET_ID or _FILE_CAPABILITIES in header.xattrs)


def _is_kept(name: bytes, header: Header) -> bool:
    # Only user.* means the same everywhere, and links cannot have it (xattr(7)); capabilities: see `fill`.
    if header.kind == REGULAR and name == _FILE_CAPABILITIES:
        return True
    return name.startswith(b"user.") and header.kind in (REGULAR, DIRECTORY)


def _clean(digest: str, header: Header, limits: Limits) -> bytes:
    """Return the entry's path below the rootfs; `/x`, `./x` and `x` are one (image-spec, layer.md)."""
    path = _relative(digest, header.name, "entry")
    parts = path.split(b"/")
    if not path and header.kind != DIRECTORY:
        raise _unsafe(digest, f"entry {display(header.name)} replaces the rootfs itself")
    if len(path) > limits.path_bytes:
        message = f"layer {digest}: a path has {len(path)} bytes: {display(path[:60])}…"
        raise limits.exceeded("path_bytes", message)
    if len(parts) > limits.depth:
        message = f"layer {digest}: {display(path[:60])}… is {len(parts)} folders deep"
        raise limits.exceeded("depth", message)
    if any(len(part) > _NAME_MAX for part in parts):
        raise _unsafe(digest, f"entry {display(path[:60])}… has a name of more than {_NAME_MAX} bytes")
    if header.kind == SYMLINK and not 0 < len(header.link) <= _LINK_MAX:
        raise _unsafe(digest, f"entry {display(path)} is a link of {len(header.link)} bytes")
    _check_whiteout(digest, parts)
    return path


def _clean_target(digest: str, header: Header) -> bytes:
    target = _relative(digest, header.link, f"hard link {display(header.name)} to")
    if not target:
        raise _unsafe(digest, f"hard link {display(header.name)} leads to no file")
    return target


def _relative(digest: str, name: bytes, what: str) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise _unsafe(digest, f"{what} {display(name)} climbs with `..`")
    return b"/".join(parts)


def _check_whiteout(digest: str, parts: list[bytes]) -> None:
    """image-spec, layer.md, Whiteouts: `.wh.NAME` hides NAME of the layers below."""
    hidden = parts[-1][len(WHITEOUT) :] if parts[-1].startswith(WHITEOUT) else b"x"
    if hidden in (b"", b".", b"..") or any(part.startswith(WHITEOUT) for part in parts[:-1]):
        raise _unsafe(digest, f"entry {display(b'/'.join(parts))} is a whiteout of nothing")


def _whiteout_of(path: bytes) -> bytes:
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + WHITEOUT + name


def _nothing(header: Header) -> Header:
    return Header(header.name, REGULAR, 0o644, 0, 0, b"0", 0, header.offset, b"", (0, 0), {})


def _damaged(digest: str, fault: TarFault) -> PipelineError:
    entry = f": entry {display(fault.name[:200])}" if fault.name else ""
    return PipelineError(
        "bad-layer",
        f"layer {digest}{entry} {fault.reason}",
        hint="the image was built wrongly, or to deceive: build it again with another tool",
    )


def _unsafe(digest: str, reason: str) -> PipelineError:
    return PipelineError(
        "unsafe-image",
        f"layer {digest}: {reason}",
        hint="no honest tool writes that: find out where the image comes from before you use it",
    )
