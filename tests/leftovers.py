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
    return [*_processes(root), *_mounts(root), *_cgroups(), *_state(), *_files(root)]


def wait_for_none(root: Path, patience_s: float = 10) -> list[str]:
    """Return `leftovers`, asked until there are none: the kernel reaps killed processes when it can."""
    end = time.monotonic() + patience_s
    while (left := leftovers(root)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _processes(root: Path) -> Iterator[str]:
    mark = os.fsencode(root)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            command = Path("/proc", pid, "cmdline").read_bytes()
            where = os.readlink(f"/proc/{pid}/root"), os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if mark in command or b"cooperage-" in command or any(str(root) in place for place in where):
            yield f"process {pid}: {command.replace(bytes(1), b' ').decode(errors='replace')}"


def _mounts(root: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(root) in line or "cooperage-" in line:
            yield f"mount: {line}"


def _cgroups() -> Iterator[str]:
    for folder, names, _ in os.walk(CGROUPS):
        for name in names:
            if name.startswith("cooperage-"):
                yield f"cgroup: {folder}/{name}"


def _state() -> Iterator[str]:
    for home in RUNTIME_STATE:
        if home.is_dir():
            yield from (f"state: {path}" for path in home.iterdir() if path.name.startswith("cooperage-"))


def _files(root: Path) -> Iterator[str]:
    out = root / "out"
    for folder in (out / ".tmp", out / ".state" / "running"):
        if folder.is_dir():
            yield from (f"file: {path}" for path in folder.iterdir())
    yield from (f"file: {path}" for path in (out / ".state").glob("doit-*.json"))
