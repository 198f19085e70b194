"""JSON read with the place of every key and value, keeping what ordinary parsers hide.

Runtimes differ on duplicate keys (runc takes the last, crun the first), so they must be seen, not merged.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import Place
from pipeline.model.runtime import child_path

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}
_DEEPEST = 64
_MOST_DIGITS = 400
_STRINGS = json.JSONDecoder()


class NotJson(Exception):
    """The text breaks the grammar of RFC 8259 at `offset`; `document` is what was whole before it."""

    def __init__(self, message: str, offset: int, document: Document | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.document = document


@dataclass(slots=True)
class Node:
    """One JSON value: a scalar, a list of nodes, or the members of an object in their order."""

    value: Any
    start: int
    end: int = 0
    members: list[tuple[str, int, Node]] | None = None
    items: list[Node] | None = None

    def plain(self) -> Any:
        """Return the ordinary Python value; of duplicate keys the last."""
        if self.members is not None:
            return {key: node.plain() for key, _, node in self.members}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.value


@dataclass
class Document:
    """A JSON text with an index from JSON path to offset."""

    name: str
    text: str
    root: Node
    _lines: list[int] = field(default_factory=list)
    _offsets: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]

    def place(self, path: str) -> Place:
        """Return where `path` stands, or its nearest ancestor that is there."""
        if not self._offsets:
            self._offsets[""] = (self.root.start, 1)
            _index(self.root, "", self._offsets)
        while path not in self._offsets:
            path = _parent(path)
        return self.at(*self._offsets[path])

    def at(self, offset: int, length: int = 1) -> Place:
        """Return the place of an offset in the text."""
        number = bisect_right(self._lines, offset)
        start = self._lines[number - 1]
        line = (
            self.text[start:].split("\n", 1)[0]
            if number == len(self._lines)
            else self.text[start : self._lines[number] - 1]
        )
        return Place(self.name, number, offset - start + 1, max(1, length), line[:400])


def parse(name: str, text: str) -> Document:
    """Read one JSON document. Raises NotJson with the offset of the first fault of grammar."""
    root, end = _value(text, _skip(text, 0), 0)
    end = _skip(text, end)
    document = Document(name, text, root)
    if end != len(text):
        raise NotJson("something follows the end of the document", end, document)
    return document


def _index(node: Node, path: str, found: dict[str, tuple[int, int]]) -> None:
    for key, start, child in node.members or ():
        inner = child_path(path, key)
        found[inner] = (start, len(key) + 2)
        _index(child, inner, found)
    for index, child in enumerate(node.items or ()):
        inner = child_path(path, index)
        is_scalar = child.members is None and child.items is None
        found[inner] = (child.start, child.end - child.start if is_scalar else 1)
        _index(child, inner, found)


def _parent(path: str) -> str:
    if path.endswith('"]'):
        return path[: path.rindex('["')]
    return path[: max(path.rfind("."), path.rfind("["), 0)]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int, depth: int) -> tuple[Node, int]:
    if depth > _DEEPEST:
        raise NotJson(f"nested deeper than {_DEEPEST} levels", at)
    first = text[at : at + 1]
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _array(text, at, depth)
    if first == '"':
        value, end = _string(text, at)
        return Node(value, at, end), end
    return _scalar(text, at)


def _scalar(text: str, at: int) -> tuple[Node, int]:
    for word, meaning in _WORDS.items():
        if text.startswith(word, at):
            return Node(meaning, at, at + len(word)), at + len(word)
    number = _NUMBER.match(text, at)
    if number is None or text[number.end() : number.end() + 1].isalnum():
        raise NotJson("a value was expected" if at < len(text) else "the document ends too early", at)
    if number.end() - at > _MOST_DIGITS:
        raise NotJson(f"a number of {number.end() - at} digits", at)
    # An integer may exceed float's 53 bits (2**64-1 is a common limit), so it stays an int.
    value = float(number[0]) if number[1] or number[2] else int(number[0])
    return Node(value, at, number.end()), number.end()


def _string(text: str, at: int) -> tuple[str, int]:
    try:
        value, end = _STRINGS.raw_decode(text, at)
    except json.JSONDecodeError as fault:
        raise NotJson(fault.msg[:1].lower() + fault.msg[1:], fault.pos) from None
    return str(value), end


def _object(text: str, at: int, depth: int) -> tuple[Node, int]:
    members: list[tuple[str, int, Node]] = []
    node = Node(None, at, members=members)
    end = _skip(text, at + 1)
    if text[end : end + 1] == "}":
        return node, end + 1
    while True:
        if text[end : end + 1] != '"':
            raise NotJson("a key in double quotes was expected", end)
        start = end
        key, end = _string(text, end)
        end = _skip(text, end)
        if text[end : end + 1] != ":":
            raise NotJson("a colon was expected", end)
        child, end = _value(text, _skip(text, end + 1), depth + 1)
        members.append((key, start, child))
        end = _skip(text, end)
        if text[end : end + 1] != ",":
            return node, _closed(text, end, "}")
        end = _skip(text, end + 1)


def _array(text: str, at: int, depth: int) -> tuple[Node, int]:
    items: list[Node] = []
    node = Node(None, at, items=items)
    end = _skip(text, at + 1)
    if text[end : end + 1] == "]":
        return node, end + 1
    while True:
        child, end = _value(text, end, depth + 1)
        items.append(child)
        end = _skip(text, end)
        if text[end : end + 1] != ",":
            return node, _closed(text, end, "]")
        end = _skip(text, end + 1)


def _closed(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise NotJson(f"a comma or `{sign}` was expected", at)
    return at + 1
