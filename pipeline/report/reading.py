"""Which fields of config.json each check reads: found by letting it read a config that takes notes.

Every object of the config becomes one of a subclass of its own type, with the same values; taking a value
out of it, or out of a list or map in it, is noted with the JSON path of that value. So nothing is declared,
and nothing can be declared wrongly. Only values count: on the way to `linux.seccomp.defaultAction`, `linux`
was not read. What is absent counts where it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, SupportsIndex, cast

import msgspec

from pipeline.checks.index import CHECKS, Check, judge_one
from pipeline.checks.subject import Subject
from pipeline.model.nouns import Finding
from pipeline.model.runtime import RuntimeConfig, child_path

Note = Callable[[str], None]


@dataclass(frozen=True)
class Reading:
    """What one check read, by JSON path, and what it found."""

    check: Check
    read: frozenset[str]
    findings: tuple[Finding, ...]

    def looked_at(self, path: str) -> bool:
        """True when it read the field, something in it, or found that what holds it is absent or empty."""
        below = (f"{path}.", f"{path}[")
        return any(read == path or read.startswith(below) for read in self.read)


def readings(subject: Subject) -> list[Reading]:
    """Let every check judge the subject, each with a config of its own that takes notes."""
    return [_reading(check, subject) for check in CHECKS]


def _reading(check: Check, subject: Subject) -> Reading:
    read: set[str] = set()
    config = cast(RuntimeConfig, _noting(subject.config, "", read.add))
    # What another check has put aside in the cache would be read by nobody.
    findings = tuple(judge_one(check, replace(subject, config=config, cache={})))
    return Reading(check, frozenset(read), findings)


def _noting(value: Any, path: str, note: Note) -> Any:
    """Return the value so that taking anything out of it is noted."""
    if isinstance(value, msgspec.Struct):
        kind = type(value)
        values = {name: getattr(value, name) for name in kind.__struct_fields__}
        return _noting_type(kind)(**values, noted_=(path, note))
    if isinstance(value, tuple) and value:
        return _List(value, path, note)
    if isinstance(value, dict) and value:
        return _Map(value, path, note)
    note(path)
    return value


@cache
def _noting_type(kind: type[msgspec.Struct]) -> Any:
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))

    def read(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name not in names:
            return value
        path, note = object.__getattribute__(self, "noted_")
        return _noting(value, child_path(path, names[name]), note)

    made: Any = msgspec.defstruct(kind.__name__, [("noted_", Any, None)], bases=(kind,), frozen=True)
    # msgspec puts its own in place when it makes a type.
    made.__getattribute__ = read
    return made


class _List(tuple[Any, ...]):
    """A list that notes what is taken out of it."""

    _path: str
    _note: Note

    def __new__(cls, values: tuple[Any, ...], path: str, note: Note) -> _List:
        made = super().__new__(cls, values)
        made._path, made._note = path, note
        return made

    def __iter__(self) -> Iterator[Any]:
        for index, value in enumerate(super().__iter__()):
            yield _noting(value, child_path(self._path, index), self._note)

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        number = range(len(self))[index]
        return _noting(super().__getitem__(number), child_path(self._path, number), self._note)

    def __contains__(self, wanted: object) -> bool:
        return any(value == wanted for value in self)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))


class _Map(dict[str, Any]):
    """A map that notes what is taken out of it; to ask for a key is to read it, there or not."""

    def __init__(self, values: dict[str, Any], path: str, note: Note) -> None:
        super().__init__(values)
        self._path, self._note = path, note

    def __getitem__(self, key: str) -> Any:
        return _noting(super().__getitem__(key), child_path(self._path, key), self._note)

    def __contains__(self, key: object) -> bool:
        self._note(child_path(self._path, str(key)))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self._note(child_path(self._path, key))
            yield key

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        is_there = key in self
        return self[key] if is_there else default

    def keys(self) -> Any:
        """Return the keys."""
        return dict.fromkeys(self).keys()

    def values(self) -> Any:
        """Return the values."""
        return [self[key] for key in self]

    def items(self) -> Any:
        """Return keys and values."""
        return [(key, self[key]) for key in self]
