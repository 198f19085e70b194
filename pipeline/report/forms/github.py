"""Annotations for GitHub Actions: workflow commands, worst first, no more than the runner shows.

A step shows ten annotations of each kind and drops the others without a word, so those that matter most
come first and what is left out is counted. A command is one line; `%`, CR and LF are escaped in its text,
`:` and `,` in its properties too, so that no text of a bundle can end it or begin another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.checks.text import printable, summary
from pipeline.report.judged import LEVELS, Judged, Named, Wanted, standing

_MOST_OF_A_KIND = 10
_KINDS = {"error": "error", "warning": "warning", "note": "notice"}
_PLURALS = {"error": "errors", "warning": "warnings", "notice": "notices"}


def render(judged: Sequence[Judged], _wanted: Wanted) -> bytes:
    """Return the commands, a line for what is left out, and the count; what is waived is not shown."""
    lines: list[str] = []
    shown: Counter[str] = Counter()
    for named in standing(judged):
        kind = _KINDS[LEVELS[named.finding.severity]]
        shown[kind] += 1
        if shown[kind] <= _MOST_OF_A_KIND:
            lines.append(_command(kind, named))
    more = [(kind, number - _MOST_OF_A_KIND) for kind, number in shown.items() if number > _MOST_OF_A_KIND]
    if more:
        words = ", ".join(f"{n} {_PLURALS[kind] if n > 1 else kind}" for kind, n in more)
        lines.append(f"and {sum(n for _, n in more)} more ({words}), in the log and the other formats")
    # Nothing of a bundle stands in these two lines: the runner would obey a `##[…]` anywhere in them.
    lines.append(summary(finding for one in judged for finding in one.findings))
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _command(kind: str, named: Named) -> str:
    finding = named.finding
    main, other = named.bundle.places(finding)
    properties = {"title": f"{finding.rule} ({finding.severity.value})"}
    if main is not None:
        where = {"file": main.path, "line": main.line, "col": main.column}
        properties = {key: str(value) for key, value in where.items()} | properties
    text = "\n".join(
        filter(
            None, (f"{named.bundle.name}: {finding.message}", finding.mend, f"see {other}" if other else "")
        )
    )
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{kind} {listed}::{_data(text)}"


def _data(text: str) -> str:
    clean = printable(text, keep="\r\n\t")
    return clean.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
