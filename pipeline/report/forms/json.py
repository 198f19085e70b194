"""For programs: one JSON document, version 1. Its keys are only added to, never renamed.

    {"version": 1, "fail_on": "high", "failed": true, "counts": {…},
     "bundles": [{"name", "config", "spec", "notes", "failed", "counts", "findings": [
       {"rule", "severity", "layer", "message", "path", "mend", "source", "waived", "fails",
        "place": {"file", "line", "column", "length"},         in config.json
        "provenance": {"from", "key"},                         who decided the field
        "origin": {"file", "line", "column", "length"}}]}]}    where in a spec, if it was one

Keys that say nothing are left out of a finding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline.checks.text import counts, finding_value, place_value
from pipeline.model.nouns import Finding
from pipeline.report.judged import Judged, Wanted

_VERSION = 1


def render(judged: Sequence[Judged], wanted: Wanted) -> bytes:
    """Return the document."""
    return encoded(document(judged, wanted))


def encoded(value: Any) -> bytes:
    """Return the bytes of a JSON value; half a surrogate pair, which UTF-8 cannot hold, becomes `?`."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def document(judged: Sequence[Judged], wanted: Wanted) -> dict[str, Any]:
    """Return the document's value."""
    return {
        "version": _VERSION,
        "fail_on": wanted.fail_on.value if wanted.fail_on else "never",
        "failed": wanted.failed(judged),
        "counts": counts(finding for one in judged for finding in one.findings),
        "bundles": [_bundle(one, wanted) for one in judged],
    }


def _bundle(one: Judged, wanted: Wanted) -> dict[str, Any]:
    return {
        "name": one.name,
        "config": one.config,
        "spec": one.spec,
        "notes": list(one.notes),
        "failed": wanted.failed([one]),
        "counts": counts(one.findings),
        "findings": [_finding(finding, wanted) for finding in one.findings],
    }


def _finding(finding: Finding, wanted: Wanted) -> dict[str, Any]:
    value = finding_value(finding) | {"fails": wanted.fails(finding)}
    return value | ({"origin": place_value(finding.origin)} if finding.origin else {})
