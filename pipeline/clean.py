"""`doit clean`: remove what a stage made, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.files import remove_tree
from pipeline.graph import Step
from pipeline.oci.store import collect
from pipeline.paths import BundlePaths, Project


def clean(project: Project, bundle: str, steps: Iterable[Step], dryrun: bool) -> Iterator[str]:
    """Remove the outputs, receipts and logs of a bundle's steps; yield what goes.

    Named volumes are never touched. Blobs that no bundle needs any more go with the image.
    """
    paths = project.bundle(bundle)
    there = [path for step in steps for path in _made(paths, step) if path.exists()]
    for path in there:
        yield f"{'would remove' if dryrun else 'removing'} {path.relative_to(project.root)}"
        if not dryrun:
            remove_tree(path)
    if dryrun:
        return
    # A folder that still holds another stage's output stays.
    for folder in (*sorted({path.parent for path in there}), paths.dir):
        with suppress(OSError):
            folder.rmdir()
    if any(path == paths.image for path in there):
        collect(project)


def _made(paths: BundlePaths, step: Step) -> list[Path]:
    outputs = [paths.dir / place for place in step.outputs.values()]
    return [paths.receipt(step.label), *outputs, paths.log(step.label)]
