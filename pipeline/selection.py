"""What a command line asks doit for, known before any task is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import PipelineError, suggest

# doit's commands; anything else as the first word is a task of the command `run`.
_COMMANDS = frozenset(
    "run list info clean forget ignore help dumpdb strace tabcompletion reset-dep".split(),
)
# Options of doit that take a value: attached to them, or in the next word.
_SHORT_WITH_VALUE = {"run": "fdvronP"}
_LONG_WITH_VALUE = (
    *("file", "dir", "verbosity", "reporter", "output-file", "process", "parallel-type"),
    *("failure-verbosity", "db-file", "backend", "check_file_uptodate", "template", "sort"),
)
READERS: Mapping[str, Mapping[str, bool]] = {
    "status": {"json": False, "check": False},
    "explain": {"json": False},
    "check": {
        "bundle": True,
        "format": True,
        "fail-on": True,
        "output": True,
        "image": True,
        "profile": True,
    },
    "verify": {},
    "update": {},
    "outdated": {"json": False},
    "doctor": {"json": False},
    "report": {},
    "new": {"image": True},
    "seccomp-diff": {"json": False, "exit-code": False},
    "seccomp-accept": {"reason": True},
    "verdicts": {"arch": True, "json": False},
    "floor": {"json": False},
}
"""Tasks that take the rest of the command line as their own: their options, and whether one has a value."""
_NAMELESS = ("doctor", "report")
_OF_BUNDLES = ("status", "explain", "check", "verify", "update", "outdated")
_CONFIG = "config:"
_WRITERS = ("update", "report", "floor")


@dataclass(frozen=True)
class Selection:
    """The command and the tasks that it names; no tasks means the default ones.

    `words` and `options` are what was given to a reading task, which is the last of the tasks then.
    """

    command: str
    tasks: tuple[str, ...]
    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """True when doit will run tasks."""
        return self.command == "run"

    @property
    def reader(self) -> str:
        """The reading task, if nothing else is asked for; else nothing."""
        return self.tasks[0] if self.runs and self.tasks and self.tasks[0] in READERS else ""

    @property
    def builds(self) -> bool:
        """True when stages may run."""
        return self.runs and not self.reader

    @property
    def writes(self) -> bool:
        """True when it needs an `out/` that is ours, and makes it if there is none."""
        return self.builds or self.reader in _WRITERS

    @property
    def removes(self) -> bool:
        """True when outputs or receipts are to go."""
        return self.command in ("clean", "forget")

    def names(self, bundle: str) -> bool:
        """True when one of the selected tasks, or a reading task's words, is about this bundle by name."""
        about = [_bundle(task) for task in self.tasks]
        if self.reader in _OF_BUNDLES:
            about += [_bundle(word) if ":" in word else word for word in self.words]
        return bundle in about

    def reaches(self, bundle: str, *, smoke: bool) -> bool:
        """True when doit may come to a task of this bundle, of those that build it or of those that run it.

        What it cannot come to need not be made: with a thousand bundles that is a third of a start.
        """
        if not self.runs or any("*" in task or task.startswith(("/", "_")) for task in self.tasks):
            return True
        if self.reader:
            return False
        if not self.tasks:
            return not smoke
        asked = [task for task in self.tasks if not smoke or task.partition(":")[0] == "smoke"]
        return any(_bundle(task) in ("", bundle) for task in asked)

    def traces(self, bundle: str) -> bool:
        """True when doit may come to the task that traces this bundle, which no other task leads to."""
        if not self.runs:
            return True
        asked = [task for task in self.tasks if task.partition(":")[0] == "trace" or "*" in task]
        return any("*" in task or _bundle(task) in ("", bundle) for task in asked)

    def all_bundles(self, groups: Sequence[str]) -> bool:
        """True when all bundles are meant: no task is named, or a group of tasks is."""
        return self.builds and (not self.tasks or any(task in groups for task in self.tasks))


def parse(argv: Sequence[str]) -> Selection:
    """Read doit's command line.

    Raises PipelineError `unknown-variable` for a `name=value`, `usage` for what a reading task does not
    know and for doit's processes.
    """
    command = "run"
    tasks: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            _skip_value(word, rest, command)
        elif "=" in word:
            raise _unknown_variable(word)
        elif not tasks and command == "run" and word in _COMMANDS:
            command = word
        else:
            tasks.append(word)
            if command == "run" and word in READERS:
                words, options = split(word, rest)
                return Selection(command, tuple(tasks), words, options)
    return Selection(command, tuple(tasks))


def split(reader: str, words: Sequence[str], command: str = "") -> tuple[tuple[str, ...], dict[str, str]]:
    """Return a reading task's words and its options (`--json` -> "", `--image REF`, `--image=REF`).

    `command` is what errors call it, where that is not `doit READER`; its words may be any paths then.

    Raises PipelineError `usage` or `unknown-variable` for what the task does not know.
    """
    known = READERS[reader]
    names: list[str] = []
    options: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, given, value = word[2:].partition("=")
        if not word.startswith("-"):
            names.append(word if command else _checked(reader, word))
        elif not word.startswith("--") or name not in known or (given and not known[name]):
            raise _unknown_option(reader, word, command)
        elif known[name] and not given and not rest:
            raise PipelineError("usage", f"`{command or f'doit {reader}'} --{name}` lacks its value")
        else:
            options[name] = value if given or not known[name] else rest.pop(0)
    return tuple(names), options


def _checked(reader: str, word: str) -> str:
    # A JSON path may have any character in a key.
    if "=" in word and not (reader == "explain" and word.startswith(_CONFIG)):
        raise _unknown_variable(word)
    if reader in _NAMELESS:
        raise PipelineError("usage", f"`doit {reader}` takes no names, and there is `{word}`")
    return word


def _unknown_option(reader: str, word: str, command: str) -> PipelineError:
    known = [f"--{name}" for name in READERS[reader]]
    meant = suggest(word.partition("=")[0], known)
    hint = f"it has {', '.join(known)}" if known else "it has no options"
    return PipelineError(
        "usage",
        f"`{command or f'doit {reader}'}` has no option `{word}`",
        hint=f"did you mean `{meant}`?" if meant else hint,
    )


def _skip_value(word: str, rest: list[str], command: str) -> None:
    """Take the value of one of doit's own options off the words that follow."""
    if word.startswith("--"):
        name, given, value = word[2:].partition("=")
        # getopt(3) knows long options by any beginning that is theirs alone.
        full = next((known for known in _LONG_WITH_VALUE if name and known.startswith(name)), "")
        parallel, next_word = full == "parallel-type", bool(full) and not given
    else:
        letters = word[1:]
        taking = _SHORT_WITH_VALUE.get(command, "fd")
        at = next((at for at, letter in enumerate(letters) if letter in taking), len(letters))
        parallel, value = letters[at : at + 1] == "P", letters[at + 1 :]
        next_word = at == len(letters) - 1
    if next_word and rest:
        value = rest.pop(0)
    if parallel and value != "thread":
        raise PipelineError(
            "usage", f"stages run in threads only, not by `-P {value}`", hint="`doit -n 2` runs two at once"
        )


def _bundle(task: str) -> str:
    name = task.partition(":")[2]
    return name.partition(":" if task.startswith(_CONFIG) else "/")[0]


def _unknown_variable(word: str) -> PipelineError:
    from pipeline.model.bundle import KEYS

    name = word.partition("=")[0]
    key = name if name in KEYS else suggest(name, KEYS)
    hint = "a bundle's variants are specs with `extends:`; doit's own options begin with -"
    if key:
        asked = "" if key == name else f"did you mean `{key}`? "
        hint = f"{asked}`{key}` is a key of specs/NAME.yaml; a variant of a bundle is a spec with `extends:`"
    return PipelineError("unknown-variable", f"there is no variable `{name}` to set with `{word}`", hint=hint)
