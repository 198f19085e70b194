"""An independent look for what a run must not leave: it uses nothing of `pipeline/`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
RUNTIME_STATE = (Path("/run/runc"), Path("/run/crun"))


def leftovers(root: Path) -> list[str]:
    """Everything on this host that still belongs to the workspace at `root` or to a container of ours."""
    marks = [str(root), *(f"cooperage-{spec.stem}-" for spec in (root / "specs").glob("*.yaml"))]
    return [*_processes(marks), *_mounts(marks), *_cgroups(marks), *_state(marks), *_files(root)]


def wait_for_none(root: Path, patience_s: float = 10) -> list[str]:
    """Return `leftovers`, asked until there are none: the kernel reaps killed processes when it can."""
    end = time.monotonic() + patience_s
    while (left := leftovers(root)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _processes(marks: list[str]) -> Iterator[str]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            command = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(f"/proc/{pid}/root"), os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if _marked(marks, command, *where):
            yield f"process {pid}: {command}"


def _mounts(marks: list[str]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if _marked(marks, line):
            yield f"mount: {line}"


def _cgroups(marks: list[str]) -> Iterator[str]:
    for folder, names, _ in os.walk(CGROUPS):
        yield from (f"cgroup: {folder}/{name}" for name in names if _marked(marks, name))


def _state(marks: list[str]) -> Iterator[str]:
    for home in RUNTIME_STATE:
        if home.is_dir():
            yield from (f"state: {path}" for path in home.iterdir() if _marked(marks, path.name))


def _files(root: Path) -> Iterator[str]:
    out = root / "out"
    for folder in (out / ".tmp", out / ".state" / "running"):
        if folder.is_dir():
            yield from (f"file: {path}" for path in folder.iterdir())
    yield from (f"file: {path}" for path in (out / ".state").glob("doit-*.json"))


def _marked(marks: list[str], *texts: str) -> bool:
    return any(mark in text for mark in marks for text in texts)
