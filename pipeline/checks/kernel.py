"""Whether this host's kernel has what config.json builds on; where that cannot be seen, nothing is said.

Sources: namespaces(7), seccomp(2) (actions_avail), cgroups(7), proc(5) (filesystems), mount_setattr(2);
runc's validator for labels without a security module.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checks.meaning_linux import resources
from pipeline.checks.seccomp_verdict import profile_of
from pipeline.checks.subject import HIGH, Findings, Subject, is_bind
from pipeline.model.nouns import Finding

_ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_KILL_PROCESS": "kill_process",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_NOTIFY": "user_notif",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_TRAP": "trap",
}
_CONTAINER_TYPES = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "tmpfs", "devpts", "mqueue"})
_CGROUPS = frozenset({"cgroup", "cgroup2"})
_ID_MAPPED_SINCE = (5, 12)


def namespaces(subject: Subject) -> Findings:
    """Each namespace asked for is one that this kernel has."""
    there = subject.host.namespaces
    linux = subject.config.linux
    for index, namespace in enumerate((linux.namespaces if linux else None) or ()):
        if there and namespace.type not in there:
            message = f"this kernel has no {namespace.type} namespaces"
            mend = "run it on a kernel that has them; taking it out loosens"
            path = f"linux.namespaces[{index}]"
            yield Finding("kernel-namespace", HIGH, message, path, mend, "namespaces(7)")


def seccomp_actions(subject: Subject) -> Findings:
    """Each action of the profile is one that this kernel has: else the filter does not load."""
    profile, there = profile_of(subject), subject.host.seccomp_actions
    if profile is None or there is None:
        return
    used = {profile.default_action, *(rule.action for rule in profile.syscalls or ())}
    lacking = sorted(action for action in used if _ACTIONS.get(action, "allow") not in there)
    if lacking:
        message = (
            f"this kernel does not know {', '.join(lacking)}"
            if there
            else "this kernel has no seccomp filters: the profile cannot be loaded"
        )
        mend = "run it on a kernel with CONFIG_SECCOMP_FILTER, 4.14 or newer"
        yield Finding("kernel-seccomp", HIGH, message, "linux.seccomp", mend, "seccomp(2)")


def controllers(subject: Subject) -> Findings:
    """Each limit asked for has a cgroup controller on this host that can hold it."""
    there = subject.host.controllers
    for needed, path in _needed(subject) if there is not None else ():
        if not set(needed) & (there or frozenset()):
            message = f"a limit needs the cgroup controller {needed[0]}, which this host has not enabled"
            mend = "kernel-parameters: cgroup_enable=memory and the like; under cgroup v2, delegate it"
            yield Finding("kernel-controller", HIGH, message, path, mend, "cgroups(7)")


def _needed(subject: Subject) -> Iterator[tuple[tuple[str, ...], str]]:
    found, top = resources(subject), "linux.resources"
    if found.memory and found.memory.limit and found.memory.limit > 0:
        yield ("memory",), f"{top}.memory"
    if found.pids and found.pids.limit > 0:
        yield ("pids",), f"{top}.pids"
    if found.cpu and ((found.cpu.quota and found.cpu.quota > 0) or found.cpu.shares):
        yield ("cpu",), f"{top}.cpu"
    if found.cpu and (found.cpu.cpus or found.cpu.mems):
        yield ("cpuset",), f"{top}.cpu"
    if found.block_io:
        yield ("io", "blkio"), f"{top}.blockIO"
    if found.hugepage_limits:
        yield ("hugetlb",), f"{top}.hugepageLimits"


def file_systems(subject: Subject) -> Findings:
    """Each file system of containers that is mounted is one that this kernel has."""
    there = subject.host.filesystems
    for path, mount in subject.mounts if there else ():
        kinds = _CGROUPS if mount.type in _CGROUPS else frozenset({mount.type})
        if not is_bind(mount) and mount.type in _CONTAINER_TYPES and not kinds & there:
            message = f"this kernel has no file system `{mount.type}`, for `{mount.destination}`"
            yield Finding("kernel-filesystem", HIGH, message, f"{path}.type", "drop the mount", "proc(5)")


def id_mapped_mounts(subject: Subject) -> Findings:
    """A mount that translates ids needs a kernel that can (mount_setattr(2), Linux 5.12)."""
    kernel = subject.host.kernel
    for path, mount in subject.mounts if kernel else ():
        asked = mount.uid_mappings or mount.gid_mappings or {"idmap", "ridmap"} & set(mount.options or ())
        if asked and kernel < _ID_MAPPED_SINCE:
            message = f"the mount on `{mount.destination}` translates ids, which Linux can do from 5.12 on"
            mend = "give the files to the mapped ids with chown"
            yield Finding("kernel-idmap", HIGH, message, path, mend, "mount_setattr(2)")


def security_modules(subject: Subject) -> Findings:
    """A profile or label is for a security module that runs here, and is loaded: else nothing starts."""
    process, host = subject.process, subject.host
    linux = subject.config.linux
    profile = process.apparmor_profile
    if profile and "apparmor" not in host.lsm:
        message = f"the AppArmor profile `{profile}` is named, and this host does not run AppArmor"
        path = "process.apparmorProfile"
        yield Finding("lsm-absent", HIGH, message, path, "drop it for this host", "runc: it refuses to start")
    elif profile and host.apparmor_profiles is not None and profile not in host.apparmor_profiles:
        message = f"the AppArmor profile `{profile}` is not loaded on this host"
        mend = "load it: apparmor_parser -r FILE"
        path = "process.apparmorProfile"
        if profile != "unconfined":
            yield Finding("lsm-profile-missing", HIGH, message, path, mend, "apparmor(7)")
    labels = {
        "process.selinuxLabel": process.selinux_label,
        "linux.mountLabel": linux.mount_label if linux else None,
    }
    for path, label in labels.items():
        if label and "selinux" not in host.lsm:
            message = f"the SELinux label `{label}` is given, and this host does not run SELinux"
            yield Finding(
                "lsm-absent", HIGH, message, path, "drop it for this host", "runc: it refuses to start"
            )
