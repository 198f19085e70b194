"""The worst config.json files that people write or tools make, and what the judge must say of each.

Nothing at high or above may come that is not expected: false alarms teach people to ignore alarms.
"""

from __future__ import annotations

from functools import cache

import pytest

from pipeline.checks.text import render_findings
from pipeline.model.nouns import Finding, Severity
from tests.judge_cases import Expected, GoldenCase, all_cases

CASES = all_cases()
# What is known to be missing is expected to fail, and to be noticed when it comes.
EXPECTATIONS = [
    pytest.param(
        case,
        wanted,
        id=f"{case.name}-{wanted.rule}-{wanted.path}",
        marks=[pytest.mark.xfail(strict=True, reason=f"rule {wanted.rule} to come")]
        if wanted.to_come
        else [],
    )
    for case in CASES
    for wanted in case.expected
]

QUIET = [
    pytest.param(
        case,
        id=case.name,
        marks=[pytest.mark.xfail(strict=True, reason=f"false alarm: {', '.join(case.false_alarms)}")]
        if case.false_alarms
        else [],
    )
    for case in CASES
]


@cache
def said(name: str) -> tuple[Finding, ...]:
    """The findings on a case, judged once."""
    return tuple(next(case for case in CASES if case.name == name).findings())


def test_there_are_enough_cases_and_each_says_where_it_comes_from() -> None:
    assert len(CASES) >= 35
    assert all(len(case.why) > 30 for case in CASES)
    assert all(case.expected or case.never for case in CASES)


@pytest.mark.parametrize(("case", "wanted"), EXPECTATIONS)
def test_what_matters_is_found(case: GoldenCase, wanted: Expected) -> None:
    listed = said(case.name)
    assert any(wanted.fits(finding) for finding in listed), render_findings(listed)


@pytest.mark.parametrize("case", QUIET)
def test_nothing_else_is_said_at_high_or_above(case: GoldenCase) -> None:
    known = {(wanted.rule, wanted.path) for wanted in case.expected}
    loud = [f for f in said(case.name) if f.severity.rank <= Severity.HIGH.rank]
    extra = [finding for finding in loud if (finding.rule, finding.path) not in known]
    assert not extra, render_findings(extra)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_what_must_not_be_said_is_not(case: GoldenCase) -> None:
    assert set(case.never).isdisjoint(finding.rule for finding in said(case.name))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_every_finding_has_a_place_and_says_where_its_rule_is_from(case: GoldenCase) -> None:
    for finding in said(case.name):
        assert finding.message
        assert finding.path.startswith("/") or finding.place is not None, finding
