"""One thing that config.json promises and what the kernel shows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

Config = dict[str, Any]
"""A config.json as read: the observer knows nothing of how it was made."""


@dataclass(frozen=True)
class Fact:
    """A protection or setting: what was expected, what was seen, and where it was read."""

    name: str
    expected: str
    observed: str
    ok: bool
    where: str

    def to_json(self) -> dict[str, Any]:
        """The fact as JSON."""
        return asdict(self)


def equal(name: str, expected: object, observed: object, where: str) -> Fact:
    """A fact that is right when both are the same."""
    return Fact(name, str(expected), str(observed), str(expected) == str(observed), where)


def words(items: Iterable[object]) -> str:
    """Several values in one line; `none` for an empty list."""
    return ",".join(map(str, items)) or "none"
