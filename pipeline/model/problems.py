"""What is wrong with a value, told by the function that reads it; the caller knows the place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipeline.errors import suggest

T = TypeVar("T")
Steps = tuple[str | int, ...]
Parse = Callable[[Any], T]
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Problem:
    """One mistake. `steps` lead from the value that was read to the part that is wrong.

    `secret` means that the line it stands in must not be shown.
    """

    code: str
    message: str
    hint: str | None = None
    steps: Steps = ()
    on_key: bool = False
    secret: bool = False


class Problems(Exception):
    """Every mistake in one value."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def below(self, step: str | int) -> Problems:
        """The same mistakes, as seen from the value that holds this one at `step`."""
        return Problems(replace(p, steps=(step, *p.steps)) for p in self.problems)


def bad(code: str, message: str, hint: str | None = None, *, on_key: bool = False) -> Problems:
    """One mistake, to be raised."""
    return Problems([Problem(code, message, hint, (), on_key)])


def wrong_type(value: object, expected: str, hint: str | None = None) -> Problems:
    """The mistake of a value that is of another kind than `expected`, to be raised."""
    if hint is None and isinstance(value, bool | int | float) and "text" in expected:
        hint = f'quote it: "{written(value)}"'
    return bad("wrong-type", f"expected {expected}, found {describe(value)}", hint)


def unknown(word: str, what: str, known: Iterable[str], code: str = "bad-value") -> Problems:
    """The mistake of a word that is none of `known`, to be raised; says which one was meant."""
    known = sorted(known)
    meant = suggest(word, known)
    listed = ", ".join(known) if len(known) <= 12 else None
    hint = f"did you mean `{meant}`?" if meant else listed and f"one of: {listed}"
    return bad(code, f"unknown {what} {quoted(word)}", hint)


def describe(value: object) -> str:
    """Say in words what a value is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{written(value)}`"
    if isinstance(value, int | float):
        return f"the number {quoted(written(value))}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


def written(value: object) -> str:
    """A scalar as it stands in the file, where the file's reader kept that (`1.10`, `0022`)."""
    if isinstance(value, bool):
        return str(value).lower()
    text = getattr(value, "text", "")
    return text if isinstance(text, str) and text else str(value)


def quoted(text: str) -> str:
    """Text between back-ticks: one line, printable, not long."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return f"`{shown}`" if len(shown) <= _SHOWN_CHARACTERS else f"`{shown[:_SHOWN_CHARACTERS]}…`"


class Collector:
    """Reads the parts of a value and keeps every mistake, so that all are told at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(self, step: str | int, parse: Parse[T], value: Any) -> T | None:
        """Return the part at `step`, or None after a mistake."""
        try:
            return parse(value)
        except Problems as fault:
            self.problems += fault.below(step).problems
            return None

    def finish(self) -> None:
        """Raise what was found wrong."""
        if self.problems:
            raise Problems(self.problems)


def list_of(parse: Parse[T], expected: str) -> Parse[tuple[T, ...]]:
    """Return the reader of a list whose items `parse` reads."""

    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise wrong_type(value, expected, None if value is None else "write it as a list: [ … ]")
        collector = Collector()
        items = [collector.read(index, parse, item) for index, item in enumerate(value)]
        collector.finish()
        return tuple(item for item in items if item is not None)

    return read


def map_of(parse: Callable[[str, Any], T], expected: str) -> Parse[dict[str, T]]:
    """Return the reader of a mapping whose entries `parse` reads from key and value."""

    def read(value: Any) -> dict[str, T]:
        if not isinstance(value, dict):
            raise wrong_type(value, expected)
        collector = Collector()
        entries = {key: collector.read(key, _entry(parse, key), item) for key, item in value.items()}
        collector.finish()
        return {key: item for key, item in entries.items() if item is not None}

    return read


def _entry(parse: Callable[[str, Any], T], key: str) -> Parse[T]:
    return lambda item: parse(key, item)


def fields_of(value: Any, fields: Mapping[str, Parse[Any]], expected: str) -> dict[str, Any]:
    """Read a mapping with fixed keys; an absent key and null are the same; `x-…` is ignored.

    Raises Problems, with `unknown-key` for a key that is none of `fields`.
    """
    if not isinstance(value, dict):
        raise wrong_type(value, expected)
    collector = Collector()
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key.startswith("x-"):
            continue
        if key not in fields:
            collector.read(key, _refuse_key(key, fields), item)
        elif item is not None:
            found[key] = collector.read(key, fields[key], item)
    collector.finish()
    return found


def _refuse_key(key: str, known: Iterable[str]) -> Parse[None]:
    def refuse(_: Any) -> None:
        raise unknown_key(key, known)

    return refuse


def unknown_key(key: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> Problems:
    """The mistake of a key that nothing reads, to be raised; `synonyms` are other words for known keys."""
    synonyms = synonyms or {}
    meant = suggest(key, [*known, *synonyms])
    hint = f"did you mean `{synonyms.get(meant, meant)}`?" if meant else None
    return bad("unknown-key", f"unknown key {quoted(key)}", hint, on_key=True)
