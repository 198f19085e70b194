"""Findings as text, worst first with the count at the end, and as the values of findings.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pipeline.errors import PipelineError, Place
from pipeline.model.nouns import Finding, Severity


def render_findings(findings: Iterable[Finding]) -> str:
    """Return all findings in the form of errors, then one line of counts; what is waived shows its reason."""
    listed = list(findings)
    return "\n\n".join([*map(_render, listed), summary(listed)])


def printable(text: str, keep: str = "") -> str:
    """Return the text with what a terminal could obey written as `\\x1b`; characters in `keep` stay.

    Names and values come from images: an escape sequence in one could rewrite what the reader sees.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def cleaned(finding: Finding, keep: str = "") -> Finding:
    """Return the finding without control characters; in the line shown, each becomes one `?`."""
    place = finding.place
    if place is not None and not (place.text.isprintable() and place.path.isprintable()):
        text = "".join(c if c.isprintable() or c == "\t" else "?" for c in place.text)
        place = replace(place, path=printable(place.path), text=text)
    return replace(
        finding,
        message=printable(finding.message, keep),
        path=printable(finding.path),
        mend=printable(finding.mend, keep),
        place=place,
    )


def summary(findings: Iterable[Finding]) -> str:
    """Return `2 high, 1 low, 1 waived`, or `no findings`."""
    listed = list(findings)
    counted = Counter(finding.severity for finding in listed if finding.waived is None)
    parts = [f"{counted[severity]} {severity.value}" for severity in Severity if counted[severity]]
    waived = sum(finding.waived is not None for finding in listed)
    return ", ".join([*parts, *([f"{waived} waived"] if waived else [])]) or "no findings"


def finding_value(finding: Finding) -> dict[str, Any]:
    """Return a finding as findings.json holds it; keys that say nothing are left out."""
    value: dict[str, Any] = {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "message": finding.message,
        "path": finding.path,
        "mend": finding.mend,
        "source": finding.source,
        "waived": finding.waived,
    }
    if finding.place is not None:
        place = finding.place
        value["place"] = {
            "file": place.path,
            "line": place.line,
            "column": place.column,
            "length": place.length,
        }
    return {key: part for key, part in value.items() if part}


def read_finding(value: dict[str, Any]) -> Finding:
    """Return the finding that `finding_value` wrote; the text of its line is not kept."""
    place = value.get("place")
    return Finding(
        rule=value["rule"],
        severity=Severity(value["severity"]),
        message=value["message"],
        path=value.get("path", ""),
        mend=value.get("mend", ""),
        source=value.get("source", ""),
        place=Place(place["file"], place["line"], place["column"], place["length"]) if place else None,
        waived=value.get("waived"),
    )


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the number of findings that stand, by severity, and of those waived."""
    listed = list(findings)
    counted = Counter(finding.severity for finding in listed if finding.waived is None)
    found = {severity.value: counted[severity] for severity in Severity}
    return {**found, "waived": sum(finding.waived is not None for finding in listed)}


def _render(finding: Finding) -> str:
    text = str(PipelineError(finding.rule, finding.message, place=finding.place, hint=finding.mend or None))
    label = finding.severity.value if finding.waived is None else f"waived {finding.severity.value}"
    text = label + text.removeprefix("error")
    if finding.waived is not None:
        text += f"\n  waived: {finding.waived}"
    return text
