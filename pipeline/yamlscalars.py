"""Scalars of the YAML 1.2 core schema: which plain text is a number, true, false or null."""

from __future__ import annotations

import re
from typing import Any

# YAML 1.2.2, section 10.3.2 (core schema, tag resolution).
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Int(int):
    """An integer that remembers how it was written: `0022` is 22, but as text it stays `0022`."""

    text: str = ""


class Float(float):
    """A number that remembers how it was written: `1.10` stays `1.10` as text."""

    text: str = ""


def resolve(text: str) -> Any:
    """Return the value of a plain scalar under YAML 1.2. Raises ValueError on a huge number."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    number: Int | Float
    if _INT.fullmatch(text):
        number = Int(text)
    elif _OCTAL.fullmatch(text):
        number = Int(text[2:], 8)
    elif _HEX.fullmatch(text):
        number = Int(text, 16)
    elif _FLOAT.fullmatch(text):
        number = Float(text)
    elif _INFINITY.fullmatch(text) or text in (".nan", ".NaN", ".NAN"):
        number = Float(text.replace(".", "").lower())
    else:
        return text
    number.text = text
    return number
