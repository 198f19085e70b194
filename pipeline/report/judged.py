"""One bundle's judgement as it is rendered, and what every form of it has in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import Place
from pipeline.model.nouns import Finding, Severity

FAIL_ON = Severity.HIGH
"""What is as bad as this, and not waived, fails a stage and a check, unless something else is asked for."""
LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
"""The three levels that SARIF, GitHub and editors know (SARIF 2.1.0, section 3.27.10)."""

_GENERATED = "out/"


@dataclass(frozen=True)
class Judged:
    """What was found on one bundle. `spec` is the file that it is made from, if it is one of ours.

    `notes` are words about the judgement itself: which runtime it holds for, what was not looked at.
    """

    name: str
    findings: Sequence[Finding]
    spec: str = ""
    config: str = ""
    notes: tuple[str, ...] = ()

    def places(self, finding: Finding) -> tuple[Place | None, Place | None]:
        """Return the place that a viewer of the sources should open, and the other one.

        What lies below `out/` is in no repository, and is mended in the spec: that comes first then.
        """
        place = finding.place
        if place is not None and self.spec and place.path.startswith(_GENERATED):
            return finding.origin or Place(self.spec), place
        if place is None and self.spec:
            return finding.origin or Place(self.spec), None
        return (place, finding.origin) if place else (finding.origin, None)


@dataclass(frozen=True)
class Wanted:
    """How a judgement is to be shown: what fails it (None: nothing does), and whether in colour."""

    fail_on: Severity | None = FAIL_ON
    colour: bool = False

    def fails(self, finding: Finding) -> bool:
        """True when the finding stands and is as bad as what fails."""
        return self.fail_on is not None and finding.waived is None and finding.severity.at_least(self.fail_on)

    def failed(self, judged: Iterable[Judged]) -> bool:
        """True when any finding fails."""
        return any(self.fails(finding) for one in judged for finding in one.findings)


@dataclass(frozen=True)
class Named:
    """A finding and the bundle that it is about, for forms that mix bundles."""

    bundle: Judged = field(repr=False)
    finding: Finding


def standing(judged: Iterable[Judged]) -> list[Named]:
    """Return what is not waived, worst first; of equals, bundles in their order."""
    found = [Named(one, finding) for one in judged for finding in one.findings if finding.waived is None]
    return sorted(found, key=lambda named: named.finding.severity.rank)
