"""What an ELF file says to its loader, read from its headers alone (elf(5), System V gABI chapter 5).

Everything read is bounded, since the file comes from an image.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_LOAD, _DYNAMIC, _INTERP = 1, 2, 3
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_MOST_HEADERS = 512
_MOST_DYNAMIC = 4096
_LONGEST_NAME = 4096

MACHINES = {
    "amd64": (62, 64),
    "arm64": (183, 64),
    "arm": (40, 32),
    "386": (3, 32),
    "ppc64le": (21, 64),
    "riscv64": (243, 64),
    "s390x": (22, 64),
}
"""GOARCH -> e_machine and word size."""


class NotElf(Exception):
    """The file has no ELF magic, or its headers lead nowhere."""


@dataclass(frozen=True)
class Elf:
    """`rpath` and `runpath` are split at colons; `interpreter` is empty for a static program or a library."""

    machine: int
    bits: int
    interpreter: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The GOARCH name of the machine, or its number."""
        known = {value: name for name, value in MACHINES.items()}
        return known.get((self.machine, self.bits), f"machine {self.machine}")


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def read_elf(stream: BinaryIO) -> Elf:
    """Read the headers of an open file. Raises NotElf."""
    try:
        return _read(stream)
    except (struct.error, IndexError, OverflowError, ValueError, UnicodeDecodeError) as fault:
        raise NotElf(f"its headers are damaged: {fault}") from None


def _read(stream: BinaryIO) -> Elf:
    stream.seek(0)
    head = stream.read(64)
    if head[:4] != b"\x7fELF":
        raise NotElf("it is no ELF file")
    bits, order = (64 if head[4] == 2 else 32), ("<" if head[5] == 1 else ">")
    machine = struct.unpack_from(order + "H", head, 18)[0]
    segments = _segments(stream, head, bits, order)
    interpreter = next((_text_at(stream, s.offset, s.size) for s in segments if s.kind == _INTERP), "")
    entries = _dynamic(stream, segments, bits, order)
    table = next((value for tag, value in entries if tag == _STRTAB), 0)
    start = _file_offset(segments, table)

    def texts(wanted: int) -> tuple[str, ...]:
        return tuple(
            _text_at(stream, start + value, _LONGEST_NAME) for tag, value in entries if tag == wanted
        )

    return Elf(machine, bits, interpreter, texts(_NEEDED), _paths(texts(_RPATH)), _paths(texts(_RUNPATH)))


def _segments(stream: BinaryIO, head: bytes, bits: int, order: str) -> list[_Segment]:
    if bits == 64:
        offset, (size, count) = (
            struct.unpack_from(order + "Q", head, 32)[0],
            struct.unpack_from(order + "HH", head, 54),
        )
    else:
        offset, (size, count) = (
            struct.unpack_from(order + "I", head, 28)[0],
            struct.unpack_from(order + "HH", head, 42),
        )
    stream.seek(offset)
    count = min(count, _MOST_HEADERS)
    table = stream.read(size * count)
    return [_segment(table, index * size, bits, order) for index in range(count)]


def _segment(table: bytes, at: int, bits: int, order: str) -> _Segment:
    if bits == 64:
        kind, _, offset, address, _, size = struct.unpack_from(order + "IIQQQQ", table, at)
    else:
        kind, offset, address, _, size = struct.unpack_from(order + "IIIII", table, at)
    return _Segment(kind, offset, address, size)


def _dynamic(stream: BinaryIO, segments: list[_Segment], bits: int, order: str) -> list[tuple[int, int]]:
    segment = next((s for s in segments if s.kind == _DYNAMIC), None)
    if segment is None:
        return []
    form = order + ("qQ" if bits == 64 else "iI")
    width = struct.calcsize(form)
    stream.seek(segment.offset)
    table = stream.read(min(segment.size, width * _MOST_DYNAMIC))
    entries = []
    for at in range(0, len(table) - width + 1, width):
        tag, value = struct.unpack_from(form, table, at)
        if tag == 0:
            break
        entries.append((tag, value))
    return entries


def _file_offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _LOAD and segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    return 0


def _text_at(stream: BinaryIO, offset: int, size: int) -> str:
    stream.seek(offset)
    return stream.read(min(size, _LONGEST_NAME)).split(b"\0", 1)[0].decode()


def _paths(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split(":") if part)
