"""The facts of this host that a stage's result depends on, cheap enough to ask at every start."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.files import sha256_bytes
from pipeline.paths import Project

Spec = Mapping[str, Any]


def facts(names: tuple[str, ...], project: Project, bundle: str, spec: Spec) -> dict[str, Any]:
    """Return the named facts for one bundle, as JSON values."""
    return {name: _FACTS[name](project, bundle, spec) for name in names}


def _kernel(_project: Project, _bundle: str, _spec: Spec) -> str:
    return os.uname().release


def _limits(_project: Project, _bundle: str, _spec: Spec) -> dict[str, int | None]:
    return {"nofile_hard": resource.getrlimit(resource.RLIMIT_NOFILE)[1], "cpus": os.cpu_count()}


def _ids(_project: Project, _bundle: str, _spec: Spec) -> dict[str, str]:
    return _known_ids()


@cache
def _known_ids() -> dict[str, str]:
    """Who else has which ids (subuid(5)), and what this process may do (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    return {
        "capabilities": status.partition("CapBnd:")[2].split()[0],
        "subuid": _content(Path("/etc/subuid")),
        "subgid": _content(Path("/etc/subgid")),
    }


def _profile(project: Project, _bundle: str, spec: Spec) -> str:
    """The content of the seccomp source, which is an input like the spec itself."""
    return _content(project.seccomp_sources / f"{spec['seccomp']}.yaml")


def _binds(project: Project, bundle: str, spec: Spec) -> dict[str, list[int] | None]:
    """Kind, owner and mode of each bind source; None for one that is not there."""
    paths = project.bundle(bundle)
    found: dict[str, list[int] | None] = {}
    for volume in spec["volumes"]:
        if volume["type"] == "bind":
            source = project.root / volume["source"]
        elif volume["type"] == "volume":
            source = paths.volume(volume["source"])
        else:
            continue
        found[str(source)] = _status(source)
    return found


def _way(project: Project, bundle: str, _spec: Spec) -> list[list[Any]]:
    """Owner and mode of every folder on the way to the bundle."""
    paths = project.bundle(bundle)
    return [*_way_to(project.out), *_seen(paths.dir, paths.bundle)]


@cache
def _way_to(out: Path) -> list[list[Any]]:
    place = out.resolve()
    return _seen(*reversed(place.parents), place)


def _seen(*folders: Path) -> list[list[Any]]:
    return [[str(folder), *(_status(folder) or [])] for folder in folders]


def _content(path: Path) -> str:
    try:
        return sha256_bytes(path.read_bytes())
    except OSError as fault:
        return fault.strerror or "unreadable"


def _status(path: Path) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mode, status.st_uid, status.st_gid]


_FACTS: dict[str, Callable[[Project, str, Spec], Any]] = {
    "kernel": _kernel,
    "ids": _ids,
    "limits": _limits,
    "profile": _profile,
    "binds": _binds,
    "way": _way,
}
