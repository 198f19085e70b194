"""`doit verify`: read every output again, whatever its size, and compare it with its receipt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.engine import Engine
from pipeline.errors import PipelineError
from pipeline.files import changed_entries, sha256_file
from pipeline.graph import Step
from pipeline.oci.layout import verify_layout

_NAMED = 5


def damages(engine: Engine, step: Step) -> Iterator[str]:
    """Yield a line for each output of a step that is not as it was made; nothing for a step never built."""
    receipt = engine.receipt(step.bundle, step.label)
    if receipt is None:
        return
    paths = engine.project.bundle(step.bundle)
    for place, mark in receipt["outputs"].items():
        path = paths.dir / place
        if not path.exists():
            yield f"{place} is gone"
        elif mark.startswith("sha256:") and sha256_file(path) != mark[7:]:
            yield f"{place} was changed after it was made"
        elif place == "image":
            yield from _layout(path)
        elif place == "bundle/rootfs":
            yield from _tree(path, paths.tree_record)


def _layout(path: Path) -> Iterator[str]:
    try:
        verify_layout(path)
    except PipelineError as error:
        yield error.message


def _tree(rootfs: Path, record: Path) -> Iterator[str]:
    if not record.exists():
        return  # said of the record itself
    changed = changed_entries(rootfs, record)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        yield f"bundle/rootfs is not as unpacked: {', '.join(changed[:_NAMED])}{more}"
