"""A truth: what some versions of a runtime ignore, refuse or get wrong of a feature that bundles use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_NUMBERS = re.compile(r"\d+")
# gVisor counts releases by their day: 0.0~20240729.0 in Debian, release-20240729.0 elsewhere.
_DAY = re.compile(r"20\d{6}")


class Effect(Enum):
    """What comes of the feature under the runtime."""

    REFUSES = "refuses"
    """The container is not created or not started."""
    IGNORES = "ignores"
    """It starts as if the feature were not asked for; nothing is said."""
    WEAKENS = "weakens"
    """It starts with less than was asked for; nothing is said."""
    DIFFERS = "differs"
    """It starts with every protection, and something else is not as under other runtimes."""


class Kind(Enum):
    """How a truth is known."""

    MEASURED = "measured"
    DOCUMENTED = "documented"


@dataclass(frozen=True)
class Versions:
    """The versions from `since` that have something; `fixed` has the first good one of each series.

    `fixed` is oldest first; without it, every version known to this program has it.
    """

    since: tuple[int, ...] = (0,)
    fixed: tuple[tuple[int, ...], ...] = ()

    def covers(self, number: tuple[int, ...]) -> bool:
        """True when that version has it; a version that cannot be read has: better warned than sorry."""
        if not number:
            return True
        if number < self.since:
            return False
        if not self.fixed:
            return True
        series = [good for good in self.fixed if good[:2] == number[:2]]
        return number < (series[0] if series else self.fixed[-1])


@dataclass(frozen=True)
class Truth:
    """One row. `reason` goes on after the runtime's name; `protection` is "" where none is at stake.

    `evidence` begins with `measured: ` or `documented: ` and says where. `avoided` says how this program
    types its commands so that the effect does not come about, where it does.
    """

    name: str
    runtime: str
    feature: str
    effect: Effect
    reason: str
    evidence: str
    protection: str = ""
    mend: str = ""
    versions: Versions = Versions()
    avoided: str = ""

    @property
    def kind(self) -> Kind:
        """Whether it was measured or only read."""
        return Kind(self.evidence.partition(":")[0])

    @property
    def drops(self) -> bool:
        """True when a protection gets lost in silence."""
        return bool(self.protection) and self.effect in (Effect.IGNORES, Effect.WEAKENS)


@dataclass(frozen=True)
class KnownRuntime:
    """A runtime of the table: `newest` is the newest version that any row was measured with ("": none)."""

    name: str
    title: str
    newest: str


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version in their order, without a packager's suffix; () when there are none."""
    day = _DAY.search(text)
    if day:
        return (int(day[0]),)
    return tuple(int(digits) for digits in _NUMBERS.findall(re.split(r"[+~-]", text)[0]))


@dataclass(frozen=True)
class FoundRuntime:
    """A runtime of this host; `features` is what it says of itself, None where it has no such command."""

    name: str
    version: str
    features: Mapping[str, Any] | None = None
