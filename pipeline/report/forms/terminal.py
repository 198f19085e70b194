"""For people: each bundle's findings as errors are shown, worst first, and the count at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.checks.text import cleaned, printable, render_finding, summary
from pipeline.model.nouns import Finding, Severity
from pipeline.report.judged import Judged, Wanted

# Bold red, red, yellow, cyan, dim: also told apart by their words, for those who see no colours.
_COLOURS = {
    Severity.CRITICAL: "1;31",
    Severity.HIGH: "31",
    Severity.MEDIUM: "33",
    Severity.LOW: "36",
    Severity.INFO: "2",
}


def render(judged: Sequence[Judged], wanted: Wanted) -> bytes:
    """Return the text. Nothing in a finding can move the cursor or change a colour."""
    return ("\n\n".join(_bundle(one, wanted) for one in judged) + "\n").encode("utf-8", "replace")


def _bundle(one: Judged, wanted: Wanted) -> str:
    shown = [_finding(finding, wanted) for finding in by_severity(one.findings)]
    last = "; ".join([f"{printable(one.name)}: {summary(one.findings)}", *map(printable, one.notes)])
    return "\n\n".join([*shown, last])


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings worst first and what is waived last; else in their order."""
    return sorted(findings, key=lambda f: (f.waived is not None, f.severity.rank))


def _finding(finding: Finding, wanted: Wanted) -> str:
    clean = cleaned(finding, keep="\n")
    # The words of a spec's author and of other files end up here too.
    rule, waived = printable(clean.rule), clean.waived
    text = render_finding(replace(clean, rule=rule, waived=None if waived is None else printable(waived)))
    if not wanted.colour:
        return text
    head, bracket, rest = text.partition("]")
    colour = _COLOURS[finding.severity] if finding.waived is None else "2"
    return f"\x1b[{colour}m{head}{bracket}\x1b[0m{rest}"
