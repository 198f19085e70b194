"""Near misses for rules whose good case is far from tripping them: each looks like the fault and is none."""

from __future__ import annotations

import pytest

from pipeline.checks.subject import PrivilegedFile
from tests.judged import BASE, CRUN_FLOOR, FOLDER, Case, folder, rules
from tests.test_checks_rules import (
    Change,
    add,
    both,
    drop,
    extra,
    facts,
    grant,
    host,
    join_namespace,
    mount,
    new_mount,
    put,
    refuse,
    unpacked,
    without_mask,
    without_namespace,
)

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "user", "uts")
MEMORY = "linux.resources.memory"
PRIVILEGED = (PrivilegedFile("/bin/su", "4755"),)


def last(name: str) -> Change:
    """Name a namespace last, with an empty path, which means a new one."""
    return both(without_namespace(name), add("linux.namespaces", {"type": name, "path": ""}))


TABLE: list[tuple[str, Change]] = [
    *((f"host-{name}-namespace", last(name)) for name in NAMESPACES),
    *((f"joined-{name}-namespace", last(name)) for name in NAMESPACES),
    ("mapping-without-userns", last("user")),
    (
        "userns-without-mapping",
        both(join_namespace("user"), drop("linux.uidMappings"), drop("linux.gidMappings")),
    ),
    ("bind-source-missing", mount("/data", source="/srv/./data/")),
    ("bind-source-relative", mount("/data", source="/srv/../srv/data")),
    ("bundle-open", host(FOLDER, folder(0o714, 0, BASE))),
    ("capability-bind", grant("CAP_NET_RAW")),
    ("capabilities-unset", grant("CAP_NET_BIND_SERVICE")),
    ("core-dumps", put("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}])),
    ("nofile-unset", put("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 20}])),
    ("cpu-unlimited", put("linux.resources.cpu", {"quota": 1000})),
    ("device-dropped", unpacked(privileged=PRIVILEGED, xattrs=("trusted.x (1)",))),
    ("xattr-dropped", unpacked(privileged=PRIVILEGED, devices=("/dev/x (c)",))),
    ("privileged-file-not-found", unpacked(privileged=PRIVILEGED)),
    ("intel-rdt", put("annotations", {"org.example.intelRdt": "x"})),
    ("memory-unlimited", put(f"{MEMORY}.limit", 6 << 20)),
    ("swap-unlimited", put(f"{MEMORY}.swap", 1 << 40)),
    ("swap-allowed", put(MEMORY, {"limit": 1 << 30, "swap": 1 << 30})),
    ("mount-target-relative", new_mount("/..data/a..b/...", "tmpfs", "tmpfs", "size=1m")),
    ("proc-missing", mount("/proc", destination="//proc/.")),
    ("pseudo-flags", mount("/proc", add=("exec", "suid", "dev", "noexec", "nosuid", "nodev"))),
    ("tmpfs-exec", mount("/tmp", add=("exec", "noexec"))),
    ("tmpfs-above-memory", mount("/tmp", add=("size=64m",))),
    (
        "tmpfs-above-memory",
        both(mount("/tmp", add=("size=1g",)), put(MEMORY, {"limit": 1 << 30, "swap": 1 << 30})),
    ),
    (
        "unmasked-path-recent",
        both(without_mask("/sys/devices/virtual/powercap"), add("linux.maskedPaths", "/sys/devices/virtual")),
    ),
    ("unmasked-path", put("mounts", [])),
    (
        "seccomp-blocks-runtime-sometimes",
        both(refuse("futex"), facts(runtime="crun", runtime_version="1.8.1", floor=CRUN_FLOOR)),
    ),
    ("seccomp-default-allows", put("linux.seccomp.defaultAction", "SCMP_ACT_TRAP")),
    ("seccomp-foreign-architecture", add("linux.seccomp.architectures", "SCMP_ARCH_ARM")),
    ("seccomp-listener", put("linux.seccomp.listenerMetadata", "x")),
    ("seccomp-missing", put("linux.seccomp.syscalls", [])),
    ("rootfs-missing", both(put("root.path", f"{FOLDER}/rootfs"), extra(changed=()))),
    ("rootfs-link", host(f"{FOLDER}/rootfs", folder(0o555))),
    ("new-privileges", put("process.user", {"uid": 0, "gid": 0})),
    ("writable-root", mount("/data", add=("rw",))),
]


@pytest.mark.parametrize(("rule", "change"), TABLE, ids=[f"{n}-{row[0]}" for n, row in enumerate(TABLE)])
def test_a_near_miss_is_let_pass(rule: str, change: Change) -> None:
    case = Case()
    change(case)
    assert rule not in rules(case)
