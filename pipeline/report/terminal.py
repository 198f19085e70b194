"""What a run says: one line for each stage that ran and why, and a summary."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, TextIO

_LINE_EVERY_S = 10.0
_REDRAW_EVERY_S = 0.1
_PIN = "_pin:"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Console:
    """The terminal or pipe that one run speaks to; safe from several threads."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._lock = threading.Lock()
        self._drawn = False
        self._last: dict[str, float] = {}
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = _wants_colour(out)

    def say(self, task: str, line: str) -> None:
        """Show one line of a stage."""
        self.line(f"{task}: {line}")

    def line(self, text: str) -> None:
        """Write one line to standard output."""
        with self._lock:
            self._write(text)

    def note(self, text: str) -> None:
        """Write one line to standard error that is no error: standard output is for what was asked."""
        with self._lock:
            self._write_error(text)

    def error(self, text: str) -> None:
        """Write lines to standard error."""
        with self._lock:
            self._write_error(self.paint(text, "31") if self._err.isatty() else text)

    def progress(self, task: str, done_bytes: int, total_bytes: int, what: str) -> None:
        """Show how far a stage is: redrawn on a terminal, a line every 10 s elsewhere."""
        now = time.monotonic()
        every = _REDRAW_EVERY_S if self._live else _LINE_EVERY_S
        with self._lock:
            # Elsewhere than on a terminal, short work is no news: the first line comes after one interval.
            if now - self._last.setdefault(task, now - every if self._live else now) < every:
                return
            self._last[task] = now
            text = f"{task}: {what} {_amount(done_bytes, total_bytes)}"
            if self._live:
                self._out.write(f"\r\x1b[K{text}")
                self._out.flush()
                self._drawn = True
            else:
                self._write(text)

    def started(self, task: str, why: str) -> None:
        """On a terminal, show what is being done until the next line replaces it."""
        if self._live:
            with self._lock:
                self._erase()
                self._out.write(f"{task}: {self.paint(why, '2')}")
                self._out.flush()
                self._drawn = True

    def paint(self, text: str, code: str) -> str:
        """Colour `text`, where colour is wanted (NO_COLOR, FORCE_COLOR, a terminal)."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _write(self, text: str) -> None:
        try:
            self._erase()
            print(text, file=self._out, flush=True)
        except BrokenPipeError:
            # Whoever read it (`doit status | head`) has seen enough; the work goes on.
            self._out = open(os.devnull, "w")  # noqa: SIM115
            os.dup2(self._out.fileno(), 1)

    def _write_error(self, text: str) -> None:
        try:
            self._erase()
            self._out.flush()
            print(text, file=self._err, flush=True)
        except BrokenPipeError:
            self._err = open(os.devnull, "w")  # noqa: SIM115
            os.dup2(self._err.fileno(), 2)

    def _erase(self) -> None:
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._drawn = False


class Reporter:
    """doit's reporter: counts what ran and what was cached, and says why something ran."""

    desc = "one line for each stage that ran and why, and a summary"

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._started: dict[str, float] = {}
        self._counts = {"failed": 0, "run": 0, "cached": 0, "not reached": 0}
        self._stages = False
        self.reasons: dict[str, str | None] = {}

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        """Called once before anything runs."""

    def get_status(self, task: Any) -> None:
        """Called before a task's freshness is asked for."""

    def execute_task(self, task: Any) -> None:
        """Called when a task starts."""
        self._started[task.name] = time.monotonic()
        if _is_stage(task):
            self._console.started(task.name, "building")

    def add_success(self, task: Any) -> None:
        """Called when a task has ended well."""
        if not _is_stage(task):
            return
        self._stages = True
        why = self.reasons.get(task.name)
        if why is None:
            self._counts["cached"] += 1
            return
        self._counts["run"] += 1
        took = time.monotonic() - self._started[task.name]
        name = f"{task.name:<26}"
        self._console.line(
            f"{self._console.paint(name, '32')} {took:6.2f} s  {self._console.paint(why, '2')}"
        )

    def skip_uptodate(self, task: Any) -> None:
        """Called when a task is fresh."""
        if _is_stage(task):
            self._stages = True
            self._counts["cached"] += 1

    def skip_ignore(self, task: Any) -> None:
        """Called when the user told doit to ignore a task."""
        self._console.line(f"{task.name}: ignored (`doit forget {task.name}` ends that)")

    def add_failure(self, task: Any, fail: Any) -> None:
        """Called when a task has failed, or one that it needs."""
        unmet = type(fail).__name__ == "UnmetDependency"
        if _is_stage(task) or task.name.startswith(_PIN):
            self._stages = True
        if unmet:
            self._counts["not reached"] += _is_stage(task)
            return
        self._counts["failed"] += 1
        text = fail.get_msg().rstrip()
        if text:
            took = time.monotonic() - self._started.get(task.name, self._begun)
            if _is_stage(task) or task.name.startswith(_PIN):
                self._console.error(f"{task.name.removeprefix('_'):<26} {took:6.2f} s  FAILED")
            self._console.error(text)

    def cleanup_error(self, exception: Any) -> None:
        """Called when a teardown failed."""
        self._console.error(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """Called on an error of doit itself."""
        self._console.error(msg)

    def teardown_task(self, task: Any) -> None:
        """Called before a teardown."""

    def complete_run(self) -> None:
        """Called at the end: the summary line. Of an interrupted run the interrupt's own line says all."""
        if not self._stages or isinstance(sys.exc_info()[1], KeyboardInterrupt):
            return
        counts = self._counts
        said = [f"{counts[k]} {k}" for k in ("failed",) if counts[k]]
        said += [f"{counts['run']} run", f"{counts['cached']} cached"]
        said += [f"{counts[k]} {k}" for k in ("not reached",) if counts[k]]
        self._console.line(f"{', '.join(said)}, {time.monotonic() - self._begun:.2f} s")


def _is_stage(task: Any) -> bool:
    return bool((task.meta or {}).get("stage"))


def _wants_colour(out: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or out.isatty()


def _amount(done: int, total: int) -> str:
    if not total:
        return _size(done)
    return f"{_size(done)} of {_size(total)} ({100 * min(done, total) // total} %)"


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def standard_console() -> Console:
    """The console of this process."""
    return Console(sys.stdout, sys.stderr)
