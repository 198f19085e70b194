"""Where a bundle uses what runtimes treat in different ways: mounts, paths and devices.

Each function answers with the JSON paths of config.json where the feature is used; see model/truths.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Callable, Iterator

from pipeline.checks.subject import Subject, cover_of, is_bind, normal, options
from pipeline.model.runtime import Mount

Paths = Iterator[str]
_SAFE = frozenset({"nosuid", "nodev", "noexec"})
# Options of mount(2) and of the specification itself (config.md, Linux mount options); others are data for
# a file system, and a bind mount has none to take them.
_FLAGS = frozenset(
    "acl async atime bind copy-symlink defaults dev diratime dirsync exec idmap iversion lazytime loud mand "
    "noacl noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid "
    "nosymfollow private rbind relatime remount ridmap ro rprivate rshared rslave runbindable rw shared "
    "silent slave strictatime suid symfollow sync tmpcopyup unbindable".split()
)
_MODE_BITS, _PERMISSIONS, _OTHERS_WRITE = 0o7777, 0o777, 0o022


def rw_bind_flags_under_userns(subject: Subject) -> Paths:
    """A writable bind mount with flags that protect, under a user namespace."""
    if "user" in subject.namespaces:
        for path, mount in subject.mounts:
            listed = options(mount)
            if is_bind(mount) and listed & _SAFE and not listed & {"ro", "rro"}:
                yield f"{path}.options"


def bind_nosuid_nodev(subject: Subject) -> Paths:
    """A bind mount with nosuid or nodev."""
    for path, mount in subject.mounts:
        if is_bind(mount) and options(mount) & {"nosuid", "nodev"}:
            yield f"{path}.options"


def tmpfs_mode_wider(subject: Subject) -> Paths:
    """A tmpfs with a mode, on a folder of the rootfs whose own mode lets more users in."""
    for path, wanted, there in _tmpfs_modes(subject):
        if _is_wider(there, wanted):
            yield path


def tmpfs_mode_narrower(subject: Subject) -> Paths:
    """A tmpfs with a mode, on a folder of the rootfs whose own mode is another, and no wider one."""
    for path, wanted, there in _tmpfs_modes(subject):
        if there != wanted and not _is_wider(there, wanted):
            yield path


def _is_wider(there: int, wanted: int) -> bool:
    """True when a mode has permissions that the other has not, or lets users remove each other's files."""
    is_shared = bool(there & _OTHERS_WRITE)
    return bool(there & ~wanted & _PERMISSIONS) or bool(is_shared and wanted & ~there & stat.S_ISVTX)


def _tmpfs_modes(subject: Subject) -> Iterator[tuple[str, int, int]]:
    """The JSON path, the mode asked for and that of the folder below, of each tmpfs that has both."""
    for index, (path, mount) in enumerate(subject.mounts):
        wanted = _mode(mount)
        if mount.type == "tmpfs" and wanted is not None and not _is_covered(subject, index):
            there = _folder_mode(subject, mount.destination)
            if there is not None:
                yield f"{path}.options", wanted, there


def _mode(mount: Mount) -> int | None:
    found = [option[5:] for option in mount.options or () if option.startswith("mode=")]
    return int(found[-1], 8) if found and not set(found[-1]) - set("01234567") and found[-1] else None


def _is_covered(subject: Subject, index: int) -> bool:
    """True when an earlier mount hides the folder of the rootfs."""
    target = normal(subject.mounts[index][1].destination)
    above = (normal(mount.destination).rstrip("/") for _, mount in subject.mounts[:index])
    return any(target == folder or target.startswith(folder + "/") for folder in above)


def _folder_mode(subject: Subject, path: str) -> int | None:
    try:
        status = subject.rootfs.stat(path)
    except OSError:
        return None
    return status.st_mode & _MODE_BITS if stat.S_ISDIR(status.st_mode) else None


def idmapped_mounts(subject: Subject) -> Paths:
    """A mount with ids of its own (mount_setattr(2))."""
    for path, mount in subject.mounts:
        if mount.uid_mappings or mount.gid_mappings or {"idmap", "ridmap"} & options(mount):
            yield path


def recursive_read_only(subject: Subject) -> Paths:
    """A mount that is read-only by `rro` alone."""
    for path, mount in subject.mounts:
        if "rro" in (mount.options or ()) and "ro" not in (mount.options or ()):
            yield f"{path}.options"


def bind_data_options(subject: Subject) -> Paths:
    """A bind mount with an option that only a file system could take."""
    for path, mount in subject.mounts:
        for index, option in enumerate((mount.options or ()) if is_bind(mount) else ()):
            if not is_flag(option):
                yield f"{path}.options[{index}]"


def is_flag(option: str) -> bool:
    """True for an option of mount(2) or of the specification, recursive ones too."""
    return option in _FLAGS or (option[:1] == "r" and option[1:] in _FLAGS)


def host_net_sysfs(subject: Subject) -> Paths:
    """A sysfs under a user namespace that does not own the network namespace."""
    if "user" in subject.namespaces and "network" not in subject.namespaces:
        for path, mount in subject.mounts:
            if mount.type == "sysfs" and not is_bind(mount):
                yield path


def masked_paths_elsewhere(subject: Subject) -> Paths:
    """A masked path outside /proc and /sys."""
    linux = subject.config.linux
    yield from _elsewhere("maskedPaths", (linux.masked_paths if linux else None) or ())


def readonly_paths_elsewhere(subject: Subject) -> Paths:
    """A read-only path outside /proc and /sys."""
    linux = subject.config.linux
    yield from _elsewhere("readonlyPaths", (linux.readonly_paths if linux else None) or ())


def _elsewhere(name: str, listed: tuple[str, ...]) -> Paths:
    for index, entry in enumerate(listed):
        if not f"{normal(entry)}/".startswith(("/proc/", "/sys/")):
            yield f"linux.{name}[{index}]"


def readonly_path_flags(subject: Subject) -> Paths:
    """A read-only path on a mount with flags that protect, where files can be programs or devices."""
    linux = subject.config.linux
    for index, entry in enumerate((linux.readonly_paths if linux else None) or ()):
        cover = cover_of(subject, normal(entry))
        if cover is not None and cover.type not in ("proc", "sysfs") and options(cover) & _SAFE:
            yield f"linux.readonlyPaths[{index}]"


def propagation_shared(subject: Subject) -> Paths:
    """A root mount that is to be shared or unbindable."""
    linux = subject.config.linux
    if linux and (linux.rootfs_propagation or "").removeprefix("r") in ("shared", "unbindable"):
        yield "linux.rootfsPropagation"


def propagation_recursive(subject: Subject) -> Paths:
    """A propagation in the spelling of mount(8), which config-linux.md does not list."""
    # `form` reads it as the plain word, so what is written is asked for.
    linux = dict(subject.document.root.plain()).get("linux")
    written = linux.get("rootfsPropagation") if isinstance(linux, dict) else None
    if isinstance(written, str) and written.startswith("r"):
        yield "linux.rootfsPropagation"


def symlinked_rootfs(subject: Subject) -> Paths:
    """A rootfs that is a symbolic link."""
    place = posixpath.join(subject.folder, subject.config.root.path)
    status = subject.host_view.stat(place, follow=False)
    if status is not None and stat.S_ISLNK(status.st_mode):
        yield "root.path"


def device_not_on_host(subject: Subject) -> Paths:
    """A device by a path that the host has not, under a user namespace, where nobody can make nodes."""
    linux = subject.config.linux
    if "user" in subject.namespaces:
        for index, device in enumerate((linux.devices if linux else None) or ()):
            if subject.host_view.stat(device.path) is None:
                yield f"linux.devices[{index}].path"


USES: dict[str, Callable[[Subject], Paths]] = {
    "rw-bind-flags-under-userns": rw_bind_flags_under_userns,
    "bind-nosuid-nodev": bind_nosuid_nodev,
    "tmpfs-mode-wider": tmpfs_mode_wider,
    "tmpfs-mode-narrower": tmpfs_mode_narrower,
    "idmapped-mounts": idmapped_mounts,
    "recursive-read-only": recursive_read_only,
    "bind-data-options": bind_data_options,
    "host-net-sysfs": host_net_sysfs,
    "masked-paths-elsewhere": masked_paths_elsewhere,
    "readonly-paths-elsewhere": readonly_paths_elsewhere,
    "readonly-path-flags": readonly_path_flags,
    "propagation-shared": propagation_shared,
    "propagation-recursive": propagation_recursive,
    "symlinked-rootfs": symlinked_rootfs,
    "device-not-on-host": device_not_on_host,
}
