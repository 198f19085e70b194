"""SARIF 2.1.0 (OASIS), as GitHub and editors read it: findings with their rules and their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from pipeline.errors import Place
from pipeline.files import compact_json, sha256_bytes
from pipeline.model.nouns import Finding, Severity
from pipeline.report.forms.json import encoded
from pipeline.report.judged import LEVELS, Judged, Wanted
from pipeline.report.rules import describe

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "ROOT"
_FINGERPRINT = "cooperageFinding/v1"
# What GitHub sorts security alerts by: above 9 is critical, 7 high, 4 medium, and 0.1 low.
_SCORES = {Severity.CRITICAL: "9.5", Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "2.0"}


def render(judged: Sequence[Judged], _wanted: Wanted) -> bytes:
    """Return the document; a waived finding is a result with an accepted suppression and its reason."""
    found = [(one, finding) for one in judged for finding in one.findings]
    rules = {finding.rule: finding for _, finding in reversed(found)}
    numbers = {rule: number for number, rule in enumerate(sorted(rules))}
    marks = _fingerprints(found)
    run = {
        "tool": {"driver": {"name": "cooperage", "rules": [_rule(rules[rule]) for rule in numbers]}},
        # Places count characters, not UTF-16 code units (section 3.14.17).
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the folder that paths are relative to"}}},
        "results": [
            _result(one, finding, numbers[finding.rule], mark)
            for (one, finding), mark in zip(found, marks, strict=True)
        ],
    }
    return encoded({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(finding: Finding) -> dict[str, Any]:
    """What is true of a rule wherever it speaks; `finding` is an example of how to mend it."""
    rule = describe(finding)
    severity = rule.severity or finding.severity
    properties: dict[str, Any] = {"severity": severity.value, "tags": _tags(finding)}
    if rule.source:
        properties["source"] = rule.source
    if severity in _SCORES:
        properties["security-severity"] = _SCORES[severity]
    source = f"Source: {rule.source}" if rule.source else ""
    helped = "\n\n".join(filter(None, (rule.description, finding.mend and f"Mend: {finding.mend}", source)))
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.description.partition(". ")[0]},
        "fullDescription": {"text": rule.description},
        "help": {"text": helped},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": properties,
    }


def _tags(finding: Finding) -> list[str]:
    return ["security", *([finding.layer] if finding.layer else [])]


def _result(one: Judged, finding: Finding, index: int, mark: str) -> dict[str, Any]:
    text = "\n".join(filter(None, (finding.message, finding.mend)))
    main, other = one.places(finding)
    properties = {"bundle": one.name, "severity": finding.severity.value, "source": finding.source}
    if finding.provenance:
        properties["provenance"] = f"{finding.provenance.source}: {finding.provenance.key}"
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": LEVELS[finding.severity],
        "message": {"text": f"{one.name}: {text}"},
        "locations": [_location(main, finding.path)],
        "partialFingerprints": {_FINGERPRINT: mark},
        "properties": properties,
    }
    if other is not None:
        role = "the field in config.json" if other is finding.place else "where the spec decided it"
        result["relatedLocations"] = [{**_location(other, ""), "id": 1, "message": {"text": role}}]
    if finding.waived is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.waived}]
    return result


def _fingerprints(found: Iterable[tuple[Judged, Finding]]) -> list[str]:
    """What stays the same when lines move and words are mended: bundle, rule, field, and which of equals."""
    seen: Counter[tuple[str, str, str]] = Counter()
    marks = []
    for one, finding in found:
        same = (one.name, finding.rule, finding.path)
        words = [part.encode("utf-8", "replace").decode() for part in same]
        marks.append(sha256_bytes(compact_json([*words, seen[same]])))
        seen[same] += 1
    return marks


def _location(place: Place | None, path: str) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if place is not None:
        physical: dict[str, Any] = {"artifactLocation": _artifact(place.path)}
        if place.text or place.line > 1 or place.column > 1 or place.length > 1:
            physical["region"] = _region(place)
        location["physicalLocation"] = physical
    if path:
        location["logicalLocations"] = [{"fullyQualifiedName": path, "kind": "member"}]
    return location


def _artifact(path: str) -> dict[str, str]:
    file = quote(path.encode("utf-8", "replace"))
    return {"uri": f"file://{file}"} if path.startswith("/") else {"uri": file, "uriBaseId": _ROOT}


def _region(place: Place) -> dict[str, int]:
    end = place.column + max(place.length, 1)
    return {"startLine": place.line, "startColumn": place.column, "endColumn": end}
