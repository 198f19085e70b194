"""Remove what dead owners left: their containers with every process, cgroup, mount, folder and record.

Imports nothing that a run without leftovers would not need: this module is loaded at every start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.paths import Project


def sweep(project: Project) -> list[str]:
    """Remove the containers of this checkout whose owners died; return one line for each.

    Only containers named by our records are touched. Safe to run at any time, twice, and beside another.
    """
    try:
        names = os.listdir(project.running)
    except FileNotFoundError:
        return []
    if not names:
        return []
    root = project.root.resolve()
    return [said for name in names if (said := _sweep_one(project.running / name, root))]


def _sweep_one(path: Path, project: Path) -> str | None:
    from pipeline.tools.runtimes.record import abandoned

    with abandoned(path, project) as held:
        if held is None:
            return None
        from pipeline.errors import PipelineError
        from pipeline.tools.runtimes.removal import remove

        try:
            left = remove(held.record)
        except (OSError, PipelineError) as error:
            left = [str(error)]
        held.release(remove=not left)
        if left:
            return f"could not remove all of container {held.record.container}: {', '.join(left)}"
        return f"removed container {held.record.container}, whose owner had died"
