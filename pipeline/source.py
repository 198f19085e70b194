"""The bytes of a file that a user wrote, and places in its text."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from pipeline.errors import PipelineError, Place

MAX_BYTES = 1 << 20
SHOWN_COLUMNS = 160

# Controls, line ends that YAML 1.1 and 1.2 read differently, invisible marks, and the signs that make
# text show in another order than it is read (CVE-2021-42574).
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|\r(?!\n)"
)
_TYPES = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_source(path: Path, shown: str, *, follow: bool = False, limit_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file. Never waits, never reads more than the limit.

    Raises PipelineError `unreadable`, `not-a-file` or `too-big`; `shown` is its name in messages.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError as fault:
        raise _unopened(fault, shown) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for test, name in _TYPES if test(status.st_mode)), "no file")
            raise PipelineError("not-a-file", f"this is {kind}, not a file", place=Place(shown))
        content = _read(fd, limit_bytes + 1)
    except OSError as fault:
        raise _unopened(fault, shown) from None
    finally:
        os.close(fd)
    if len(content) > limit_bytes:
        raise PipelineError("too-big", f"the file is larger than {limit_bytes} bytes", place=Place(shown))
    return content


def _read(fd: int, most_bytes: int) -> bytes:
    content = os.read(fd, most_bytes)
    while len(content) < most_bytes and (more := os.read(fd, most_bytes - len(content))):
        content += more
    return content


def _unopened(fault: OSError, shown: str) -> PipelineError:
    if fault.errno == errno.ELOOP:
        hint = "put the file itself here; to build on another spec, write `extends: NAME`"
        return PipelineError(
            "not-a-file", "this is a symbolic link, not a file", place=Place(shown), hint=hint
        )
    if fault.errno == errno.ENXIO:
        return PipelineError("not-a-file", "this is a socket, not a file", place=Place(shown))
    message = f"cannot read the file: {os.strerror(fault.errno or 0)}"
    return PipelineError("unreadable", message, place=Place(shown))


class Source:
    """The text of one file, its lines, and places in it."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.lines = re.split("\r\n|\n", text)

    def place(self, line: int, column: int, length: int = 1) -> Place:
        """A place from 0-based line and column; the line is shown without what could harm a terminal."""
        text = self.lines[line] if line < len(self.lines) else ""
        if len(text) > SHOWN_COLUMNS:
            return Place(self.path, line + 1, column + 1)
        shown = "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
        length = max(1, min(length, len(text) - column))
        return Place(self.path, line + 1, column + 1, length, shown)

    def offset(self, index: int, length: int = 1) -> Place:
        """The place of the character at `index`."""
        before = self.text[:index]
        start = before.rfind("\n") + 1
        return self.place(before.count("\n"), index - start, length)


def decode(content: bytes, path: str) -> Source:
    """Return the text of a file. Raises PipelineError `not-utf8` or `bad-character`, with the place."""
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        source = Source(content.decode(errors="replace"), path)
        place = source.offset(len(content[: fault.start].decode(errors="replace")))
        hint = "save the file as UTF-8"
        raise PipelineError("not-utf8", "this byte is not UTF-8", place=place, hint=hint) from None
    source = Source(text, path)
    if match := FORBIDDEN.search(text):
        raise forbidden(match[0], source.offset(match.start()), at_start=match.start() == 0)
    return source


def forbidden(character: str, place: Place, *, at_start: bool = False) -> PipelineError:
    """The error for a character that `FORBIDDEN` found."""
    name = f"U+{ord(character):04X}"
    if character == "\ufeff" and at_start:
        message, hint = f"the file starts with a byte order mark ({name})", "save it as UTF-8 without BOM"
    elif character == "\r":
        message, hint = "a carriage return without a line feed", "end lines with a line feed"
    else:
        message, hint = (
            f"the character {name} is not allowed",
            "remove it, or type it anew",
        )
    return PipelineError("bad-character", message, place=place, hint=hint)
