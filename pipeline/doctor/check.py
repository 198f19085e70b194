"""What a check says: a state, a fact, who needs it, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pipeline.packages import FAMILIES, install_lines


class State(Enum):
    """How a check came out. Only FAIL makes the exit code 1: the default build would not work."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    NEEDS_ROOT = "needs root"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis; `mend` has a command for each family of distributions."""

    name: str
    state: State
    fact: str
    needed_by: str = ""
    mend: dict[str, str] = field(default_factory=dict)


def everywhere(command: str) -> dict[str, str]:
    """The same command in every family."""
    return dict.fromkeys(FAMILIES, command)


def installs(*names: str) -> dict[str, str]:
    """The command of each family that installs what `pipeline/packages.txt` looks for as `names`."""
    return install_lines(names)
