"""Where the fields of a built config.json came from: image, baseline, default, or a place in a spec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline import specfile
from pipeline.errors import PipelineErrors, Place
from pipeline.model.nouns import Finding, Provenance
from pipeline.paths import Project

_INDEX = re.compile(r"\[(\d+)\]")
_WAIVER = "waive."


@dataclass(frozen=True)
class Origins:
    """The provenance of each leaf of one config.json, and where its spec's keys are written."""

    leaves: Mapping[str, Provenance]
    written: Mapping[str, Place] = field(default_factory=dict)

    def of(self, path: str) -> Provenance | None:
        """Return who decided a field: of several (`mounts[3]`) the first spec key, or the first of all."""
        if path.startswith(_WAIVER):
            return Provenance("spec", path)
        found = self._at(path)
        return next((came for came in found if came.source == "spec"), found[0] if found else None)

    def place(self, came: Provenance | None) -> Place | None:
        """Return where in a spec the key is written, or what it is a part of (`volumes` in one line)."""
        key = _INDEX.sub(r".\1", came.key) if came and came.source == "spec" else ""
        while key and key not in self.written:
            key = key.rpartition(".")[0]
        return self.written.get(key)

    def _at(self, path: str) -> list[Provenance]:
        """The provenance of a path, of what is below it, or of its nearest ancestor."""
        if not path or path.startswith("/"):
            return []
        below = (f"{path}.", f"{path}[")
        inside = [came for leaf, came in self.leaves.items() if leaf == path or leaf.startswith(below)]
        while path and not inside:
            path = parent_path(path)
            inside = [self.leaves[path]] if path in self.leaves else []
        return inside


def parent_path(path: str) -> str:
    """Return the JSON path of what holds the field: `process.args` of `process.args[0]`; always shorter."""
    if path.endswith('"]') and '["' in path:
        return path[: path.rindex('["')]
    return path[: max(path.rfind("."), path.rfind("["), 0)]


def read_leaves(provenance: Any) -> Origins:
    """Return what provenance.json says, without places; of anything else, nothing."""
    listed = provenance.items() if isinstance(provenance, dict) else ()
    return Origins(
        {
            path: Provenance(str(came.get("from")), str(came.get("key")))
            for path, came in listed
            if isinstance(came, dict)
        }
    )


def read_origins(project: Project, name: str, provenance: Any) -> Origins:
    """Return the same with the places of the bundle's spec; one that is broken or gone has none."""
    origins = read_leaves(provenance)
    try:
        return replace(origins, written=specfile.places(project, name))
    except (PipelineErrors, KeyError):
        return origins


def with_provenance(findings: Iterable[Finding], origins: Origins) -> list[Finding]:
    """Return the findings, each with who decided the field that it is about.

    That is what findings.json keeps: a place in a spec moves with every comment in it, a key does not.
    """
    return [replace(finding, provenance=origins.of(finding.path)) for finding in findings]


def with_origin(findings: Iterable[Finding], origins: Origins) -> list[Finding]:
    """Return the findings as they are shown: with the place in the spec where one decided."""
    shown = []
    for finding in findings:
        came = finding.provenance or origins.of(finding.path)
        shown.append(replace(finding, provenance=came, origin=origins.place(came)))
    return shown
