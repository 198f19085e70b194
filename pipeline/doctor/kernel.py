"""Checks of the kernel: namespaces, id mappings, mounts, cgroups, seccomp."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.asking import ask, can_run
from pipeline.doctor.check import Check, State, everywhere, installs
from pipeline.oci.idmap import PRIVATE
from pipeline.paths import Project

_SYS = Path("/proc/sys")
_NEEDED_CONTROLLERS = ("memory", "cpu", "pids")
_NEEDED_ACTIONS = ("allow", "errno", "kill_process", "log")
# What stands beside the controllers among the options of a version 1 mount.
_MOUNT_WORDS = frozenset("rw ro relatime noatime nosuid nodev noexec xattr clone_children".split())
_EVERY_CONTAINER = "validate, smoke"


def checks(_project: Project) -> Iterator[Check]:
    """All of them, each done for real in a process of its own."""
    if not can_run():
        fact = "not examined: without setpriv no probe can be started"
        yield Check("kernel", State.WARN, fact, _EVERY_CONTAINER, installs("setpriv"))
        return
    yield _namespaces()
    yield from _sysctls()
    yield _id_map()
    yield _tmpfs()
    yield _cgroups()
    yield _seccomp_actions()
    yield _seccomp()


def failed() -> State:
    """How what the build needs and the host refuses is called: an ordinary user cannot know better."""
    return State.FAIL if os.geteuid() == 0 else State.NEEDS_ROOT


def _namespaces() -> Check:
    answer = ask("namespaces")
    refused = {"probe": answer.refused} if answer.refused else answer.said
    if not refused:
        return Check("namespaces", State.OK, "mount, pid, ipc, uts, net, cgroup and user can be unshared")
    fact = "; ".join(f"{name}: {why}" for name, why in refused.items())
    fact = f"cannot be unshared: {fact} (runtimes then say `operation not permitted`)"
    mend = everywhere("run it on a host or in a virtual machine, not inside a container without privileges")
    return Check("namespaces", failed(), fact, _EVERY_CONTAINER, mend)


def _sysctls() -> Iterator[Check]:
    """The three switches that make unshare fail, where they exist, and only if they are off."""
    most = _read("user/max_user_namespaces")
    if most == "0":
        mend = everywhere("sudo sysctl -w user.max_user_namespaces=15000")
        yield Check("user.max_user_namespaces", State.FAIL, "0: no user namespaces", _EVERY_CONTAINER, mend)
    else:
        yield Check("user.max_user_namespaces", State.OK, most or "not limited")
    clone = _read("kernel/unprivileged_userns_clone")
    told = {None: "no such switch here (only older Debian kernels have one)", "1": "1: users may"}
    if clone == "0":
        mend = everywhere("sudo sysctl -w kernel.unprivileged_userns_clone=1")
        yield Check(
            "kernel.unprivileged_userns_clone", _for_users(), "0: only root may", "work without root", mend
        )
    else:
        yield Check("kernel.unprivileged_userns_clone", State.OK, told.get(clone, str(clone)))
    if _read("kernel/apparmor_restrict_unprivileged_userns") == "1":
        mend = everywhere("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
        fact = "1: AppArmor takes the rights inside a user's user namespaces away (Ubuntu 23.10 and later)"
        name = "kernel.apparmor_restrict_unprivileged_userns"
        yield Check(name, _for_users(), fact, "work without root", mend)


def _for_users() -> State:
    return State.INFO if os.geteuid() == 0 else State.WARN


def _id_map() -> Check:
    name, words = "id mapping", f"container ids 0-{PRIVATE.size - 1} as host ids {PRIVATE.host_id}-"
    if os.geteuid() != 0:
        return _user_id_map(name)
    answer = ask("id_map", str(PRIVATE.host_id), str(PRIVATE.size))
    if answer.refused is None:
        return Check(name, State.OK, f"{words}{PRIVATE.host_id + PRIVATE.size - 1} can be mapped")
    mend = everywhere("run it where root has CAP_SETUID in the first user namespace")
    return Check(name, State.FAIL, f"{words}… refused: {answer.refused}", f"unpack, {_EVERY_CONTAINER}", mend)


def _user_id_map(name: str) -> Check:
    from pipeline.doctor.host import subordinate_ranges

    ranges = subordinate_ranges("uid")
    needed_by = "containers without root"
    if not ranges:
        user = os.environ.get("USER", "$USER")
        mend = everywhere(f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
        return Check(name, State.WARN, "this user has no subordinate ids", needed_by, mend)
    base, size = ranges[0]
    answer = ask("id_map", str(base), str(min(size, PRIVATE.size - 1)))
    if answer.refused is None:
        return Check(name, State.OK, f"own id and {size} from {base} can be mapped by newuidmap")
    return Check(name, State.WARN, f"newuidmap: {answer.refused}", needed_by, installs("newuidmap"))


def _tmpfs() -> Check:
    answer = ask("tmpfs")
    if answer.refused is None:
        return Check("tmpfs", State.OK, "can be mounted in a mount namespace of its own")
    mend = everywhere("run it on a host or in a virtual machine, not inside a container without privileges")
    return Check("tmpfs", failed(), f"mount refused: {answer.refused}", _EVERY_CONTAINER, mend)


def _cgroups() -> Check:
    version, folders = cgroup_folders(Path("/proc/self/mounts").read_text())
    missing = [name for name in _NEEDED_CONTROLLERS if name not in folders]
    if missing:
        mend = everywhere(f"boot with the kernel option cgroup_enable={missing[0]}")
        fact = f"cgroup {version} without {', '.join(missing)}: limits would not hold"
        return Check("cgroups", failed(), fact, _EVERY_CONTAINER, mend)
    used = sorted({folders[name] for name in _NEEDED_CONTROLLERS})
    answer = ask("cgroup", *used)
    bad = {f: w[1:] for f, w in (answer.said or {}).items() if w.startswith("!")}
    if answer.refused is None and not bad:
        return Check(
            "cgroups", State.OK, f"{version}; {', '.join(sorted(folders))}; one was made and removed"
        )
    why = answer.refused or "; ".join(f"{folder}: {reason}" for folder, reason in bad.items())
    mend = everywhere("run it as root, on a host whose /sys/fs/cgroup is writable")
    return Check("cgroups", failed(), f"{version}; none can be made: {why}", _EVERY_CONTAINER, mend)


def cgroup_folders(mounts: str) -> tuple[str, dict[str, str]]:
    """Return v1, hybrid, v2 or `none`, and where each controller is, from the text of proc_mounts(5)."""
    folders: dict[str, str] = {}
    kinds = set()
    for fields in (line.split() for line in mounts.splitlines()):
        if len(fields) < 4 or not fields[2].startswith("cgroup"):
            continue
        kinds.add(fields[2])
        names = _controllers_of_v2(fields[1]) if fields[2] == "cgroup2" else fields[3].split(",")
        folders |= {name: fields[1] for name in names if name not in _MOUNT_WORDS and "=" not in name}
    version = {1: "v2" if "cgroup2" in kinds else "v1", 2: "hybrid"}.get(len(kinds), "none")
    return version, folders


def _controllers_of_v2(folder: str) -> list[str]:
    try:
        return (Path(folder) / "cgroup.controllers").read_text().split()
    except OSError:
        return []


def _seccomp_actions() -> Check:
    actions = (_read("kernel/seccomp/actions_avail") or "").split()
    missing = [action for action in _NEEDED_ACTIONS if action not in actions]
    if not missing:
        return Check("seccomp actions", State.OK, " ".join(actions))
    fact = f"the kernel has no {', '.join(missing)}" if actions else "the kernel has no seccomp filters"
    mend = everywhere("boot a kernel with CONFIG_SECCOMP_FILTER, 4.14 or newer")
    return Check("seccomp actions", State.FAIL, fact, _EVERY_CONTAINER, mend)


def _seccomp() -> Check:
    answer = ask("seccomp")
    if answer.refused is None:
        return Check("seccomp filter", State.OK, "one was loaded, and it bit")
    fact = f"cannot be loaded: {answer.refused}"
    mend = everywhere("boot a kernel with CONFIG_SECCOMP_FILTER, 4.14 or newer")
    return Check("seccomp filter", State.FAIL, fact, _EVERY_CONTAINER, mend)


def _read(name: str) -> str | None:
    try:
        return (_SYS / name).read_text().strip()
    except OSError:
        return None
