"""The facts of this host that a stage's result depends on, cheap enough to ask at every start."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes
from pipeline.paths import Project

Spec = Mapping[str, Any]
# Which of these there are tells v1, hybrid and v2 apart, and whether swap is counted.
_CONTROLLERS = (
    "cgroup.controllers",
    "unified",
    "memory",
    "memory/memory.memsw.limit_in_bytes",
    "pids",
    "cpu",
)


def facts(names: tuple[str, ...], project: Project, bundle: str, spec: Spec) -> dict[str, Any]:
    """Return the named facts for one bundle, as JSON values."""
    return {name: _FACTS[name](project, bundle, spec) for name in names}


def _kernel(_project: Project, _bundle: str, _spec: Spec) -> str:
    return os.uname().release


def _limits(_project: Project, _bundle: str, _spec: Spec) -> dict[str, Any]:
    return _known_limits()


@cache
def _known_limits() -> dict[str, Any]:
    """What this host has, and what it can enforce."""
    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    return {
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "hard": {name: resource.getrlimit(getattr(resource, name))[1] for name in names},
        "pid_max": _content(Path("/proc/sys/kernel/pid_max")),
        "lsm": _content(Path("/sys/kernel/security/lsm")),
        "controllers": [name for name in _CONTROLLERS if os.path.exists(f"/sys/fs/cgroup/{name}")],
    }


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


def _profile(project: Project, _bundle: str, spec: Spec) -> str | dict[str, str]:
    """The content of the seccomp source, an input like the spec itself, and of those that it extends."""
    found: dict[str, str] = {}
    waiting = [spec["seccomp"]]
    while waiting:
        name = waiting.pop()
        path = project.seccomp_sources / f"{name}.yaml"
        found[name] = _content(path)
        waiting += [base for base in _extended(path) if base not in found]
    return found if len(found) > 1 else found[spec["seccomp"]]


def _extended(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError:
        return []
    if b"extends" not in content:
        return []
    from pipeline.oci.seccomp_extends import extended

    return extended(content)


def _pin(project: Project, _bundle: str, spec: Spec) -> str:
    """The content of the pin beside the seccomp source."""
    return _content(project.seccomp_sources / f"{spec['seccomp']}.pinned.json")


def _floor(project: Project, _bundle: str, _spec: Spec) -> str:
    """What is known of the runtimes' own needs, without the notes beside it."""
    return _known_floor(project.floors)


@cache
def _known_floor(path: Path) -> str:
    from pipeline.oci.floor import read_floors, relevant

    try:
        return relevant(read_floors(path))
    except PipelineError:
        # The stage meets the same fault, and says it.
        return _content(path)


def _page(_project: Project, _bundle: str, _spec: Spec) -> dict[str, str]:
    return _known_page()


@cache
def _known_page() -> dict[str, str]:
    """The content of what the page of verdicts is made of beside code."""
    folder = Path(__file__).with_name("report")
    return {name: _content(folder / name) for name in ("verdicts.html.j2", "verdicts.js")}


def _binds(project: Project, bundle: str, spec: Spec) -> dict[str, list[Any] | None]:
    """Where the source of each volume really is, its kind, owner and mode; None where there is none."""
    paths = project.bundle(bundle)
    sources = [
        paths.volume(volume["source"]) if volume["type"] == "volume" else project.root / volume["source"]
        for volume in spec["volumes"]
    ]
    found = {source: _status(source) for source in sources}
    return {
        str(source): [os.path.realpath(source), *seen] if seen else None for source, seen in found.items()
    }


def _bind_files(project: Project, _bundle: str, spec: Spec) -> list[str]:
    """The bind sources that are files: their mount points must be files too."""
    sources = [volume["source"] for volume in spec["volumes"] if volume["type"] == "bind"]
    return [source for source in sources if os.path.isfile(project.root / source)]


def _devices(_project: Project, _bundle: str, spec: Spec) -> dict[str, list[int] | None]:
    """Kind, mode and numbers of each device."""
    found: dict[str, list[int] | None] = {}
    for device in spec["devices"]:
        try:
            status = os.stat(device["host"])
        except OSError:
            found[device["host"]] = None
        else:
            found[device["host"]] = [status.st_mode, os.major(status.st_rdev), os.minor(status.st_rdev)]
    return found


def _way(project: Project, bundle: str, _spec: Spec) -> dict[str, str]:
    """Mode and owner of every folder on the way to the bundle."""
    paths = project.bundle(bundle)
    return {**_way_to(project.out), **_seen(paths.dir, paths.bundle)}


@cache
def _way_to(out: Path) -> dict[str, str]:
    place = out.resolve()
    return _seen(*reversed(place.parents), place)


def _seen(*folders: Path) -> dict[str, str]:
    found = {str(folder): _status(folder) for folder in folders}
    return {name: f"{s[0] & 0o7777:04o} {s[1]}:{s[2]}" if s else "absent" for name, s in found.items()}


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
    "pin": _pin,
    "floor": _floor,
    "page": _page,
    "binds": _binds,
    "bind_files": _bind_files,
    "devices": _devices,
    "way": _way,
}
