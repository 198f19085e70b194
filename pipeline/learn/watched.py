"""One run of a bundle under strace: a copy of its config with a wider filter, the smoke, all its calls."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline import proc
from pipeline.errors import PipelineError
from pipeline.files import canonical_json
from pipeline.learn.exercise import Exercise
from pipeline.learn.recorded import calls_after_filter, program_calls
from pipeline.learn.widened import widened
from pipeline.observe.fact import Fact
from pipeline.paths import BundlePaths, Project
from pipeline.run import Argument, Process, start
from pipeline.tools import strace
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.container import Container
from pipeline.tools.strace import Call
from pipeline.trial import Plan, observe

SLOWER = 5.0
"""So many times longer than in a smoke is waited for a program that is watched."""

_ATTACH_S = 10.0
_WRITTEN_S = 10.0
_END_S = 10.0
_PAUSE_S = 0.01


@dataclass
class _Watch:
    """strace on a container's first process, and on each process that `exec` starts in it."""

    folder: Path
    logs: list[Path] = field(default_factory=list)
    process: Process | None = None

    @property
    def main(self) -> Path:
        """What strace says of the first process and its children."""
        return self.folder / "main.strace"

    def before(self, verb: str) -> list[Argument]:
        """The words that go before a verb of the runtime."""
        if verb != "exec":
            return []
        self.logs.append(self.folder / f"exec-{len(self.logs)}.strace")
        return strace.watching(self.logs[-1])

    def attach(self, container: Container) -> None:
        """Watch what will become the program. Raises PipelineError `not-watched`."""
        self.process = start(strace.attaching(container.pid, self.main))
        end = time.monotonic() + _ATTACH_S
        while not _watched(container.pid):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.stop()
                said = self.process.wait(_END_S).stderr.strip()
                raise PipelineError(
                    "not-watched",
                    f"strace could not attach to the container: {said or 'it gave no reason'}",
                    hint="ptrace(2) tells who may; see /proc/sys/kernel/yama/ptrace_scope",
                )
            time.sleep(_PAUSE_S)

    def end(self) -> None:
        """Have strace end; it does so by itself when all that it watches is gone."""
        if self.process is not None:
            end = time.monotonic() + _END_S
            while self.process.poll() is None and time.monotonic() < end:
                time.sleep(_PAUSE_S)
            self.process.stop()

    def calls(self) -> Iterator[Call]:
        """All calls of the program and of what `exec` started. Raises PipelineError `trace-incomplete`."""
        with self.main.open(errors="replace") as lines:
            found = program_calls(strace.read_calls(lines))
        if not found:
            raise _incomplete("the program was not seen to start")
        yield from found
        for log in self.logs:
            if not strace.wait_until_written(log, _WRITTEN_S):
                raise _incomplete("not all of what was run in the container was seen to end")
            with log.open(errors="replace") as lines:
                yield from calls_after_filter(strace.read_calls(lines))


def watch(
    runtime: Runtime, paths: BundlePaths, project: Project, folder: Path, plan: Plan, exercise: Exercise
) -> list[Call]:
    """Run a bundle's smoke and its exercise under strace and return every call that its processes made.

    `folder` is for what is needed meanwhile; the bundle itself stays as it is. Raises what makes a smoke
    fail, and PipelineError `exercise-failed`, `not-watched`, `trace-incomplete`.
    """
    bundle = _copy(paths, folder)
    seen = _Watch(folder)
    container = Container(
        runtime,
        bundle,
        name=paths.name,
        project=project,
        scratch=folder,
        log=folder / "output.log",
        before=seen.before,
    )

    def exercised(container: Container) -> list[Fact]:
        exercise.perform(container)
        return []

    with _ended(seen):
        report = observe(container, _slower(plan), before_start=seen.attach, look=exercised)
    if report.failure is not None:
        raise report.failure
    return list(seen.calls())


@contextmanager
def _ended(seen: _Watch) -> Iterator[None]:
    try:
        yield
    finally:
        seen.end()


def _slower(plan: Plan) -> Plan:
    check = plan.check
    patient = replace(check, timeout_s=check.timeout_s * SLOWER, patience_s=check.patience_s * SLOWER)
    return replace(plan, check=patient, grace_s=plan.grace_s * SLOWER)


def _copy(paths: BundlePaths, folder: Path) -> Path:
    """A bundle that has the same rootfs and a wider filter; it may hold secrets, as the bundle does."""
    bundle = folder / "bundle"
    bundle.mkdir(mode=0o711)
    folder.chmod(0o711)
    bundle.chmod(0o711)
    config = widened(json.loads(paths.config.read_bytes()), os.fspath(paths.rootfs.resolve()))
    place = bundle / "config.json"
    place.touch(mode=0o600)
    place.write_bytes(canonical_json(config))
    return bundle


def _watched(pid: int) -> bool:
    """True when every thread of a process has a tracer (proc(5))."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return all(int(proc.status(f"{pid}/task/{thread}")["TracerPid"]) for thread in threads)
    except OSError:
        # A thread that has ended since; those that are left are asked again.
        return False


def _incomplete(what: str) -> PipelineError:
    return PipelineError(
        "trace-incomplete", f"the record is not whole: {what}", hint="try again; nothing was kept"
    )
