"""Meaning of who the process is and what it shows of itself: ids and their ranges, where it starts, secrets.

Sources: runtime-spec config.md (process), setuid(2), user_namespaces(7), umask(2), proc(5); CVE-2024-21626.
"""

from __future__ import annotations

import re

from pipeline.checks.subject import CRITICAL, HIGH, MEDIUM, Findings, Subject, normal
from pipeline.model.nouns import Finding

_LARGEST_ID = 2**31 - 1
_UNCHANGED = 2**32 - 1
_IDS = 2**32 - 1
"""One more than the largest id that a mapping can hold: 4294967295 is none (user_namespaces(7))."""
_MOST_RANGES = 340
_OWNER = 0o700
_PROC_LINKS = re.compile(r"/proc/[^/]+/(fd|cwd|root|task)(/.*)?")
# What takes a secret itself, and not the file that holds it.
_SECRET = re.compile(
    r"--?[A-Za-z0-9_-]*(password|passwd|secret|token|api[-_]?key)=(?P<value>[^/$@].*)", re.IGNORECASE
)


def ids(subject: Subject) -> Findings:
    """Ids are ones that a process can have (setuid(2): -1 changes nothing; runc: at most 2^31-1)."""
    user = subject.process.user
    listed = [("process.user.uid", user.uid), ("process.user.gid", user.gid)]
    listed += [(f"process.user.additionalGids[{n}]", gid) for n, gid in enumerate(user.additional_gids or ())]
    for path, number in listed:
        if number == _UNCHANGED:
            message = (
                f"the id {number} is -1 to the kernel, which changes nothing then: the program stays root"
            )
            yield Finding("id-too-large", CRITICAL, message, path, "write 65532", "setuid(2), setresuid(2)")
        elif number > _LARGEST_ID:
            message = f"the id {number} is above {_LARGEST_ID}: runc refuses it"
            yield Finding("id-too-large", HIGH, message, path, "write 65532", "runc, libcontainer user")


def ranges(subject: Subject) -> Findings:
    """Ranges of ids end where ids end, and there are no more than the kernel takes (user_namespaces(7))."""
    linux = subject.config.linux
    for name, listed in (
        ("uidMappings", (linux.uid_mappings if linux else None) or ()),
        ("gidMappings", (linux.gid_mappings if linux else None) or ()),
    ):
        for index, entry in enumerate(listed):
            if max(entry.container_id, entry.host_id) + entry.size > _IDS:
                message = (
                    f"{entry.size} ids from {max(entry.container_id, entry.host_id)} on go past the last"
                )
                path = f"linux.{name}[{index}].size"
                yield Finding("mapping-overflow", HIGH, message, path, "", "user_namespaces(7)")
        if len(listed) > _MOST_RANGES:
            message = f"{len(listed)} ranges: the kernel takes {_MOST_RANGES}"
            yield Finding(
                "mapping-too-many", HIGH, message, f"linux.{name}", "join them", "user_namespaces(7)"
            )


def working_directory(subject: Subject) -> Findings:
    """The program does not start in a descriptor: one of the host's may be open there (CVE-2024-21626)."""
    cwd = subject.process.cwd
    if _PROC_LINKS.fullmatch(cwd) or _PROC_LINKS.fullmatch(normal(cwd)):
        message = f"the working directory `{cwd}` is a link of /proc that can lead out of the container"
        mend = "write a folder of the rootfs"
        yield Finding("cwd-proc", CRITICAL, message, "process.cwd", mend, "CVE-2024-21626; proc(5)")


def secrets(subject: Subject) -> Findings:
    """No argument holds a secret: every user of the host can read it (proc(5), cmdline)."""
    for index, word in enumerate(subject.process.args or ()):
        match = _SECRET.fullmatch(word)
        if match:
            shown = word[: match.start("value")]
            message = f"`{shown}…` holds a secret, which /proc shows to every user of the host"
            path, mend = f"process.args[{index}]", "give it in a file"
            yield Finding("args-secret", MEDIUM, message, path, mend, "proc(5), cmdline")


def umask(subject: Subject) -> Findings:
    """The program can use the files that it makes itself (umask(2))."""
    found = subject.process.user.umask
    if found is not None and found & _OWNER:
        message = f"umask {found:04o}: the program itself may not use the files that it makes"
        yield Finding("umask-odd", MEDIUM, message, "process.user.umask", "write 18 (0022)", "umask(2)")
