"""`doit doctor`: what this host can do, found out by doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.paths import Project


def run(project: Project, as_json: bool) -> tuple[str, int]:
    """Examine the host; return the text to print and the exit code (1: the default build cannot work)."""
    # Here, so that a probe's own process does not import the whole diagnosis.
    from pipeline.doctor.diagnosis import examine, in_json, in_text

    diagnosis = examine(project)
    return (in_json if as_json else in_text)(diagnosis), diagnosis.exit_code
