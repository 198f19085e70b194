"""The hardening policy as an index: forty rules, each with its weight, its sources and one function.

Anchors: CIS Docker Benchmark §5 (as docker-bench-security checks it), Pod Security Standards, the NSA/CISA
Kubernetes guide, `systemd-analyze security`, moby oci/defaults. What is judged beyond the forty follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.checks import (
    baselines,
    environment,
    hardening,
    hardening_devices,
    hardening_mounts,
    hardening_service,
    meaning_linux,
    mount_kinds,
    rootfs,
    seccomp,
    seccomp_mistakes,
    seccomp_open,
    seccomp_pin,
    sources,
    unpacked,
)
from pipeline.checks.layers import Check, Layer
from pipeline.checks.subject import CRITICAL, HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Severity

WEIGHTS: Mapping[Severity, int] = {CRITICAL: 8, HIGH: 4, MEDIUM: 2, LOW: 1}


@dataclass(frozen=True)
class Rule:
    """One of the forty: what it asks, who answers, why, and who else asks for it.

    `rules` are the findings that its function can yield (ids, separated by spaces); those in `told` do not
    break it, those of `others` do, since they take away what it builds on. A rule whose function belongs to
    another layer is judged there, once.
    """

    number: int
    severity: Severity
    name: str
    run: Callable[[Subject], Findings]
    rules: str
    why: str
    anchors: str
    told: str = ""
    others: str = ""
    layer: Layer = Layer.HARDENING

    @property
    def weight(self) -> int:
        """What it counts in the score."""
        return WEIGHTS[self.severity]

    @property
    def broken_by(self) -> frozenset[str]:
        """The findings that mean that it is not met."""
        return frozenset([*self.rules.split(), *self.others.split()]) - set(self.told.split())


_NO_FILTER = "seccomp-missing seccomp-default-allows"
_TYPES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")

# fmt: off
FORTY: tuple[Rule, ...] = (
    Rule(1, HIGH, "not root", hardening.not_root, "runs-as-root",
         "root and a bug of the kernel are root of the host", "PSS runAsNonRoot; CIS 4.1; NSA/CISA"),
    Rule(2, HIGH, "not in root's group", hardening.no_root_group, "root-group",
         "images leave files open to root's group", "PSS runAsGroup; NSA/CISA"),
    Rule(3, HIGH, "user namespace, ids from 65536 on", hardening.user_namespace,
         "host-user-namespace low-host-ids",
         "root inside is nobody outside", "CIS 5.31; user_namespaces(7)",
         others="joined-user-namespace mount-maps-root"),
    Rule(4, MEDIUM, "uid and gid mapped", rootfs.ids, "id-unmapped",
         "what is not mapped cannot start", "user_namespaces(7); runc",
         others="userns-without-mapping mapping-empty mapping-without-userns", layer=Layer.BUNDLE),
    Rule(5, CRITICAL, "no new privileges", hardening.no_new_privileges, "new-privileges",
         "it disarms set-id programs", "CIS 5.26; PSS allowPrivilegeEscalation; systemd NoNewPrivileges"),
    Rule(6, HIGH, "five capability sets, NET_BIND_SERVICE at most", hardening.few_capabilities,
         "capabilities-unset capability-added",
         "least privilege", "PSS capabilities; CIS 5.4; systemd CapabilityBoundingSet",
         others="capability-root-like capability-unknown"),
    Rule(7, CRITICAL, "no capability that amounts to root", hardening.no_root_like_capability,
         "capability-root-like",
         "SYS_ADMIN is nearly root", "CIS 5.4; PSS capabilities; capabilities(7)"),
    Rule(8, MEDIUM, "no inheritable or ambient capability", hardening.inherited_capabilities,
         "capability-inherited",
         "every program started later has them", "CVE-2022-24769; moby"),
    Rule(9, HIGH, "own pid namespace", hardening.pid_namespace, "host-pid-namespace",
         "signals and /proc of the host's processes", "CIS 5.16; PSS hostPID",
         others="joined-pid-namespace"),
    Rule(10, HIGH, "own network namespace", hardening.network_namespace, "host-network-namespace",
         "services on the host's loopback", "CIS 5.10; PSS hostNetwork",
         others="joined-network-namespace"),
    Rule(11, HIGH, "own ipc namespace", hardening.ipc_namespace, "host-ipc-namespace",
         "shared memory of the host's programs", "CIS 5.17; PSS hostIPC",
         others="joined-ipc-namespace"),
    Rule(12, MEDIUM, "own uts namespace", hardening.uts_namespace, "host-uts-namespace",
         "the host's name", "CIS 5.21",
         others="joined-uts-namespace"),
    Rule(13, HIGH, "own mount namespace", hardening.mount_namespace, "host-mount-namespace",
         "masks and read-only mounts need it", "runc; mount_namespaces(7)",
         others="joined-mount-namespace"),
    Rule(14, MEDIUM, "own cgroup namespace", hardening.cgroup_namespace, "host-cgroup-namespace",
         "it tells where on the host the program lies", "cgroup_namespaces(7)",
         others="joined-cgroup-namespace"),
    Rule(15, HIGH, "no namespace joined by path", hardening.joined_namespaces,
         " ".join(f"joined-{name}-namespace" for name in _TYPES),
         "sharing that a list of types does not show", "PSS hostNamespaces; config-linux.md, namespaces"),
    Rule(16, HIGH, "read-only root", hardening.root_filesystem, "writable-root",
         "what breaks in cannot stay", "CIS 5.13; NSA/CISA"),
    Rule(17, HIGH, "the root is the bundle's own `rootfs`", meaning_linux.root_path, "root-path",
         "no foreign tree", "bundle.md; runtime-tools validate",
         others="rootfs-link", layer=Layer.MEANING),
    Rule(18, CRITICAL, "no sensitive bind, no socket", sources.binds,
         "engine-socket socket-bind sensitive-bind",
         "an engine's socket is root of the host", "CIS 5.6, 5.32; PSS hostPath"),
    Rule(19, HIGH, "binds nosuid, nodev, noexec or read-only", hardening_mounts.bind_flags,
         "bind-exec bind-flags",
         "planted programs and devices", "mount(8); systemd NoExecPaths"),
    Rule(20, MEDIUM, "tmpfs nosuid, nodev, sized", hardening_mounts.tmpfs,
         "tmpfs-flags tmpfs-percent tmpfs-size-bad tmpfs-unsized",
         "memory of the host", "moby, oci/defaults; tmpfs(5)",
         told="tmpfs-percent"),
    Rule(21, HIGH, "no shared propagation", hardening_mounts.propagation, "shared-propagation",
         "mounts would leak out", "CIS 5.20"),
    Rule(22, MEDIUM, "/proc nosuid, nodev, noexec; /sys read-only", hardening_mounts.pseudo_flags,
         "pseudo-flags sysfs-writable",
         "the flags of every container", "moby, oci/defaults",
         others="proc-missing pseudo-elsewhere"),
    Rule(23, MEDIUM, "cgroups read-only", hardening_mounts.cgroup_readonly, "cgroup-writable",
         "release_agent is a program of the host", "CVE-2022-0492; PSS privileged"),
    Rule(24, HIGH, "masked paths", hardening_mounts.masked, "unmasked-path unmasked-path-recent",
         "keys, side channels, the host's hardware", "moby, oci/defaults; containers/common; PSS procMount"),
    Rule(25, HIGH, "read-only paths", hardening_mounts.readonly, "writable-proc",
         "/proc/sys and sysrq-trigger change the host", "moby, oci/defaults; PSS procMount"),
    Rule(26, HIGH, "masked and read-only paths absolute and normal", meaning_linux.protected_paths,
         "path-not-absolute",
         "others are passed over in silence", "config-linux.md; runtime-tools validate",
         layer=Layer.MEANING),
    Rule(27, CRITICAL, "no device but the default ones", hardening_devices.devices, "device-added",
         "a raw disk is every file on it", "CIS 5.18",
         others="device-rule-without-device"),
    Rule(28, HIGH, "devices denied first", hardening_devices.devices_denied,
         "devices-not-denied devices-open",
         "mknod(2)", "systemd DevicePolicy; config-linux.md, devices"),
    Rule(29, MEDIUM, "memory limited, no swap", hardening.memory,
         "memory-unlimited swap-allowed swap-unlimited",
         "one leak takes the host down", "CIS 5.11",
         others="unified-contradicts"),
    Rule(30, MEDIUM, "processes limited", hardening.processes, "pids-above-host pids-unlimited",
         "fork bombs", "CIS 5.29"),
    Rule(31, LOW, "CPU time limited", hardening.cpu, "cpu-unlimited",
         "it starves others", "CIS 5.12"),
    Rule(32, MEDIUM, "NOFILE and NPROC limited, no core", hardening.rlimits,
         "core-dumps nofile-unset nproc-unset",
         "a core file holds secrets", "CIS 5.19; core(5)"),
    Rule(33, CRITICAL, "seccomp denies by default", seccomp.confined, f"{_NO_FILTER} seccomp-kills-thread",
         "the surface of the kernel", "CIS 5.22; PSS seccompProfile",
         told="seccomp-kills-thread"),
    Rule(34, MEDIUM, "seccomp for the native architecture alone", seccomp.architectures,
         "seccomp-architecture seccomp-foreign-architecture",
         "another calling convention", "systemd SystemCallArchitectures=native",
         others=_NO_FILTER),
    Rule(35, HIGH, "no call that is known as a way out", seccomp_open.escapes, "seccomp-escape",
         "bpf, mount, ptrace, io_uring and the like", "moby profiles/seccomp; CIS 5.22",
         others=_NO_FILTER),
    Rule(36, HIGH, "clone makes no namespaces, clone3 is absent", seccomp_open.clone_arguments,
         "seccomp-clone-flags",
         "bugs behind user namespaces", "moby profiles/seccomp; clone(2)",
         others=f"{_NO_FILTER} seccomp-clone3"),
    Rule(37, HIGH, "socket families listed, compared in 32 bits", seccomp_open.socket_families,
         "seccomp-socket-families seccomp-wide-compare",
         "AF_ALG, AF_VSOCK", "moby profiles/seccomp; systemd RestrictAddressFamilies",
         others=_NO_FILTER),
    Rule(38, MEDIUM, "AppArmor or SELinux", hardening_service.security_module,
         "lsm-unconfined no-lsm-profile",
         "a second layer", "CIS 5.2, 5.3; PSS appArmorProfile, seLinuxOptions"),
    Rule(39, CRITICAL, "no hooks", hardening.hook_programs, "hook",
         "programs of the host, as root", "config.md, hooks"),
    Rule(40, MEDIUM, "clean environment", environment.variables, "env-control env-preload env-secret",
         "secrets, and libraries that are loaded into everything", "NSA/CISA; ld.so(8)",
         others="env-writable-library"),
)
# fmt: on


def _check(name: str, run: Callable[[Subject], Findings], *rules: str) -> Check:
    return Check(name, Layer.HARDENING, run, rules)


BEYOND: Mapping[str, tuple[Check, ...]] = {
    "the image": (
        _check(
            *("no privileged files", unpacked.privileged_files),
            *("privilege-dropped", "privileged-file", "privileged-file-not-found"),
        ),
        _check("no devices from the image", unpacked.devices, "device-dropped"),
        _check("no attributes from the image", unpacked.attributes, "xattr-dropped"),
    ),
    "environment and annotations": (
        _check("libraries out of reach", environment.libraries, "env-writable-library"),
        _check("no orders to runtimes", environment.obeyed_annotations, "annotation-obeyed"),
        _check("today's baseline", baselines.current, "baseline-old"),
    ),
    "mounts": (
        _check("known file systems", mount_kinds.types, "mount-type"),
        _check("one /proc and /sys", mount_kinds.places, "proc-missing", "pseudo-elsewhere"),
        _check("ids of mounts", mount_kinds.id_mapped, "mount-maps-root"),
        _check("nothing over the system", sources.bind_targets, "mount-over-system"),
        _check("no programs on tmpfs", hardening_mounts.tmpfs_programs, "tmpfs-exec"),
        _check("heat masked", hardening_mounts.thermal, "unmasked-thermal"),
        _check("own limits visible", hardening_mounts.own_limits_visible, "limits-invisible"),
        _check("nothing mounted later", hardening_mounts.loose_propagation, "loose-propagation"),
    ),
    "devices and limits": (
        _check("devices there", hardening_devices.devices_there, "device-rule-without-device"),
        _check("own cgroup", hardening_devices.cgroups_path, "cgroups-path"),
        _check("limits not lifted", hardening_devices.unified, "unified-contradicts"),
        _check("the OOM killer works", hardening.oom_killer, "oom-killer-off"),
    ),
    "the process": (
        _check("low ports", hardening.low_ports, "capability-bind"),
        _check("no terminal", hardening_service.terminal, "terminal"),
        _check("umask", hardening_service.umask, "umask-open"),
        _check("usual personality", hardening_service.personality, "personality"),
        _check("caches not shared", hardening_service.cache_allocation, "intel-rdt"),
    ),
    "seccomp": (
        _check("clone3 absent", seccomp_open.clone3, "seccomp-clone3"),
        _check(
            *("seccomp alone decides", seccomp_open.decided_elsewhere),
            *("seccomp-decided-elsewhere", "seccomp-listener", "seccomp-spec-allow"),
        ),
        _check(
            *("seccomp compares what is read", seccomp_mistakes.argument_tests),
            *("seccomp-walked-around", "seccomp-wide-integer"),
        ),
        _check("seccomp rules not joined into all", seccomp_mistakes.joined_by_or, "seccomp-two-ne"),
        _check("seccomp rules not lost", seccomp_mistakes.lost_rules, "seccomp-shadowed"),
        _check(
            *("seccomp actions refuse", seccomp_mistakes.actions),
            *("seccomp-errno-zero", "seccomp-log-allows", "seccomp-rule-kills-thread"),
        ),
        _check("seccomp calls hold no others", seccomp_mistakes.multiplexed, "seccomp-multiplexed"),
        _check("seccomp personality", seccomp_mistakes.personality, "seccomp-personality"),
        _check(
            *("seccomp as pinned", seccomp_pin.as_pinned),
            *("seccomp-unpinned", "seccomp-widened", "seccomp-narrowed"),
        ),
    ),
}
"""What else hardening asks, by what it is about; it does not count in the score."""


def checks() -> tuple[Check, ...]:
    """Return the checks of the hardening layer: those of the forty that no other layer makes, and beyond."""
    forty = (Check(rule.name, rule.layer, rule.run, tuple(rule.rules.split())) for rule in FORTY)
    beyond = (check for group in BEYOND.values() for check in group)
    return (*(check for check in forty if check.layer is Layer.HARDENING), *beyond)


HARDENING_RULES = frozenset(rule for check in checks() for rule in check.rules)
"""Every finding of the hardening layer."""
