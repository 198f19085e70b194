"""Which runtimes this host has, and what each says of itself, asked once for each program on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import compact_json, write_atomic
from pipeline.model.truths.nouns import FoundRuntime
from pipeline.paths import Project
from pipeline.tools.runtimes import registry

_ABSENT = "absent"


def found_runtimes(project: Project, fingerprints: Mapping[str, str]) -> tuple[FoundRuntime, ...]:
    """Return the runtimes with an adapter that are here; `fingerprints` are those of `Fingerprints.tool`.

    A fingerprint names a program by its content, so what is kept of one in `out/.state/cache/` holds for
    ever. A runtime that cannot say what it can do is one that says nothing.
    """
    file = project.cache / "features.json"
    kept = _read(file)
    known = dict(kept)
    here = {
        name: mark for name, mark in fingerprints.items() if name in registry.ADAPTERS and mark != _ABSENT
    }
    for name, mark in here.items():
        if f"{name} {mark}" not in known:
            known[f"{name} {mark}"] = _ask(name)
    if known != kept:
        _keep(file, known)
    return tuple(
        FoundRuntime(name, mark.partition(" ")[0], known[f"{name} {mark}"]) for name, mark in here.items()
    )


def _ask(name: str) -> dict[str, Any] | None:
    runtime = registry.find(name)
    try:
        return runtime.features() if runtime else None
    except PipelineError:
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    # A cache from elsewhere, or a damaged one, is no cache.
    sound = isinstance(kept, dict) and all(
        value is None or isinstance(value, dict) for value in kept.values()
    )
    return kept if sound else {}


def _keep(file: Path, known: Mapping[str, Any]) -> None:
    """A read-only checkout or a full disk does without."""
    if os.access(file.parent, os.W_OK):
        try:
            write_atomic(file, compact_json(dict(known)))
        except OSError:
            return
