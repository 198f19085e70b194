"""Meaning of mounts, paths, limits, devices, hooks and annotations.

Sources: runtime-spec config.md (mounts, hooks, annotations), config-linux.md (resources, devices, paths).
"""

from __future__ import annotations

import posixpath

from pipeline.checks.meaning_mounts import KEYS
from pipeline.checks.mount_kinds import last_size, size_bytes
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, is_bind, normal
from pipeline.errors import suggest
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Hook, Hooks, Mount
from pipeline.model.runtime_resources import Resources

_FLAGS = frozenset(
    "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev "
    "nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow "
    "private rbind relatime remount ro rprivate rro rshared rslave runbindable rw shared silent "
    "slave strictatime suid symfollow sync unbindable idmap ridmap ratime rdev rdiratime "
    "rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow "
    "rrelatime rrw rstrictatime rsuid rsymfollow".split()
)


def mount_targets(subject: Subject) -> Findings:
    """Mount destinations are absolute, normal and there once (config.md, mounts)."""
    seen: set[str] = set()
    for path, mount in subject.mounts:
        target = mount.destination
        if not target.startswith("/"):
            message = f"the mount destination `{target}` is relative"
            yield Finding(
                "mount-target-relative", HIGH, message, f"{path}.destination", "", "config.md, mounts"
            )
        elif ".." in target.split("/"):
            message = f"the mount destination `{target}` goes up"
            yield Finding(
                "mount-target-relative", HIGH, message, f"{path}.destination", "", "config.md, mounts"
            )
        if normal(target) in seen:
            message = f"`{target}` is mounted twice: the later hides the earlier"
            yield Finding("mount-duplicate", MEDIUM, message, path, "keep one", "config.md, mounts")
        seen.add(normal(target))


def mount_order(subject: Subject) -> Findings:
    """A parent is mounted before what lies in it: mounts happen in the order listed."""
    earlier: list[str] = []
    for path, mount in subject.mounts:
        target = normal(mount.destination)
        hidden = [other for other in earlier if other.startswith(target.rstrip("/") + "/")]
        if hidden:
            message = f"the mount on `{target}` comes after `{hidden[0]}` and hides it"
            yield Finding("mount-order", HIGH, message, path, "list it earlier", "config.md, mounts")
        earlier.append(target)


def mount_options(subject: Subject) -> Findings:
    """Options are known: runc 1.1 and crun 1.8 hand an unknown one to the file system or drop it."""
    for path, mount in subject.mounts:
        for index, option in enumerate(mount.options or ()):
            name = option.split("=", 1)[0]
            if option in _FLAGS or name in KEYS or (mount.type == "overlay"):
                continue
            close = suggest(name, _FLAGS | KEYS)
            mend = f"did you mean `{close}`?" if close else "mount(8) lists them"
            message = f"`{option}` is no mount option for `{mount.destination}`"
            yield Finding("mount-option-unknown", HIGH, message, f"{path}.options[{index}]", mend, "mount(8)")


def mount_sources(subject: Subject) -> Findings:
    """A bind has a source, absolute so that it means the same from everywhere; other mounts have a type."""
    for path, mount in subject.mounts:
        if is_bind(mount) and not mount.source:
            yield Finding(
                "bind-without-source", HIGH, f"the bind on `{mount.destination}` has no source", path
            )
        elif is_bind(mount) and not (mount.source or "").startswith("/"):
            message = f"the bind source `{mount.source}` is relative: to the bundle, says runc"
            yield Finding("bind-source-relative", LOW, message, f"{path}.source", "", "config.md, mounts")
        elif not is_bind(mount) and not mount.type:
            message = f"the mount on `{mount.destination}` has neither a type nor `bind`"
            yield Finding("mount-without-type", HIGH, message, path, "", "config.md, mounts")


def protected_paths(subject: Subject) -> Findings:
    """Masked and read-only paths are absolute and normal: others are passed over in silence."""
    linux = subject.config.linux
    for name, listed in (
        ("maskedPaths", (linux.masked_paths if linux else None) or ()),
        ("readonlyPaths", (linux.readonly_paths if linux else None) or ()),
    ):
        for index, entry in enumerate(listed):
            if not entry.startswith("/") or normal(entry) != entry:
                message = (
                    f"`{entry}` in {name} is not an absolute normal path: runtimes pass over it in silence"
                )
                mend = f"write `{normal(entry)}`"
                yield Finding(
                    "path-not-absolute", HIGH, message, f"linux.{name}[{index}]", mend, "config-linux.md"
                )


def root_path(subject: Subject) -> Findings:
    """The root is the folder `rootfs` of the bundle (bundle.md; runc refuses a link)."""
    path = subject.config.root.path
    place = posixpath.normpath(posixpath.join(subject.folder, path))
    # A way up is a fault even where it comes back: what lies between may be a link.
    if place != posixpath.normpath(f"{subject.folder}/rootfs") or ".." in path.split("/"):
        message = f"`root.path` is `{path}`, not the bundle's own `rootfs`"
        yield Finding("root-path", HIGH, message, "root.path", "write `rootfs`", "bundle.md")


def memory(subject: Subject) -> Findings:
    """swap >= limit >= reservation (config-linux.md, memory: swap counts memory and swap)."""
    found = resources(subject).memory
    if found is None or not found.limit or found.limit < 0:
        return
    path = "linux.resources.memory"
    if found.swap is not None and 0 <= found.swap < found.limit:
        message = f"memory.swap {found.swap} is below memory.limit {found.limit}: it counts both"
        mend = f"write {found.limit} for no swap"
        yield Finding("swap-below-limit", HIGH, message, f"{path}.swap", mend, "config-linux.md, memory")
    if found.reservation is not None and found.reservation > found.limit:
        message = f"memory.reservation {found.reservation} is above memory.limit {found.limit}"
        yield Finding(
            "reservation-above-limit", HIGH, message, f"{path}.reservation", "", "config-linux.md, memory"
        )
    if found.limit < 6 << 20:
        message = f"{found.limit} bytes of memory are less than a runtime itself needs to start (6 MiB)"
        yield Finding("memory-too-small", HIGH, message, f"{path}.limit", "is the unit missing, as in 512m?")


def temporary_files(subject: Subject) -> Findings:
    """What tmpfs can hold fits in the memory limit, to which it is charged (tmpfs(5), cgroup memory)."""
    found = resources(subject).memory
    limit = found.limit if found and found.limit and found.limit > 0 else None
    total = sum(size_bytes(last_size(mount) or "") or 0 for _, mount in subject.mounts if _fills(mount))
    if limit and total > limit:
        message = (
            f"all tmpfs together may hold {total >> 20} MiB, above the memory limit of {limit >> 20} MiB"
        )
        mend = "files there can get the program killed: lower `size=` or raise `mem_limit`"
        yield Finding("tmpfs-above-memory", MEDIUM, message, "mounts", mend, "tmpfs(5)")


def cpu(subject: Subject) -> Findings:
    """Quota and period are what the kernel takes: period 1 ms to 1 s, quota at least 1 ms (sched-bwc)."""
    found = resources(subject).cpu
    if found is None:
        return
    path = "linux.resources.cpu"
    if found.period is not None and not 1000 <= found.period <= 1_000_000:
        message = f"cpu.period {found.period} is outside 1000 to 1000000 microseconds"
        yield Finding("cpu-period", HIGH, message, f"{path}.period", "write 100000", "kernel, sched-bwc")
    if found.quota is not None and 0 < found.quota < 1000:
        message = f"cpu.quota {found.quota} is below 1000 microseconds"
        yield Finding("cpu-quota", HIGH, message, f"{path}.quota", "", "kernel, sched-bwc")


def devices(subject: Subject) -> Findings:
    """Devices have absolute paths, numbers and are there once (config-linux.md, devices)."""
    seen: set[str] = set()
    for index, device in enumerate((subject.config.linux.devices if subject.config.linux else None) or ()):
        path = f"linux.devices[{index}]"
        if not device.path.startswith("/"):
            yield Finding("device-path", HIGH, f"the device path `{device.path}` is relative", f"{path}.path")
        elif ".." in device.path.split("/"):
            yield Finding("device-path", HIGH, f"the device path `{device.path}` goes up", f"{path}.path")
        if device.type != "p" and (device.major is None or device.minor is None):
            message = f"the device `{device.path}` lacks major or minor"
            yield Finding("device-numbers", HIGH, message, path, "", "config-linux.md, devices")
        if device.path in seen:
            yield Finding(
                "device-duplicate", HIGH, f"the device `{device.path}` is there twice", path, "keep one"
            )
        seen.add(device.path)


def hook_paths(subject: Subject) -> Findings:
    """Hooks have absolute paths (config.md, hooks)."""
    for path, hook in hooks(subject.config.hooks):
        if not hook.path.startswith("/"):
            yield Finding(
                "hook-path",
                HIGH,
                f"the hook `{hook.path}` is relative",
                f"{path}.path",
                "",
                "config.md, hooks",
            )


def annotation_names(subject: Subject) -> Findings:
    """Annotation keys are in reverse-domain form (config.md, annotations: SHOULD)."""
    for key in subject.config.annotations or {}:
        if "." not in key.split("/", 1)[0]:
            message = f"the annotation `{key}` is not in reverse-domain form and may meet another's"
            path = f'annotations["{key}"]'
            yield Finding(
                "annotation-name", LOW, message, path, f"for example `org.example.{key}`", "config.md"
            )


def resources(subject: Subject) -> Resources:
    """Return `linux.resources`, or one that limits nothing."""
    linux = subject.config.linux
    return (linux.resources if linux else None) or Resources()


def hooks(listed: Hooks | None) -> list[tuple[str, Hook]]:
    """Return every hook with its JSON path."""
    if listed is None:
        return []
    names = {field: _camel(field) for field in Hooks.__struct_fields__}
    return [
        (f"hooks.{name}[{index}]", hook)
        for field, name in names.items()
        for index, hook in enumerate(getattr(listed, field) or ())
    ]


def _fills(mount: Mount) -> bool:
    # /dev is root's alone, and a read-only one stays empty.
    return mount.type == "tmpfs" and mount.destination != "/dev" and "ro" not in (mount.options or ())


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
