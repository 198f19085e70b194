"""Meaning of process, mounts, limits, profile and labels: a bundle that trips each rule, and a near miss."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.model.nouns import Severity
from tests.judged import BASE, Case, findings, rules
from tests.test_checks_rules import (
    Change,
    add,
    both,
    conditional,
    drop,
    eq,
    grant,
    join_namespace,
    masked,
    mount,
    new_mount,
    nothing,
    put,
    without_namespace,
)

MIB = 1 << 20
MEMORY = "linux.resources.memory"
CPU = "linux.resources.cpu"
IO = "linux.resources.blockIO"
SECCOMP = "linux.seccomp"
SCHEDULER = "process.scheduler"


def masked_path(path: str) -> Change:
    """Mask one more path."""
    return add("linux.maskedPaths", path)


def last_ids(size: int) -> Change:
    """Map some ids to the last of the host: 4294967294 is the last one there is."""
    return add("linux.uidMappings", {"containerID": 10**6, "hostID": 2**32 - 100, "size": size})


def many_ids(count: int) -> Change:
    """Map users by so many ranges."""
    rows = [{"containerID": n, "hostID": 10**6 + n, "size": 1} for n in range(count)]
    return put("linux.uidMappings", rows)


def sockets(*conditions: dict[str, Any]) -> Change:
    """Allow sockets of AF_UNIX, and pairs of them under conditions."""
    only = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    rules = [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [only]}]
    pairs = {"names": ["socketpair"], "action": "SCMP_ACT_ALLOW"}
    return put(f"{SECCOMP}.syscalls", [*rules, pairs | ({"args": list(conditions)} if conditions else {})])


def version(text: str) -> Change:
    """Declare another ociVersion."""
    return put("ociVersion", text)


def scheduler(**values: Any) -> Change:
    """Schedule the program."""
    return put(SCHEDULER, values)


def policy(mode: str, nodes: str | None = None, *flags: str) -> Change:
    """Set a memory policy, in a config that may have one."""
    value = {"mode": mode, "flags": list(flags)} | ({"nodes": nodes} if nodes is not None else {})
    return both(version("1.3.0"), put("linux.memoryPolicy", value))


def rule(action: str, *names: str, **values: Any) -> Change:
    """Add a rule to the profile."""
    return add(f"{SECCOMP}.syscalls", {"names": list(names), "action": action, **values})


def variable(text: str) -> Change:
    """Add a variable."""
    return add("process.env", text)


def argument(*words: str) -> Change:
    """Add words to the command line."""
    return add("process.args", *words)


def sysctl(**values: str) -> Change:
    """Set sysctls, whose names have `_` for `.` here."""
    return put("linux.sysctl", {key.replace("__", "/").replace("_", "."): v for key, v in values.items()})


def annotation(key: str, value: str = "x") -> Change:
    """Set one annotation."""
    return put("annotations", {key: value})


def device(path: str = "/dev/x", **values: Any) -> Change:
    """Add a device."""
    return add("linux.devices", {"type": "c", "path": path, "major": 10, "minor": 200, **values})


MAP = [{"containerID": 0, "hostID": BASE, "size": 65536}]
OVERLAPPING = [*MAP, {"containerID": 5, "hostID": 9, "size": 1}]


def id_mapped(*options: str, **values: Any) -> Change:
    """Map ids on the bind."""
    return mount("/data", add=options, **values)


BOTH_MAPS: dict[str, Any] = {"uidMappings": MAP, "gidMappings": MAP}

# rule, what trips it, what nearly does.
TABLE: list[tuple[str, Change, Change]] = [
    # versions
    *(
        ("oci-version-unknown", version(bad), version(good))
        for bad, good in (("1.4.0", "1.3.0"), ("0.9.0", "1.0.0"), ("1.0.3", "1.0.2"), ("1.2.2", "1.3.4"))
    ),
    (
        "newer-than-version",
        put("process.execCPUAffinity", {"initial": "0"}),
        both(put("process.execCPUAffinity", {"initial": "0"}), version("1.2.1")),
    ),
    (
        "newer-than-version",
        mount("/data", add=("idmap",)),
        both(mount("/data", add=("idmap",)), version("1.2.0")),
    ),
    (
        "newer-than-version",
        both(version("1.0.2"), add("linux.namespaces", {"type": "time"})),
        both(version("1.1.0"), add("linux.namespaces", {"type": "time"})),
    ),
    (
        "gone-from-version",
        both(version("1.3.0"), put("linux.intelRdt", {"enableMBM": True})),
        both(version("1.2.1"), put("linux.intelRdt", {"enableMBM": True})),
    ),
    # ids and capabilities
    ("id-too-large", put("process.user.uid", 2**31), put("process.user.uid", 2**31 - 1)),
    ("id-too-large", put("process.user.additionalGids", [2**32 - 1]), put("process.user.gid", 2**31 - 1)),
    (
        "capability-inconsistent",
        grant("CAP_CHOWN", uid=0, kinds=("permitted", "effective")),
        grant("CAP_CHOWN", uid=0),
    ),
    (
        "capability-inconsistent",
        grant("CAP_CHOWN", uid=0, kinds=("inheritable",)),
        grant("CAP_CHOWN", uid=0, kinds=("bounding", "inheritable")),
    ),
    (
        "capability-inconsistent",
        grant("CAP_CHOWN", kinds=("bounding", "permitted", "ambient")),
        grant("CAP_CHOWN", kinds=("bounding", "permitted", "inheritable", "ambient")),
    ),
    ("capability-lost", grant("CAP_CHOWN"), grant("CAP_CHOWN", uid=0)),
    (
        "capability-lost",
        grant("CAP_CHOWN"),
        grant("CAP_CHOWN", kinds=("bounding", "permitted", "inheritable", "effective", "ambient")),
    ),
    ("capability-duplicate", grant("CAP_CHOWN", "CAP_CHOWN"), grant("CAP_CHOWN", "CAP_KILL")),
    ("program-relative", put("process.args", ["bin/serve"]), put("process.args", ["serve"])),
    ("env-no-path", put("process.env", ["HOME=/home/box"]), put("process.env", ["PATH="])),
    (
        "rlimit-too-small",
        put("process.rlimits.1", {"type": "RLIMIT_NOFILE", "soft": 0, "hard": 1024}),
        put("process.rlimits.1", {"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}),
    ),
    # scheduling
    ("scheduler-policy", scheduler(policy="SCHED_ISO"), scheduler(policy="SCHED_IDLE")),
    *(
        (
            "scheduler-nice",
            scheduler(policy="SCHED_OTHER", nice=bad),
            scheduler(policy="SCHED_OTHER", nice=ok),
        )
        for bad, ok in ((20, 19), (-21, -20))
    ),
    ("scheduler-priority", scheduler(policy="SCHED_FIFO"), scheduler(policy="SCHED_FIFO", priority=1)),
    (
        "scheduler-priority",
        scheduler(policy="SCHED_RR", priority=100),
        scheduler(policy="SCHED_RR", priority=99),
    ),
    (
        "scheduler-priority",
        scheduler(policy="SCHED_BATCH", priority=1),
        scheduler(policy="SCHED_BATCH", priority=0),
    ),
    (
        "scheduler-deadline",
        scheduler(policy="SCHED_OTHER", runtime=2000),
        scheduler(policy="SCHED_DEADLINE", runtime=2000, deadline=2000),
    ),
    (
        "scheduler-deadline",
        scheduler(policy="SCHED_DEADLINE", runtime=2000, deadline=1999, period=3000),
        scheduler(policy="SCHED_DEADLINE", runtime=2000, deadline=2500, period=3000),
    ),
    (
        "scheduler-deadline",
        scheduler(policy="SCHED_DEADLINE", runtime=1023, deadline=2000),
        scheduler(policy="SCHED_DEADLINE", runtime=1024, deadline=2000),
    ),
    (
        "io-priority-unset",
        put("process.ioPriority", {"class": "IOPRIO_CLASS_RT"}),
        put("process.ioPriority", {"class": "IOPRIO_CLASS_IDLE"}),
    ),
    *(
        ("number-list", put(f"{CPU}.cpus", bad), put(f"{CPU}.cpus", good))
        for bad, good in (("0-", "0-1"), ("1-0", "0-1"), ("a", ""), ("0,,1", "0, 1"), ("0-1:2", "0"))
    ),
    ("number-list", put(f"{CPU}.mems", "0;1"), put(f"{CPU}.mems", "0,1")),
    (
        "number-list",
        put("process.execCPUAffinity", {"initial": "0", "final": "1 2"}),
        put("process.execCPUAffinity", {"initial": "0", "final": ""}),
    ),
    ("number-list", policy("MPOL_BIND", "0-x"), policy("MPOL_BIND", "0-1")),
    ("memory-policy", policy("MPOL_LOCAL", "0"), policy("MPOL_LOCAL")),
    ("memory-policy", policy("MPOL_BIND"), policy("MPOL_PREFERRED")),
    (
        "memory-policy",
        policy("MPOL_BIND", "0", "MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"),
        policy("MPOL_BIND", "0", "MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"),
    ),
    (
        "memory-policy",
        policy("MPOL_INTERLEAVE", "0", "MPOL_F_NUMA_BALANCING"),
        policy("MPOL_INTERLEAVE", "0", "MPOL_F_STATIC_NODES"),
    ),
    (
        "time-offset-without-namespace",
        put("linux.timeOffsets", {"boottime": {"secs": 1}}),
        both(put("linux.timeOffsets", {"boottime": {"secs": 1}}), add("linux.namespaces", {"type": "time"})),
    ),
    (
        "time-offset-range",
        put("linux.timeOffsets", {"monotonic": {"nanosecs": 10**9}}),
        put("linux.timeOffsets", {"monotonic": {"nanosecs": 10**9 - 1}}),
    ),
    (
        "console-size",
        put("process.consoleSize", {"height": 25, "width": 80}),
        both(put("process.consoleSize", {"height": 25, "width": 80}), put("process.terminal", True)),
    ),
    (
        "console-size",
        both(put("process.consoleSize", {"height": 25, "width": 65536}), put("process.terminal", True)),
        both(put("process.consoleSize", {"height": 25, "width": 65535}), put("process.terminal", True)),
    ),
    # sysctls
    (
        "sysctl-duplicate",
        sysctl(net_core_somaxconn="1", net__core__somaxconn="2"),
        sysctl(net_core_somaxconn="1", net__core__optmem="2"),
    ),
    (
        "sysctl-without-namespace",
        both(sysctl(net_core_somaxconn="1"), without_namespace("network")),
        both(sysctl(net_core_somaxconn="1"), join_namespace("network")),
    ),
    # mounts
    *(
        ("mount-option-type", mount(target, add=(bad,)), mount(target, add=(good,)))
        for target, bad, good in (
            ("/proc", "size=5m", "hidepid=2"),
            ("/tmp", "hidepid=2", "nr_inodes=1k"),
            ("/sys", "mode=755", "relatime"),
            ("/data", "size=1m", "noatime"),
            ("/sys/fs/cgroup", "size=1m", "nsdelegate"),
            ("/tmp", "newinstance", "tmpcopyup"),
            ("/tmp", "upperdir=/x", "context=system_u:object_r:x:s0"),
        )
    ),
    *(
        ("mount-option-value", mount("/tmp", add=(bad,)), mount("/tmp", add=(good,)))
        for bad, good in (
            ("mode=999", "mode=1777"),
            ("mode", "mode=0"),
            ("uid=me", "uid=0"),
            ("inode64=1", "inode64"),
            ("huge=maybe", "huge=never"),
            ("nr_inodes=x", "nr_inodes=4k"),
        )
    ),
    ("mount-option-value", mount("/proc", add=("hidepid=3",)), mount("/proc", add=("hidepid=invisible",))),
    ("mount-option-value", mount("/proc", add=("subset=all",)), mount("/proc", add=("subset=pid",))),
    *(
        ("mount-flags-contradict", mount("/data", add=bad), mount("/data", add=good))
        for bad, good in (
            (("ro",), ("rw",)),
            (("exec",), ("noexec",)),
            (("private", "slave"), ("private",)),
            (("noatime", "strictatime"), ("noatime", "nodiratime")),
        )
    ),
    ("mount-option-duplicate", mount("/data", add=("rw",)), mount("/data", add=("sync",))),
    (
        "idmap-incomplete",
        both(version("1.2.0"), id_mapped("idmap", uidMappings=MAP)),
        both(version("1.2.0"), id_mapped("idmap", **BOTH_MAPS)),
    ),
    ("idmap-unsaid", id_mapped(**BOTH_MAPS), id_mapped("ridmap", **BOTH_MAPS)),
    (
        "idmap-without-mapping",
        both(id_mapped("idmap"), without_namespace("user")),
        both(id_mapped("idmap", **BOTH_MAPS), without_namespace("user")),
    ),
    ("idmap-not-bind", mount("/tmp", add=("idmap",)), id_mapped("idmap")),
    (
        "mapping-overlap",
        id_mapped("idmap", uidMappings=OVERLAPPING, gidMappings=MAP),
        id_mapped("idmap", **BOTH_MAPS),
    ),
    ("path-duplicate", add("linux.maskedPaths", "/proc/keys"), add("linux.maskedPaths", "/proc/key")),
    ("path-duplicate", add("linux.readonlyPaths", "/proc/bus"), add("linux.readonlyPaths", "/proc/busy")),
    (
        "paths-without-mount-namespace",
        without_namespace("mount"),
        both(without_namespace("mount"), drop("linux.maskedPaths"), drop("linux.readonlyPaths")),
    ),
    # limits
    ("memory-negative", put(f"{MEMORY}.limit", -2), put(f"{MEMORY}.limit", -1)),
    ("memory-negative", put(f"{MEMORY}.reservation", -5), put(f"{MEMORY}.reservation", -1)),
    ("swap-without-limit", drop(f"{MEMORY}.limit"), both(drop(f"{MEMORY}.limit"), put(f"{MEMORY}.swap", -1))),
    ("memory-kernel", put(f"{MEMORY}.kernelTCP", -1), put(f"{MEMORY}.swappiness", 0)),
    ("cpu-quota", put(f"{CPU}.quota", -2), put(f"{CPU}.quota", -1)),
    ("cpu-burst", put(f"{CPU}.burst", 50001), put(f"{CPU}.burst", 50000)),
    *(
        ("cpu-shares", put(f"{CPU}.shares", bad), put(f"{CPU}.shares", good))
        for bad, good in ((1, 2), (262145, 262144))
    ),
    (
        "cpu-realtime",
        both(put(f"{CPU}.realtimePeriod", 1000), put(f"{CPU}.realtimeRuntime", 1001)),
        both(put(f"{CPU}.realtimePeriod", 1000), put(f"{CPU}.realtimeRuntime", 0)),
    ),
    *(
        ("io-weight", put(f"{IO}.{name}", bad), put(f"{IO}.{name}", good))
        for name, bad, good in (("weight", 9, 10), ("leafWeight", 1001, 1000))
    ),
    (
        "io-weight",
        put(f"{IO}.weightDevice", [{"major": 8, "minor": 0, "weight": 5}]),
        put(f"{IO}.weightDevice", [{"major": 8, "minor": 0, "weight": 50}]),
    ),
    (
        "io-weight-missing",
        put(f"{IO}.weightDevice", [{"major": 8, "minor": 0}]),
        put(f"{IO}.weightDevice", [{"major": 8, "minor": 0, "leafWeight": 50}]),
    ),
    (
        "io-duplicate",
        put(f"{IO}.throttleReadBpsDevice", [{"major": 8, "minor": 0, "rate": r} for r in (1, 2)]),
        put(f"{IO}.throttleReadBpsDevice", [{"major": 8, "minor": m, "rate": 1} for m in (1, 2)]),
    ),
    *(
        (rule_id, put("linux.resources.hugepageLimits", bad), put("linux.resources.hugepageLimits", good))
        for rule_id, bad, good in (
            (
                "hugepage-duplicate",
                [{"pageSize": "2MB", "limit": 0}] * 2,
                [{"pageSize": size, "limit": 0} for size in ("2MB", "1GB")],
            ),
            (
                "hugepage-part",
                [{"pageSize": "2MB", "limit": 2 * MIB + 1}],
                [{"pageSize": "2MB", "limit": 2 * MIB}],
            ),
        )
    ),
    (
        "rdma-empty",
        put("linux.resources.rdma", {"mlx": {}}),
        put("linux.resources.rdma", {"mlx": {"hcaHandles": 0}}),
    ),
    *(
        (
            "unified-key",
            put("linux.resources.unified", {bad: "1"}),
            put("linux.resources.unified", {good: "1"}),
        )
        for bad, good in (
            ("memory", "memory.high"),
            ("../memory.high", "cgroup.max.depth"),
            ("cgroup.kill", "cgroup.max.descendants"),
            ("memry.high", "misc.max"),
            ("io.", "io.max"),
        )
    ),
    *(
        (rule_id, both(variable(bad)), both(variable(good)))
        for rule_id, bad, good in (
            (
                "heap-above-memory",
                "NODE_OPTIONS=--a --max-old-space-size=64",
                "NODE_OPTIONS=--max-old-space-size=57",
            ),
            ("heap-above-memory", "JAVA_TOOL_OPTIONS=-Xms1m -Xmx64m", "JAVA_TOOL_OPTIONS=-Xms64m -Xmx50m"),
            (
                "heap-above-memory",
                "JDK_JAVA_OPTIONS='-XX:MaxHeapSize=1G'",
                "JDK_JAVA_OPTIONS='-XX:MaxHeapSize=32M'",
            ),
            ("heap-above-memory", "GOMEMLIMIT=1GiB", "GOMEMLIMIT=50MiB"),
            ("heap-above-memory", "GOMEMLIMIT=67108864", "GOMEMLIMIT=off"),
            (
                "heap-fills-memory",
                "NODE_OPTIONS=--max_old_space_size=60",
                "NODE_OPTIONS=--max-old-space-size=50",
            ),
            ("heap-fills-memory", "JAVA_OPTS=-XX:MaxRAMPercentage=95.0", "JAVA_OPTS=-XX:MaxRAMPercentage=75"),
            (
                "heap-by-host",
                "_JAVA_OPTIONS=-XX:-UseContainerSupport",
                "_JAVA_OPTIONS=-XX:+UseContainerSupport",
            ),
        )
    ),
    ("heap-above-memory", argument("--max-old-space-size=4096"), argument("--max-old-space-size=32")),
    ("heap-above-memory", argument("-Xmx1t"), both(argument("-Xmx1t"), put(MEMORY, {}))),
    # the profile's own words
    (
        "seccomp-errno-unused",
        rule("SCMP_ACT_ALLOW", "pause", errnoRet=1),
        rule("SCMP_ACT_ALLOW", "pause"),
    ),
    (
        "seccomp-errno-unused",
        put(f"{SECCOMP}.defaultAction", "SCMP_ACT_KILL_PROCESS"),
        both(put(f"{SECCOMP}.defaultAction", "SCMP_ACT_KILL_PROCESS"), drop(f"{SECCOMP}.defaultErrnoRet")),
    ),
    ("seccomp-errno-zero", put(f"{SECCOMP}.defaultErrnoRet", 0), put(f"{SECCOMP}.defaultErrnoRet", 38)),
    (
        "seccomp-errno-zero",
        rule("SCMP_ACT_ERRNO", "pause", errnoRet=0),
        rule("SCMP_ACT_TRACE", "pause", errnoRet=0),
    ),
    (
        "seccomp-metadata",
        put(f"{SECCOMP}.listenerMetadata", "x"),
        both(put(f"{SECCOMP}.listenerMetadata", "x"), put(f"{SECCOMP}.listenerPath", "/run/x")),
    ),
    (
        "seccomp-nobody-listens",
        rule("SCMP_ACT_NOTIFY", "mkdir"),
        both(rule("SCMP_ACT_NOTIFY", "mkdir"), put(f"{SECCOMP}.listenerPath", "/run/x")),
    ),
    ("seccomp-listener-relative", put(f"{SECCOMP}.listenerPath", "x"), put(f"{SECCOMP}.listenerPath", "/x")),
    (
        "seccomp-flag",
        put(f"{SECCOMP}.flags", ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        both(
            put(f"{SECCOMP}.flags", ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            rule("SCMP_ACT_NOTIFY", "mkdir"),
        ),
    ),
    (
        "seccomp-second-value",
        conditional("socket", {**eq(0, 2), "valueTwo": 1}),
        conditional("socket", {**eq(0, 2), "valueTwo": 0}),
    ),
    ("seccomp-never-met", conditional("socket", masked(0xF0, 2)), conditional("socket", masked(0xFF, 2))),
    ("seccomp-always-met", conditional("socket", masked(0)), conditional("socket", masked(1))),
    (
        "seccomp-condition-duplicate",
        conditional("socket", eq(0, 2), eq(0, 2)),
        conditional("socket", eq(0, 2), eq(1, 2)),
    ),
    ("seccomp-clash", rule("SCMP_ACT_LOG", "write"), rule("SCMP_ACT_LOG", "pause")),
    (
        "seccomp-clash",
        rule("SCMP_ACT_ERRNO", "clone3", errnoRet=1),
        rule("SCMP_ACT_ERRNO", "clone3", errnoRet=1, args=[eq(0, 0)]),
    ),
    ("seccomp-duplicate", rule("SCMP_ACT_ALLOW", "write"), rule("SCMP_ACT_ALLOW", "pause")),
    (
        "seccomp-duplicate",
        add(f"{SECCOMP}.architectures", "SCMP_ARCH_X86_64"),
        add(f"{SECCOMP}.architectures", "SCMP_ARCH_X86"),
    ),
    # devices, interfaces, caches, hooks, labels, annotations
    ("device-number-range", device(major=4096), device(major=4095)),
    ("device-number-range", device(minor=-1), device(minor=1048575)),
    (
        "device-same",
        both(device("/dev/x"), device("/dev/y")),
        both(device("/dev/x"), device("/dev/y", minor=1)),
    ),
    ("device-elsewhere", device("/dev/../x"), device("/dev/net/tun")),
    (
        "net-device-without-namespace",
        both(put("linux.netDevices", {"eth1": {}}), without_namespace("network")),
        both(put("linux.netDevices", {"eth1": {}}), join_namespace("network")),
    ),
    *(
        ("net-device-name", put("linux.netDevices", bad), put("linux.netDevices", good))
        for bad, good in (
            ({"eth0": {"name": "a b"}}, {"eth0": {"name": "a-b"}}),
            ({"e" * 16: {}}, {"e" * 15: {}}),
            ({"..": {"name": "x"}}, {"eth0": {"name": "x..y"}}),
        )
    ),
    (
        "net-device-duplicate",
        put("linux.netDevices", {"eth1": {"name": "x"}, "eth2": {"name": "x"}}),
        put("linux.netDevices", {"eth1": {"name": "x%d"}, "eth2": {"name": "x%d"}}),
    ),
    *(
        ("rdt-class", put("linux.intelRdt", {"closID": bad}), put("linux.intelRdt", {"closID": good}))
        for bad, good in (("..", "a..b"), ("a/b", "/"), ("", "a"))
    ),
    (
        "rdt-schema",
        put("linux.intelRdt", {"l3CacheSchema": "0=f"}),
        put("linux.intelRdt", {"l3CacheSchema": "L3:0=f"}),
    ),
    (
        "rdt-schema",
        put("linux.intelRdt", {"schemata": ["L2:0=f\nMB:0=1"]}),
        put("linux.intelRdt", {"schemata": ["L2:0=f", "MB:0=1"]}),
    ),
    (
        "hook-deprecated",
        put("hooks", {"prestart": [{"path": "/x"}]}),
        put("hooks", {"createRuntime": [{"path": "/x"}]}),
    ),
    (
        "hook-timeout",
        put("hooks", {"poststop": [{"path": "/x"}]}),
        put("hooks", {"poststop": [{"path": "/x", "timeout": 1}]}),
    ),
    (
        "hook-env",
        put("hooks", {"poststop": [{"path": "/x", "env": ["A"]}]}),
        put("hooks", {"poststop": [{"path": "/x", "env": ["A="]}]}),
    ),
    (
        "selinux-label",
        put("process.selinuxLabel", "container_t"),
        put("process.selinuxLabel", "system_u:system_r:container_t:s0:c1,c2"),
    ),
    (
        "selinux-label",
        put("linux.mountLabel", "a:b:c:x"),
        put("linux.mountLabel", "system_u:object_r:container_file_t:s0-s0:c0.c1023"),
    ),
    ("apparmor-name", put("process.apparmorProfile", "a b"), put("process.apparmorProfile", "a-b")),
    (
        "annotation-reserved",
        annotation("org.opencontainers.image.stopsignal"),
        annotation("org.opencontainers.image.source"),
    ),
    ("annotation-reserved", annotation("org.opencontainers.x"), annotation("org.opencontainersx.y")),
    *(
        (
            "stop-signal",
            annotation("org.opencontainers.image.stopSignal", bad),
            annotation("org.opencontainers.image.stopSignal", good),
        )
        for bad, good in (("SIGTRM", "SIGTERM"), ("65", "64"), ("TERM", "SIGRTMIN+3"))
    ),
    (
        "bind-option-missing",
        mount("/data", without=("bind",)),
        mount("/data", add=("rbind",), without=("bind",)),
    ),
    ("tmpfs-open", mount("/dev", without=("mode=755",)), mount("/dev", add=("mode=0711",))),
    ("tmpfs-open", mount("/tmp", add=("mode=0777",)), mount("/tmp", add=("mode=1777",))),
    ("tmpfs-closed", mount("/tmp", add=("mode=755",)), mount("/tmp", add=("mode=755", "uid=65532"))),
    (
        "devpts-closed",
        new_mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec"),
        new_mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "ptmxmode=0666"),
    ),
    ("masked-path-too-wide", masked_path("/bin"), masked_path("/bin/other")),
    ("masked-path-too-wide", masked_path("/proc"), masked_path("/proc/kcore")),
    ("cwd-proc", put("process.cwd", "/proc/self/fd/7"), put("process.cwd", "/proc/self")),
    ("umask-odd", put("process.user.umask", 0o177), put("process.user.umask", 0o077)),
    ("args-secret", argument("--db-password=x"), argument("--db-password-file=x")),
    ("args-secret", argument("-token=x"), argument("-token=/run/token")),
    ("mapping-overflow", last_ids(100), last_ids(99)),
    ("mapping-too-many", many_ids(341), many_ids(340)),
    ("seccomp-socketpair", sockets(), sockets({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"})),
    (
        "seccomp-family-none",
        sockets({"index": 0, "value": 0xFFFFFFFF, "op": "SCMP_CMP_MASKED_EQ"}),
        sockets({"index": 0, "value": 0xFFFFFFFF, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}),
    ),
    (
        "annotation-os",
        annotation("org.opencontainers.image.os", "windows"),
        annotation("org.opencontainers.image.os", "linux"),
    ),
]


@pytest.mark.parametrize(
    ("rule_id", "trip", "miss"), TABLE, ids=[f"{n}-{row[0]}" for n, row in enumerate(TABLE)]
)
def test_each_rule_trips_and_lets_the_near_miss_pass(rule_id: str, trip: Change, miss: Change) -> None:
    tripped, missed = Case(), Case()
    trip(tripped)
    miss(missed)
    assert rule_id in rules(tripped)
    assert rule_id not in rules(missed)


def message(rule_id: str, change: Change) -> tuple[str, str, str, Severity]:
    """What one rule says of a changed bundle: message, path, mend, severity."""
    case = Case()
    change(case)
    found = next(f for f in findings(case) if f.rule == rule_id)
    return found.message, found.path, found.mend, found.severity


def test_a_heap_above_the_limit_says_both_numbers_and_what_fits() -> None:
    change = argument("--max-old-space-size=4096")
    assert message("heap-above-memory", change) == (
        "`--max-old-space-size=4096` lets the heap grow to 4096 MiB, above the memory limit of 64 MiB: "
        "the kernel kills before it collects",
        "process.args[1]",
        "write at most 57 MiB, or raise `mem_limit`",
        Severity.HIGH,
    )


def test_an_option_of_another_file_system_is_told_with_its_home() -> None:
    assert message("mount-option-type", mount("/proc", add=("size=5m",)))[0] == (
        "`size=5m` is an option of tmpfs, not of proc on `/proc`: the kernel refuses it"
    )
    assert message("mount-option-type", mount("/data", add=("size=5m",)))[0].endswith(": it is dropped")


def test_flags_that_contradict_say_which_one_counts() -> None:
    assert message("mount-flags-contradict", mount("/data", add=("ro",))) == (
        "`rw` and `ro` on `/data`: the last counts",
        "mounts[5].options",
        "keep `ro`",
        Severity.MEDIUM,
    )


def test_what_makes_a_runtime_fail_weighs_more_than_what_is_dropped() -> None:
    """As measured: an effective capability that is not permitted fails, an ambient one is dropped."""
    refused = message("capability-inconsistent", grant("CAP_CHOWN", uid=0, kinds=("bounding", "effective")))
    dropped = message(
        "capability-inconsistent", grant("CAP_CHOWN", uid=0, kinds=("bounding", "permitted", "ambient"))
    )
    assert (refused[0], refused[3]) == (
        "CAP_CHOWN is effective and not permitted: the kernel refuses that",
        Severity.HIGH,
    )
    assert (dropped[0], dropped[3]) == (
        "CAP_CHOWN is ambient and not inheritable: it is dropped without a word",
        Severity.MEDIUM,
    )


def test_a_unified_key_has_a_suggestion() -> None:
    assert message("unified-key", put("linux.resources.unified", {"memry.high": "1"}))[:3] == (
        "`memry` in `memry.high` is no controller of cgroup v2",
        'linux.resources.unified["memry.high"]',
        "did you mean `memory.high`?",
    )


def test_mounts_of_a_new_kind_are_left_to_the_kernel() -> None:
    case = Case()
    new_mount("/o", "overlay", "overlay", "lowerdir=/a", "upperdir=/b", "workdir=/c")(case)
    assert not {"mount-option-type", "mount-option-value", "mount-option-unknown"} & rules(case)
    assert nothing(Case()) == []
