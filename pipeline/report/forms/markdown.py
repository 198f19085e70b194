"""Markdown for a job's summary (GitHub's flavour): counts, and a table of findings worst first.

All text of a finding is written so that no character of it can mean anything to Markdown or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.checks.text import printable, summary
from pipeline.model.nouns import Finding
from pipeline.report.forms.terminal import by_severity
from pipeline.report.judged import Judged, Wanted

# GitHub shows no summary of a step above 1 MiB; other steps of ours may want some of a page too.
_MOST_BYTES = 900_000
# A longer table is folded, but for what fails.
_MOST_OPEN_ROWS = 12
_MOST_CELL = 1500
_HEAD = "| | rule | finding | where |\n|---|---|---|---|\n"
# Every ASCII character that Markdown, its tables, links, mathematics or HTML give a meaning to.
_MARKUP = re.compile(r"[\\`*_\[\]()<>#!|~&@$^:]")
_SPACE = re.compile(r"\s+")


def render(judged: Sequence[Judged], wanted: Wanted) -> bytes:
    """Return the summary, shorter than what GitHub takes; what is left out is counted."""
    parts: list[str] = []
    room = _MOST_BYTES
    for one in judged:
        part = _bundle(one, wanted, room)
        room -= len(part.encode("utf-8", "replace"))
        parts.append(part)
        if room <= 0:
            parts.append(f"and {len(judged) - len(parts)} more bundles\n" if len(judged) > len(parts) else "")
            break
    return "\n".join(filter(None, parts)).encode("utf-8", "replace") or b"nothing was judged\n"


def _bundle(one: Judged, wanted: Wanted, room: int) -> str:
    mark = "✘" if wanted.failed([one]) else "✔"
    notes = "".join(f"{literal(note)}\n\n" for note in one.notes)
    head = f"### {mark} {literal(one.name)}: {summary(one.findings)}\n\n{notes}"
    findings = by_severity(one.findings)
    open_ones = [finding for finding in findings if wanted.fails(finding)]
    if len(findings) <= _MOST_OPEN_ROWS:
        open_ones = findings
    folded = findings[len(open_ones) :]
    room -= len(head.encode("utf-8", "replace")) + 2 * len(_HEAD) + 200
    table, room = _table(one, open_ones, room)
    if not folded:
        return head + table
    rest, _ = _table(one, folded, room)
    # A blank line on each side, or the table inside is no table.
    return f"{head}{table}\n<details><summary>{len(folded)} more</summary>\n\n{rest}\n</details>\n"


def _table(one: Judged, findings: Sequence[Finding], room: int) -> tuple[str, int]:
    """Return as many rows as there is room for, and the room that is left."""
    rows: list[str] = []
    for number, finding in enumerate(findings):
        row = _row(one, finding)
        room -= len(row.encode("utf-8", "replace"))
        if room < 0:
            more = f"\nand {len(findings) - number} more, which are too many for one page\n"
            return (_HEAD if rows else "") + "".join(rows) + more, 0
        rows.append(row)
    return (_HEAD if rows else "") + "".join(rows), room


def _row(one: Judged, finding: Finding) -> str:
    main, other = one.places(finding)
    severity = finding.severity.value if finding.waived is None else f"waived {finding.severity.value}"
    said = [literal(finding.message)]
    said += [f"*{literal(finding.mend)}*"] if finding.mend else []
    said += [f"waived: {literal(finding.waived)}"] if finding.waived else []
    where = [literal(str(place)) for place in (main, other) if place is not None]
    cells = (f"**{severity}**", literal(finding.rule), "<br>".join(said), "<br>".join(where))
    return f"| {' | '.join(cells)} |\n"


def literal(text: str) -> str:
    """Return the text on one line, with every character that means something written as its number."""
    line = _SPACE.sub(" ", printable(text, keep="\r\n\t")).strip()
    if len(line) > _MOST_CELL:
        line = line[: _MOST_CELL - 1] + "…"
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", line)
