"""What the kernel says of a process and its cgroups: the files of proc(5), read and nothing more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
"""The namespaces of namespaces(7), by their names below /proc/PID/ns."""

Pid = int | str
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of /proc/PID/mountinfo; `target` is as the process sees it."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: frozenset[str]
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: frozenset[str]

    @property
    def read_only(self) -> bool:
        """True when nothing can be written through this mount."""
        return "ro" in self.options or "ro" in self.super_options


def mounts(pid: Pid = "self") -> list[Mount]:
    """Return all mounts in the mount namespace of a process, those covered by others too."""
    return [_mount(line) for line in _lines(pid, "mountinfo")]


def visible_mounts(pid: Pid = "self") -> dict[str, Mount]:
    """Return by target the mounts that a process can reach: none that another covers, there or further up."""
    all_mounts = mounts(pid)
    numbers = {mount.id for mount in all_mounts}
    children: dict[int, list[Mount]] = {}
    for mount in all_mounts:
        children.setdefault(mount.parent, []).append(mount)
    found: dict[str, Mount] = {}
    waiting = [mount for mount in all_mounts if mount.parent not in numbers]
    while waiting:
        mount = waiting.pop()
        below = children.get(mount.id, [])
        cover = [child for child in below if child.target == mount.target]
        if cover:
            waiting += cover
        else:
            found[mount.target] = mount
            waiting += below
    return found


def _mount(line: str) -> Mount:
    left, right = line.split(" - ", 1)
    number, parent, device, root, target, options, *propagation = left.split(" ")
    fstype, source, super_options = right.split(" ", 2)
    return Mount(
        int(number),
        int(parent),
        device,
        _plain(root),
        _plain(target),
        frozenset(options.split(",")),
        tuple(filter(None, propagation)),
        fstype,
        _plain(source),
        frozenset(_plain(super_options.rstrip()).split(",")),
    )


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def status(pid: Pid) -> dict[str, str]:
    """Return the fields of /proc/PID/status, values stripped."""
    pairs = (line.split(":", 1) for line in _lines(pid, "status"))
    return {name: value.strip() for name, value in pairs}


def is_zombie(pid: Pid) -> bool:
    """True when a process has ended and waits for its parent to notice."""
    # In proc(5)'s stat, the second field is the name in brackets, which may hold anything, brackets too.
    return text(pid, "stat").rpartition(")")[2].split()[:1] in (["Z"], ["X"])


def id_map(pid: Pid, kind: str) -> list[tuple[int, int, int]]:
    """Return `uid_map` or `gid_map`: rows of (inside, outside, count), outside as this process counts."""
    rows = (line.split() for line in _lines(pid, kind))
    return sorted((int(inside), int(outside), int(count)) for inside, outside, count in rows)


def namespaces(pid: Pid = "self", names: tuple[str, ...] = NAMESPACES) -> dict[str, int]:
    """Return the inode of each namespace that a process is in."""
    found = {}
    for name in names:
        # A zombie has none left; a process of someone else's shows none.
        with suppress(OSError):
            found[name] = os.stat(f"/proc/{pid}/ns/{name}").st_ino
    return found


def pin_namespaces(pid: int) -> dict[int, int]:
    """Open the mount, network and pid namespaces that a process has and we have not: inode -> descriptor."""
    pinned = {}
    ours = set(namespaces().values())
    for name in ("mnt", "net", "pid"):
        fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        inode = os.fstat(fd).st_ino
        if inode in ours:
            os.close(fd)
        else:
            pinned[inode] = fd
    return pinned


def limits(pid: Pid) -> dict[str, tuple[int, int]]:
    """Return soft and hard limits by their RLIMIT name; no limit is 2**64-1."""
    found = {}
    for line in _lines(pid, "limits"):
        name = _LIMIT_NAMES.get(line[:26].strip())
        if name:
            soft, hard = line[26:].split()[:2]
            found[name] = (_limit(soft), _limit(hard))
    return found


def _limit(word: str) -> int:
    return 2**64 - 1 if word == "unlimited" else int(word)


# proc(5) prints getrlimit(2)'s limits in words of its own.
_LIMIT_NAMES = {
    "Max cpu time": "RLIMIT_CPU",
    "Max file size": "RLIMIT_FSIZE",
    "Max data size": "RLIMIT_DATA",
    "Max stack size": "RLIMIT_STACK",
    "Max core file size": "RLIMIT_CORE",
    "Max resident set": "RLIMIT_RSS",
    "Max processes": "RLIMIT_NPROC",
    "Max open files": "RLIMIT_NOFILE",
    "Max locked memory": "RLIMIT_MEMLOCK",
    "Max address space": "RLIMIT_AS",
    "Max file locks": "RLIMIT_LOCKS",
    "Max pending signals": "RLIMIT_SIGPENDING",
    "Max msgqueue size": "RLIMIT_MSGQUEUE",
    "Max nice priority": "RLIMIT_NICE",
    "Max realtime priority": "RLIMIT_RTPRIO",
    "Max realtime timeout": "RLIMIT_RTTIME",
}


def children(pid: int) -> list[int]:
    """Return the child processes of a process's first thread."""
    try:
        return [int(word) for word in (PROC / f"{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def processes() -> Iterator[int]:
    """Yield the id of every process."""
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def text(pid: Pid, name: str) -> str:
    """Return one small file of /proc/PID, stripped; empty when it is not there."""
    try:
        return (PROC / str(pid) / name).read_text(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError, OSError):
        return ""


def cgroup_roots() -> list[Mount]:
    """Return the mounted cgroup hierarchies of this host, v1 and v2."""
    return [mount for mount in mounts() if mount.fstype in ("cgroup", "cgroup2")]


def is_hybrid() -> bool:
    """True when cgroup2 is mounted beside v1 controllers (systemd's hybrid mode)."""
    kinds = {mount.fstype for mount in cgroup_roots()}
    return kinds == {"cgroup", "cgroup2"}


def cgroup_directories(pid: Pid) -> dict[str, Path]:
    """Return the folder of a process's cgroup for each v1 controller, and as ``unified`` for v2."""
    roots = cgroup_roots()
    found: dict[str, Path] = {}
    for line in _lines(pid, "cgroup"):
        _, names, path = line.rstrip("\n").split(":", 2)
        for name in names.split(",") if names else ["unified"]:
            mount = _hierarchy(roots, name)
            if mount is not None:
                found[name.removeprefix("name=")] = Path(mount.target) / _below(path, mount.root)
    return found


def _hierarchy(roots: list[Mount], name: str) -> Mount | None:
    for mount in roots:
        if mount.fstype == "cgroup2" and name == "unified":
            return mount
        if mount.fstype == "cgroup" and name in mount.super_options:
            return mount
    return None


def _below(path: str, root: str) -> str:
    # In a container of its own, the mount shows only the part of the hierarchy below its root.
    return os.path.relpath(path, root) if path.startswith(root) else path.lstrip("/")


def _lines(pid: Pid, name: str) -> list[str]:
    return (PROC / str(pid) / name).read_text(errors="surrogateescape").splitlines()
