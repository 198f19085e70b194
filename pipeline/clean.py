"""`doit clean`: remove what a stage made, and what no spec asks for any more; nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from pipeline.engine import Engine
from pipeline.errors import PipelineError
from pipeline.files import remove_tree
from pipeline.graph import RUNTIMES, STAGES, Step
from pipeline.paths import BundlePaths, Project
from pipeline.preflight import of_system
from pipeline.selection import Selection

REST = "_rest"
"""The task of what no spec asks for any more; a bare `doit clean` has it."""


class Removals:
    """What `doit clean` and `doit forget` do for each task; `failed` once something could not be removed."""

    def __init__(
        self,
        selection: Selection,
        engine: Engine,
        broken: Collection[str],
        tell: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._selection = selection
        self._engine = engine
        self._broken = broken
        self._tell = tell
        self._complain = complain
        self.failed = False

    @property
    def clean_all(self) -> bool:
        """True for a bare `doit clean`."""
        return self._selection.command == "clean" and not self._selection.tasks

    def cleaning(self, task: str) -> list[Cleaning]:
        """The actions that clean what is meant by a task's name."""
        # A bare `doit clean` asks all tasks, and a bundle's own has all of its stages.
        if self._selection.command != "clean" or (self.clean_all and not task.startswith("bundle:")):
            return []
        return [Cleaning(self, "what it made", lambda dryrun: self._cleaned(task, dryrun))]

    def cleaning_rest(self) -> list[Cleaning]:
        """The actions that clean what no spec asks for."""
        known = {*self._engine.specs, *self._broken}
        return [
            Cleaning(
                self, "what has no spec any more", lambda dryrun: clean_rest(self._engine, known, dryrun)
            )
        ]

    def forget(self, task: str) -> None:
        """Remove the receipts of what is meant by a task's name; of a trace, what was seen."""
        if task.partition(":")[0] == "trace":
            self.remove(clean_traces(self._engine, self._traced(task), dryrun=False))
        else:
            self.remove(_forgotten(self._engine, self._meant(task)))

    def forget_all(self) -> None:
        """Remove all receipts."""
        self.forget("bundle")

    def remove(self, steps: Iterator[str]) -> None:
        """Do a removal and say each of its lines; say what fails, too."""
        try:
            for line in steps:
                self._tell(line)
        except PipelineError as error:
            self._fail(error)
        except OSError as fault:
            self._fail(of_system(fault))

    def _cleaned(self, task: str, dryrun: bool) -> Iterator[str]:
        yield from clean_traces(self._engine, self._traced(task), dryrun)
        yield from clean(self._engine, self._meant(task), dryrun)

    def _traced(self, task: str) -> list[str]:
        """The bundles whose traces are meant by a task's name; those of all runtimes are one."""
        kind, _, bundle = task.partition("/")[0].partition(":")
        return [name for name in self._engine.specs if kind in ("bundle", "trace") and bundle in ("", name)]

    def _fail(self, error: PipelineError) -> None:
        self.failed = True
        self._complain(str(error))

    def _meant(self, task: str) -> list[Step]:
        kind, _, bundle = task.partition(":")
        steps = [step for name in self._engine.specs for step in every_step(name)]
        return [
            step
            for step in steps
            if (kind in ("bundle", step.stage.name) and bundle in ("", step.bundle)) or step.task == task
        ]


class Cleaning:
    """doit's action that cleans; its text, less its first character, is what `doit clean` prints."""

    def __init__(self, removals: Removals, what: str, removing: Callable[[bool], Iterator[str]]) -> None:
        self._removals = removals
        self._what = what
        self._removing = removing

    def __call__(self, dryrun: bool = False) -> None:
        """Remove, or say what would be removed."""
        self._removals.remove(self._removing(dryrun))

    def __repr__(self) -> str:
        return f"<remove {self._what}"


def clean(engine: Engine, steps: Iterable[Step], dryrun: bool) -> Iterator[str]:
    """Remove the receipts, outputs and logs of steps; yield what goes.

    Waits for a run that builds a step. A step's receipt goes first, so that a half-done removal is no
    finished stage. Named volumes are never touched. Blobs that no bundle needs go with the image.
    """
    project = engine.project
    for step in steps:
        paths = project.bundle(step.bundle)
        if not paths.dir.exists():
            continue
        if dryrun:
            yield from (f"would remove {path.relative_to(project.root)}" for path in _there(paths, step))
            continue
        with engine.locked(step):
            there = _there(paths, step)
            engine.forget(step)
            for path in there:
                yield f"removing {path.relative_to(project.root)}"
                remove_tree(path)
        # A folder that still holds another stage's output stays.
        for folder in (*sorted({path.parent for path in there}), paths.dir):
            with suppress(OSError):
                folder.rmdir()
        if paths.image in there:
            _collect(project)


def clean_traces(engine: Engine, bundles: Iterable[str], dryrun: bool) -> Iterator[str]:
    """Remove what traces saw of bundles, and what they propose; yield what goes. Waits for a trace."""
    for bundle in bundles:
        paths = engine.project.bundle(bundle)
        if not paths.trace.exists():
            continue
        shown = paths.trace.relative_to(engine.project.root)
        if dryrun:
            yield f"would remove {shown}"
            continue
        with engine.held(
            f"{bundle}.trace", f"trace:{bundle}", "another doit is tracing it; waiting for that one"
        ):
            yield f"removing {shown}"
            remove_tree(paths.trace)
        with suppress(OSError):
            paths.dir.rmdir()


def clean_rest(engine: Engine, known: Collection[str], dryrun: bool) -> Iterator[str]:
    """Remove the folders of bundles that have no spec any more, and blobs that no bundle needs."""
    project = engine.project
    for name in project.without_spec(known):
        folder = project.bundle(name).dir
        yield f"{'would remove' if dryrun else 'removing'} {folder.relative_to(project.root)}"
        if not dryrun:
            with ExitStack() as held:
                for step in every_step(name):
                    held.enter_context(engine.locked(step))
                    engine.forget(step)
                remove_tree(folder)
    if not dryrun and project.blobs.is_dir():
        _collect(project)


def every_step(bundle: str) -> list[Step]:
    """All steps of a bundle that may ever have run, under runtimes that are gone by now too."""
    builds = [Step(stage, bundle) for stage in STAGES.values() if stage.name != "smoke"]
    return builds + [Step(STAGES["smoke"], bundle, runtime) for runtime in RUNTIMES]


def _forgotten(engine: Engine, steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        engine.forget(step)
    yield from ()


def _collect(project: Project) -> None:
    # Not loaded by a run that has nothing to do.
    from pipeline.oci.store import collect

    collect(project)


def _there(paths: BundlePaths, step: Step) -> list[Path]:
    outputs = [paths.dir / place for place in step.outputs.values()]
    made = [paths.receipt(step.label), *outputs, paths.log(step.label), paths.error(step.label)]
    return [path for path in made if path.exists()]
