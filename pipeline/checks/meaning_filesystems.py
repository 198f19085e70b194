"""Meaning of what is mounted for the program's own use: who may write it, and what a mask takes away.

Sources: tmpfs(5), kernel filesystems/devpts, runtime-spec config.md (mounts), config-linux.md.
"""

from __future__ import annotations

from pipeline.checks.subject import HIGH, MEDIUM, Findings, Subject, is_bind, normal
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

_WRITE_AND_SEARCH = 0o3
_STICKY = 0o1000
# Without them there is no container to speak of: no process could look at itself, no stream be opened.
_WHOLE = frozenset({"/", "/dev", "/proc"})


def binds_by_option(subject: Subject) -> Findings:
    """A bind says so in its options: that is what makes it one (config.md, mounts, type)."""
    for path, mount in subject.mounts:
        if mount.type in ("bind", "rbind") and not {"bind", "rbind"} & set(mount.options or ()):
            message = f"`{mount.destination}` is a bind by type alone: only the options count"
            mend = f"add `{mount.type}` to its options"
            yield Finding(
                "bind-option-missing", MEDIUM, message, f"{path}.options", mend, "config.md, mounts"
            )


def tmpfs_modes(subject: Subject) -> Findings:
    """The program can write each tmpfs meant for it, and not the one that holds the devices (tmpfs(5))."""
    for path, mount in subject.mounts:
        if mount.type != "tmpfs" or is_bind(mount):
            continue
        mode, target = _octal(mount, "mode"), normal(mount.destination)
        where = f"{path}.options"
        if target == "/dev" and (mode is None or mode & 0o022):
            said = "no mode" if mode is None else f"the mode {mode:o}"
            message = f"the tmpfs on `/dev` has {said}: others than root may put files among the devices"
            yield Finding("tmpfs-open", MEDIUM, message, where, "write mode=755", "tmpfs(5), mode")
        elif target != "/dev" and mode is not None and mode & 0o002 and not mode & _STICKY:
            message = f"the tmpfs on `{target}` has the mode {mode:o}: users may remove each other's files"
            yield Finding("tmpfs-open", MEDIUM, message, where, "write mode=1777", "tmpfs(5); inode(7)")
        elif target != "/dev" and mode is not None and _is_closed(subject, mount, mode):
            message = f"the tmpfs on `{target}` has the mode {mode:o}: user {subject.process.user.uid} "
            message += "cannot write it"
            mend = f"add uid={subject.process.user.uid}, or write mode=1777"
            yield Finding("tmpfs-closed", MEDIUM, message, where, mend, "tmpfs(5), mode")


def _is_closed(subject: Subject, mount: Mount, mode: int) -> bool:
    """True when the process is meant to write the tmpfs and cannot."""
    user = subject.process.user
    if user.uid == 0 or "ro" in (mount.options or ()):
        return False
    if (_decimal(mount, "uid") or 0) == user.uid:
        mode >>= 6
    elif (_decimal(mount, "gid") or 0) in (user.gid, *(user.additional_gids or ())):
        mode >>= 3
    return mode & _WRITE_AND_SEARCH != _WRITE_AND_SEARCH


def _value(mount: Mount, key: str) -> str | None:
    found = [option.partition("=")[2] for option in mount.options or () if option.startswith(f"{key}=")]
    return found[-1] if found else None


def _octal(mount: Mount, key: str) -> int | None:
    text = _value(mount, key)
    return int(text, 8) if text and set(text) <= set("01234567") else None


def _decimal(mount: Mount, key: str) -> int | None:
    text = _value(mount, key)
    return int(text) if text and text.isascii() and text.isdigit() else None


def terminals(subject: Subject) -> Findings:
    """A devpts lets its users open terminals: by default its ptmx is for nobody (kernel, devpts)."""
    for path, mount in subject.mounts:
        if mount.type == "devpts" and not is_bind(mount) and not _octal(mount, "ptmxmode"):
            message = (
                f"the devpts on `{mount.destination}` has no ptmxmode, and the kernel's is 0000: "
                "no program but root's can open a terminal"
            )
            mend, source = "add ptmxmode=0666", "kernel, filesystems/devpts"
            yield Finding("devpts-closed", MEDIUM, message, f"{path}.options", mend, source)


def wide_masks(subject: Subject) -> Findings:
    """A mask hides what harms, and neither the program nor all that it stands on (config-linux.md)."""
    linux, args = subject.config.linux, subject.process.args or ()
    program = normal(args[0]) if args and args[0].startswith("/") else ""
    for index, entry in enumerate((linux.masked_paths if linux else None) or ()):
        masked = normal(entry)
        hides = "all of it" if masked in _WHOLE else ""
        if program and (program == masked or program.startswith(masked.rstrip("/") + "/")):
            hides = f"the program `{program}`"
        if hides:
            message = f"the masked path `{entry}` hides {hides}"
            path, mend = f"linux.maskedPaths[{index}]", "mask what lies below and harms"
            yield Finding("masked-path-too-wide", HIGH, message, path, mend, "config-linux.md, masked paths")
