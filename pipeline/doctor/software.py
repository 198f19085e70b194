"""Checks of the tools: there, starting, and without published holes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.doctor.asking import can_run
from pipeline.doctor.check import Check, State, installs
from pipeline.errors import PipelineError
from pipeline.packages import package
from pipeline.paths import Project
from pipeline.run import run, which
from pipeline.tools.runtimes.base import Runtime, Version
from pipeline.tools.runtimes.registry import ADAPTERS

_TIMEOUT_S = 20.0
_NUMBER = re.compile(r"\d+(?:\.\d+)+")
# The oldest that the pipeline was tried with: those of Debian 12.
_OLDEST = {"skopeo": (1, 9), "umoci": (0, 4, 7)}
# Only `smoke/crun` needs crun; a default build is done without it.
_DEFAULT_RUNTIME = "runc"
_UPSTREAM = {"runc": "opencontainers/runc", "crun": "containers/crun"}
_STATIC = ("busybox", "busybox-static")


def checks(_project: Project) -> Iterator[Check]:
    """All of them."""
    yield _python()
    for name in _OLDEST:
        yield _tool(name)
    yield _libseccomp()
    yield _busybox()
    for name, adapter in ADAPTERS.items():
        yield from _runtime(name, adapter.find())
    yield _present("tini-static", State.WARN)
    yield _present("newuidmap", State.INFO if os.geteuid() == 0 else State.WARN)
    yield _present("setpriv", State.FAIL)


def _python() -> Check:
    try:
        doit = version("doit")
    except PackageNotFoundError:
        doit = "absent"
    fact = f"{sys.version.split()[0]} at {sys.executable}, doit {doit}"
    return Check("Python", State.OK, fact)


def _tool(name: str) -> Check:
    path = which(name)
    if path is None:
        return _absent(name, State.FAIL)
    if not can_run():
        return _untried(name, path)
    said = _said(path, "--version")
    number = _NUMBER.search(said)
    if number is None:
        return _broken(name, path, said)
    if tuple(map(int, number[0].split("."))) < _OLDEST[name]:
        fact = f"{number[0]} is older than any that was tried ({'.'.join(map(str, _OLDEST[name]))})"
        return Check(name, State.WARN, fact, package(name).lacked_by, installs(name))
    return Check(name, State.OK, f"{number[0]} at {path}")


def _libseccomp() -> Check:
    from pipeline.tools import libseccomp

    try:
        return Check("libseccomp", State.OK, libseccomp.version())
    except (PipelineError, OSError) as fault:
        why = getattr(fault, "message", str(fault))
        return Check("libseccomp", State.FAIL, why, "seccomp", installs("libseccomp.so.2"))


def _busybox() -> Check:
    path = next(filter(None, map(which, _STATIC)), None)
    if path is None:
        return _absent("busybox", State.FAIL)
    if not can_run():
        return _untried("busybox", path)
    said = _said(path).split("\n", 1)[0]
    # The interpreter's name stands in the first page of every dynamic program (elf(5), PT_INTERP).
    with path.open("rb") as program:
        dynamic = b"/ld-" in program.read(4096)
    if not said.startswith("BusyBox") or dynamic:
        fact = f"{path} is dynamically linked: it cannot run in an image of its own" if dynamic else said
        return Check("busybox", State.FAIL, fact, package("busybox").lacked_by, installs("busybox"))
    return Check("busybox", State.OK, f"{said.split()[1]} at {path}, static")


def _runtime(name: str, runtime: Runtime | None) -> Iterator[Check]:
    wanted = State.FAIL if name == _DEFAULT_RUNTIME else State.WARN
    if runtime is None:
        yield _absent(name, wanted)
        return
    if not can_run():
        yield _untried(name, runtime.path)
        return
    try:
        found = runtime.version()
    except PipelineError as error:
        yield _broken(name, runtime.path, error.message)
        return
    yield _holes(name, runtime, found)
    yield from _quirks(name, runtime, found)


def _holes(name: str, runtime: Runtime, found: Version) -> Check:
    shown = f"{found.build or found.number} at {runtime.path}"
    holes = runtime.holes(found)
    if not holes:
        return Check(name, State.OK, f"{found.number} at {runtime.path}, no hole known to this program")
    told = "; ".join(f"{hole.cve}: {hole.title}" for hole in holes)
    series = sorted({good for hole in holes for good in hole.fixed})
    good = ", ".join(".".join(map(str, number)) for number in series)
    mend = _newer(name, f"{good} or later")
    return Check(name, State.WARN, f"{shown} has {told}", package(name).lacked_by, mend)


def _quirks(name: str, runtime: Runtime, found: Version) -> Iterator[Check]:
    """What this version drops in silence, where a newer one does not, is a gap; the rest is worth knowing."""
    truths = [truth for truth in runtime.truths(found) if truth.drops]
    dropped = [truth for truth in truths if truth.versions.fixed]
    if dropped:
        told = "; ".join(f"{truth.reason} (drops-{truth.protection})" for truth in dropped)
        good = max(truth.versions.fixed[-1] for truth in dropped)
        mend = _newer(name, f"{'.'.join(map(str, good))} or later")
        yield Check(f"{name} protections", State.WARN, f"{found.number} {told}", f"smoke/{name}", mend)
    kept = [truth for truth in truths if truth not in dropped]
    if kept:
        told = "; ".join(truth.reason for truth in kept)
        yield Check(f"{name} quirks", State.INFO, f"every version known to this program {told}")


def _newer(name: str, good: str) -> dict[str, str]:
    """The command of each family that may bring a good version, and where else there is one."""
    where = f"https://github.com/{_UPSTREAM[name]}/releases" if name in _UPSTREAM else "its own project"
    return {
        family: f"{line}  # if that brings {good}; else put one from {where} into /usr/local/sbin"
        for family, line in installs(name).items()
    }


def _present(name: str, absent: State) -> Check:
    path = which(name)
    return Check(name, State.OK, str(path)) if path else _absent(name, absent)


def _absent(name: str, state: State) -> Check:
    return Check(name, state, "not installed", package(name).lacked_by, installs(name))


def _broken(name: str, path: Path, said: str) -> Check:
    """A tool that is there and does not start: what `failed to create shim task` often comes down to."""
    line = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    mend = {family: words.replace(" install ", " reinstall ") for family, words in installs(name).items()}
    mend["apt"] = mend["apt"].replace("apt-get reinstall", "apt-get install --reinstall")
    mend["zypper"] = mend["zypper"].replace("zypper reinstall", "zypper install --force")
    return Check(name, State.FAIL, f"{path} does not start: {line}", package(name).lacked_by, mend)


def _untried(name: str, path: Path) -> Check:
    """A tool of which nothing can be said before another is there."""
    fact = f"{path} was not tried: without setpriv no tool can be started"
    return Check(name, State.WARN, fact, package(name).lacked_by, installs("setpriv"))


def _said(path: Path, *words: str) -> str:
    try:
        result = run([path, *words], timeout_s=_TIMEOUT_S, check=False)
    except (PipelineError, OSError) as fault:
        return getattr(fault, "message", str(fault))
    return result.stdout or result.stderr
