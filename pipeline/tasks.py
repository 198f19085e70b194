"""Stages and bundles as doit tasks: the only room that knows doit."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from doit.exceptions import TaskFailed
from doit.globals import Globals

from pipeline import selection, specfile
from pipeline.engine import Engine
from pipeline.errors import PipelineError, PipelineErrors, suggest
from pipeline.graph import RUNTIMES, STAGES, Stage, Step
from pipeline.paths import Project
from pipeline.pins import Pins
from pipeline.report.terminal import Reporter, standard_console
from pipeline.run import which

Task = dict[str, Any]
_BUILD_STAGES = ("copy", "unpack", "seccomp", "spec", "validate")
_GROUPS = (*STAGES, "bundle")
_USAGE = 3


class Makefile:
    """Everything that `dodo.py` shows to doit, for one checkout and one command line."""

    def __init__(self, root: Path, argv: list[str]) -> None:
        self.console = standard_console()
        self.reporter = Reporter(self.console)
        self.project = Project(root)
        _end_politely(self.console.error)
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
        self._tell()
        if self._opened:
            self._sweep()
        atexit.register(self._save)

    # What doit.cfg would hold --------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """DOIT_CONFIG: doit keeps nothing between runs that this project needs."""
        # Receipts decide what is fresh, so doit's database lives only as long as the process:
        # written in place at its end, it is lost by kill -9 and broken by two runs at once.
        database = self.project.state / f"doit-{os.getpid()}.json"
        atexit.register(lambda: database.unlink(missing_ok=True))
        return {
            "backend": "json",
            "dep_file": str(database) if self._opened else os.devnull + ".cooperage",
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
        for bundle in self._unpinned():
            yield {
                "basename": f"_pin:{bundle}",
                "actions": [(self._act, [lambda bundle=bundle: self._pin(bundle)])],
                "doc": None,
            }

    def bundle(self) -> Iterator[Task]:
        """A whole bundle, up to `validate`."""
        yield self._group("bundle", [f"bundle:{bundle}" for bundle in self._ready()])
        for bundle in self.specs:
            yield {
                "basename": f"bundle:{bundle}",
                "actions": None,
                "task_dep": [f"validate:{bundle}"],
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
                self.usage(f"there is no bundle `{name}`", name, [*self.specs])
        return names or list(self.specs)

    def usage(self, message: str, word: str, known: list[str]) -> None:
        """Say what is wrong with the command line, and exit 3."""
        meant = suggest(word, known)
        error = PipelineError("usage", message, hint=f"did you mean `{meant}`?" if meant else None)
        self.console.error(str(error))
        raise SystemExit(_USAGE)

    def steps(self, bundle: str) -> list[Step]:
        """The bundle's stages in order, and one smoke step for each runtime found."""
        smoke = [Step(STAGES["smoke"], bundle, runtime) for runtime in self.runtimes]
        return [Step(STAGES[name], bundle) for name in _BUILD_STAGES] + smoke

    def reload_pins(self) -> None:
        """Read the lock file again after it was changed."""
        self.pins.reload()

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
        if step.stage.name == "copy" and step.bundle in self._unpinned():
            needs.append(f"_pin:{step.bundle}")
        return {
            "basename": step.task,
            "actions": [(self.run_step, [step, fresh])],
            "task_dep": needs,
            "targets": [str(self.project.bundle(step.bundle).receipt(step.label))],
            "uptodate": [fresh],
            "clean": [(self._clean, [step])],
            "io": {"capture": False},
            "meta": {"stage": True},
        }

    def _clean(self, step: Step, dryrun: bool = False) -> None:
        from pipeline.clean import clean

        for line in clean(self.project, step, dryrun):
            self.console.line(line)

    # Before anything runs ----------------------------------------------------------------------

    def _ready(self) -> list[str]:
        unpinned = self._unpinned()
        return [name for name in self.specs if name not in unpinned]

    def _unpinned(self) -> set[str]:
        return {name for name, spec in self.specs.items() if self.pins.pin_of(spec) is None}

    def _default_tasks(self) -> list[str]:
        if os.geteuid() == 0:
            return [f"bundle:{name}" for name in self._ready()]
        return [f"{stage}:{name}" for name in self._ready() for stage in _without_root()]

    def _open(self) -> bool:
        if not self.selection.runs or self.selection.reader in ("doctor", "new"):
            return self.project.state.is_dir() and os.access(self.project.state, os.W_OK)
        said = self._or_exit(self.project.open)
        if said:
            self.console.line(said)
        return True

    def _tell(self) -> None:
        """Say before any work what is wrong with the specs, what is not pinned, what needs root."""
        everything = self.selection.all_bundles(_GROUPS)
        asked = {name for name in self.loaded.broken if everything or self.selection.names(name)}
        if self.loaded.errors and (asked or (everything and not self.loaded.broken)):
            self.console.error(str(PipelineErrors(self.loaded.errors)))
            raise SystemExit(_USAGE)
        for name in sorted(self.loaded.broken):
            self.console.error(f"{name}: left out, its spec has errors (`doit bundle:{name}` shows them)")
        if self.selection.reader:
            return
        self._refuse_unknown_tasks()
        if not self.selection.runs:
            return
        if not self.selection.tasks:
            for name in sorted(self._unpinned()):
                self.console.line(f"{name}: not pinned yet; 'doit update {name}' resolves it")
        if os.geteuid() != 0:
            self._tell_what_needs_root()

    def _refuse_unknown_tasks(self) -> None:
        known = {*_GROUPS, *selection.READERS}
        known |= {f"bundle:{name}" for name in (*self.specs, *self.loaded.broken)}
        known |= {f"smoke:{name}" for name in self.specs}
        known |= {step.task for name in self.specs for step in self.steps(name)}
        if self.selection.command not in ("run", "info", "forget", "clean"):
            return
        for task in self.selection.tasks:
            # doit itself takes patterns, and targets by their path.
            if task not in known and "*" not in task and not task.startswith(("_", str(self.project.root))):
                self.usage(f"there is no task `{task}`", task, sorted(known))

    def _tell_what_needs_root(self) -> None:
        need = [name for name, stage in STAGES.items() if stage.needs_root]
        why = "need root, since the files of a bundle belong to mapped ids"
        if not self.selection.tasks:
            self.console.line(
                f"not root: building {', '.join(_without_root())} only; {', '.join(need)} {why}"
            )
            return
        asked = [task for task in self.selection.tasks if task.partition(":")[0] in (*need, "bundle")]
        if asked:
            error = PipelineError(
                "needs-root", f"{', '.join(asked)}: {', '.join(need)} {why}", hint="sudo doit …"
            )
            self.console.error(str(error))
            raise SystemExit(_USAGE)

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
        except PipelineError as error:
            self.console.error(str(error))
        except OSError as fault:
            self.console.error(str(_of_system(fault)))
        raise SystemExit(_USAGE)


class Freshness:
    """doit's `uptodate` callable of one step; its repr is what `doit info` prints."""

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


def forget_with_receipts(makefile: Makefile) -> None:
    """Make `doit forget` remove receipts too, since they decide what is fresh."""
    steps = {step.task: step for name in makefile.specs for step in makefile.steps(name)}
    database = Globals.dep_manager
    remove, remove_all = database.remove, database.remove_all

    def forget_one(task: str) -> None:
        if task in steps:
            makefile.engine.forget(steps[task])
        remove(task)

    def forget_all() -> None:
        for step in steps.values():
            makefile.engine.forget(step)
        remove_all()

    database.remove, database.remove_all = forget_one, forget_all


def _need_runtime() -> None:
    from pipeline.packages import install_lines

    raise PipelineError(
        "no-runtime",
        f"none of {', '.join(RUNTIMES)} is installed, so nothing can be run",
        hint="\n".join(["./bootstrap installs them; or:", *install_lines(RUNTIMES).values()]),
    )


def _without_root() -> list[str]:
    return [name for name in _BUILD_STAGES if not _needs_root(STAGES[name])]


def _needs_root(stage: Stage) -> bool:
    return stage.needs_root or any(_needs_root(STAGES[name]) for name in stage.reads)


def _of_system(fault: OSError) -> PipelineError:
    return PipelineError("system", f"{fault.filename or 'the system'}: {fault.strerror or fault}")


def _end_politely(tell: Callable[[str], None]) -> None:
    """Make Ctrl-C, SIGTERM and SIGHUP end the run with one line and 128 + the signal's number."""
    received = [signal.SIGINT]

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    usual = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, value, trace)
            return
        tell(f"interrupted by {received[-1].name}; what was finished is kept, `doit` goes on from there")
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads of `doit -n` would hold the exit back; tools die with us, and the next run sweeps.
        os._exit(128 + received[-1])

    sys.excepthook = hook
