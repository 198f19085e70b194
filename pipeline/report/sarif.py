"""SARIF 2.1.0 (OASIS), as GitHub and editors read it: mistakes and findings with their places in specs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from pipeline.errors import Place
from pipeline.files import canonical_json
from pipeline.model.nouns import Finding, Severity
from pipeline.report.collect import BundleReport

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}


def render(reports: Iterable[BundleReport]) -> bytes:
    """Return the document; a waived finding is a result with an accepted suppression and its reason."""
    found = [(report.name, f) for report in reports for f in (*report.mistakes, *report.findings)]
    rules = sorted({finding.rule for _, finding in found})
    run = {
        "tool": {"driver": {"name": "cooperage", "rules": [{"id": rule} for rule in rules]}},
        "originalUriBaseIds": {"ROOT": {"description": {"text": "the checkout"}}},
        "results": [_result(bundle, finding, rules.index(finding.rule)) for bundle, finding in found],
    }
    return canonical_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(bundle: str, finding: Finding, index: int) -> dict[str, Any]:
    text = "\n".join(filter(None, (finding.message, finding.mend)))
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{bundle}: {text}"},
        "locations": [_location(bundle, finding)],
        "properties": {"bundle": bundle, "severity": finding.severity.value, "source": finding.source},
    }
    if finding.waived is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.waived}]
    return result


def _location(bundle: str, finding: Finding) -> dict[str, Any]:
    """The place in a spec if it is known; else the spec as a whole, since every finding is mended there."""
    # What lies below out/ is in no repository, so no viewer could show it.
    place = finding.place if finding.place and not finding.place.path.startswith("out/") else None
    file = place.path if place else f"specs/{bundle}.yaml"
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(file), "uriBaseId": "ROOT"}}
    if place:
        physical["region"] = _region(place)
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.path:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.path, "kind": "member"}]
    return location


def _region(place: Place) -> dict[str, int]:
    end = place.column + max(place.length, 1)
    return {"startLine": place.line, "startColumn": place.column, "endColumn": end}
