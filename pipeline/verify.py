"""`doit verify`: read every output again, whatever its size, and compare it with its receipt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.engine import Engine
from pipeline.errors import PipelineError
from pipeline.files import changed_entries
from pipeline.graph import Step
from pipeline.oci.layout import verify_layout
from pipeline.receipts import damage

_NAMED = 5


def verify(engine: Engine, step: Step) -> Iterator[str]:
    """Yield a line for each output of a built step that is not as it was made.

    A damaged step is forgotten, so that the next `doit` builds it again. Waits for a run that builds it.
    """
    if not engine.is_built(step):
        return
    with engine.locked(step):
        found = list(_damages(engine, step))
        if found:
            engine.forget(step)
    yield from found


def _damages(engine: Engine, step: Step) -> Iterator[str]:
    receipt = engine.receipt(step.bundle, step.label)
    if receipt is None:
        yield "its receipt is damaged"
        return
    paths = engine.project.bundle(step.bundle)
    damaged = damage(paths, receipt["outputs"], cheap=False)
    if damaged:
        yield damaged
        return
    for place in receipt["outputs"]:
        if place == "image":
            yield from _layout(paths.image)
        elif place == "bundle/rootfs":
            yield from _tree(paths.rootfs, paths.tree_record)


def _layout(path: Path) -> Iterator[str]:
    try:
        verify_layout(path)
    except PipelineError as error:
        yield error.message


def _tree(rootfs: Path, record: Path) -> Iterator[str]:
    changed = changed_entries(rootfs, record, reread=True)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        yield f"bundle/rootfs is not as unpacked: {', '.join(changed[:_NAMED])}{more}"
