"""Remove a container for sure, whatever state it or its runtime is in, and say what is left of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline import proc
from pipeline.files import remove_tree
from pipeline.run import ToolFailed, run, which
from pipeline.tools.runtimes.record import Record
from pipeline.tools.runtimes.registry import ADAPTERS

_DELETE_TIMEOUT_S = 30.0
_DEATH_TIMEOUT_S = 10.0
_PAUSE_S = 0.01
_EXITING_TIMEOUT_S = 2.0
_LOOK_PAUSE_S = 0.05


def remove(record: Record) -> list[str]:
    """Remove the container that `record` names; return what could not be removed."""
    left = _remove_once(record)
    # A child that was just being forked when its owner died shows what it is only now.
    return _remove_once(record) if _kill_callers(record) else left


def _remove_once(record: Record) -> list[str]:
    # First of all its processes: one that is frozen would be waited for in vain.
    kill_all(find_cgroups(record.container))
    _kill_callers(record)
    _delete(record)
    folders = list(find_cgroups(record.container))
    kill_all(folders)
    for folder in folders:
        _remove_cgroup(folder)
    state = Path(record.root) / record.container
    for target in mounts_below(state):
        run(["umount", "--lazy", "--", target], timeout_s=_DELETE_TIMEOUT_S, check=False)
    remove_tree(state)
    return leftovers(record.container, state, folders)


def leftovers(container: str, state: Path, cgroups: Iterable[Path]) -> list[str]:
    """Return what is still there of a removed container, in words; `cgroups` are the folders it had."""
    left = [f"cgroup {folder}" for folder in cgroups if folder.exists()]
    left += [f"state folder {state}"] if state.exists() else []
    left += [f"mount {mount.target}" for mount in proc.mounts() if container in Path(mount.target).parts]
    return left


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points of this process at or below a folder, deepest first."""
    targets = {mount.target for mount in proc.mounts() if Path(mount.target).is_relative_to(folder)}
    return sorted(targets, reverse=True)


def find_cgroups(container: str) -> Iterator[Path]:
    """Yield every cgroup folder of a container, in all hierarchies, the deepest first.

    All folders are looked at, since the parent of a cgroup depends on where its maker sat, and the names are
    ours alone: the id, or what systemd makes of it (`RUNTIME-ID.scope`).
    """
    for root in proc.cgroup_roots():
        for folder, names, _ in os.walk(root.target):
            for name in names:
                if name == container or name.endswith(f"-{container}.scope"):
                    yield from _depth_first(Path(folder) / name)


def _depth_first(folder: Path) -> list[Path]:
    return [Path(found) for found, _, _ in os.walk(folder, topdown=False)]


def kill_all(folders: Iterable[Path]) -> None:
    """Kill every process in these cgroups and wait until the cgroups are empty, or 10 s have passed."""
    folders = list(folders)
    for folder in folders:
        _thaw(folder)
    end = time.monotonic() + _DEATH_TIMEOUT_S
    while (pids := {pid for folder in folders for pid in _members(folder)}) and time.monotonic() < end:
        for pid in pids:
            _kill_member(pid, folders)
        time.sleep(_PAUSE_S)


def _thaw(folder: Path) -> None:
    # A runtime killed while it held its container frozen leaves processes that no signal reaches.
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        with suppress(OSError):
            (folder / name).write_text(value) if (folder / name).exists() else None


def _members(folder: Path) -> list[int]:
    try:
        return [int(word) for word in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _kill_member(pid: int, folders: list[Path]) -> None:
    """Kill a process that, held by a descriptor so that its id stays its own, is in one of the cgroups."""
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if any(pid in _members(folder) for folder in folders):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
    with suppress(ChildProcessError):
        # Orphans of the container become our children: see subreaper in `container`.
        os.waitpid(pid, os.WNOHANG)


def _remove_cgroup(folder: Path) -> None:
    end = time.monotonic() + _DEATH_TIMEOUT_S
    while folder.exists() and time.monotonic() < end:
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(_PAUSE_S)


def _kill_callers(record: Record) -> int:
    """Kill what is left of calls to the runtime for this container; return how many there were.

    A call dies with its owner, except when that is killed before the call has asked the kernel for it
    (PR_SET_PDEATHSIG); such a `create` would go on and make a container that nobody knows.
    """
    own = (record.program, record.root, record.container)
    callers = [pid for pid in proc.processes() if _is_call(pid, own)]
    for pid in callers:
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            if _is_call(pid, own):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
    end = time.monotonic() + _DEATH_TIMEOUT_S
    while any(_is_call(pid, own) for pid in callers) and time.monotonic() < end:
        time.sleep(_PAUSE_S)
    return len(callers)


def _is_call(pid: int, own: tuple[str, ...]) -> bool:
    """Is this a runtime, or a wrapper about to become it, called with these words? (A zombie has none.)"""
    words = proc.text(pid, "cmdline").split("\0")
    return all(word in words for word in own)


def _delete(record: Record) -> None:
    adapter = ADAPTERS.get(record.runtime)
    program = Path(record.program) if os.access(record.program, os.X_OK) else which(record.runtime)
    if adapter is not None and program is not None:
        runtime = adapter(program, Path(record.root))
        # Its answer is not trusted: what is really left is looked at afterwards.
        with suppress(ToolFailed):
            run(runtime.delete(record.container, force=True), timeout_s=_DELETE_TIMEOUT_S, check=False)


def namespace_leftovers(inodes: Collection[int]) -> list[str]:
    """Return the processes and mounts that keep one of these namespaces alive; zombies do not.

    Looks again for up to 2 s: a killed process keeps its namespaces until the kernel has taken it apart.
    The caller holds the namespaces open: the kernel gives the inode of a namespace that ended to the next.
    """
    end = time.monotonic() + _EXITING_TIMEOUT_S
    while (left := _namespace_holders(inodes)) and time.monotonic() < end:
        time.sleep(_LOOK_PAUSE_S)
    return left


def _namespace_holders(inodes: Collection[int]) -> list[str]:
    left = []
    known = set(inodes)
    for pid in proc.processes() if known else ():
        if not known.isdisjoint(proc.namespaces(pid, ("mnt", "net", "pid")).values()):
            if proc.is_zombie(pid):
                # It shows its pid namespace until its parent has asked how it ended.
                continue
            left.append(f"process {pid} in a namespace of the container")
    pinned = [mount for mount in proc.mounts() if mount.fstype == "nsfs"]
    return left + [f"mount {m.target} of {m.root}" for m in pinned if _inode(m.root) in inodes]


def _inode(root: str) -> int:
    # The root of such a mount is written like `net:[4026532281]`.
    digits = root.rpartition("[")[2].rstrip("]")
    return int(digits) if digits.isdigit() else -1
