"""Findings as text, worst first with the count at the end, and as the values of findings.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pipeline.errors import PipelineError, Place
from pipeline.model.nouns import Finding, Provenance, Severity


def render_findings(findings: Iterable[Finding]) -> str:
    """Return all findings in the form of errors, then one line of counts; what is waived shows its reason."""
    listed = list(findings)
    return "\n\n".join([*map(render_finding, listed), summary(listed)])


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings worst first, then by place and rule."""
    return sorted(
        findings, key=lambda f: (f.waived is not None, f.severity.rank, f.place is None, f.place, f.rule)
    )


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
    return replace(
        finding,
        message=printable(finding.message, keep),
        path=printable(finding.path),
        mend=printable(finding.mend, keep),
        place=_cleaned_place(finding.place),
        origin=_cleaned_place(finding.origin),
    )


def _cleaned_place(place: Place | None) -> Place | None:
    if place is None or (place.text.isprintable() and place.path.isprintable()):
        return place
    text = "".join(c if c.isprintable() or c == "\t" else "?" for c in place.text)
    return replace(place, path=printable(place.path), text=text)


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
        "layer": finding.layer,
        "message": finding.message,
        "path": finding.path,
        "mend": finding.mend,
        "source": finding.source,
        "waived": finding.waived,
    }
    if finding.place is not None:
        value["place"] = place_value(finding.place)
    if finding.provenance is not None:
        value["provenance"] = {"from": finding.provenance.source, "key": finding.provenance.key}
    return {key: part for key, part in value.items() if part}


def place_value(place: Place) -> dict[str, Any]:
    """Return a place as findings.json holds it, without the text of its line."""
    return {"file": place.path, "line": place.line, "column": place.column, "length": place.length}


def read_finding(value: dict[str, Any]) -> Finding:
    """Return the finding that `finding_value` wrote; the text of its line is not kept."""
    place, came = value.get("place"), value.get("provenance")
    return Finding(
        rule=value["rule"],
        severity=Severity(value["severity"]),
        message=value["message"],
        path=value.get("path", ""),
        mend=value.get("mend", ""),
        source=value.get("source", ""),
        place=Place(place["file"], place["line"], place["column"], place["length"]) if place else None,
        waived=value.get("waived"),
        layer=value.get("layer", ""),
        provenance=Provenance(came["from"], came["key"]) if came else None,
    )


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the number of findings that stand, by severity, and of those waived."""
    listed = list(findings)
    counted = Counter(finding.severity for finding in listed if finding.waived is None)
    found = {severity.value: counted[severity] for severity in Severity}
    return {**found, "waived": sum(finding.waived is not None for finding in listed)}


def render_finding(finding: Finding) -> str:
    """Return one finding in the form of an error; below it the JSON path and the source of the rule, where
    its field came from, and why it is waived."""
    text = str(PipelineError(finding.rule, finding.message, place=finding.place, hint=finding.mend or None))
    label = finding.severity.value if finding.waived is None else f"waived {finding.severity.value}"
    text = label + text.removeprefix("error")
    about = "; ".join(filter(None, (finding.path, finding.source)))
    if about:
        text += f"\n   = {printable(about)}"
    came = finding.origin or finding.provenance
    if came is not None:
        text += f"\n   = from {came}"
    if finding.waived is not None:
        text += f"\n   = waived: {finding.waived}"
    return text
