"""The headers of a plain tar, read strictly: ustar, pax and GNU long names (tar(5), pax(1)).

Where readers of tar differ, this one refuses: negative or odd numbers, sparse files, a header for a header.
What it has understood is all that is passed on (`skeleton`), so no other reader's view matters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512
_ZERO = bytes(BLOCK)
_OCTAL = re.compile(rb"[0-7]+")
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_TIME = re.compile(rb"-?[0-9]{1,18}(\.[0-9]*)?")
_XATTR = b"SCHILY.xattr."

REGULAR, HARD_LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_SAME = {b"\0": REGULAR, b"7": REGULAR}
_KINDS = frozenset((REGULAR, HARD_LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
_EXTENSIONS = {b"x": "pax header", b"g": "global pax header", b"L": "long name", b"K": "long link name"}


class TarFault(Exception):
    """What is wrong with a tar, in words; `name` is the entry's, as far as it is known."""

    def __init__(self, reason: str, name: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.name = name


class HeaderTooLarge(TarFault):
    """An extended header beyond the limit."""


@dataclass(slots=True)
class Header:
    """One entry: its metadata, and where in the tar its content lies."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: bytes
    size: int
    offset: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]


def headers(fd: int, header_bytes: int) -> Iterator[Header]:
    """Yield the entries of the tar open at `fd`, in order.

    Raises TarFault for anything that is not exactly a tar, HeaderTooLarge for an extended header of more
    than `header_bytes`.
    """
    end = os.fstat(fd).st_size
    position = 0
    extended: dict[bytes, bytes] = {}
    while position < end:
        block = os.pread(fd, BLOCK, position)
        if block == _ZERO:
            _check_end(fd, position, end)
            return
        kind, size = _checked(block)
        position += BLOCK
        if kind in _EXTENSIONS:
            content = _extension(fd, position, size, kind, header_bytes)
            _extend(extended, kind, content)
            position += _padded(size)
            continue
        header = _header(block, kind, size, position, extended)
        extended = {}
        if position + header.size > end:
            raise TarFault("is cut short", header.name)
        # `umoci insert` writes neither the last entry's padding nor an end; readers of tar take it.
        position += _padded(header.size)
        yield header
    if extended:
        raise TarFault("ends after an extended header")


def _check_end(fd: int, position: int, end: int) -> None:
    """After two blocks of zeros a tar has ended; what stands there is seen by some readers only."""
    position += BLOCK
    if position < end and os.pread(fd, BLOCK, position) != _ZERO:
        raise TarFault("has a block of zeros between entries")
    while position < end:
        piece = os.pread(fd, 1 << 20, position)
        if piece.count(0) != len(piece):
            raise TarFault("has bytes after its end")
        position += len(piece)


def _checked(block: bytes) -> tuple[bytes, int]:
    if len(block) < BLOCK:
        raise TarFault("is cut short")
    blanked = block[:148] + b" " * 8 + block[156:]
    digits = block[148:156].strip(b" \0")
    stated = int(digits, 8) if _OCTAL.fullmatch(digits) else -1
    if sum(blanked) != stated and sum(byte - 256 * (byte > 127) for byte in blanked) != stated:
        raise TarFault("is no tar, or damaged: a header's checksum is wrong", _text(block[:100]))
    kind = block[156:157]
    return _SAME.get(kind, kind), _number(block[124:136], "size", block)


def _extension(fd: int, position: int, size: int, kind: bytes, header_bytes: int) -> bytes:
    if size > header_bytes:
        raise HeaderTooLarge(f"has a {_EXTENSIONS[kind]} of {size} bytes")
    content = os.pread(fd, size, position)
    if len(content) < size:
        raise TarFault("is cut short")
    return content


def _extend(extended: dict[bytes, bytes], kind: bytes, content: bytes) -> None:
    if kind == b"x":
        if any(not key.startswith(b"\0") for key in extended):
            raise TarFault("has two pax headers for one entry")
        extended.update(_records(content))
    elif kind == b"g":
        # Readers differ in whether later entries inherit from it; a comment is all that git writes.
        if _records(content).keys() - {b"comment"}:
            raise TarFault("has a global pax header with more than a comment")
    else:
        extended[b"\0" + kind] = _text(content)


def _records(content: bytes) -> dict[bytes, bytes]:
    """pax(1), Extended Header: records of `LENGTH KEY=VALUE\\n`."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 20)
        digits = content[position:space] if space > 0 else b""
        end = position + int(digits) if _DECIMAL.fullmatch(digits) else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not (space < end <= len(content)) or content[end - 1 : end] != b"\n" or not equals or not key:
            raise TarFault("has a malformed pax header")
        if key.startswith(b"GNU.sparse"):
            raise TarFault("has a sparse file, which readers read in different ways")
        records[key] = value
        position = end
    return records


def _header(block: bytes, kind: bytes, size: int, position: int, extended: dict[bytes, bytes]) -> Header:
    name = _full_name(block, extended)
    if kind == b"S":
        raise TarFault("is a sparse file, which readers read in different ways", name)
    if kind not in _KINDS:
        raise TarFault(f"is of the unknown type {kind!r}", name)
    if block[156] == 0 and name.endswith(b"/"):
        kind = DIRECTORY
    if extended.get(b"size"):
        size = _decimal(extended[b"size"], "size", name)
    link = extended.get(b"\0K") or extended.get(b"linkpath") or _text(block[157:257])
    if b"\0" in name or b"\0" in link:
        raise TarFault("has a NUL byte in its name", name)
    return Header(
        name=name,
        kind=kind,
        mode=_number(block[100:108], "mode", block) & 0o7777,
        uid=_identifier(block[108:116], extended.get(b"uid"), "uid", name),
        gid=_identifier(block[116:124], extended.get(b"gid"), "gid", name),
        mtime=_time(block[136:148], extended.get(b"mtime"), name),
        # tar(5): only a regular file has content, whatever the size field of another says.
        size=size if kind == REGULAR else 0,
        offset=position,
        link=link if kind in (HARD_LINK, SYMLINK) else b"",
        device=_device(block) if kind in (CHAR, BLOCK_DEVICE) else (0, 0),
        xattrs={key[len(_XATTR) :]: value for key, value in extended.items() if key.startswith(_XATTR)},
    )


def _full_name(block: bytes, extended: dict[bytes, bytes]) -> bytes:
    long = extended.get(b"\0L") or extended.get(b"path")
    if long:
        return long
    name = _text(block[:100])
    if block[257:263] != b"ustar\0":
        return name
    # star has times where ustar's prefix ends (tar(5)).
    prefix = _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, what: str, block: bytes) -> int:
    """An octal number, or GNU's base-256 (tar(5), Numeric Extensions)."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise TarFault(f"has a negative {what}", _text(block[:100]))
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    digits = _text(field.strip(b" \0"))
    if not digits:
        return 0
    if not _OCTAL.fullmatch(digits):
        raise TarFault(f"has a {what} that is no number", _text(block[:100]))
    return int(digits, 8)


def _decimal(text: bytes, what: str, name: bytes) -> int:
    if not _DECIMAL.fullmatch(text):
        negative = text.startswith(b"-")
        raise TarFault(f"has a negative {what}" if negative else f"has a {what} that is no number", name)
    return int(text)


def _identifier(field: bytes, extended: bytes | None, what: str, name: bytes) -> int:
    return _decimal(extended, what, name) if extended else _number(field, what, name)


def _time(field: bytes, extended: bytes | None, name: bytes) -> bytes:
    if extended and _TIME.fullmatch(extended):
        return extended
    # Times before 1970 are negative in base-256; nothing depends on them.
    return b"0" if field[0] & 0x80 else b"%d" % _number(field, "time", name)


def _device(block: bytes) -> tuple[int, int]:
    return _number(block[329:337], "device number", block), _number(block[337:345], "device number", block)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
