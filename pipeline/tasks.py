"""Stages and bundles as doit tasks: the only room that knows doit."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from inspect import Signature
from pathlib import Path
from typing import Any, NoReturn

from doit.exceptions import TaskFailed
from doit.globals import Globals

from pipeline import preflight, selection, specfile
from pipeline.clean import REST, Removals
from pipeline.engine import Engine
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.graph import RUNTIMES, STAGES, Step
from pipeline.interrupts import end_politely, sweep, tidy_up_with
from pipeline.paths import Project
from pipeline.pins import Pins
from pipeline.preflight import BUILD_STAGES
from pipeline.report.terminal import Reporter, standard_console
from pipeline.run import which

Task = dict[str, Any]
_USAGE = 3


class Makefile:
    """Everything that `dodo.py` shows to doit, for one checkout and one command line."""

    def __init__(self, root: Path, argv: list[str]) -> None:
        self.console = standard_console()
        self.reporter = Reporter(self.console)
        self.project = Project(root)
        end_politely(self.console.error)
        self.selection = self._or_exit(lambda: selection.parse(argv))
        # What a reading task was asked for is all that it writes to standard output.
        self._note = self.console.note if self.selection.reader else self.console.line
        if not self.selection.runs:
            # doit's own listings know nothing of `doit list | head`; a run catches that itself and goes on.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        self._load()
        self.runtimes = [name for name in RUNTIMES if which(name)]
        self._or_exit(self._preflight)
        self._or_exit(self._open)
        self.pins, self._unpinned = self._or_exit(self._ask_pins)
        self.engine = Engine(self.project, self.specs, self.pins, self.console)
        self.removals = Removals(
            self.selection, self.engine, self.loaded.broken, self.console.line, self.console.error
        )
        preflight.announce(self.selection, self._unpinned, self.console.line)
        if self.selection.builds or self.selection.reader == "floor":
            sweep(self.engine, self.console.line, self.console.note)
            tidy_up_with(self.engine.sweep)
        if self.project.is_ours:
            atexit.register(self.engine.fingerprints.save)

    # What doit.cfg would hold --------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """DOIT_CONFIG: doit keeps nothing between runs that this project needs."""
        return {
            # Receipts decide what is fresh. doit's database, written in place at the end of a run, would be
            # lost by kill -9 and broken by two runs at once; so it is never written, and this is no file.
            "backend": "json",
            "dep_file": str(self.project.state / "doit.db"),
            "default_tasks": self._default_tasks(),
            "reporter": self.reporter,
            "par_type": "thread",
            "verbosity": 2,
            "minversion": "0.36.0",
        }

    # Tasks -----------------------------------------------------------------------------------

    def stage(self, name: str) -> Iterator[Task]:
        """One task for each bundle, and the group over those that `doit` builds by itself."""
        yield self._group(name, [f"{name}:{bundle}" for bundle in self._within()])
        for bundle in self._reached():
            yield self._step(Step(STAGES[name], bundle))

    def rest(self) -> Iterator[Task]:
        """What a bare `doit clean` removes beside the bundles: what no spec asks for any more."""
        if self.removals.clean_all:
            yield {"basename": REST, "actions": None, "clean": self.removals.cleaning_rest(), "doc": None}

    def pin(self) -> Iterator[Task]:
        """Pin an image that was never pinned, when its bundle is asked for by name."""
        for bundle in self._unpinned:
            yield {
                "basename": f"_pin:{bundle}",
                "actions": [(self._act, [lambda bundle=bundle: self._pin(bundle)])],
                "doc": None,
            }

    def bundle(self) -> Iterator[Task]:
        """A whole bundle, up to `validate`."""
        self._replace_database()
        yield self._group("bundle", [f"bundle:{bundle}" for bundle in self._within()])
        for bundle in self._reached():
            yield {
                "basename": f"bundle:{bundle}",
                "actions": None,
                "task_dep": [f"validate:{bundle}"],
                "clean": self.removals.cleaning(f"bundle:{bundle}"),
                "doc": f"build {bundle} and judge it",
            }

    def smoke(self) -> Iterator[Task]:
        """A cell for each bundle and runtime found; a bundle's own task is the cell of the first of them."""
        yield self._group("smoke", [f"smoke:{bundle}" for bundle in self._within(smoke=True)])
        for bundle in self._reached(smoke=True):
            steps = [Step(STAGES["smoke"], bundle, runtime) for runtime in self.runtimes]
            yield {
                "basename": f"smoke:{bundle}",
                "actions": None if steps else [(self._act, [preflight.need_runtime])],
                "task_dep": [step.task for step in steps[:1]],
                "clean": self.removals.cleaning(f"smoke:{bundle}"),
                "doc": f"run {bundle} for a moment and prove it",
            }
            yield from map(self._step, steps)

    def trace(self) -> Iterator[Task]:
        """A cell for each bundle and runtime that can be watched; a bundle's own is that of the first."""
        yield self._group("trace", [f"trace:{b}" for b in self._within() if self.selection.traces(b)])
        for bundle in filter(self.selection.traces, self.specs):
            yield self._trace(bundle, f"trace:{bundle}", self.runtimes[0] if self.runtimes else "")
            for runtime in self.runtimes:
                yield self._trace(bundle, f"trace:{bundle}/{runtime}", runtime)

    # How tasks are done ----------------------------------------------------------------------

    def run_step(self, step: Step, fresh: Freshness) -> TaskFailed | None:
        """doit's action for a step: build it unless it is fresh by now."""
        if fresh.asked_and_fresh:
            # doit calls an action of a fresh task only under --always-execute.
            self.engine.forget(step)
        self.reporter.reasons[step.task] = None
        return self._act(lambda: self.reporter.reasons.update({step.task: self.engine.execute(step)}))

    def bundles(self) -> list[str]:
        """The bundles that a reading task was asked about; all when none is named. Exits 3 on others."""
        names = list(self.selection.words)
        for name in names:
            if name not in self.specs:
                self.refuse(preflight.unknown("bundle", name, list(self.specs)))
        return names or list(self.specs)

    def without_spec(self) -> list[str]:
        """The bundles in `out/` whose spec is gone."""
        return self.project.without_spec({*self.specs, *self.loaded.broken})

    def refuse(self, error: PipelineError) -> NoReturn:
        """Say what is wrong with the command line, and exit 3."""
        self.console.error(str(error))
        raise SystemExit(_USAGE)

    def steps(self, bundle: str) -> list[Step]:
        """The bundle's stages in order, and one smoke step for each runtime found."""
        smoke = [Step(STAGES["smoke"], bundle, runtime) for runtime in self.runtimes]
        return [Step(STAGES[name], bundle) for name in BUILD_STAGES] + smoke

    def _replace_database(self) -> None:
        """Have doit keep no file, and `doit forget` remove receipts, since they decide what is fresh."""
        database = Globals.dep_manager
        database.close = self._close
        # A run forgets what failed, and all that needs it; receipts know better.
        if not self.selection.runs:
            database.remove = self.removals.forget
            database.remove_all = self.removals.forget_all

    def _close(self) -> None:
        # doit itself does not tell by its exit status that a removal failed.
        if self.removals.failed:
            raise SystemExit(1)

    def _act(self, action: Callable[[], Any]) -> TaskFailed | None:
        try:
            action()
        except (PipelineError, PipelineErrors) as error:
            return TaskFailed(str(error))
        except OSError as fault:
            return TaskFailed(str(preflight.of_system(fault)))
        return None

    def _pin(self, bundle: str) -> None:
        from pipeline.update import pin_images

        for line in pin_images(self.project, {bundle: self.specs[bundle]}):
            self.console.line(line)
        self.pins.reload()

    def _group(self, name: str, members: list[str]) -> Task:
        return {
            "basename": name,
            "actions": None,
            "task_dep": members,
            "clean": self.removals.cleaning(name),
            "doc": _DOCS[name],
        }

    def _trace(self, bundle: str, task: str, runtime: str) -> Task:
        def action() -> None:
            if not runtime:
                preflight.need_runtime()
            from pipeline.learn.command import trace

            trace(self.engine, bundle, runtime, lambda line: self.console.say(task, line))

        return {
            "basename": task,
            "actions": [(self._act, [action])],
            "task_dep": [f"spec:{bundle}"],
            "uptodate": [False],
            "clean": self.removals.cleaning(task),
            "doc": f"{bundle}: {_DOCS['trace']}",
            "io": {"capture": False},
        }

    def _step(self, step: Step) -> Task:
        fresh = Freshness(self.engine, step)
        needs = [f"{stage}:{step.bundle}" for stage in step.stage.reads]
        if step.stage.name == "copy" and step.bundle in self._unpinned:
            needs.append(f"_pin:{step.bundle}")
        return {
            "basename": step.task,
            "actions": [(self.run_step, [step, fresh])],
            "task_dep": needs,
            "targets": [f"{self.project.bundle(step.bundle).stages}/{step.label}.json"],
            "uptodate": [fresh],
            "clean": self.removals.cleaning(step.task),
            "doc": f"{step.bundle}: {_DOCS[step.stage.name]}",
            "io": {"capture": False},
            "meta": {"stage": True},
        }

    # Before anything runs ----------------------------------------------------------------------

    def _ready(self) -> list[str]:
        return [name for name in self.specs if name not in self._unpinned]

    def _reached(self, *, smoke: bool = False) -> list[str]:
        """The bundles whose tasks this command line may come to."""
        return [name for name in self.specs if self.selection.reaches(name, smoke=smoke)]

    def _within(self, *, smoke: bool = False) -> list[str]:
        """Of those, the ones that a group of tasks has."""
        return [name for name in self._reached(smoke=smoke) if name not in self._unpinned]

    def _ask_pins(self) -> tuple[Pins, set[str]]:
        return preflight.pins_and_unpinned(self.selection, self.project, self.specs, self.console.note)

    def _default_tasks(self) -> list[str]:
        if self.selection.removes:
            return [REST] * self.removals.clean_all + [f"bundle:{name}" for name in self.specs]
        if os.geteuid() == 0:
            return [f"bundle:{name}" for name in self._ready()]
        return [f"{stage}:{name}" for name in self._ready() for stage in preflight.without_root()]

    def _load(self) -> None:
        self.loaded = specfile.load(self.project)
        self.specs = {name: spec.values for name, spec in self.loaded.specs.items()}

    def _preflight(self) -> None:
        preflight.check_specs(self.selection, self.loaded, self.console.note)
        names = (*self.specs, *self.loaded.broken)
        tasks: list[str] = []
        if self.selection.tasks:
            tasks = [step.task for name in self.specs for step in self.steps(name)]
            tasks += [f"{kind}:{name}" for kind in ("bundle", "smoke", "trace") for name in names]
            tasks += [f"trace:{name}/{runtime}" for name in names for runtime in self.runtimes]
        preflight.check_tasks(self.selection, tasks, str(self.project.root))
        preflight.check_privilege(self.selection, self.project)
        preflight.check_readable(self.selection, self.project)

    def _open(self) -> None:
        if not self.selection.writes and not (self.selection.removes and self.project.out.exists()):
            return
        first = not self.project.cache.is_dir()
        said = self.project.open()
        if said:
            self._note(said)
        if first:
            # Now that there is a place, what was parsed is kept for the next run.
            self._load()

    def _or_exit(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (PipelineError, PipelineErrors) as error:
            self.console.error(str(error))
        except OSError as fault:
            self.console.error(str(preflight.of_system(fault)))
        raise SystemExit(_USAGE)


class Freshness:
    """doit's `uptodate` callable of one step; its repr is what `doit info` prints."""

    # doit asks for it before each call, and finding it out costs as much as the call.
    __signature__ = Signature()

    def __init__(self, engine: Engine, step: Step) -> None:
        self._engine = engine
        self._step = step
        self.asked_and_fresh = False

    def __call__(self) -> bool:
        """Return True when the step's receipt answers for what is there now."""
        try:
            self.asked_and_fresh = self._engine.assess(self._step).stale is None
        except (PipelineError, OSError):
            # The action meets the same fault, and says it.
            self.asked_and_fresh = False
        return self.asked_and_fresh

    def __repr__(self) -> str:
        try:
            return self._engine.assess(self._step).stale or "fresh"
        except (PipelineError, OSError) as fault:
            return str(fault)


_DOCS = {
    "copy": "fetch by digest, every blob hashed",
    "unpack": "unpack into a rootfs with mapped owners",
    "seccomp": "compile the seccomp profile",
    "spec": "write config.json from image, baseline, spec and profile",
    "validate": "judge without running",
    "smoke": "run for a moment, and prove it",
    "bundle": "build, up to validate",
    "trace": "watch a run, and propose a seccomp profile of what it called",
}
