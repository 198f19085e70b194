"""Hardening of what the program sees: mounts, masked and read-only paths, devices.

Anchors: CIS Docker Benchmark §5, Pod Security Standards, moby's and podman's masked paths.
"""

from __future__ import annotations

import posixpath

from pipeline.checks.meaning_linux import resources
from pipeline.checks.subject import CRITICAL, HIGH, LOW, MEDIUM, Findings, Subject, is_bind, options
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount
from pipeline.model.runtime_resources import DeviceRule

# Their content, or a socket in them, gives the host away.
_SENSITIVE = (
    "/boot",
    "/dev",
    "/etc",
    "/lib/modules",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/usr",
    "/var/lib/docker",
    "/var/run",
)
_HARMLESS = (
    "/etc/hosts",
    "/etc/localtime",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/timezone",
    "/usr/share/zoneinfo",
)
_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock", "podman.sock")
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
)
_MASKED_SYS = ("/sys/devices/virtual/powercap", "/sys/firmware")
# What containers hid before 2025; the lack of a newer one weighs less.
_LONG_KNOWN = frozenset(
    {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/scsi"}
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PSEUDO = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"})


def masked(subject: Subject) -> Findings:
    """What leaks or harms in /proc and /sys is masked (rule 24)."""
    linux = subject.config.linux
    there = set((linux.masked_paths if linux else None) or ())
    types = {mount.type for _, mount in subject.mounts}
    wanted = (*(_MASKED if "proc" in types else ()), *(_MASKED_SYS if "sysfs" in types else ()))
    lacking = [path for path in wanted if not _covers(there, path)]
    old = [path for path in lacking if path in _LONG_KNOWN]
    new = [path for path in lacking if path not in _LONG_KNOWN]
    source = "moby, oci/defaults; containers/common#2375; CIS; PSS procMount"
    if old:
        message = f"not masked: {', '.join(old)}"
        yield Finding("unmasked-path", HIGH, message, "linux.maskedPaths", f"add {', '.join(old)}", source)
    if new:
        message = f"not masked: {', '.join(new)}"
        yield Finding(
            "unmasked-path-recent", MEDIUM, message, "linux.maskedPaths", f"add {', '.join(new)}", source
        )
    yield from _thermal(subject, there, "sysfs" in types)


def _thermal(subject: Subject, there: set[str], has_sys: bool) -> Findings:
    paths = [f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(subject.host.thermal_cpus)]
    lacking = [path for path in paths if not _covers(there, path)]
    if has_sys and lacking:
        message = f"thermal_throttle of {len(lacking)} CPUs is not masked: it tells what other programs do"
        yield Finding(
            "unmasked-thermal", LOW, message, "linux.maskedPaths", f"add {lacking[0]} …", "moby, oci/defaults"
        )


def _covers(masks: set[str], path: str) -> bool:
    return any(path == mask or path.startswith(mask.rstrip("/") + "/") for mask in masks)


def readonly(subject: Subject) -> Findings:
    """What could change the host in /proc is read-only (rule 25)."""
    linux = subject.config.linux
    there = set((linux.readonly_paths if linux else None) or ()) | set(
        (linux.masked_paths if linux else None) or ()
    )
    lacking = [path for path in _READONLY if not _covers(there, path)]
    if lacking and any(mount.type == "proc" and "ro" not in options(mount) for _, mount in subject.mounts):
        message = f"writable: {', '.join(lacking)}"
        mend = f"add {', '.join(lacking)} to linux.readonlyPaths"
        yield Finding(
            "writable-proc", HIGH, message, "linux.readonlyPaths", mend, "moby, oci/defaults; PSS procMount"
        )


def binds(subject: Subject) -> Findings:
    """No bind shows the host's own files or a container engine's socket (rule 18)."""
    for path, mount in subject.mounts:
        source = posixpath.normpath(mount.source or "")
        if not is_bind(mount) or not mount.source:
            continue
        if posixpath.basename(source) in _SOCKETS:
            message = f"`{source}` lets the program start containers as root of the host"
            yield Finding("engine-socket", CRITICAL, message, f"{path}.source", "drop it", "CIS 5.32")
        elif source == "/" or (
            _below(source, _SENSITIVE) and not _below(source, _HARMLESS) and not _is_expected(source)
        ):
            message = f"the bind shows `{source}` of the host to the program"
            mend = "bind a folder that is there for this program alone"
            severity = HIGH if "ro" in options(mount) else CRITICAL
            yield Finding(
                "sensitive-bind", severity, message, f"{path}.source", mend, "CIS 5.6; PSS hostPath"
            )


def _below(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def _is_expected(source: str) -> bool:
    # Device nodes are judged as devices; the init that `init: true` binds is a program like the image's own.
    return source.startswith("/dev/") or posixpath.basename(source) in (
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
    )


def bind_flags(subject: Subject) -> Findings:
    """A bind is nosuid, nodev, and noexec unless nothing can be written to it (rule 19)."""
    for path, mount in subject.mounts:
        if not is_bind(mount) or (mount.source or "").startswith("/dev/"):
            continue
        has = options(mount)
        lacking = [flag for flag in ("nosuid", "nodev") if flag not in has]
        if "noexec" not in has and "ro" not in has:
            message = f"programs that are written to `{mount.destination}` can be run"
            yield Finding(
                "bind-exec",
                MEDIUM,
                message,
                f"{path}.options",
                "drop `exec`: noexec is the default",
                "mount(8)",
            )
        if lacking:
            message = f"the bind on `{mount.destination}` lacks {', '.join(lacking)}"
            yield Finding(
                "bind-flags", HIGH, message, f"{path}.options", f"add {', '.join(lacking)}", "mount(8)"
            )


def tmpfs_flags(subject: Subject) -> Findings:
    """A tmpfs is nosuid and nodev and has a size (rule 20)."""
    for path, mount in subject.mounts:
        if mount.type != "tmpfs":
            continue
        wanted = ("nosuid",) if mount.destination == "/dev" else ("nosuid", "nodev")
        lacking = [flag for flag in wanted if flag not in options(mount)]
        if lacking:
            message = f"the tmpfs on `{mount.destination}` lacks {', '.join(lacking)}"
            yield Finding(
                "tmpfs-flags",
                MEDIUM,
                message,
                f"{path}.options",
                f"add {', '.join(lacking)}",
                "moby, oci/defaults",
            )
        if not any(option.startswith("size=") for option in options(mount)):
            message = f"the tmpfs on `{mount.destination}` has no size: half of the host's memory"
            yield Finding("tmpfs-unsized", MEDIUM, message, f"{path}.options", "add size=64m", "tmpfs(5)")
        if "noexec" not in options(mount) and mount.destination != "/dev":
            message = f"programs that are written to `{mount.destination}` can be run"
            yield Finding(
                "tmpfs-exec",
                LOW,
                message,
                f"{path}.options",
                "drop `exec`: noexec is the default",
                "mount(8)",
            )


def pseudo_flags(subject: Subject) -> Findings:
    """/proc, /sys and the like have the flags of every container (rules 22 and 23)."""
    for path, mount in subject.mounts:
        if mount.type not in _PSEUDO:
            continue
        wanted = ["nosuid", "noexec", *([] if mount.type == "devpts" else ["nodev"])]
        lacking = [flag for flag in wanted if flag not in options(mount)]
        if lacking:
            message = f"the {mount.type} on `{mount.destination}` lacks {', '.join(lacking)}"
            yield Finding(
                "pseudo-flags",
                LOW,
                message,
                f"{path}.options",
                f"add {', '.join(lacking)}",
                "moby, oci/defaults",
            )
        yield from _must_be_readonly(path, mount)


def _must_be_readonly(path: str, mount: Mount) -> Findings:
    if mount.type in ("cgroup", "cgroup2") and "ro" not in options(mount):
        message = "the cgroup file system is writable: the program can lift its limits (CVE-2022-0492)"
        yield Finding("cgroup-writable", HIGH, message, f"{path}.options", "add ro", "CVE-2022-0492")
    if mount.type == "sysfs" and "ro" not in options(mount):
        yield Finding(
            "sysfs-writable", HIGH, "/sys is writable", f"{path}.options", "add ro", "moby, oci/defaults"
        )


def own_limits_visible(subject: Subject) -> Findings:
    """A program that sizes its heap by its cgroup can see it, as node and the JVM do."""
    limited = resources(subject).memory
    seen = any(mount.type in ("cgroup", "cgroup2") for _, mount in subject.mounts)
    if limited and limited.limit and limited.limit > 0 and not seen and "network" in subject.namespaces:
        message = (
            "no cgroup file system: node and the JVM size their heaps by the host's memory and get killed"
        )
        mend = "mount cgroup read-only on /sys/fs/cgroup, with a cgroup namespace"
        yield Finding("limits-invisible", MEDIUM, message, "mounts", mend, "V8 and libuv, as measured")


def propagation(subject: Subject) -> Findings:
    """No mount made inside shows outside (rule 21)."""
    linux = subject.config.linux
    if linux and linux.rootfs_propagation in ("shared", "rshared"):
        message = "mounts made in the container show on the host"
        yield Finding(
            "shared-propagation", HIGH, message, "linux.rootfsPropagation", "write private", "CIS 5.20"
        )
    for path, mount in subject.mounts:
        if {"shared", "rshared"} & options(mount):
            message = f"mounts made below `{mount.destination}` show on the host"
            yield Finding(
                "shared-propagation", HIGH, message, f"{path}.options", "write rprivate", "CIS 5.20"
            )


def devices(subject: Subject) -> Findings:
    """No device of the host but those that every container has (rule 27)."""
    linux = subject.config.linux
    listed = [
        (f"linux.devices[{n}]", d.path, d.type)
        for n, d in enumerate((linux.devices if linux else None) or ())
    ]
    listed += [
        (path, mount.source or "", "c")
        for path, mount in subject.mounts
        if is_bind(mount) and (mount.source or "").startswith("/dev/")
    ]
    blocks = {(r.major, r.minor) for r in resources(subject).devices or () if r.allow and r.type == "b"}
    for path, name, kind in listed:
        severity = CRITICAL if kind == "b" or (blocks and path.startswith("mounts")) else HIGH
        message = f"the program is given the device `{name}`"
        yield Finding("device-added", severity, message, path, "take it out of `devices`", "CIS 5.18")


def device_rules(subject: Subject) -> Findings:
    """Devices are denied first, and then only what is named is allowed (rule 28)."""
    rules = resources(subject).devices or ()
    path = "linux.resources.devices"
    if not rules or not _is_denial(rules[0]):
        message = "the first device rule does not deny everything: what is not named is up to the runtime"
        mend = 'begin with {"allow": false, "access": "rwm"}'
        yield Finding(
            "devices-not-denied", HIGH, message, path, mend, "systemd.resource-control(5), DevicePolicy"
        )
    for index, rule in enumerate(rules):
        if rule.allow and rule.type in (None, "a") and rule.major is None:
            message = "every device is allowed"
            yield Finding(
                "devices-open", CRITICAL, message, f"{path}[{index}]", "name the devices", "CIS 5.18"
            )


def _is_denial(rule: DeviceRule) -> bool:
    everything = rule.type in (None, "a") and rule.major is None and rule.minor is None
    return not rule.allow and everything and set(rule.access or "rwm") == set("rwm")
