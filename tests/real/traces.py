"""An independent look for what a container may leave behind: knows nothing of the code that removes it."""

from __future__ import annotations

import os
import time
from pathlib import Path


def traces(name: str) -> list[str]:
    """Return everything on this host that carries `name`: processes, cgroups, mounts, state of runtimes."""
    found = [f"process {pid}" for pid in _processes(name)]
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"cgroup {folder}/{entry}" for entry in names if name in entry]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if name in line]
    for state in ("/run/runc", "/run/crun"):
        if Path(state).is_dir():
            found += [f"state {entry}" for entry in Path(state).iterdir() if name in entry.name]
    return found


def _processes(name: str) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and name in _cgroup(entry)
    ]


def _cgroup(process: Path) -> str:
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        # A zombie is no process any more; its parent has yet to ask how it ended.
        return "" if state == "Z" else (process / "cgroup").read_text()
    except OSError:
        return ""


def container_processes(name: str) -> list[int]:
    """The processes in a cgroup that carries `name`."""
    return _processes(name)


def assert_no_traces(name: str, patience_s: float = 3.0) -> None:
    """Fail with what is still there after a moment: processes take time to die."""
    end = time.monotonic() + patience_s
    while (left := traces(name)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []
