"""One container from `create` to `delete`: it exists inside a `with` block and nothing of it afterwards."""

from __future__ import annotations

import atexit
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pipeline import proc
from pipeline.errors import PipelineError
from pipeline.paths import Project
from pipeline.run import Argument, Result, ToolFailed
from pipeline.tools.runtimes import standstill
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.crash import explain, plain, printable
from pipeline.tools.runtimes.ending import Exit, become_subreaper, call, readable, reap
from pipeline.tools.runtimes.output import Output
from pipeline.tools.runtimes.record import HeldRecord, Record
from pipeline.tools.runtimes.removal import leftovers, namespace_leftovers, remove
from pipeline.tools.runtimes.shield import shielded

_VERB_TIMEOUT_S = 60.0
_DEATH_TIMEOUT_S = 10.0
_REAP_PAUSE_S = 0.05
_OUTPUT_TIMEOUT_S = 2.0
_SAID_MAX = 4000

_live: dict[str, Container] = {}


class RuntimeRefused(PipelineError):
    """The runtime would not create or start a container; `said` is all that it had to say."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__("runtime-refused", printable(message), hint=explain(said))
        self.said = printable(said)


class Container:
    """A container of our own: `cooperage-NAME-XXXXXXXX`, created on entry, removed on exit.

    `scratch` is a folder for small files of the runtime; `log` gets what the container prints. `before`
    gives the words that go before a verb's (`create`, `exec`), to watch it; a verb gets `patience_s`. After
    the block, `left` names what could not be removed. Entry raises RuntimeRefused.
    """

    def __init__(
        self,
        runtime: Runtime,
        bundle: Path,
        *,
        name: str,
        project: Project,
        scratch: Path,
        log: Path | None = None,
        before: Callable[[str], list[Argument]] = lambda verb: [],
        patience_s: float = _VERB_TIMEOUT_S,
    ) -> None:
        self.id = f"cooperage-{name}-{os.urandom(4).hex()}"
        self.runtime = runtime
        self.bundle = bundle.resolve()
        self.pid = 0
        self.cgroups: dict[str, Path] = {}
        self.exit: Exit | None = None
        self.left: list[str] = []
        self.timings_ms: dict[str, float] = {}
        self._project = project
        self._scratch = scratch
        self._log = log
        self._before = before
        self._patience_s = patience_s
        self._pidfd = -1
        self._namespaces: dict[int, int] = {}
        self._held: HeldRecord | None = None
        self._closing = threading.RLock()
        self.output: Output | None = None

    def __enter__(self) -> Self:
        try:
            self._create()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Let the container's program begin. Raises RuntimeRefused."""
        self._must("start", self.runtime.start(self.id, self._runtime_log))

    def signal(self, number: int) -> None:
        """Have the runtime send a signal to the first process; one that has ended is fine."""
        self._verb("kill", self.runtime.kill(self.id, number))

    def kill(self) -> None:
        """Kill the first process, and with its pid namespace all others."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, timeout_s: float) -> Exit | None:
        """Wait for the first process to end and return how; None when it still runs after `timeout_s`."""
        if self.exit is None and self._pidfd >= 0 and readable(self._pidfd, timeout_s):
            self.exit = reap(self.pid)
        return self.exit

    def exec(self, args: list[str], timeout_s: float) -> Result:
        """Run one more process in the container, under the same rules as its program.

        Raises ToolFailed when it does not end within `timeout_s`; it is killed then.
        """
        process = {**self._process(), "args": args, "terminal": False}
        mark = os.urandom(4).hex()
        process_file, pid_file = (self._scratch / f"{self.id}-{mark}.{kind}" for kind in ("json", "exec"))
        process_file.write_text(json.dumps(process))
        exec_words = self.runtime.exec(self.id, process_file, pid_file, self._runtime_log)
        words = [*self._before("exec"), *exec_words]
        try:
            return call(words, timeout_s)
        except ToolFailed:
            self._kill_stray(pid_file)
            raise
        finally:
            process_file.unlink()
            pid_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the container and all that is of it; interrupts wait meanwhile. A second call is fine."""
        with shielded(), self._closing:
            if self._held is not None:
                self._remove()
                self._held.release(remove=not self.left)
                self._held = None
            # Last, so that `close_all` waits for a removal that another thread has begun.
            _live.pop(self.id, None)
        # Every way out of a container leads through here: what it came to is no news any more.
        standstill.halt()

    def output_ended(self) -> bool:
        """Wait a little for the last words of a program that has ended; False if more may come."""
        return self.output is None or self.output.finish(_OUTPUT_TIMEOUT_S)

    def _create(self) -> None:
        become_subreaper()
        _live[self.id] = self
        # The record comes first: from here on, whoever dies, a sweep finds what there is.
        with shielded(), standstill.room():
            self._held = HeldRecord.create(self._project.running, self._record())
            self.output = Output(self._log)
        pid_file = self._scratch / f"{self.id}.pid"
        words = self.runtime.create(self.id, self.bundle, pid_file, self._runtime_log)
        self._must("create", [*self._before("create"), *words], output_fd=self.output.write_fd)
        self.output.close_writer()
        try:
            self.pid = int(pid_file.read_text())
            self._pidfd = os.pidfd_open(self.pid)
            self._namespaces = proc.pin_namespaces(self.pid)
            self.cgroups = proc.cgroup_directories(self.pid)
        except (OSError, ValueError):
            raise RuntimeRefused(
                f"{self.runtime.name}: the container ended before it was started", ""
            ) from None

    def _record(self) -> Record:
        return Record(
            container=self.id,
            runtime=self.runtime.name,
            program=str(self.runtime.path),
            root=str(self.runtime.root),
            bundle=str(self.bundle),
            project=str(self._project.root.resolve()),
        )

    def _remove(self) -> None:
        self.kill()
        self._await_death()
        if self.pid:
            self._verb("delete", self.runtime.delete(self.id, force=False), removal=True)
        own = [folder for folder in self.cgroups.values() if self.id in str(folder)]
        state = self.runtime.state_folder(self.id)
        if not self.pid or leftovers(self.id, state, own):
            self.left = remove(self._record())
            # Its own thread may have learnt of the first process while this one was removing it.
            self.wait(0)
        self.left += namespace_leftovers(self._namespaces.keys())
        if self.output is not None and not self.output.finish(_OUTPUT_TIMEOUT_S):
            self.left.append("a process that holds the container's output open")
        for fd in (self._pidfd, *self._namespaces.values()):
            if fd >= 0:
                os.close(fd)
        self._pidfd, self._namespaces = -1, {}

    def _await_death(self) -> None:
        """Wait for the first process to end, and take the exit status of strays that keep it from ending.

        A pid namespace's first process is done when all others are reaped (pid_namespaces(7)). One that a
        runtime's `exec` had put there is our child since that runtime was stopped, so nobody else will.
        """
        end = time.monotonic() + _DEATH_TIMEOUT_S
        while self._pidfd >= 0 and self.wait(_REAP_PAUSE_S) is None and time.monotonic() < end:
            for child in proc.children(os.getpid()):
                inside = not self._namespaces.keys().isdisjoint(proc.namespaces(child, ("pid",)).values())
                if child != self.pid and inside:
                    with suppress(ChildProcessError):
                        os.waitpid(child, os.WNOHANG)

    @property
    def _runtime_log(self) -> Path:
        return self._scratch / f"{self.id}.runtime.log"

    def _process(self) -> dict[str, Any]:
        process: dict[str, Any] = json.loads((self.bundle / "config.json").read_bytes())["process"]
        return process

    def _verb(
        self, verb: str, words: list[Argument], output_fd: int | None = None, *, removal: bool = False
    ) -> Result:
        try:
            patience_s = _VERB_TIMEOUT_S if removal else self._patience_s
            result = call(words, patience_s, output_fd, removal=removal)
        except ToolFailed as error:
            result = error.result
        self.timings_ms[verb] = round(result.seconds * 1000, 1)
        return result

    def _must(self, verb: str, words: list[Argument], output_fd: int | None = None) -> None:
        result = self._verb(verb, words, output_fd)
        if result.returncode != 0:
            said = (_errors(self._runtime_log) or result.stderr.strip() or result.ended)[:_SAID_MAX]
            raise RuntimeRefused(f"{self.runtime.name} could not {verb} the container: {said}", said)

    def _kill_stray(self, pid_file: Path) -> None:
        with suppress(OSError, ValueError):
            pid = int(pid_file.read_text())
            fd = os.pidfd_open(pid)
            if self.id in proc.text(pid, "cgroup"):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)


def close_all() -> None:
    """Remove every container that this process still has, whichever thread runs it, and make no more.

    The last net below an interrupted `with`; who leaves by os._exit must call it first. Other threads
    stand still from here on wherever they would go on with a container.
    """
    standstill.begin()
    for container in list(_live.values()):
        container.close()


atexit.register(close_all)


def _errors(log: Path) -> str:
    """What a runtime wrote of errors to its own log, one JSON object a line."""
    said = []
    with suppress(FileNotFoundError):
        for line in log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                if json.loads(line).get("level") in ("error", "fatal"):
                    said.append(plain(line))
    return "\n  ".join(dict.fromkeys(filter(None, said)))
