"""Configs that are right: form, meaning, bundle and host have nothing against them at medium or above.

What is expected of one is a true finding, judged by hand; hardening is not asked here, since an example that
shows every field is no hardened bundle.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checks.index import CHECKS, Layer
from pipeline.checks.text import render_findings
from pipeline.model.nouns import Finding, Severity
from tests.judge_cases import CASES, GOOD, GoldenCase, all_cases, read_case

CONVERTED = Path(__file__).parent / "golden" / "convert"


def judged(case: GoldenCase) -> list[Finding]:
    """What the first three layers say at medium and above."""
    return [finding for finding in case.faults() if finding.severity.rank <= Severity.MEDIUM.rank]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.xfail(strict=True, reason=f"false alarm: {', '.join(case.false_alarms)}")]
            if case.false_alarms
            else [],
        )
        for case in all_cases(GOOD)
    ],
)
def test_what_is_right_is_not_found_fault_with(case: GoldenCase) -> None:
    found = judged(case)
    known = {(wanted.rule, wanted.path) for wanted in case.expected}
    assert {(f.rule, f.path) for f in found} <= known, render_findings(found)
    assert all(finding.severity is Severity.MEDIUM for finding in found)


def test_the_control_among_the_worst_has_nothing_above_low_in_any_layer() -> None:
    found = [f for f in read_case(CASES / "00-as-it-should-be").findings() if f.severity.rank <= 2]
    assert not found, render_findings(found)


@pytest.mark.parametrize("name", ["plain", "server"])
def test_what_the_pipeline_writes_has_no_fault_in_form_and_meaning(name: str) -> None:
    text = (CONVERTED / name / "config.json").read_text()
    case = GoldenCase(name, text, "", (), (), (), {})
    form = case.form()
    subject = case.subject(form)
    meaning = [check for check in CHECKS if check.layer is Layer.MEANING]
    found = [*form.findings, *(finding for check in meaning for finding in check.run(subject))]
    loud = [finding for finding in found if finding.severity is not Severity.INFO]
    assert not loud, render_findings(loud)
