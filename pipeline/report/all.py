"""`doit report`: the page and the two forms that machines read."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import write_atomic
from pipeline.paths import Project
from pipeline.report import html, junit, sarif
from pipeline.report.collect import collect


def write(project: Project, names: list[str]) -> list[Path]:
    """Write `out/report/` for these bundles; return what was written."""
    reports = collect(project, sorted(names))
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
