"""Stages and bundles as doit tasks: the only room that knows doit."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from functools import cached_property
from inspect import Signature
from pathlib import Path
from typing import Any, NoReturn

from doit.exceptions import TaskFailed
from doit.globals import Globals

from pipeline import preflight, selection, specfile
from pipeline.engine import Engine
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.graph import RUNTIMES, STAGES, Step
from pipeline.interrupts import end_politely
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
        if not self.selection.runs:
            # doit's own listings know nothing of `doit list | head`; a run catches that itself and goes on.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        self._opened = self._open()
        self.loaded = specfile.load(self.project)
        self.specs = {name: spec.values for name, spec in self.loaded.specs.items()}
        self.pins = Pins(self.project)
        self.engine = Engine(self.project, self.specs, self.pins, self.console)
        self.runtimes = [name for name in RUNTIMES if which(name)]
        self._or_exit(self._preflight)
        if self._opened:
            self._sweep()
        atexit.register(self._save)

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
        yield self._group(name, [f"{name}:{bundle}" for bundle in self._ready()])
        for bundle in self.specs:
            yield self._step(Step(STAGES[name], bundle))

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
        yield self._group("bundle", [f"bundle:{bundle}" for bundle in self._ready()])
        for bundle in self.specs:
            yield {
                "basename": f"bundle:{bundle}",
                "actions": None,
                "task_dep": [f"validate:{bundle}"],
                "clean": [(self._clean, [bundle, self.steps(bundle)])],
                "doc": f"build {bundle} and judge it",
            }

    def smoke(self) -> Iterator[Task]:
        """A cell for each bundle and runtime found; a bundle's own task is the cell of the first of them."""
        yield self._group("smoke", [f"smoke:{bundle}" for bundle in self._ready()])
        for bundle in self.specs:
            steps = [Step(STAGES["smoke"], bundle, runtime) for runtime in self.runtimes]
            yield {
                "basename": f"smoke:{bundle}",
                "actions": None if steps else [(self._act, [_need_runtime])],
                "task_dep": [step.task for step in steps[:1]],
                "doc": f"run {bundle} for a moment and prove it",
            }
            yield from map(self._step, steps)

    # How tasks are done ----------------------------------------------------------------------

    def run_step(self, step: Step, fresh: Freshness) -> TaskFailed | None:
        """doit's action for a step: build it unless it is fresh by now."""
        if fresh.asked_and_fresh:
            # doit calls an action of a fresh task only under --always-execute.
            self.engine.forget(step)
        self.reporter.reasons[step.task] = None
        return self._act(lambda: self.reporter.reasons.update({step.task: self.engine.execute(step)}))

    def bundles(self, names: list[str]) -> list[str]:
        """The bundles that a reading task was asked about; all when none is named. Exits 3 on others."""
        for name in names:
            if name not in self.specs:
                self.refuse(preflight.unknown("bundle", name, list(self.specs)))
        return names or list(self.specs)

    def refuse(self, error: PipelineError) -> NoReturn:
        """Say what is wrong with the command line, and exit 3."""
        self.console.error(str(error))
        raise SystemExit(_USAGE)

    def steps(self, bundle: str) -> list[Step]:
        """The bundle's stages in order, and one smoke step for each runtime found."""
        smoke = [Step(STAGES["smoke"], bundle, runtime) for runtime in self.runtimes]
        return [Step(STAGES[name], bundle) for name in BUILD_STAGES] + smoke

    def reload_pins(self) -> None:
        """Read the lock file again after it was changed."""
        self.pins.reload()

    def _replace_database(self) -> None:
        """Have doit keep no file, and `doit forget` remove receipts, since they decide what is fresh."""
        database = Globals.dep_manager
        database.close = lambda: None
        # A run forgets what failed, and all that needs it; receipts know better.
        if not self.selection.runs:
            database.remove = self._forget
            database.remove_all = self._forget_all

    def _forget(self, task: str) -> None:
        kind, _, bundle = task.partition(":")
        for name in self.specs:
            for step in self.steps(name):
                whole = kind in ("bundle", step.stage.name) and bundle in ("", name)
                if whole or step.task == task:
                    self.engine.forget(step)

    def _forget_all(self) -> None:
        for name in self.specs:
            self._forget(f"bundle:{name}")

    def _act(self, action: Callable[[], Any]) -> TaskFailed | None:
        try:
            action()
        except (PipelineError, PipelineErrors) as error:
            return TaskFailed(str(error))
        except OSError as fault:
            return TaskFailed(str(_of_system(fault)))
        return None

    def _pin(self, bundle: str) -> None:
        from pipeline.update import pin_images

        for line in pin_images(self.project, {bundle: self.specs[bundle]}):
            self.console.line(line)
        self.reload_pins()

    def _group(self, name: str, members: list[str]) -> Task:
        return {"basename": name, "actions": None, "task_dep": members, "doc": _GROUP_DOCS[name]}

    def _step(self, step: Step) -> Task:
        fresh = Freshness(self.engine, step)
        needs = [f"{stage}:{step.bundle}" for stage in step.stage.reads]
        if step.stage.name == "copy" and step.bundle in self._unpinned:
            needs.append(f"_pin:{step.bundle}")
        return {
            "basename": step.task,
            "actions": [(self.run_step, [step, fresh])],
            "task_dep": needs,
            "targets": [str(self.project.bundle(step.bundle).receipt(step.label))],
            "uptodate": [fresh],
            "clean": [(self._clean, [step.bundle, [step]])],
            "io": {"capture": False},
            "meta": {"stage": True},
        }

    def _clean(self, bundle: str, steps: list[Step], dryrun: bool = False) -> None:
        from pipeline.clean import clean

        for line in clean(self.project, bundle, steps, dryrun):
            self.console.line(line)

    # Before anything runs ----------------------------------------------------------------------

    def _ready(self) -> list[str]:
        return [name for name in self.specs if name not in self._unpinned]

    @cached_property
    def _unpinned(self) -> set[str]:
        """The bundles that had no pin when this run began."""
        return {name for name, spec in self.specs.items() if self.pins.pin_of(spec) is None}

    def _default_tasks(self) -> list[str]:
        if os.geteuid() == 0:
            return [f"bundle:{name}" for name in self._ready()]
        return [f"{stage}:{name}" for name in self._ready() for stage in preflight.without_root()]

    def _open(self) -> bool:
        if not self.selection.runs or self.selection.reader in ("doctor", "new"):
            return self.project.state.is_dir() and os.access(self.project.state, os.W_OK)
        said = self._or_exit(self.project.open)
        if said:
            self.console.line(said)
        return True

    def _preflight(self) -> None:
        preflight.check_specs(self.selection, self.loaded, self.console.error)
        names = (*self.specs, *self.loaded.broken)
        tasks = [step.task for name in self.specs for step in self.steps(name)]
        tasks += [f"{kind}:{name}" for kind in ("bundle", "smoke") for name in names]
        preflight.check_tasks(self.selection, tasks, str(self.project.root))
        if not self.selection.runs or self.selection.reader:
            return
        if not self.selection.tasks:
            for name in sorted(self._unpinned):
                self.console.line(f"{name}: not pinned yet; 'doit update {name}' resolves it")
        preflight.check_privilege(self.selection, self.console.line)

    def _sweep(self) -> None:
        for name in self.engine.sweep():
            self.console.line(f"swept what an interrupted run left: {name}")
        if any(self.project.running.iterdir()):
            from pipeline.tools.runtimes.sweep import sweep

            for line in sweep(self.project):
                self.console.line(line)

    def _save(self) -> None:
        if self._opened:
            self.engine.fingerprints.save()

    def _or_exit(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (PipelineError, PipelineErrors) as error:
            self.console.error(str(error))
        except OSError as fault:
            self.console.error(str(_of_system(fault)))
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
        self.asked_and_fresh = self._engine.assess(self._step).stale is None
        return self.asked_and_fresh

    def __repr__(self) -> str:
        return self._engine.assess(self._step).stale or "fresh"


_GROUP_DOCS = {
    "copy": "fetch images by digest, every blob hashed",
    "unpack": "unpack images into rootfs trees with mapped owners",
    "seccomp": "compile seccomp profiles",
    "spec": "write config.json from image, baseline, spec and profile",
    "validate": "judge bundles without running them",
    "smoke": "run every built bundle for a moment, and prove it",
    "bundle": "build bundles, up to validate",
}


def _need_runtime() -> None:
    from pipeline.packages import install_lines

    raise PipelineError(
        "no-runtime",
        f"none of {', '.join(RUNTIMES)} is installed, so nothing can be run",
        hint="\n".join(["./bootstrap installs them; or:", *install_lines(RUNTIMES).values()]),
    )


def _of_system(fault: OSError) -> PipelineError:
    return PipelineError("system", f"{fault.filename or 'the system'}: {fault.strerror or fault}")
