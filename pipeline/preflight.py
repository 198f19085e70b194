"""What is said before any work: bad specs, unknown tasks, a bad lock file, what needs root."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping

from pipeline.errors import PipelineError, PipelineErrors, suggest
from pipeline.graph import RUNTIMES, STAGES, Stage
from pipeline.model.reference import Reference
from pipeline.paths import Project
from pipeline.pins import Pins, Spec
from pipeline.selection import READERS, Selection
from pipeline.specfile import Loaded

BUILD_STAGES = ("copy", "unpack", "seccomp", "spec", "validate")
GROUPS = (*STAGES, "bundle", "trace")
_CHECKED_COMMANDS = ("run", "info", "forget", "clean")
# Commands about doit's own database, which this project does without.
_MEANINGLESS = ("ignore", "dumpdb", "reset-dep", "strace")
_WHY_ROOT = "need root, since the files of a bundle belong to mapped ids"
_NEED_NO_PINS = ("doctor", "new", "check", "verify")


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
    """Refuse a command or a task that there is not. Raises PipelineError `usage` with a suggestion."""
    if selection.command in _MEANINGLESS:
        raise PipelineError(
            "usage",
            f"`doit {selection.command}` has no meaning here",
            hint="freshness is in receipts; see status and forget",
        )
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


def check_privilege(selection: Selection, project: Project) -> None:
    """Refuse what an ordinary user cannot build. Raises PipelineError `needs-root`."""
    if os.geteuid() == 0:
        return
    if selection.reader == "floor":
        raise PipelineError(
            "needs-root", "floor needs root: it starts containers with mapped ids", hint="run it with sudo"
        )
    if not selection.builds:
        return
    asked = [task for task in selection.tasks if task.partition(":")[0] in (*_for_root(), "bundle", "trace")]
    if not asked:
        return
    # An out/ of this user would be refused to root.
    first = f"`rm -rf {project.out}` (bundles need an out/ of root's own), then " if project.is_ours else ""
    verb = "needs" if len(asked) == 1 else "need"
    raise PipelineError(
        "needs-root",
        f"{', '.join(asked)} {verb} root: {', '.join(_for_root())} {_WHY_ROOT}",
        hint=f"{first}run it with sudo; `doit copy seccomp` is what works without",
    )


def announce(selection: Selection, unpinned: Iterable[str], tell: Callable[[str], None]) -> None:
    """Say what the default build leaves out: what is not pinned, and what needs root."""
    if not selection.builds or selection.tasks:
        return
    for name in sorted(unpinned):
        tell(f"{name}: not pinned yet; 'doit update {name}' resolves it")
    if os.geteuid() != 0:
        tell(f"not root: building {', '.join(without_root())} only; {', '.join(_for_root())} {_WHY_ROOT}")


def check_readable(selection: Selection, project: Project) -> None:
    """Refuse to tell of another user's receipts that cannot be read: PipelineError `not-yours`."""
    if (
        project.is_ours
        or os.geteuid() == 0
        or selection.reader not in ("status", "explain", "check", "verify")
    ):
        return
    if "bundle" in selection.options:
        return
    asked = [path for pattern in ("*/stages/*.json", "*/bundle") for path in project.out.glob(pattern)]
    # What is verified is locked meanwhile, and a rootfs has files that are for its own users only.
    closed = selection.reader == "verify" or not all(os.access(path, os.R_OK) for path in asked)
    if asked and closed:
        owner = project.out.stat().st_uid
        raise PipelineError(
            "not-yours",
            f"{project.out} belongs to user {owner}, and only that user can read all that is asked for",
            hint=f"run `doit {selection.reader}` {'with sudo' if owner == 0 else 'as that user'}",
        )


def pins_and_unpinned(
    selection: Selection, project: Project, specs: Mapping[str, Spec], tell: Callable[[str], None]
) -> tuple[Pins, set[str]]:
    """Return the pins, and the bundles that have none as this run begins. Raises PipelineError `bad-lock`.

    What must work though the lock file is damaged, since it builds nothing and tells of no pin, goes on:
    all remote images count as not pinned then.
    """
    pins = Pins(project)
    try:
        return pins, _unpinned(pins, specs)
    except PipelineError as fault:
        if not selection.runs or selection.reader in _NEED_NO_PINS:
            tell(f"{fault.place}: {fault.message}; remote images count as not pinned")
            pins = NoPins(project)
            return pins, _unpinned(pins, specs)
        if fault.code != "bad-json":
            raise
        hint = "restore it from git, or remove it and run `doit update`"
        raise PipelineError("bad-lock", fault.message, place=fault.place, hint=hint) from None


def _unpinned(pins: Pins, specs: Mapping[str, Spec]) -> set[str]:
    return {name for name, spec in specs.items() if pins.pin_of(spec) is None}


class NoPins(Pins):
    """The pins where the lock file is damaged: only what is local or named by digest has one."""

    def pin_of(self, spec: Spec) -> str | None:
        """Return the digest that the reference itself carries, or the identity of a local image."""
        reference = Reference.parse(spec["image"])
        return reference.digest if reference.remote else super().pin_of(spec)


def need_runtime() -> None:
    """Raises PipelineError `no-runtime` with the lines that install one."""
    from pipeline.packages import install_lines

    raise PipelineError(
        "no-runtime",
        f"none of {', '.join(RUNTIMES)} is installed, so nothing can be run",
        hint="\n".join(["./bootstrap installs them; or:", *install_lines(RUNTIMES).values()]),
    )


def of_system(fault: OSError) -> PipelineError:
    """The error for what the system refused."""
    message = f"{fault.filename or 'the system'}: {fault.strerror or fault}"
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return PipelineError("no-space", message, hint="make room below out/ (`doit clean`)")
    return PipelineError("system", message)


def without_root() -> list[str]:
    """The stages that an ordinary user can build."""
    return [name for name in BUILD_STAGES if not _needs_root(STAGES[name])]


def _for_root() -> list[str]:
    return [name for name, stage in STAGES.items() if stage.needs_root]


def _needs_root(stage: Stage) -> bool:
    return stage.needs_root or any(_needs_root(STAGES[name]) for name in stage.reads)
