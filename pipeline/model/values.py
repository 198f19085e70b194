"""Readers of single values: text, numbers, sizes, durations, paths.

A reader takes what YAML gave and returns the normalised value, or raises Problems.
"""

from __future__ import annotations

import math
import posixpath
import re
from decimal import Decimal
from typing import Any

from pipeline.model.problems import Parse, bad, quoted, unknown, written, wrong_type

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?) ?([kmgt]i?b?|b)?", re.IGNORECASE)
_SIZE_HINT = "a number and b, k, m, g or t, such as 512m or 1.5g (1k is 1024 bytes)"
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": "1e-9", "us": "1e-6", "µs": "1e-6", "ms": "1e-3", "s": "1", "m": "60", "h": "3600"}
_DURATION_HINT = "a number and ms, s, m or h, such as 10s or 1m30s"
MAX_INT = 2**63 - 1
_MAX_DURATION_S = 366 * 24 * 3600
_SWITCHES = {"no": "false", "off": "false", "n": "false", "yes": "true", "on": "true", "y": "true"}


def text(value: Any) -> str:
    """Text of one line, not empty."""
    if not isinstance(value, str):
        raise wrong_type(value, "text")
    if not value.strip():
        raise bad("bad-value", "the text is empty")
    if "\n" in value or "\t" in value:
        raise bad("bad-value", "a tab or line break is not allowed here")
    return value


def any_text(value: Any) -> str:
    """Text as it is, even empty or of many lines."""
    if not isinstance(value, str):
        raise wrong_type(value, "text")
    return value


def text_or_number(value: Any) -> str:
    """Text, or a number as it was written: `1.10` and `0022` keep their zeros."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_type(value, "text or a number", _no_text_hint(value))
    return written(value)


def _no_text_hint(value: Any) -> str | None:
    if isinstance(value, bool):
        return f'quote it: "{written(value)}"'
    return 'for empty text write ""' if value is None else None


def boolean(value: Any) -> bool:
    """true or false. YAML 1.2 has no other words for them."""
    if isinstance(value, bool):
        return value
    meant = _SWITCHES.get(value.lower()) if isinstance(value, str) else None
    hint = f"{quoted(value)} is text in YAML 1.2: write `{meant}`" if meant else None
    raise wrong_type(value, "`true` or `false`", hint)


def whole(minimum: int, maximum: int = MAX_INT, *, unlimited: int | None = None) -> Parse[int]:
    """Return the reader of a whole number in a range; `unlimited` also admits -1 and stands for it."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, "a whole number", _unquote_hint(value))
        if value == -1 and unlimited is not None:
            return unlimited
        if not minimum <= value <= maximum:
            upper = f" to {maximum}" if maximum < MAX_INT else " or more"
            admits = ", or -1 for no limit" if unlimited is not None else ""
            raise bad("bad-value", f"{written(value)[:30]} is out of range", f"{minimum}{upper}{admits}")
        return int(value)

    return read


def _unquote_hint(value: Any) -> str | None:
    numeric = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value)
    return f"without quotes: {value}" if numeric else None


def size(minimum_bytes: int = 1, why: str = "") -> Parse[int]:
    """Return the reader of a size as compose writes it; bytes. `why` explains the minimum."""

    def read(value: Any) -> int:
        found = _size(value)
        if found < minimum_bytes:
            raise bad(
                "bad-size", f"{quoted(written(value))} is too small", why or f"at least {minimum_bytes}"
            )
        if found > MAX_INT:
            raise bad("bad-size", f"{quoted(written(value))} is more than 64 bits can hold", _SIZE_HINT)
        return found

    return read


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        raise wrong_type(value, "a size such as `512m`, or a number of bytes")
    match = _SIZE.fullmatch(value)
    if not match:
        raise bad("bad-size", f"{quoted(value)} is not a size", _SIZE_HINT)
    exponent = " kmgt".index((match[2] or "b")[0].lower().replace("b", " "))
    found = Decimal(match[1]) * 1024**exponent
    if found != int(found):
        raise bad("bad-size", f"{quoted(value)} is not a whole number of bytes", _SIZE_HINT)
    return int(found)


def swap(value: Any) -> int:
    """A size, or -1 for no limit."""
    return -1 if value == -1 and not isinstance(value, bool) else size()(value)


def duration(minimum_s: float = 0.0) -> Parse[float]:
    """Return the reader of a duration as compose writes it (Go's time.ParseDuration); seconds."""

    def read(value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            message = f"{quoted(written(value))} has no unit"
            raise bad("bad-duration", message, f"for seconds write `{written(value)}s`")
        if not isinstance(value, str):
            raise wrong_type(value, "a duration such as `10s`")
        if not _DURATION.fullmatch(value):
            hint = f"for seconds write `{value}s`" if value.isdecimal() else _DURATION_HINT
            raise bad("bad-duration", f"{quoted(value)} is not a duration", hint)
        parts = (Decimal(number) * Decimal(_SECONDS[unit]) for number, unit in _DURATION_PART.findall(value))
        seconds = float(sum(parts))
        if not minimum_s <= seconds <= _MAX_DURATION_S:
            hint = f"at least {minimum_s:g}s, at most a year"
            raise bad("bad-duration", f"{quoted(value)} is out of range", hint)
        return seconds

    return read


def cpus(value: Any) -> float:
    """How many processors' worth of time; more than 0 (the kernel's least quota is 1 ms in 100 ms)."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value):
            raise bad("bad-value", f"{quoted(value)} is not a number of processors", "such as 0.5, 1 or 1.5")
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, "a number such as `1.5`")
    if not (math.isfinite(value) and 0.01 <= value <= 8192):
        raise bad("bad-value", f"{quoted(written(value))} processors are out of range", "0.01 to 8192")
    return float(value)


def one_of(what: str, *words: str) -> Parse[str]:
    """Return the reader of one word of a closed set."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type(value, f"the text {' or '.join(f'`{word}`' for word in words)}")
        if value not in words:
            raise unknown(value, what, words)
        return value

    return read


def absolute_path(value: Any) -> str:
    """An absolute path inside the container, without `..`; returned in its shortest form."""
    path = text(value)
    if not path.startswith("/"):
        raise bad("bad-path", f"{quoted(path)} is not an absolute path", "start it with /")
    if ".." in path.split("/"):
        raise bad("bad-path", f"{quoted(path)} climbs with `..`", "write where it leads")
    if len(path.encode(errors="replace")) > 4095:
        raise bad(
            "bad-path", "the path is longer than Linux allows", "at most 4095 bytes (path_resolution(7))"
        )
    return shortest(path)


def mount_point(value: Any) -> str:
    """An absolute path inside the container that something can be mounted on."""
    path = absolute_path(value)
    if path == "/":
        raise bad(
            "bad-path", "nothing can be mounted over the root of the container", "name a folder below it"
        )
    return path


def local_path(value: Any) -> str:
    """A path of the host, absolute or relative to some folder that the caller knows; in its shortest form."""
    path = text(value)
    if path.startswith("~"):
        raise bad("bad-path", f"{quoted(path)} starts with a home folder", "write the whole path")
    return shortest(path)


def shortest(path: str) -> str:
    """A path without `.`, `..` and doubled slashes; POSIX would let a `//` at the start mean more."""
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path)
