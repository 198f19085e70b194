"""What /etc/ld.so.cache says: where glibc's loader looks for a library before it tries its own folders.

Source: glibc, sysdeps/generic/dl-cache.h: `glibc-ld.so.cache1.1`, alone or behind a table of the old format.
ld.so(8) reads this file and not /etc/ld.so.conf, from which ldconfig(8) makes it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_OLD_MAGIC = b"ld.so-1.7.0\0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_ENTRY, _NEW_ENTRY, _NEW_HEADER = 12, 24, 48
_MOST_ENTRIES = 1 << 16
MOST_BYTES = 1 << 22


def read_cache(content: bytes, *, big_endian: bool = False) -> Mapping[str, tuple[str, ...]] | None:
    """Return the paths of each library by name, in the order in which they are tried; None for no cache."""
    order = ">" if big_endian else "<"
    try:
        start = _start(content, order)
        if content[start : start + len(_NEW_MAGIC)] != _NEW_MAGIC:
            return None
        count = min(struct.unpack_from(order + "I", content, start + 20)[0], _MOST_ENTRIES)
        found: dict[str, tuple[str, ...]] = {}
        for index in range(count):
            at = start + _NEW_HEADER + index * _NEW_ENTRY
            key, value = struct.unpack_from(order + "II", content, at + 4)
            name, path = _text(content, start + key), _text(content, start + value)
            found[name] = (*found.get(name, ()), path)
    except (struct.error, ValueError):
        return None
    return found


def _start(content: bytes, order: str) -> int:
    if content[: len(_OLD_MAGIC)] != _OLD_MAGIC:
        return 0
    count = struct.unpack_from(order + "I", content, len(_OLD_MAGIC))[0]
    end: int = len(_OLD_MAGIC) + 4 + count * _OLD_ENTRY
    # The new table is aligned for its 64-bit members.
    return (end + 7) & ~7


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode("utf-8", "replace")
