"""What is said before any work: bad specs, unknown tasks, what is not pinned, what needs root."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable

from pipeline.errors import PipelineError, PipelineErrors, suggest
from pipeline.graph import STAGES, Stage
from pipeline.selection import READERS, Selection
from pipeline.specfile import Loaded

BUILD_STAGES = ("copy", "unpack", "seccomp", "spec", "validate")
GROUPS = (*STAGES, "bundle")
_CHECKED_COMMANDS = ("run", "info", "forget", "clean")


def check_specs(selection: Selection, loaded: Loaded, tell: Callable[[str], None]) -> None:
    """Refuse a run of what has errors; of other bundles only say that they are left out.

    Raises PipelineErrors with all errors of all specs.
    """
    everything = selection.all_bundles(GROUPS)
    asked = everything or any(selection.names(name) for name in loaded.broken)
    if loaded.errors and asked and (loaded.broken or everything):
        raise PipelineErrors(loaded.errors)
    for name in sorted(loaded.broken):
        tell(f"{name}: left out, its spec has errors (`doit bundle:{name}` shows them)")


def check_tasks(selection: Selection, tasks: Iterable[str], root: str) -> None:
    """Refuse a task that there is not. Raises PipelineError `usage` with a suggestion."""
    if selection.reader or selection.command not in _CHECKED_COMMANDS:
        return
    known = {*GROUPS, *READERS, *tasks}
    for task in selection.tasks:
        # doit itself takes patterns, and targets by their path.
        if task not in known and "*" not in task and not task.startswith(("_", root)):
            raise unknown("task", task, sorted(known))


def unknown(what: str, word: str, known: Collection[str]) -> PipelineError:
    """The error for a word of the command line that names nothing."""
    meant = suggest(word, known)
    hint = f"did you mean `{meant}`?" if meant else None
    return PipelineError("usage", f"there is no {what} `{word}`", hint=hint)


def check_privilege(selection: Selection, tell: Callable[[str], None]) -> None:
    """Say what an ordinary user cannot build. Raises PipelineError `needs-root` when that was asked for."""
    if os.geteuid() == 0:
        return
    need = [name for name, stage in STAGES.items() if stage.needs_root]
    why = "need root, since the files of a bundle belong to mapped ids"
    if not selection.tasks:
        tell(f"not root: building {', '.join(without_root())} only; {', '.join(need)} {why}")
        return
    asked = [task for task in selection.tasks if task.partition(":")[0] in (*need, "bundle")]
    if asked:
        verb = "needs" if len(asked) == 1 else "need"
        raise PipelineError(
            "needs-root",
            f"{', '.join(asked)} {verb} root: {', '.join(need)} {why}",
            hint="run it with sudo; `doit copy seccomp` is what works without",
        )


def without_root() -> list[str]:
    """The stages that an ordinary user can build."""
    return [name for name in BUILD_STAGES if not _needs_root(STAGES[name])]


def _needs_root(stage: Stage) -> bool:
    return stage.needs_root or any(_needs_root(STAGES[name]) for name in stage.reads)
