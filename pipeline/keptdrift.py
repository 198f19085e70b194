"""How a profile differs from its pin, remembered: finding out means to compile, and to load what compiles."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.checks.subject import ProfileDrift
from pipeline.errors import PipelineError
from pipeline.files import compact_json, read_json, sha256_bytes, write_atomic
from pipeline.model.bundle import UNCONFINED
from pipeline.paths import Project


def drift_kept(project: Project, name: str, parts: Mapping[str, Any]) -> ProfileDrift | None:
    """Return how a profile differs from its pin, from the cache where it was asked for the same key before.

    `parts` are those of the key of `validate`, which hold all that it depends on. None for no profile.
    Raises what `seccomppins.drift` raises.
    """
    if name == UNCONFINED:
        return None
    compiled, pin = parts["upstream"]["seccomp"], parts["host"]["pin"]
    mark = sha256_bytes(compact_json([name, parts["code"], parts["tools"]["libseccomp"], compiled, pin]))
    kept = project.cache / f"drift-{name}.json"
    if kept.is_file():
        with suppress(PipelineError, KeyError, TypeError):
            known = read_json(kept)
            if known["key"] == mark:
                return ProfileDrift(name, known["pinned"], (), tuple(known["closed"]))
    from pipeline.seccomppins import drift

    found = drift(project, name)
    # What opened is told with a place in a source, and fails the stage: it is found out anew.
    if not found.opened:
        write_atomic(kept, compact_json({"key": mark, "pinned": found.pinned, "closed": found.closed}))
    return found
