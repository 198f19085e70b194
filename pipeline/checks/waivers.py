"""Waivers: a rule that the spec's author has judged not to matter here, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.checks.index import known_rules
from pipeline.errors import suggest
from pipeline.model.nouns import Finding, Severity

# These say that nothing was judged, or that nothing can run: no reason makes that right.
UNWAIVABLE = frozenset({"not-json", "runtime-refused", "rootfs-missing"})

# A waiver is a word about hardening, wherever the rule belongs.
_LAYER = "hardening"


def apply_waivers(findings: Iterable[Finding], waive: Mapping[str, str]) -> list[Finding]:
    """Return the findings, the waived with their reason, and one more for each waiver that fits none."""
    listed = list(findings)
    there = {finding.rule for finding in listed}
    judged = [
        replace(finding, waived=waive[finding.rule])
        if finding.rule in waive and finding.rule not in UNWAIVABLE
        else finding
        for finding in listed
    ]
    return [
        *judged,
        *(_unused(rule, there) for rule in sorted(waive) if rule not in there or rule in UNWAIVABLE),
    ]


def _unused(rule: str, there: set[str]) -> Finding:
    if rule in UNWAIVABLE:
        message = f"`{rule}` cannot be waived"
        return Finding("waiver-unused", Severity.LOW, message, f"waive.{rule}", "remove it", layer=_LAYER)
    message = f"the waiver of `{rule}` fits no finding"
    close = None
    if rule not in known_rules():
        message += ": there is no such rule"
        # What was found here is meant more likely than what was not.
        close = suggest(rule, there) or suggest(rule, known_rules())
    mend = f"did you mean `{close}`?" if close else "remove it from `waive`"
    return Finding("waiver-unused", Severity.LOW, message, f"waive.{rule}", mend, "spec, waive", layer=_LAYER)
