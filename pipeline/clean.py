"""`doit clean`: remove what a stage made, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pipeline.files import remove_tree
from pipeline.graph import Step
from pipeline.oci.store import collect
from pipeline.paths import Project


def clean(project: Project, step: Step, dryrun: bool) -> Iterator[str]:
    """Remove a step's outputs, receipt and log; yield what goes. Named volumes are never touched."""
    paths = project.bundle(step.bundle)
    made = [paths.receipt(step.label), *(paths.dir / place for place in step.outputs.values())]
    there = [path for path in (*made, paths.log(step.label)) if path.exists()]
    for path in there:
        yield f"{'would remove' if dryrun else 'removing'} {path.relative_to(project.root)}"
        if not dryrun:
            remove_tree(path)
    if dryrun:
        return
    # A folder that still holds another stage's output stays.
    for folder in (*{path.parent for path in there}, paths.dir):
        with suppress(OSError):
            folder.rmdir()
    if step.stage.name == "copy":
        collect(project)
