"""Meaning of mount options: what each file system knows, values, flags that contradict, mapped ids.

Sources: runtime-spec config.md (mounts); mount(8), tmpfs(5), proc(5), kernel filesystems/devpts, cgroup-v1
and cgroup-v2; mount_setattr(2). A key that its file system does not know makes runc 1.1.5 and crun 1.8.1 fail
with EINVAL, except on binds and cgroup, where it is dropped (measured).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.checks.meaning_process import overlaps
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, is_bind
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

_SECURITY = frozenset({"context", "defcontext", "fscontext", "rootcontext"})
_CGROUP_V2 = (
    "favordynmods memory_hugetlb_accounting memory_localevents memory_recursiveprot nsdelegate "
    "pids_localevents"
).split()
_KNOWN: dict[str, frozenset[str]] = {
    "bind": frozenset(),
    "cgroup": frozenset({*_CGROUP_V2, "all", "clone_children", "name", "none", "release_agent", "xattr"}),
    "cgroup2": frozenset(_CGROUP_V2),
    "devpts": frozenset({"gid", "max", "mode", "newinstance", "ptmxmode", "uid"}),
    "mqueue": frozenset(),
    "proc": frozenset({"gid", "hidepid", "subset"}),
    "sysfs": frozenset(),
    "tmpfs": frozenset(
        "gid huge inode32 inode64 mode mpol noswap nr_blocks nr_inodes size tmpcopyup uid".split()
    ),
}
_OVERLAY = frozenset(
    "index lowerdir metacopy nfs_export redirect_dir upperdir userxattr volatile xino".split()
)
# Every key of any file system above: those that are not flags of the mount itself.
KEYS = frozenset().union(*_KNOWN.values(), _OVERLAY) | _SECURITY
_BARE = frozenset(
    {*_CGROUP_V2, "all", "clone_children", "inode32", "inode64", "newinstance", "none", "noswap"}
) | {"tmpcopyup", "userxattr", "volatile", "xattr"}
_OCTAL = re.compile(r"[0-7]{1,5}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_VALUES = {
    "gid": _NUMBER,
    "hidepid": re.compile(r"[0124]|off|noaccess|invisible|ptraceable"),
    "huge": re.compile(r"never|always|within_size|advise|deny|force"),
    "max": _NUMBER,
    "mode": _OCTAL,
    "nr_blocks": re.compile(r"[0-9]+[kKmMgG]?"),
    "nr_inodes": re.compile(r"[0-9]+[kKmMgG]?"),
    "ptmxmode": _OCTAL,
    "subset": re.compile(r"pid"),
    "uid": _NUMBER,
}
# Only one of each row can be in force.
_RIVALS = (
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("nosymfollow", "symfollow"),
    ("sync", "async"),
    ("noatime", "relatime", "strictatime"),
    ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"),
    ("inode32", "inode64"),
    ("idmap", "ridmap"),
)


def known_options(subject: Subject) -> Findings:
    """Each option that is not a flag belongs to the file system of its mount."""
    for path, option, mount in _options(subject):
        key, kind = option.partition("=")[0], _kind(mount)
        if key not in KEYS or kind not in _KNOWN or key in _KNOWN[kind] | _SECURITY:
            continue
        homes = [name for name, keys in _KNOWN.items() if key in keys] or ["overlay"]
        effect = "it is dropped" if kind in ("bind", "cgroup", "cgroup2") else "the kernel refuses it"
        message = f"`{option}` is an option of {homes[0]}, not of {kind} on `{mount.destination}`: {effect}"
        yield Finding("mount-option-type", HIGH, message, path, "drop it", "mount(8), filesystem-specific")


def option_values(subject: Subject) -> Findings:
    """Values of options are what their file system can read."""
    for path, option, mount in _options(subject):
        key, equals, value = option.partition("=")
        if key not in KEYS or key == "size":
            continue
        wanted = _VALUES.get(key)
        if equals and key in _BARE:
            fault = "takes no value"
        elif not equals and key not in _BARE:
            fault = "needs a value"
        elif equals and wanted and not wanted.fullmatch(value):
            fault = "has a value that it cannot read"
        else:
            continue
        message = f"`{option}` on `{mount.destination}` {fault}"
        mend = f"as in `{key}=755`, in octal" if wanted is _OCTAL else ""
        yield Finding("mount-option-value", HIGH, message, path, mend, "mount(8), filesystem-specific")


def contradictions(subject: Subject) -> Findings:
    """No mount asks for a flag and its opposite: a reader sees the one, the kernel obeys the other."""
    for path, mount in subject.mounts:
        listed = mount.options or ()
        for row in _RIVALS:
            named = [option for option in listed if option in row]
            if len(set(named)) > 1:
                message = f"{' and '.join(f'`{n}`' for n in named)} on `{mount.destination}`: the last counts"
                mend = f"keep `{named[-1]}`"
                yield Finding("mount-flags-contradict", MEDIUM, message, f"{path}.options", mend, "mount(8)")
        twice = sorted({option for option in listed if listed.count(option) > 1})
        if twice:
            message = f"`{twice[0]}` is there twice on `{mount.destination}`"
            yield Finding("mount-option-duplicate", LOW, message, f"{path}.options", "keep one", "mount(8)")


def id_maps(subject: Subject) -> Findings:
    """A mount that maps ids is a bind, says so with `idmap`, and maps both users and groups."""
    source = "config.md, mounts"
    for path, mount in subject.mounts:
        uids, gids = mount.uid_mappings or (), mount.gid_mappings or ()
        wanted = {"idmap", "ridmap"} & set(mount.options or ())
        if bool(uids) != bool(gids):
            message = f"the mount on `{mount.destination}` maps only {'users' if uids else 'groups'}"
            mend = f"add `{'gid' if uids else 'uid'}Mappings`: both, or neither"
            yield Finding("idmap-incomplete", HIGH, message, path, mend, f"{source}: MUST")
        if (uids or gids) and not wanted:
            message = (
                f"ids are mapped on `{mount.destination}` without `idmap`: runc 1.1 passes over it in silence"
            )
            yield Finding("idmap-unsaid", MEDIUM, message, f"{path}.options", "add idmap", source)
        if wanted and not (uids or gids) and "user" not in subject.namespaces:
            message = (
                f"`{min(wanted)}` on `{mount.destination}` without mappings, here or of a user namespace"
            )
            yield Finding("idmap-without-mapping", HIGH, message, f"{path}.options", "", f"{source}: MUST")
        if (uids or gids or wanted) and not is_bind(mount):
            message = f"ids can be mapped on binds only, not on the {mount.type} of `{mount.destination}`"
            yield Finding("idmap-not-bind", HIGH, message, path, "", "runc, mountsStrict")
        yield from overlaps(uids, f"{path}.uidMappings")
        yield from overlaps(gids, f"{path}.gidMappings")


def protected_twice(subject: Subject) -> Findings:
    """A path is masked or made read-only once: twice is a slip that hides what was meant."""
    linux = subject.config.linux
    masked = (linux.masked_paths if linux else None) or ()
    readonly = (linux.readonly_paths if linux else None) or ()
    for name, listed in (("maskedPaths", masked), ("readonlyPaths", readonly)):
        for index, entry in enumerate(listed):
            if entry in listed[:index]:
                message = f"`{entry}` is there twice: what was meant in its place is open"
                path = f"linux.{name}[{index}]"
                yield Finding("path-duplicate", MEDIUM, message, path, "keep one", "config-linux.md")
    if (masked or readonly) and "mount" not in subject.namespaces:
        message = (
            "paths are masked or read-only without a mount namespace of the container's own: runc refuses it"
        )
        mend = 'add {"type": "mount"} to linux.namespaces'
        yield Finding("paths-without-mount-namespace", HIGH, message, "linux", mend, "runc, security")


def _options(subject: Subject) -> Iterator[tuple[str, str, Mount]]:
    for path, mount in subject.mounts:
        for index, option in enumerate(mount.options or ()):
            yield f"{path}.options[{index}]", option, mount


def _kind(mount: Mount) -> str:
    return "bind" if is_bind(mount) else mount.type or ""
