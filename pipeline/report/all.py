"""`doit report`: the page and the two forms that machines read."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import write_atomic
from pipeline.paths import Project
from pipeline.report import html, junit, sarif
from pipeline.report.collect import Assess, collect


def write(project: Project, names: list[str], assess: Assess | None = None) -> list[Path]:
    """Write `out/report/` for these bundles and those with broken specs; return what was written.

    `assess` says what is stale; without it, whatever has a receipt counts as built.
    """
    reports = collect(project, names, assess)
    folder = project.report
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    written = {
        folder / "index.html": html.render(reports),
        folder / "junit.xml": junit.render(reports),
        folder / "findings.sarif": sarif.render(reports),
    }
    for path, content in written.items():
        write_atomic(path, content)
    return list(written)
