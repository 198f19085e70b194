"""`doit seccomp-diff A B`: what B opens and A does not, and the other way round, from their filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.oci.verdict_summary import Change, changes, count
from pipeline.paths import Project
from pipeline.profiles import Compiled, compiled

_PREFIX = "SCMP_ARCH_"
_TITLES = {"gained": "gained", "lost": "lost", "changed": "otherwise"}


def compare(project: Project, one: str, other: str) -> dict[str, Any]:
    """Return what the second profile gains and loses over the first, per architecture, as JSON.

    Raises what `profiles.compiled` raises.
    """
    old, new = compiled(project, one), compiled(project, other)
    before, after = old.summaries(), new.summaries()
    found = {arch: changes(before[arch], after[arch]) for arch in before}
    return {
        "version": 1,
        "old": _told(old),
        "new": _told(new),
        "differ": any(found.values()),
        "architectures": {arch: _by_kind(items) for arch, items in found.items()},
    }


def in_words(compared: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for a reader: the counts first, then each call that differs."""
    old, new = compared["old"], compared["new"]
    yield f"{old['name']} -> {new['name']}"
    for side in (old, new):
        if side["source"] != side["name"]:
            yield f"  {side['name']}: {side['source']}"
        yield from (f"  note: {note}" for note in side["notes"])
    for arch, found in compared["architectures"].items():
        yield f"{arch.removeprefix(_PREFIX).lower()}: {found['summary']}"
    for arch, found in compared["architectures"].items():
        for kind, title in _TITLES.items():
            if found[kind]:
                yield f"\n{arch.removeprefix(_PREFIX).lower()}, {title}:"
                yield from (f"  {Change(kind, item['call'], item['what'])}" for item in found[kind])


def _told(profile: Compiled) -> dict[str, Any]:
    return {"name": profile.name, "source": profile.source, "notes": list(profile.notes)}


def _by_kind(found: list[Change]) -> dict[str, Any]:
    kinds = {kind: [change.to_json() for change in found if change.kind == kind] for kind in _TITLES}
    return {"summary": count(found), **kinds}
