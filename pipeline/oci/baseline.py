"""The hardened baseline of one date: what config.json says that no image and no spec key decides.

What a spec key decides has its default in `pipeline.model.bundle`.

A new baseline is a new date with its own values: a bundle then says which year's hardening it follows.
"""

from __future__ import annotations

from pipeline.model.runtime import Mount
from pipeline.model.runtime_base import NamespaceType
from pipeline.model.runtime_resources import DeviceRule

DATE = "2026-11"
SOURCE = f"baseline:{DATE}"

# What docker and the image's own base give a process that has no PATH (moby, oci/defaults).
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STOP_SIGNAL = "SIGTERM"
CPU_PERIOD_US = 100_000

# namespaces(7); `network` and `user` are dropped when the spec asks for the host's.
NAMESPACES: tuple[NamespaceType, ...] = ("cgroup", "ipc", "mount", "network", "pid", "user", "uts")

# moby's and podman's lists united; powercap and thermal_throttle leak power use (CVE-2020-8694),
# /proc/interrupts and /proc/timer_list leak keystroke and load timing.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
# Readable by all and per CPU. A fixed count keeps the bytes the same on every host; runtimes pass over
# what is absent.
MASKED_CPUS = 16
THERMAL_PATHS = tuple(f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(MASKED_CPUS))

NETWORK_FILES = ("/etc/hosts", "/etc/resolv.conf")

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Everything is denied first; runtimes then add the rules for null, zero, full, random, urandom, tty and ptys
# themselves (config-linux.md, default devices).
DEVICE_RULES = (DeviceRule(allow=False, access="rwm"),)

PROC = Mount(destination="/proc", type="proc", source="proc", options=("nosuid", "nodev", "noexec"))
# No nodev: without a user namespace the runtime makes the default devices here with mknod(2).
DEV = Mount(
    destination="/dev",
    type="tmpfs",
    source="tmpfs",
    options=("nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
)
# gid 5 is `tty` in every distribution's base.
DEVPTS = Mount(
    destination="/dev/pts",
    type="devpts",
    source="devpts",
    options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
)
MQUEUE = Mount(
    destination="/dev/mqueue", type="mqueue", source="mqueue", options=("nosuid", "nodev", "noexec")
)
SYSFS = Mount(destination="/sys", type="sysfs", source="sysfs", options=("nosuid", "nodev", "noexec", "ro"))
# Read-only, so that no release_agent can be set; there at all, so that programs see their own limits.
CGROUP = Mount(
    destination="/sys/fs/cgroup",
    type="cgroup",
    source="cgroup",
    options=("nosuid", "nodev", "noexec", "relatime", "ro"),
)


def shm(size_bytes: int) -> Mount:
    """The mount of POSIX shared memory, `size_bytes` large at most (shm_overview(7))."""
    options = ("nosuid", "nodev", "noexec", "mode=1777", f"size={size_bytes}")
    return Mount(destination="/dev/shm", type="tmpfs", source="shm", options=options)


def mounts(shm_bytes: int, own_network: bool) -> tuple[Mount, ...]:
    """The mounts of every bundle, parents first.

    sysfs belongs to a network namespace: with the host's, the kernel refuses a new one inside a user
    namespace (EPERM), so /sys and what lies in it stay away.
    """
    system = (SYSFS, CGROUP) if own_network else ()
    return (PROC, DEV, DEVPTS, shm(shm_bytes), MQUEUE, *system)


def masked_paths() -> tuple[str, ...]:
    """The paths that the container must not read."""
    return tuple(sorted((*MASKED_PATHS, *THERMAL_PATHS)))
