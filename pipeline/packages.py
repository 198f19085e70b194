"""Which package brings what, on each family of distributions, and which task lacks it when it is absent.

The table itself is packages.txt, which ./bootstrap reads too: before there is any Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).with_suffix(".txt")
_OS_RELEASE = Path("/etc/os-release")
FAMILIES = {
    "apt": "sudo apt-get install",
    "dnf": "sudo dnf install",
    "pacman": "sudo pacman -S",
    "zypper": "sudo zypper install",
}
"""Each family by its package manager, and the words that install."""

# os-release(5): ID and ID_LIKE.
_OF_ID = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "arch": "pacman",
    "opensuse": "zypper",
    "suse": "zypper",
}
_UMOCI = "put a static binary from https://github.com/opencontainers/umoci/releases into /usr/local/bin"


@dataclass(frozen=True)
class Package:
    """One row: what is looked for (any of `looks`), what brings it in each family, who lacks it."""

    set: str
    looks: tuple[str, ...]
    names: Mapping[str, str | None]
    lacked_by: str

    @property
    def name(self) -> str:
        """What is looked for, without its kind: `busybox` for `static:busybox|busybox-static`."""
        return self.looks[0]


def table() -> list[Package]:
    """Return every row of the table, in its order."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return [_row(line) for line in lines if line and not line.startswith("#")]


def package(name: str) -> Package:
    """Return the row of what is looked for as `name`. Raises KeyError when the table has none."""
    for row in table():
        if name in row.looks:
            return row
    raise KeyError(name)


def install_lines(names: Iterable[str]) -> dict[str, str]:
    """Return, for each family, the command that installs what is looked for as `names`."""
    rows = [package(name) for name in names]
    return {family: _line(family, rows) for family in FAMILIES}


def family(os_release: Path = _OS_RELEASE) -> str | None:
    """Return the family of the running distribution by its package manager, or None when it is another."""
    try:
        lines = os_release.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    fields = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    # openSUSE's ID names its edition: opensuse-tumbleweed.
    return next((_OF_ID[w] for word in words for w in (word, word.split("-")[0]) if w in _OF_ID), None)


def _row(line: str) -> Package:
    kind, look, apt, dnf, pacman, zypper, lacked_by = line.split(None, 6)
    names = {"apt": apt, "dnf": dnf, "pacman": pacman, "zypper": zypper}
    looks = tuple(word for word in look.split(":", 1)[-1].split("|"))
    return Package(kind, looks, {f: None if n == "-" else n for f, n in names.items()}, lacked_by)


def _line(family: str, rows: list[Package]) -> str:
    known = [name for row in rows if (name := row.names[family])]
    unknown = [row.name for row in rows if row.names[family] is None]
    parts = [f"{FAMILIES[family]} {' '.join(dict.fromkeys(known))}"] if known else []
    parts += [_UMOCI if name == "umoci" else f"not known to be packaged there: {name}" for name in unknown]
    return "; ".join(parts)
