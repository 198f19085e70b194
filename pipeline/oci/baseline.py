"""The hardened baseline: what config.json says that no image and no spec key decides.

What a spec key decides has its default in `pipeline.model.bundle`; which paths are masked and read-only at
which date is in `pipeline.model.baselines`.
"""

from __future__ import annotations

from pipeline.model.runtime import Mount
from pipeline.model.runtime_base import NamespaceType
from pipeline.model.runtime_resources import DeviceRule

# What docker and the image's own base give a process that has no PATH (moby, oci/defaults).
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STOP_SIGNAL = "SIGTERM"
CPU_PERIOD_US = 100_000

# namespaces(7); `network` and `user` are dropped when the spec asks for the host's.
NAMESPACES: tuple[NamespaceType, ...] = ("cgroup", "ipc", "mount", "network", "pid", "user", "uts")

NETWORK_FILES = ("/etc/hosts", "/etc/resolv.conf")

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


def source(date: str) -> str:
    """What provenance says of a field that the baseline of a date decided."""
    return f"baseline:{date}"
