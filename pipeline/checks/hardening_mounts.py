"""Hardening of what the program sees: masked and read-only paths, the flags of mounts.

Anchors: CIS Docker Benchmark §5, Pod Security Standards, moby's and podman's masked paths.
"""

from __future__ import annotations

from pipeline.checks.meaning_linux import resources
from pipeline.checks.sources import source_of
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, is_bind, normal, options
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
)
_MASKED_SYS = (
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
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


def bind_flags(subject: Subject) -> Findings:
    """A bind is nosuid, nodev, and noexec unless nothing can be written to it (rule 19)."""
    for path, mount in subject.mounts:
        if not is_bind(mount) or source_of(subject, mount).is_device:
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
    """A tmpfs is nosuid and nodev (rule 20; see `mount_kinds.tmpfs_sizes` for its size)."""
    for path, mount in subject.mounts:
        if mount.type != "tmpfs":
            continue
        target = normal(mount.destination)
        wanted = ("nosuid",) if target == "/dev" else ("nosuid", "nodev")
        lacking = [flag for flag in wanted if flag not in options(mount)]
        if lacking:
            message = f"the tmpfs on `{target}` lacks {', '.join(lacking)}"
            mend = f"add {', '.join(lacking)}"
            yield Finding("tmpfs-flags", MEDIUM, message, f"{path}.options", mend, "moby, oci/defaults")
        if "noexec" not in options(mount) and target != "/dev":
            message = f"programs that are written to `{target}` can be run"
            mend = "drop `exec`: noexec is the default"
            yield Finding("tmpfs-exec", LOW, message, f"{path}.options", mend, "mount(8)")


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
    found = subject.config.linux.rootfs_propagation if subject.config.linux else None
    path = "linux.rootfsPropagation"
    if found in ("shared", "rshared"):
        message = "mounts made in the container show on the host"
        yield Finding("shared-propagation", HIGH, message, path, "write private", "CIS 5.20")
    elif found not in ("private", "rprivate"):
        message = f"`rootfsPropagation` is {found or 'not given, which means rslave to runc'}"
        message += ": what is mounted on the host later may show in the container"
        path = path if found else "linux"
        yield Finding("loose-propagation", LOW, message, path, "write private", "mount_namespaces(7)")
    for path, mount in subject.mounts:
        if {"shared", "rshared"} & options(mount):
            message = f"mounts made below `{mount.destination}` show on the host"
            yield Finding(
                "shared-propagation", HIGH, message, f"{path}.options", "write rprivate", "CIS 5.20"
            )
