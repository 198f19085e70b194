"""What a profile may leave open: a pin beside its source, which only grows with a reason.

`specs/seccomp/NAME.pinned.json` holds, for each architecture, the calls that are open and the conditions on
those that are so for some arguments, as answered by the compiled filter of a process without capabilities;
and why it was ever allowed to grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, Place
from pipeline.files import canonical_json, read_json, write_atomic
from pipeline.oci.verdict_summary import Change, Summary, changes
from pipeline.paths import Project
from pipeline.profiles import of_name

_PREFIX = "SCMP_ARCH_"


def pin_path(project: Project, name: str) -> Path:
    """Return where a profile's pin is."""
    return project.seccomp_sources / f"{name}.pinned.json"


def differences(project: Project, name: str) -> dict[str, list[Change]] | None:
    """Return what a profile opens and closes over its pin, per architecture; None when it has no pin.

    An architecture that the pin does not have counts as one of which nothing is pinned. Raises what
    `profiles.of_name` raises, and PipelineError `bad-pin`.
    """
    pinned = _read(pin_path(project, name))
    if pinned is None:
        return None
    now = of_name(project, name).summaries()
    nothing = Summary({}, {}, {})
    return {arch: changes(pinned["architectures"].get(arch, nothing), now[arch]) for arch in now}


def growth(project: Project, name: str) -> list[str] | None:
    """Return in words what became open since the pin, `x86_64: mount`; None when there is no pin."""
    found = differences(project, name)
    if found is None:
        return None
    return [f"{arch}: {_said(change)}" for arch, change in _of_kind(found, "gained")]


def shrinkage(project: Project, name: str) -> list[str]:
    """Return in words what was pinned as open and is so no more."""
    return [f"{arch}: {_said(c)}" for arch, c in _of_kind(differences(project, name) or {}, "lost")]


def accept(project: Project, name: str, reason: str) -> list[str]:
    """Pin what a profile leaves open now; return the lines that say what changed.

    Growth over an earlier pin needs a reason, which the pin keeps. Raises PipelineError `no-reason`, and
    what `differences` raises.
    """
    path = pin_path(project, name)
    shown = str(path.relative_to(project.root))
    pinned = _read(path)
    found = differences(project, name)
    grown = [f"{arch}: {_said(change)}" for arch, change in _of_kind(found or {}, "gained")]
    if grown and not reason.strip():
        raise PipelineError(
            "no-reason",
            f"`{name}` would be more open than its pin:\n" + "\n".join(f"  + {line}" for line in grown),
            hint=f'say why: doit seccomp-accept {name} --reason "…"',
        )
    accepted = list(pinned["accepted"]) if pinned else []
    if grown:
        accepted.append({"reason": reason.strip(), "opened": grown})
    now = of_name(project, name).summaries()
    value = {
        "version": 1,
        "architectures": {arch: summary.to_json() for arch, summary in now.items()},
        "accepted": accepted,
    }
    write_atomic(path, canonical_json(value))
    lines = [
        f"{name}: {arch}: {change}" for kind in ("gained", "lost") for arch, change in _of_kind(found, kind)
    ]
    return [*lines, f"{name}: pinned in {shown}"]


def _of_kind(found: dict[str, list[Change]] | None, kind: str) -> Iterator[tuple[str, Change]]:
    for arch, items in (found or {}).items():
        yield from ((arch.removeprefix(_PREFIX).lower(), change) for change in items if change.kind == kind)


def _said(change: Change) -> str:
    return change.call + (f" ({change.what})" if change.what else "")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value = read_json(path)
    try:
        if value["version"] != 1:
            raise ValueError(f"version {value['version']}")
        found = {arch: Summary.from_json(part) for arch, part in value["architectures"].items()}
        return {"architectures": found, "accepted": list(value["accepted"])}
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise PipelineError(
            "bad-pin",
            f"no pin of a seccomp profile: {type(fault).__name__} {fault}",
            place=Place(str(path)),
            hint="`doit seccomp-accept` writes it; remove it to begin anew",
        ) from None
