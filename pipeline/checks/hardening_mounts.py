"""Hardening of what the program sees: masked and read-only paths, the flags of mounts.

Anchors: CIS Docker Benchmark §5, Pod Security Standards, moby's and podman's masked paths.
"""

from __future__ import annotations

from pipeline.checks.baselines import MASKED, READONLY, thermal_path
from pipeline.checks.meaning_linux import resources
from pipeline.checks.mount_kinds import tmpfs_sizes
from pipeline.checks.sources import source_of
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, is_bind, normal, options
from pipeline.model.nouns import Finding

# What containers hid before 2025; the lack of a newer one weighs less.
_LONG_KNOWN = frozenset(
    {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/scsi"}
)
_SHARED = frozenset({"shared", "rshared"})
_PSEUDO = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"})


def masked(subject: Subject) -> Findings:
    """What leaks or harms in /proc and /sys is masked."""
    linux = subject.config.linux
    there = set((linux.masked_paths if linux else None) or ())
    types = {mount.type for _, mount in subject.mounts}
    tops = (*(("/proc/",) if "proc" in types else ()), *(("/sys/",) if "sysfs" in types else ()))
    wanted = sorted(path for added in MASKED.values() for path in added if path.startswith(tops))
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


def thermal(subject: Subject) -> Findings:
    """What the CPUs' heat tells of other programs' work is masked (moby#49560)."""
    linux = subject.config.linux
    there = set((linux.masked_paths if linux else None) or ())
    has_sys = any(mount.type == "sysfs" for _, mount in subject.mounts)
    paths = [thermal_path(cpu) for cpu in range(subject.host.thermal_cpus)]
    lacking = [path for path in paths if not _covers(there, path)]
    if has_sys and lacking:
        message = f"thermal_throttle of {len(lacking)} CPUs is not masked: it tells what other programs do"
        yield Finding(
            "unmasked-thermal",
            MEDIUM,
            message,
            "linux.maskedPaths",
            f"add {lacking[0]} …",
            "moby, oci/defaults",
        )


def _covers(masks: set[str], path: str) -> bool:
    return any(path == mask or path.startswith(mask.rstrip("/") + "/") for mask in masks)


def readonly(subject: Subject) -> Findings:
    """What could change the host in /proc is read-only."""
    linux = subject.config.linux
    there = set((linux.readonly_paths if linux else None) or ()) | set(
        (linux.masked_paths if linux else None) or ()
    )
    lacking = [path for path in READONLY if not _covers(there, path)]
    if lacking and any(mount.type == "proc" and "ro" not in options(mount) for _, mount in subject.mounts):
        message = f"writable: {', '.join(lacking)}"
        mend = f"add {', '.join(lacking)} to linux.readonlyPaths"
        yield Finding(
            "writable-proc", HIGH, message, "linux.readonlyPaths", mend, "moby, oci/defaults; PSS procMount"
        )


def bind_flags(subject: Subject) -> Findings:
    """A bind is nosuid, nodev, and noexec unless nothing can be written to it."""
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


def tmpfs(subject: Subject) -> Findings:
    """A tmpfs is nosuid and nodev and has a size, one that the kernel can read."""
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
    yield from tmpfs_sizes(subject)


def tmpfs_programs(subject: Subject) -> Findings:
    """No program is started from a tmpfs, which everyone in the container may write."""
    for path, mount in subject.mounts:
        target = normal(mount.destination)
        if mount.type == "tmpfs" and "noexec" not in options(mount) and target != "/dev":
            message = f"programs that are written to `{target}` can be run"
            mend = "drop `exec`: noexec is the default"
            yield Finding("tmpfs-exec", LOW, message, f"{path}.options", mend, "mount(8)")


def pseudo_flags(subject: Subject) -> Findings:
    """/proc, /sys and the like have the flags of every container."""
    for path, mount in subject.mounts:
        if mount.type not in _PSEUDO:
            continue
        wanted = ["nosuid", "noexec", *([] if mount.type == "devpts" else ["nodev"])]
        lacking = [flag for flag in wanted if flag not in options(mount)]
        if lacking:
            message = f"the {mount.type} on `{mount.destination}` lacks {', '.join(lacking)}"
            yield Finding(
                "pseudo-flags",
                MEDIUM,
                message,
                f"{path}.options",
                f"add {', '.join(lacking)}",
                "moby, oci/defaults",
            )
        if mount.type == "sysfs" and "ro" not in options(mount):
            source = "moby, oci/defaults"
            yield Finding("sysfs-writable", HIGH, "/sys is writable", f"{path}.options", "add ro", source)


def cgroup_readonly(subject: Subject) -> Findings:
    """The cgroup file system is read-only: else a program lifts its limits, or sets a release_agent."""
    for path, mount in subject.mounts:
        if mount.type in ("cgroup", "cgroup2") and "ro" not in options(mount):
            message = "the cgroup file system is writable: the program can lift its limits (CVE-2022-0492)"
            yield Finding("cgroup-writable", HIGH, message, f"{path}.options", "add ro", "CVE-2022-0492")


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
    """No mount made inside shows outside."""
    found = subject.config.linux.rootfs_propagation if subject.config.linux else None
    if found in _SHARED:
        path, message = "linux.rootfsPropagation", "mounts made in the container show on the host"
        yield Finding("shared-propagation", HIGH, message, path, "write private", "CIS 5.20")
    for path, mount in subject.mounts:
        if _SHARED & options(mount):
            message = f"mounts made below `{mount.destination}` show on the host"
            mend = "write rprivate"
            yield Finding("shared-propagation", HIGH, message, f"{path}.options", mend, "CIS 5.20")


def loose_propagation(subject: Subject) -> Findings:
    """No mount made outside shows inside: a disk that is plugged in later is not the container's."""
    found = subject.config.linux.rootfs_propagation if subject.config.linux else None
    if found not in ("private", "rprivate", *_SHARED):
        message = f"`rootfsPropagation` is {found or 'not given, which means rslave to runc'}"
        message += ": what is mounted on the host later may show in the container"
        path = "linux.rootfsPropagation" if found else "linux"
        yield Finding("loose-propagation", LOW, message, path, "write private", "mount_namespaces(7)")
