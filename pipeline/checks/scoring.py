"""The hardening score, and what the profile `strict` makes of findings.

A waiver says that a finding is right here, not that it is not there: its rule still counts as not met.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.checks.policy import FORTY, HARDENING_RULES, Rule
from pipeline.model.nouns import Finding, Severity

STRICT = "strict"


@dataclass(frozen=True)
class Failure:
    """A rule that is not met, the findings that say so, and whether every one of them is waived."""

    rule: Rule
    findings: tuple[str, ...]
    waived: bool


@dataclass(frozen=True)
class Score:
    """How many of the forty are met, and which are not, in their order."""

    failed: tuple[Failure, ...]

    @property
    def met(self) -> int:
        """How many rules are met; a waived finding costs its rule all the same."""
        return self.of - len(self.failed)

    @property
    def of(self) -> int:
        """How many rules there are."""
        return len(FORTY)

    @property
    def percent(self) -> int:
        """The met rules by weight (critical 8, high 4, medium 2, low 1), rounded down: 100 means all."""
        whole = sum(rule.weight for rule in FORTY)
        return 100 * (whole - sum(failure.rule.weight for failure in self.failed)) // whole

    def __str__(self) -> str:
        return f"hardening {self.met}/{self.of}"

    def to_json(self) -> dict[str, Any]:
        """Return the score as findings.json holds it."""
        failed = [
            {
                "rule": failure.rule.number,
                "name": failure.rule.name,
                "severity": failure.rule.severity.value,
                "findings": list(failure.findings),
                "waived": failure.waived,
            }
            for failure in self.failed
        ]
        return {"met": self.met, "of": self.of, "percent": self.percent, "failed": failed}


def score(findings: Iterable[Finding]) -> Score:
    """Return the score of a bundle by its findings; where config.json could not be read, nothing is met."""
    listed = list(findings)
    unread = [finding for finding in listed if _is_unread(finding)]
    if unread:
        return Score(tuple(_failure(rule, unread) for rule in FORTY))
    broken = ((rule, [f for f in listed if f.rule in rule.broken_by]) for rule in FORTY)
    return Score(tuple(_failure(rule, found) for rule, found in broken if found))


def _failure(rule: Rule, found: list[Finding]) -> Failure:
    names = tuple(sorted({finding.rule for finding in found}))
    return Failure(rule, names, all(finding.waived is not None for finding in found))


def _is_unread(finding: Finding) -> bool:
    return finding.rule == "not-json" or (finding.rule == "wrong-type" and not finding.path)


def in_profile(findings: Iterable[Finding], profile: str) -> list[Finding]:
    """Return the findings as a profile sees them: to `strict`, hardening at medium is high, and says so."""
    return [_raised(f) if profile == STRICT and _counts(f) else f for f in findings]


def _counts(finding: Finding) -> bool:
    return finding.rule in HARDENING_RULES and finding.severity is Severity.MEDIUM


def _raised(finding: Finding) -> Finding:
    message = f"{finding.message} (medium; the profile `strict` makes it high)"
    return replace(finding, severity=Severity.HIGH, message=message)
