"""Published holes of container runtimes, as a table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.model.truths.nouns import Versions, version_numbers


@dataclass(frozen=True)
class Hole:
    """A published weakness. `fixed` has the first good version of each maintained series, oldest first.

    `backported` is a pattern for the builds of a distribution that carry the fix under an older number.
    """

    runtime: str
    cve: str
    title: str
    fixed: tuple[tuple[int, ...], ...]
    since: tuple[int, ...] = (0,)
    backported: str = ""

    def concerns(self, number: tuple[int, ...], build: str) -> bool:
        """True when that version has it."""
        is_mended = bool(number and self.backported and re.fullmatch(self.backported, build))
        return not is_mended and Versions(self.since, self.fixed).covers(number)


# Sources: the advisories of opencontainers/runc; Debian's changelog of runc 1.1.5+ds1-1+deb12u1, which
# names CVE-2024-21626 alone.
HOLES = (
    Hole(
        "runc",
        "CVE-2024-21626",
        "a working directory below /proc/self/fd leads to the host's files",
        fixed=((1, 1, 12),),
        since=(1, 0, 0),
        backported=r"1\.1\.5\+ds1-1\+deb12u[1-9]\d*",
    ),
    Hole(
        "runc",
        "CVE-2025-31133",
        "a replaced /dev/null defeats masked paths",
        fixed=((1, 2, 8), (1, 3, 3), (1, 4, 0)),
    ),
    Hole(
        "runc",
        "CVE-2025-52565",
        "a replaced /dev/console is mounted over protected files",
        fixed=((1, 2, 8), (1, 3, 3), (1, 4, 0)),
        since=(1, 0, 0),
    ),
    Hole(
        "runc",
        "CVE-2025-52881",
        "writes to /proc are redirected past the security module",
        fixed=((1, 2, 8), (1, 3, 3), (1, 4, 0)),
    ),
)


def known_holes(runtime: str, number: str, build: str = "") -> list[Hole]:
    """Return the holes of a runtime's version; `build` is the packager's full version, if it says one.

    An unreadable version has all of them: better warned than sorry.
    """
    numbers = version_numbers(number)
    return [hole for hole in HOLES if hole.runtime == runtime and hole.concerns(numbers, build)]
