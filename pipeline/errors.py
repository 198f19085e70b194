"""What goes wrong, said so that a reader can mend it: where, what, how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Place:
    """A span in a text file: 1-based line and column; `text` is that source line, for the caret."""

    path: str
    line: int = 1
    column: int = 1
    length: int = 1
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class PipelineError(Exception):
    """One thing that went wrong. `str()` is the form that users see."""

    def __init__(
        self, code: str, message: str, *, place: Place | None = None, hint: str | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        if self.place is not None:
            lines.append(f"  --> {self.place}")
        if self.place is not None and self.place.text:
            lines += _excerpt(self.place, self.hint)
        elif self.hint:
            lines += _help("  help: ", self.hint)
        return "\n".join(lines)


class PipelineErrors(Exception):
    """Everything that went wrong, sorted by place. `str()` shows all of them."""

    def __init__(self, errors: Iterable[PipelineError]) -> None:
        self.errors = tuple(sorted(errors, key=_order))
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.errors))


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was most likely meant to be, or None."""
    from difflib import get_close_matches

    by_folded = {k.casefold(): k for k in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def _order(error: PipelineError) -> tuple[bool, Place, str]:
    return (error.place is None, error.place or Place(""), error.message)


def _excerpt(place: Place, hint: str | None) -> list[str]:
    number = str(place.line)
    gutter = " " * max(len(number), 2)
    # A tab before the caret must move it as far as the tab moved the text.
    indent = "".join("\t" if c == "\t" else " " for c in place.text[: place.column - 1])
    caret = indent + "^" * max(1, min(place.length, len(place.text) - place.column + 1))
    lines = [f"{number:>{len(gutter)}} | {place.text}"]
    first, *rest = _help("help: ", hint) if hint else [""]
    lines.append(f"{gutter} | {caret} {first}".rstrip())
    lines += [f"{gutter} | {' ' * len(caret)} {line}" for line in rest]
    return lines


def _help(label: str, hint: str) -> list[str]:
    first, *rest = hint.splitlines()
    return [label + first, *(" " * len(label) + line for line in rest)]
