"""Findings, each with the place in a spec that decided what it is about: there it is mended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipeline import specfile
from pipeline.errors import PipelineErrors, Place
from pipeline.model.nouns import Finding
from pipeline.paths import Project

# `.name` or `[index]` at the end of a path.
_LAST_STEP = re.compile(r"(\[[^\]]*\]|\.?[^.\[]+)$")
_INDEX = re.compile(r"\[(\d+)\]")


def placed(
    project: Project, name: str, findings: Iterable[Finding], provenance: Mapping[str, Any]
) -> tuple[Finding, ...]:
    """Return the findings of a bundle with their places in its spec or a base of it, where one decided.

    `provenance` is what provenance.json holds: the origin of each path of config.json.
    """
    places = _places(project, name, provenance)
    return tuple(_placed(finding, places) for finding in findings)


def _places(project: Project, name: str, provenance: Mapping[str, Any]) -> dict[str, Place | None]:
    """The place of the spec key that decided a path of config.json (None: no key did)."""
    try:
        written = specfile.places(project, name)
    except (PipelineErrors, KeyError):
        # A spec that cannot be read, or is gone, says nothing of places.
        return {}
    decided: dict[str, Place | None] = {}
    for path, origin in provenance.items():
        if isinstance(origin, dict):
            key = str(origin.get("key")) if origin.get("from") == "spec" else ""
            decided[path] = _nearest(written, _INDEX.sub(r".\1", key))
    # `waive.RULE` and the like name a spec key themselves.
    return {**written, **decided}


def _nearest(written: Mapping[str, Place], key: str) -> Place | None:
    """The place of a dotted key, or of what it is a part of: `volumes` for `volumes.0` in one line."""
    while key and key not in written:
        key = key.rpartition(".")[0]
    return written.get(key)


def _placed(finding: Finding, places: Mapping[str, Place | None]) -> Finding:
    if finding.place is not None and finding.place.path.startswith("specs/"):
        return finding
    path = finding.path
    below = (f"{path}.", f"{path}[")
    inside = [place for leaf, place in places.items() if leaf == path or leaf.startswith(below)]
    while path and not inside:
        path = _LAST_STEP.sub("", path)
        inside = [places[path]] if path in places else []
    known = [place for place in inside if place is not None]
    return replace(finding, place=min(known)) if known else finding
