"""Programs that start another one: where in their arguments it stands.

Sources: tini(1), dumb-init(1), catatonit(1), env(1). Whoever is not sure gets None, and nothing is judged.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _Launcher:
    """Its options without a value, and those whose value is the next word."""

    plain: frozenset[str]
    valued: frozenset[str]
    takes_variables: bool = False


def _launcher(plain: str, valued: str, *, takes_variables: bool = False) -> _Launcher:
    return _Launcher(frozenset(plain.split()), frozenset(valued.split()), takes_variables)


_TINI = _launcher("-s -v -vv -vvv -w -g -h -l", "-p -e")
_ENV = _launcher(
    "- -i -0 -v --ignore-environment --debug",
    "-u -C --unset --chdir",
    takes_variables=True,
)
_LAUNCHERS = {
    "tini": _TINI,
    "tini-static": _TINI,
    "docker-init": _TINI,
    "dumb-init": _launcher("-c -v --single-child --verbose", "-r --rewrite"),
    "catatonit": _launcher("-g", ""),
    "env": _ENV,
}
_PATHS = {"/dev/init": _TINI}


def started(args: Sequence[str]) -> int | None:
    """Return the index of the program that `args[0]` starts; None for none, or when unsure."""
    launcher = _PATHS.get(args[0]) or _LAUNCHERS.get(posixpath.basename(args[0]))
    return _program(args, launcher) if launcher else None


def env_program(words: str) -> str | None:
    """Return what `env` starts in a script's first line, whose words after it are one argument."""
    if set(words) & set("'\"\\$#"):
        return None
    listed = words.split()
    args = ["env", *(listed[1:] if listed[:1] in (["-S"], ["-vS"], ["--split-string"]) else listed)]
    index = _program(args, _ENV)
    return args[index] if index is not None else None


def _program(args: Sequence[str], launcher: _Launcher) -> int | None:
    index = 1
    while index < len(args):
        word = args[index]
        if word == "--":
            return _after_variables(args, index + 1, launcher)
        if word in launcher.valued:
            index += 2
        elif word in launcher.plain or (word.startswith("--") and word.split("=", 1)[0] in launcher.valued):
            index += 1
        elif word.startswith("-"):
            # An option that is not known here may take the next word, or not.
            rest = list(args[index:])
            return _after_variables(args, index + rest.index("--") + 1, launcher) if "--" in rest else None
        else:
            return _after_variables(args, index, launcher)
    return None


def _after_variables(args: Sequence[str], index: int, launcher: _Launcher) -> int | None:
    while launcher.takes_variables and index < len(args) and "=" in args[index]:
        index += 1
    is_there = index < len(args) and not (launcher.takes_variables and args[index].startswith("-"))
    return index if is_there else None
