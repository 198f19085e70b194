"""What a command line asks doit for, known before any task is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError, suggest

# doit's commands; anything else as the first word is a task of the command `run`.
_COMMANDS = frozenset(
    [
        "run",
        "list",
        "info",
        "clean",
        "forget",
        "ignore",
        "help",
        "dumpdb",
        "strace",
        "tabcompletion",
        "reset-dep",
    ]
)
# Options of doit that take a value in the next word.
_WITH_VALUE = frozenset(
    [
        *("-f", "--file", "-d", "--dir", "-v", "--verbosity", "-r", "--reporter", "-o", "--output-file"),
        *("-n", "--process", "-P", "--parallel-type", "--failure-verbosity", "--db-file", "--backend"),
        *("--check_file_uptodate", "--codec-cls"),
    ]
)
READERS = ("status", "explain", "update", "outdated", "doctor", "report", "new", "verify")
"""Tasks that take the rest of the command line as their own words."""
VARIABLES: tuple[str, ...] = ()
"""The `name=value` arguments that this project knows."""


@dataclass(frozen=True)
class Selection:
    """The command and the tasks that it names; no tasks means the default ones."""

    command: str
    tasks: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """True when doit will run tasks."""
        return self.command == "run"

    @property
    def reader(self) -> str:
        """The reading task that is asked for, or nothing."""
        return self.tasks[0] if self.runs and self.tasks and self.tasks[0] in READERS else ""

    def names(self, bundle: str) -> bool:
        """True when one of the selected tasks is about this bundle, by name."""
        return any(_bundle(task) == bundle for task in self.tasks)

    def all_bundles(self, groups: Sequence[str]) -> bool:
        """True when all bundles are meant: no task is named, or a group of tasks is."""
        return (
            self.runs and not self.reader and (not self.tasks or any(task in groups for task in self.tasks))
        )


def parse(argv: Sequence[str]) -> Selection:
    """Read doit's command line. Raises PipelineError `unknown-variable` for a `name=value` not known."""
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in _WITH_VALUE:
            rest = rest[1:]
        elif word.startswith("-"):
            continue
        elif words and words[0] in READERS:
            words.append(word)
        elif "=" in word:
            _refuse(word)
        else:
            words.append(word)
    if words and words[0] in _COMMANDS:
        return Selection(words[0], tuple(words[1:]))
    return Selection("run", tuple(words))


def _bundle(task: str) -> str:
    return task.partition(":")[2].partition("/")[0]


def _refuse(word: str) -> None:
    name = word.partition("=")[0]
    meant = suggest(name, VARIABLES)
    raise PipelineError(
        "unknown-variable",
        f"there is no variable `{name}` to set with `{word}`",
        hint=f"did you mean `{meant}=…`?"
        if meant
        else "a bundle's variants are specs with `extends:`; doit's own options begin with -",
    )
