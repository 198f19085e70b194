"""Who may do what with a file: the permission bits for a process of the container (path_resolution(7)).

ACLs and security modules are not looked at: they can only be known on the spot.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from pipeline.checks.subject import Subject

READ, WRITE, EXECUTE = 4, 2, 1


@dataclass(frozen=True)
class Credentials:
    """Ids on the host; `overrides` when a capability passes over the bits of files with mapped owners."""

    uid: int
    gids: frozenset[int]
    overrides: bool = False

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """True when the bits let these ids do all of `wanted` (a sum of READ, WRITE and EXECUTE)."""
        if self.overrides and (
            stat.S_ISDIR(status.st_mode) or not wanted & EXECUTE or status.st_mode & 0o111
        ):
            return True
        if status.st_uid == self.uid:
            bits = status.st_mode >> 6
        elif status.st_gid in self.gids:
            bits = status.st_mode >> 3
        else:
            bits = status.st_mode
        return bits & wanted == wanted


def process_credentials(subject: Subject) -> Credentials | None:
    """Return the process's ids on the host; None when its uid or gid is not mapped."""
    user = subject.process.user
    uid = subject.to_host(user.uid)
    listed = [subject.to_host(gid, "gid") for gid in (user.gid, *(user.additional_gids or ()))]
    if uid is None or listed[0] is None:
        return None
    effective = subject.process.capabilities.effective if subject.process.capabilities else None
    overrides = "CAP_DAC_OVERRIDE" in (effective or ())
    return Credentials(uid, frozenset(gid for gid in listed if gid is not None), overrides)


def root_credentials(subject: Subject) -> Credentials | None:
    """Return the ids on the host of the container's root, as which the runtime walks to the rootfs."""
    uid, gid = subject.to_host(0), subject.to_host(0, "gid")
    if uid is None or gid is None:
        return None
    return Credentials(uid, frozenset({gid}), overrides=uid == 0)
