"""Which file systems a container may have, where, and how large; and ids that a mount translates.

Sources: runtime-spec config.md (mounts), tmpfs(5), proc(5), mount_setattr(2) for id-mapped mounts.
"""

from __future__ import annotations

import re

from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, is_bind, normal
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

_TYPES = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "tmpfs", "devpts", "mqueue"})
_BIND_TYPES = frozenset({None, "", "bind", "rbind", "none"})
_HOMES = {"proc": "/proc", "sysfs": "/sys"}
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([kKmMgGtTpPeE]?)")
_PERCENT = re.compile(r"[0-9]+%")
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", "k", "m", "g", "t", "p", "e"))}


def types(subject: Subject) -> Findings:
    """Every mount is a bind or one of the file systems of containers: others reach disks or networks."""
    for path, mount in subject.mounts:
        if is_bind(mount) and mount.type not in _BIND_TYPES:
            message = f"`{mount.type}` on `{mount.destination}` has the option `bind` too: which one counts?"
            yield Finding("mount-type", HIGH, message, f"{path}.type", "write bind", "config.md, mounts")
        elif mount.type and not is_bind(mount) and mount.type not in _TYPES:
            message = f"a file system of type `{mount.type}` on `{mount.destination}`"
            mend = "mount it on the host, and bind a folder of it"
            yield Finding("mount-type", HIGH, message, f"{path}.type", mend, "config.md, mounts; PSS volumes")


def places(subject: Subject) -> Findings:
    """proc and sysfs are at /proc and /sys alone, where what harms in them is masked."""
    for path, mount in subject.mounts:
        home = _HOMES.get(mount.type or "")
        if home and not is_bind(mount) and normal(mount.destination) != home:
            message = f"a second {mount.type} on `{mount.destination}`: nothing is masked or read-only in it"
            mend = f"mount it on {home} alone"
            yield Finding("pseudo-elsewhere", HIGH, message, f"{path}.destination", mend, "PSS procMount")
    if subject.mounts and not any(normal(mount.destination) == "/proc" for _, mount in subject.mounts):
        message = "there is no /proc: programs look at themselves there, and runtimes check the container"
        mend = 'add {"destination": "/proc", "type": "proc", "source": "proc"}, nosuid, nodev and noexec'
        yield Finding("proc-missing", MEDIUM, message, "mounts", mend, "config-linux.md, default filesystems")


def tmpfs_sizes(subject: Subject) -> Findings:
    """A tmpfs has a size, and one that the kernel can read (rule 20)."""
    for path, mount in subject.mounts:
        if mount.type != "tmpfs" or is_bind(mount):
            continue
        where = f"the tmpfs on `{mount.destination}`"
        size = last_size(mount)
        if size is None:
            message = f"{where} has no size: half of the host's memory"
            yield Finding("tmpfs-unsized", MEDIUM, message, f"{path}.options", "add size=64m", "tmpfs(5)")
        elif _PERCENT.fullmatch(size) and int(size[:-1]):
            message = f"{where} has the size {size}, of the host's memory, which is another on each host"
            yield Finding("tmpfs-percent", LOW, message, f"{path}.options", "write size=64m", "tmpfs(5)")
        elif size_bytes(size) == 0 or _PERCENT.fullmatch(size):
            message = f"{where} has the size 0, which means no limit"
            yield Finding("tmpfs-unsized", MEDIUM, message, f"{path}.options", "write size=64m", "tmpfs(5)")
        elif size_bytes(size) is None:
            message = f"{where} has the size `{size}`, which the kernel cannot read"
            yield Finding("tmpfs-size-bad", HIGH, message, f"{path}.options", "write size=64m", "tmpfs(5)")


def last_size(mount: Mount) -> str | None:
    """Return the value of the last `size=`, the one that counts, or of a positive `nr_blocks=`."""
    found = None
    for option in mount.options or ():
        key, _, value = option.partition("=")
        if key in ("size", "nr_blocks"):
            found = value
    return found


def size_bytes(text: str) -> int | None:
    """Return a size as the kernel reads it (memparse: decimal, 0x, K to E), or None."""
    match = _SIZE.fullmatch(text)
    if not match:
        return None
    number = int(match[1], 16) if match[1][:2] in ("0x", "0X") else int(match[1])
    return number * _UNITS[match[2].lower()]


def id_mapped(subject: Subject) -> Findings:
    """No mount translates ids to root of the host."""
    for path, mount in subject.mounts:
        for name, listed in (("uid", mount.uid_mappings), ("gid", mount.gid_mappings)):
            for index, entry in enumerate(listed or ()):
                if entry.host_id == 0:
                    message = f"the mount on `{mount.destination}` makes files of {name} 0 of the host"
                    where = f"{path}.{name}Mappings[{index}].hostID"
                    mend = "map to the ids of linux.uidMappings"
                    yield Finding("mount-maps-root", HIGH, message, where, mend, "mount_setattr(2)")
