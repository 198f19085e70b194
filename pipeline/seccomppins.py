"""What a profile may leave open: a pin beside its source, which only grows with a reason.

`specs/seccomp/NAME.pinned.json` holds, for each architecture, the calls that are open and the conditions on
those that are so for some arguments, as answered by the compiled filter of a process without capabilities;
and why it was ever allowed to grow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.checks.subject import ProfileDrift
from pipeline.errors import PipelineError, Place
from pipeline.files import canonical_json, read_json, write_atomic
from pipeline.oci.verdict_summary import Change, Summary, changes
from pipeline.paths import Project
from pipeline.profiles import of_name
from pipeline.source import read_source

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


def drift(project: Project, name: str) -> ProfileDrift:
    """Return how a profile differs from its pin, for the judge. Raises what `differences` raises."""
    found = differences(project, name)
    opened = tuple(_kind(found, "gained"))
    calls = [line.partition(": ")[2].partition(" ")[0] for line in opened]
    place = _place(project, name, calls) if calls else None
    return ProfileDrift(name, found is not None, opened, tuple(_kind(found, "lost")), place)


def accept(project: Project, name: str, reason: str) -> list[str]:
    """Pin what a profile leaves open now; return the lines that say what changed.

    Growth over an earlier pin needs a reason, which the pin keeps. Raises PipelineError `no-reason`, and
    what `differences` raises.
    """
    path = pin_path(project, name)
    shown = str(path.relative_to(project.root))
    pinned = _read(path)
    found = differences(project, name)
    grown = list(_kind(found, "gained"))
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
    lines = [f"{name}: + {line}" for line in grown] + [f"{name}: − {line}" for line in _kind(found, "lost")]
    return [*lines, f"{name}: pinned in {shown}"]


def _kind(found: dict[str, list[Change]] | None, kind: str) -> Iterator[str]:
    """What was gained, or lost, as `x86_64: socket (AF_ALG now allowed)`."""
    for arch, items in (found or {}).items():
        for change in items:
            if change.kind == kind:
                what = f" ({change.what})" if change.what else ""
                yield f"{arch.removeprefix(_PREFIX).lower()}: {change.call}{what}"


def _place(project: Project, name: str, calls: list[str]) -> Place:
    """Where the source names the first of the calls that it names at all."""
    path = project.seccomp_sources / f"{name}.yaml"
    shown = str(path.relative_to(project.root))
    lines = read_source(path, shown).decode(errors="replace").splitlines()
    for call in calls:
        for number, line in enumerate(lines, start=1):
            found = re.search(rf"(?<![\w-]){re.escape(call)}(?![\w-])", line.partition("#")[0])
            if found:
                return Place(shown, number, found.start() + 1, len(call), line)
    return Place(shown)


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
