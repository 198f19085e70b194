"""Waivers keep a finding with its reason; one that fits nothing is a finding."""

from __future__ import annotations

from pipeline.checks.text import counts, finding_value, ordered, read_finding, render_findings, summary
from pipeline.checks.waivers import apply_waivers
from pipeline.errors import Place
from pipeline.model.nouns import Finding, Severity
from tests.judged import Case, findings

HIGH = Finding("writable-root", Severity.HIGH, "it is writable", "root", "`read_only: true`", "CIS 5.13")
LOW = Finding("home-missing", Severity.LOW, "no home", place=Place("config.json", 3, 5, 4, '    "x"'))


def test_a_waived_finding_stays_with_its_reason() -> None:
    (found,) = apply_waivers([HIGH], {"writable-root": "it updates itself"})
    assert found.waived == "it updates itself"
    assert render_findings([found]) == (
        "waived high[writable-root]: it is writable\n  help: `read_only: true`\n"
        "   = root; CIS 5.13\n   = waived: it updates itself\n\n1 waived"
    )


def test_a_waiver_that_fits_nothing_is_told() -> None:
    _, unused = apply_waivers([HIGH], {"writable-rot": "x"})
    assert unused.severity is Severity.LOW
    assert unused.message == "the waiver of `writable-rot` fits no finding: there is no such rule"
    assert unused.mend == "did you mean `writable-root`?"
    assert apply_waivers([], {"x-y": "z"})[0].mend == "remove it from `waive`"
    (unknown,) = apply_waivers([], {"seccomp-mising": "z"})
    assert unknown.mend == "did you mean `seccomp-missing`?"
    (known,) = apply_waivers([], {"seccomp-missing": "z"})
    assert known.message == "the waiver of `seccomp-missing` fits no finding"
    assert known.mend == "remove it from `waive`"


def test_what_cannot_run_cannot_be_waived() -> None:
    refused = Finding("runtime-refused", Severity.HIGH, "no")
    kept, unused = apply_waivers([refused], {"runtime-refused": "I am sure"})
    assert kept.waived is None
    assert unused.message == "`runtime-refused` cannot be waived"


def test_the_worst_comes_first_and_the_waived_last() -> None:
    waived = apply_waivers([HIGH], {"writable-root": "x"})
    assert [f.rule for f in ordered([*waived, LOW])] == ["home-missing", "writable-root"]
    assert [f.rule for f in ordered([LOW, HIGH])] == ["writable-root", "home-missing"]


def test_counts_and_summary() -> None:
    listed = [*apply_waivers([HIGH], {"writable-root": "x"}), LOW]
    assert counts(listed) == {"critical": 0, "high": 0, "medium": 0, "low": 1, "info": 0, "waived": 1}
    assert summary(listed) == "1 low, 1 waived"
    assert summary([]) == "no findings"


def test_a_finding_survives_findings_json() -> None:
    value = finding_value(LOW)
    assert value["place"] == {"file": "config.json", "line": 3, "column": 5, "length": 4}
    assert finding_value(read_finding(value)) == value


def test_every_finding_says_what_to_read_or_where() -> None:
    case = Case()
    case.config["root"] = {"path": "rootfs"}
    case.linux.pop("seccomp")
    for finding in findings(case):
        assert finding.place is not None, finding
        assert finding.mend, finding
        assert finding.source, finding
