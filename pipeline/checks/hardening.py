"""Hardening of process, ids, namespaces and limits: each loosening of the baseline is a finding.

`policy` says which of the forty rules each function answers.

Anchors: CIS Docker Benchmark §5, Pod Security Standards (restricted), NSA/CISA Kubernetes guide, moby.
"""

from __future__ import annotations

from pipeline.checks.meaning_linux import hooks, resources
from pipeline.checks.subject import CRITICAL, HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding, Severity
from pipeline.model.runtime import Capabilities

# With any of these a process can become root of the host, or read its memory or its files (capabilities(7)).
_ROOT_LIKE = frozenset(
    "CAP_" + name
    for name in (
        "SYS_ADMIN SYS_MODULE SYS_RAWIO SYS_PTRACE SYS_BOOT SYS_TIME DAC_READ_SEARCH BPF PERFMON NET_ADMIN "
        "MAC_ADMIN MAC_OVERRIDE MKNOD SYSLOG CHECKPOINT_RESTORE"
    ).split()
)
_HARMLESS = frozenset({"CAP_NET_BIND_SERVICE"})
_FIRST_FREE_ID = 65536
_MOST_FILES = 1 << 20
_NAMESPACES: dict[str, tuple[Severity, str, str]] = {
    "pid": (HIGH, "it sees and may signal the host's processes", "CIS 5.16; PSS hostPID"),
    "network": (HIGH, "it reaches every service on the host's loopback", "CIS 5.10; PSS hostNetwork"),
    "ipc": (HIGH, "it shares memory segments with the host", "CIS 5.17; PSS hostIPC"),
    "mount": (HIGH, "nothing can be masked or read-only", "runc requires it"),
    "uts": (MEDIUM, "it can see or set the host's name", "CIS 5.21"),
    "cgroup": (MEDIUM, "it sees where it lies among the host's cgroups", "cgroup_namespaces(7)"),
    "user": (HIGH, "root in the container is root of the host", "CIS 5.31"),
}


_CLOCK = (HIGH, "its clock is another's", "time_namespaces(7)")


def not_root(subject: Subject) -> Findings:
    """The program is not root."""
    if subject.process.user.uid == 0:
        message = "the program runs as root of the container"
        mend = '`user: "65532"`, or a USER in the image'
        yield Finding("runs-as-root", HIGH, message, "process.user.uid", mend, "PSS runAsNonRoot; CIS 4.1")


def no_root_group(subject: Subject) -> Findings:
    """The program is not in root's group, whose files many images leave open to it."""
    account = subject.process.user
    if account.gid == 0 or 0 in (account.additional_gids or ()):
        message = "the program is in root's group"
        mend = "`user: UID:GID` with a group of its own"
        yield Finding("root-group", MEDIUM, message, "process.user.gid", mend, "NSA/CISA; PSS runAsGroup")


def user_namespace(subject: Subject) -> Findings:
    """Its ids are its own, and nobody's on the host."""
    if _is_host(subject, "user"):
        yield _shared("host-user-namespace", "user", "`userns: private`")
    yield from _host_ids(subject)


def pid_namespace(subject: Subject) -> Findings:
    """Its processes are its own."""
    if _is_host(subject, "pid"):
        yield _shared("host-pid-namespace", "pid")


def network_namespace(subject: Subject) -> Findings:
    """Its network is its own."""
    if _is_host(subject, "network"):
        yield _shared("host-network-namespace", "network", "`network_mode: private`")


def ipc_namespace(subject: Subject) -> Findings:
    """Its shared memory is its own."""
    if _is_host(subject, "ipc"):
        yield _shared("host-ipc-namespace", "ipc")


def uts_namespace(subject: Subject) -> Findings:
    """Its name is its own."""
    if _is_host(subject, "uts"):
        yield _shared("host-uts-namespace", "uts")


def mount_namespace(subject: Subject) -> Findings:
    """Its mounts are its own."""
    if _is_host(subject, "mount"):
        yield _shared("host-mount-namespace", "mount")


def cgroup_namespace(subject: Subject) -> Findings:
    """Its view of the cgroups begins at its own."""
    if _is_host(subject, "cgroup"):
        yield _shared("host-cgroup-namespace", "cgroup")


def joined_namespaces(subject: Subject) -> Findings:
    """No namespace is another's, which is sharing that a list of types does not show."""
    linux = subject.config.linux
    for index, namespace in enumerate((linux.namespaces if linux else None) or ()):
        if namespace.path:
            _, reason, source = _NAMESPACES.get(namespace.type, _CLOCK)
            message = f"the {namespace.type} namespace is another's: {reason}"
            path = f"linux.namespaces[{index}].path"
            rule = f"joined-{namespace.type}-namespace"
            yield Finding(rule, HIGH, message, path, "drop `path`", source)


def _is_host(subject: Subject, name: str) -> bool:
    linux = subject.config.linux
    return not any(namespace.type == name for namespace in (linux.namespaces if linux else None) or ())


def _shared(rule: str, name: str, mend: str = "") -> Finding:
    severity, reason, source = _NAMESPACES[name]
    message = f"the {name} namespace is the host's: {reason}"
    mend = mend or f'add {{"type": "{name}"}} to linux.namespaces'
    return Finding(rule, severity, message, "linux.namespaces", mend, source)


def _host_ids(subject: Subject) -> Findings:
    """The mapped ids are no ordinary users of the host."""
    for name in ("uid", "gid"):
        listed = getattr(subject.config.linux, f"{name}_mappings", None) or ()
        for index, entry in enumerate(listed):
            if entry.host_id < _FIRST_FREE_ID:
                message = (
                    f"container {name}s are host {name}s from {entry.host_id}, which people and services have"
                )
                path = f"linux.{name}Mappings[{index}].hostID"
                yield Finding("low-host-ids", HIGH, message, path, "`userns: private`", "subuid(5)")


def no_new_privileges(subject: Subject) -> Findings:
    """execve gives nothing (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    if not subject.process.no_new_privileges:
        message = "noNewPrivileges is not set: a set-id program in the rootfs gives its rights"
        mend = "`process.noNewPrivileges: true`"
        yield Finding(
            "new-privileges", CRITICAL, message, "process", mend, "CIS 5.26; PSS allowPrivilegeEscalation"
        )


def few_capabilities(subject: Subject) -> Findings:
    """All five sets are given, since what is absent is the runtime's choice, and at most NET_BIND_SERVICE."""
    sets = subject.process.capabilities
    if sets is None:
        message = "`process.capabilities` is absent: what the program gets depends on the runtime"
        mend = "give all five sets, empty"
        yield Finding("capabilities-unset", HIGH, message, "process", mend, "config.md, capabilities")
        return
    path = "process.capabilities"
    absent = [name for name in Capabilities.__struct_fields__ if getattr(sets, name) is None]
    if absent:
        message = f"the capability sets {', '.join(absent)} are not given"
        yield Finding("capabilities-unset", LOW, message, path, "give them, empty", "config.md, capabilities")
    others = sorted(subject.granted - _ROOT_LIKE - _HARMLESS)
    if others:
        message = f"the program is given {', '.join(others)}"
        yield Finding("capability-added", HIGH, message, path, "take it out of `cap_add`", "CIS 5.4; PSS")


def no_root_like_capability(subject: Subject) -> Findings:
    """No capability that amounts to root of the host."""
    dangerous = sorted(subject.granted & _ROOT_LIKE)
    if dangerous:
        message = f"{', '.join(dangerous)} amounts to root"
        mend = "take it out of `cap_add`"
        yield Finding("capability-root-like", CRITICAL, message, "process.capabilities", mend, "CIS 5.4; PSS")


def low_ports(subject: Subject) -> Findings:
    """Ports below 1024 can be had without a capability."""
    if subject.granted & _HARMLESS:
        message = "the program is given CAP_NET_BIND_SERVICE"
        mend = 'a port above 1023, or `sysctls: {net.ipv4.ip_unprivileged_port_start: "0"}`'
        source = "PSS restricted allows it"
        yield Finding("capability-bind", LOW, message, "process.capabilities", mend, source)


def inherited_capabilities(subject: Subject) -> Findings:
    """Children do not inherit capabilities (CVE-2022-24769); a user other than root has none without that."""
    sets = subject.process.capabilities
    if sets and (sets.inheritable or sets.ambient):
        message = "capabilities are inheritable or ambient, so every program started later has them"
        severity = LOW if subject.process.user.uid else MEDIUM
        yield Finding(
            "capability-inherited", severity, message, "process.capabilities", "empty both", "CVE-2022-24769"
        )


def root_filesystem(subject: Subject) -> Findings:
    """The root is read-only."""
    if not subject.config.root.readonly:
        message = "the root file system is writable: what breaks in can stay"
        mend = "`read_only: true`, with `tmpfs:` and `volumes:` where the program writes"
        yield Finding("writable-root", HIGH, message, "root", mend, "CIS 5.13; NSA/CISA")


def hook_programs(subject: Subject) -> Findings:
    """No hooks: they run on the host, as root."""
    for path, hook in hooks(subject.config.hooks):
        message = f"the hook `{hook.path}` runs on the host with the runtime's rights"
        yield Finding("hook", CRITICAL, message, path, "remove it", "config.md, hooks")


def memory(subject: Subject) -> Findings:
    """Memory is limited, swap included."""
    found = resources(subject).memory
    if found is None or not found.limit or found.limit < 0:
        message = "memory is not limited: one leak takes the host down"
        yield Finding("memory-unlimited", MEDIUM, message, "linux.resources", "`mem_limit: 512m`", "CIS 5.11")
    elif found.swap is None or found.swap < 0:
        message = "swap is not limited: the limit on memory only moves the load to the disk"
        mend = "`memswap_limit` equal to `mem_limit`"
        yield Finding("swap-unlimited", MEDIUM, message, "linux.resources.memory", mend, "CIS 5.11")
    elif found.swap > found.limit:
        message = f"the program may swap {(found.swap - found.limit) >> 20} MiB"
        mend = "`memswap_limit` equal to `mem_limit`"
        yield Finding("swap-allowed", LOW, message, "linux.resources.memory.swap", mend, "CIS 5.11")


def oom_killer(subject: Subject) -> Findings:
    """What goes beyond its memory is killed: else it hangs, and the kernel looks for others to kill."""
    found = resources(subject).memory
    if found is not None and found.disable_oom_killer:
        message = "the OOM killer is off: at its limit the container hangs"
        yield Finding(
            "oom-killer-off", HIGH, message, "linux.resources.memory.disableOOMKiller", "drop it", "moby"
        )


def processes(subject: Subject) -> Findings:
    """The number of threads is limited (pids counts threads)."""
    found = resources(subject).pids
    if found is None or found.limit <= 0:
        message = "the number of processes is not limited" + (" (0 and below mean no limit)" if found else "")
        path = "linux.resources.pids.limit" if found else "linux.resources"
        yield Finding("pids-unlimited", MEDIUM, message, path, "`pids_limit: 256`", "CIS 5.29")
    elif found.limit > subject.host.pid_max:
        message = f"{found.limit} processes are more than this host can have ({subject.host.pid_max})"
        path = "linux.resources.pids.limit"
        yield Finding("pids-above-host", MEDIUM, message, path, "`pids_limit: 256`", "proc(5), pid_max")


def cpu(subject: Subject) -> Findings:
    """CPU time is limited."""
    found = resources(subject).cpu
    if found is None or not found.quota or found.quota < 0:
        message = "CPU time is not limited"
        yield Finding("cpu-unlimited", LOW, message, "linux.resources", "`cpus: 1.0`", "CIS 5.12")


def rlimits(subject: Subject) -> Findings:
    """Open files and processes are limited and no core is dumped (getrlimit(2))."""
    limits = {limit.type: limit for limit in subject.process.rlimits or ()}
    core, files = limits.get("RLIMIT_CORE"), limits.get("RLIMIT_NOFILE")
    if core is None or core.hard > 0:
        message = "a crash may write memory, with its secrets, to a core file"
        mend = "`ulimits: {core: 0}`"
        yield Finding("core-dumps", MEDIUM, message, "process.rlimits", mend, "core(5)")
    if files is None or files.hard > _MOST_FILES:
        message = "the number of open files is " + (
            f"as good as unlimited ({files.hard})" if files else "whatever the runtime was started with"
        )
        mend = "`ulimits: {nofile: 1024}`"
        yield Finding("nofile-unset", LOW, message, "process.rlimits", mend, "CIS 5.19")
    # Without a user namespace of its own it would count the processes of the whole host.
    if "RLIMIT_NPROC" not in limits and "user" in subject.namespaces:
        message = "the number of processes of its user is whatever the runtime was started with"
        mend = "`ulimits: {nproc: 256}`"
        yield Finding("nproc-unset", LOW, message, "process.rlimits", mend, "CIS 5.19; getrlimit(2)")
