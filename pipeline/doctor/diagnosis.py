"""The whole diagnosis, and its two forms."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.doctor import host, kernel, software
from pipeline.doctor.check import Check, State
from pipeline.packages import family
from pipeline.paths import Project

# Columns. A longer name than that pushes its own fact to the right, and no other's.
_STATE_WIDTH = max(len(state.value) for state in State)
_NAME_WIDTH = 22
_MOST, _LEAST = 110, 60
_GAPS = (State.FAIL, State.NEEDS_ROOT, State.WARN)
HINTS = {
    "operation not permitted": "a line above with FAIL or `needs root` says which namespace, mapping or "
    "mount is refused; if none does, the bundle's seccomp profile refuses a call of the runtime or program",
    "failed to create shim task": "containerd's words for a runtime that did not start; "
    "the runtime's own words are in out/NAME/log/ and out/NAME/smoke/RUNTIME.log",
    "runc --debug": "runc --debug run --bundle out/NAME/bundle try 2>&1 | tee runtime.log",
    "runc spec --validate": "no version of runc or crun has it; `doit validate` does what it was meant to do",
}
"""What users see when containers do not start, and where to look then."""


@dataclass(frozen=True)
class Diagnosis:
    """All checks in the order in which they were made, and where."""

    checks: tuple[Check, ...]
    family: str | None
    root: bool

    @property
    def exit_code(self) -> int:
        """1 when something fails that the default build needs."""
        return int(any(check.state is State.FAIL for check in self.checks))


def examine(project: Project) -> Diagnosis:
    """Make every check; one that crashes is told as such and hides no other."""
    rooms = (software.checks, kernel.checks, host.checks)
    checks = tuple(check for room in rooms for check in _made(room, project))
    return Diagnosis(checks, family(), os.geteuid() == 0)


def in_json(diagnosis: Diagnosis) -> str:
    """The form for programs; `version` rises when a key changes its meaning."""
    document: dict[str, Any] = {
        "version": 1,
        "exit_code": diagnosis.exit_code,
        "root": diagnosis.root,
        "distribution": diagnosis.family,
        "checks": [
            {
                "name": check.name,
                "state": check.state.value.replace(" ", "-").lower(),
                "fact": check.fact,
                "needed_by": check.needed_by,
                "mend": check.mend,
            }
            for check in diagnosis.checks
        ],
        "hints": HINTS,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def in_text(diagnosis: Diagnosis, width: int | None = None) -> str:
    """The form for people: gaps with who needs them and the command that mends them here.

    `width` is in columns; by default the terminal's, at most 110.
    """
    width = width or max(_LEAST, min(_MOST, shutil.get_terminal_size((_MOST, 24)).columns))
    longest = min(_NAME_WIDTH, max(len(check.name) for check in diagnosis.checks))
    lines = []
    for check in diagnosis.checks:
        label = f"{check.state.value:<{_STATE_WIDTH}}  {check.name:<{longest}}  "
        lines += _wrapped(label, check.fact, width, indent=_STATE_WIDTH + longest + 4)
        if check.state in _GAPS:
            for what, text in _remedy(check, diagnosis.family):
                lines += _wrapped(f"{'':<{_STATE_WIDTH}}  {what}: ", text, width)
    told = [*lines, "", *_summary(diagnosis, width), "", "When a container does not start:"]
    for words, hint in HINTS.items():
        told += ["", f"  {words}", *_wrapped("    ", hint, width)]
    return "\n".join(told)


def _wrapped(label: str, text: str, width: int, indent: int | None = None) -> list[str]:
    """The text after its label, at most `width` columns wide where words allow it."""
    hanging = " " * (len(label) if indent is None else indent)
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=label,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.rstrip() for line in lines] or [label.rstrip()]


def _made(room: Callable[[Project], Iterable[Check]], project: Project) -> Iterator[Check]:
    try:
        yield from room(project)
    except Exception as fault:
        name = room.__module__.rsplit(".", 1)[-1]
        yield Check(f"{name} checks", State.WARN, f"stopped early by {type(fault).__name__}: {fault}")


def _remedy(check: Check, here: str | None) -> list[tuple[str, str]]:
    said = [("needed by", check.needed_by)] if check.needed_by else []
    commands = dict.fromkeys(check.mend.values()) if here is None else [check.mend.get(here)]
    return said + [("mend", command) for command in commands if command]


def _summary(diagnosis: Diagnosis, width: int) -> list[str]:
    counts = {state: sum(check.state is state for check in diagnosis.checks) for state in _GAPS}
    said = ", ".join(f"{n} {state.value}" for state, n in counts.items() if n) or "nothing amiss"
    text = f"{len(diagnosis.checks)} checks: {said}. "
    if diagnosis.exit_code:
        text += "A default build cannot work here before each FAIL is mended."
    elif diagnosis.root:
        text += "A default build can work here."
    else:
        text += "You are not root: `copy` and `seccomp` can be built; `unpack` and what follows need root."
    return _wrapped("", text, width)
