"""Hardening of process, ids, namespaces and limits: each loosening of the baseline is a finding.

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
_NAMESPACES: tuple[tuple[str, Severity, str, str], ...] = (
    ("pid", HIGH, "it sees and may signal the host's processes", "CIS 5.16; PSS hostPID"),
    ("network", HIGH, "it reaches every service on the host's loopback", "CIS 5.10; PSS hostNetwork"),
    ("ipc", HIGH, "it shares memory segments with the host", "CIS 5.17; PSS hostIPC"),
    ("mount", HIGH, "nothing can be masked or read-only", "runc requires it"),
    ("uts", MEDIUM, "it can see or set the host's name", "CIS 5.21"),
    ("cgroup", MEDIUM, "it sees where it lies among the host's cgroups", "cgroup_namespaces(7)"),
    ("user", HIGH, "root in the container is root of the host", "CIS 5.31"),
)


def user(subject: Subject) -> Findings:
    """The program is not root, nor in root's group (rules 1 and 2)."""
    account = subject.process.user
    if account.uid == 0:
        message = "the program runs as root of the container"
        mend = '`user: "65532"`, or a USER in the image'
        yield Finding("runs-as-root", HIGH, message, "process.user.uid", mend, "PSS runAsNonRoot; CIS 4.1")
    elif account.gid == 0 or 0 in (account.additional_gids or ()):
        message = "the program is in root's group"
        mend = "`user: UID:GID` with a group of its own"
        yield Finding("root-group", MEDIUM, message, "process.user.gid", mend, "NSA/CISA; PSS runAsGroup")


def namespaces(subject: Subject) -> Findings:
    """Every namespace is the container's own (rules 3, 9 to 15)."""
    linux = subject.config.linux
    listed = (linux.namespaces if linux else None) or ()
    joined = {namespace.type: index for index, namespace in enumerate(listed) if namespace.path}
    for name, severity, reason, source in _NAMESPACES:
        if name in joined:
            message = f"the {name} namespace is another's: {reason}"
            path = f"linux.namespaces[{joined[name]}].path"
            yield Finding(f"joined-{name}-namespace", HIGH, message, path, "drop `path`", source)
        elif name not in subject.namespaces:
            mend = {"network": "`network_mode: private`", "user": "`userns: private`"}.get(
                name, f'add {{"type": "{name}"}} to linux.namespaces'
            )
            message = f"the {name} namespace is the host's: {reason}"
            yield Finding(f"host-{name}-namespace", severity, message, "linux.namespaces", mend, source)


def host_ids(subject: Subject) -> Findings:
    """The mapped ids are no ordinary users of the host (rule 3)."""
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
    """execve gives nothing (rule 5; prctl(2), PR_SET_NO_NEW_PRIVS)."""
    if not subject.process.no_new_privileges:
        message = "noNewPrivileges is not set: a set-id program in the rootfs gives its rights"
        mend = "`process.noNewPrivileges: true`"
        yield Finding(
            "new-privileges", CRITICAL, message, "process", mend, "CIS 5.26; PSS allowPrivilegeEscalation"
        )


def capability_sets(subject: Subject) -> Findings:
    """All five sets are written down: what is absent is the runtime's own choice (rule 6)."""
    sets = subject.process.capabilities
    if sets is None:
        message = "`process.capabilities` is absent: what the program gets depends on the runtime"
        yield Finding(
            "capabilities-unset", HIGH, message, "process", "give all five sets, empty", "config.md"
        )
        return
    absent = [name for name in Capabilities.__struct_fields__ if getattr(sets, name) is None]
    if absent:
        message = f"the capability sets {', '.join(absent)} are not given"
        yield Finding(
            "capabilities-unset", LOW, message, "process.capabilities", "give them, empty", "config.md"
        )


def capabilities(subject: Subject) -> Findings:
    """No capability but, at most, the one to bind low ports (rules 6 and 7)."""
    dangerous = sorted(subject.granted & _ROOT_LIKE)
    others = sorted(subject.granted - _ROOT_LIKE - _HARMLESS)
    path = "process.capabilities"
    if dangerous:
        message = f"{', '.join(dangerous)} amounts to root"
        yield Finding(
            "capability-root-like", CRITICAL, message, path, "take it out of `cap_add`", "CIS 5.4; PSS"
        )
    if others:
        message = f"the program is given {', '.join(others)}"
        yield Finding("capability-added", HIGH, message, path, "take it out of `cap_add`", "CIS 5.4; PSS")
    if subject.granted & _HARMLESS:
        message = "the program is given CAP_NET_BIND_SERVICE"
        mend = 'a port above 1023, or `sysctls: {net.ipv4.ip_unprivileged_port_start: "0"}`'
        yield Finding("capability-bind", LOW, message, path, mend, "PSS restricted allows it")


def inherited_capabilities(subject: Subject) -> Findings:
    """Children do not inherit capabilities that root already has (rule 8, CVE-2022-24769)."""
    sets = subject.process.capabilities
    if sets and subject.process.user.uid == 0 and (sets.inheritable or sets.ambient):
        message = "capabilities are inheritable or ambient, so every program started later has them"
        yield Finding(
            "capability-inherited", MEDIUM, message, "process.capabilities", "empty both", "CVE-2022-24769"
        )


def root_filesystem(subject: Subject) -> Findings:
    """The root is read-only (rule 16)."""
    if not subject.config.root.readonly:
        message = "the root file system is writable: what breaks in can stay"
        mend = "`read_only: true`, with `tmpfs:` and `volumes:` where the program writes"
        yield Finding("writable-root", HIGH, message, "root", mend, "CIS 5.13; NSA/CISA")


def hook_programs(subject: Subject) -> Findings:
    """No hooks: they run on the host, as root (rule 39)."""
    for path, hook in hooks(subject.config.hooks):
        message = f"the hook `{hook.path}` runs on the host with the runtime's rights"
        yield Finding("hook", CRITICAL, message, path, "remove it", "config.md, hooks")


def memory(subject: Subject) -> Findings:
    """Memory is limited, swap included (rule 29)."""
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
    if found is not None and found.disable_oom_killer:
        message = "the OOM killer is off: at its limit the container hangs"
        yield Finding(
            "oom-killer-off", HIGH, message, "linux.resources.memory.disableOOMKiller", "drop it", "moby"
        )


def processes(subject: Subject) -> Findings:
    """The number of threads is limited (rule 30; pids counts threads)."""
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
    """CPU time is limited (rule 31)."""
    found = resources(subject).cpu
    if found is None or not found.quota or found.quota < 0:
        message = "CPU time is not limited"
        yield Finding("cpu-unlimited", LOW, message, "linux.resources", "`cpus: 1.0`", "CIS 5.12")


def rlimits(subject: Subject) -> Findings:
    """Open files are limited and no core is dumped (rule 32)."""
    limits = {limit.type: limit for limit in subject.process.rlimits or ()}
    core = limits.get("RLIMIT_CORE")
    if core is None or core.hard > 0:
        message = "a crash may write memory, with its secrets, to a core file"
        mend = "`ulimits: {core: 0}`"
        yield Finding("core-dumps", MEDIUM, message, "process.rlimits", mend, "core(5)")
    if "RLIMIT_NOFILE" not in limits:
        message = "the number of open files is whatever the runtime was started with"
        yield Finding(
            "nofile-unset", LOW, message, "process.rlimits", "`ulimits: {nofile: 1024}`", "CIS 5.19"
        )
