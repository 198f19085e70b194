"""`doit report`: the page, two forms that machines read, and one for a job's summary."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import write_atomic
from pipeline.paths import Project
from pipeline.report import html, junit
from pipeline.report.collect import Assess, collect
from pipeline.report.forms import markdown, sarif
from pipeline.report.judged import Wanted


def write(project: Project, names: list[str], assess: Assess | None = None) -> list[Path]:
    """Write `out/report/` for these bundles and those with broken specs; return what was written.

    `assess` says what is stale; without it, whatever has a receipt counts as built.
    """
    reports = collect(project, names, assess)
    told = [report.told for report in reports]
    folder = project.report
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    written = {
        folder / "index.html": html.render(reports),
        folder / "junit.xml": junit.render(reports),
        folder / "findings.sarif": sarif.render(told, Wanted()),
        folder / "summary.md": markdown.render(told, Wanted()),
    }
    for path, content in written.items():
        write_atomic(path, content)
    return list(written)
