"""Ctrl-C, SIGTERM and SIGHUP: one line, nothing left running, an exit status that names the signal.

And what a run left that could not end politely: swept by the next one.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType, TracebackType

from pipeline.engine import Engine
from pipeline.errors import PipelineError
from pipeline.preflight import of_system

_TIDIERS: list[Callable[[], object]] = []


def end_politely(tell: Callable[[str], None]) -> None:
    """From now on an interrupt ends the process with one line and status 128 + the signal's number."""
    received = [signal.SIGINT]

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    atexit.register(_end_undisturbed)
    usual = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, value, trace)
            return
        _end_undisturbed()
        tell(f"interrupted by {received[-1].name}; what was finished is kept, `doit` goes on from there")
        _close_containers()
        for tidy in _TIDIERS:
            with suppress(PipelineError, OSError):
                tidy()
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads of `doit -n` would hold the exit back; the tools that they run die with us.
        os._exit(128 + received[-1])

    sys.excepthook = hook


def sweep(engine: Engine, tell: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Remove the work folders and containers that killed runs left; say each, and what cannot be removed.

    What stays is in nobody's way, so it stops no run; the next one tries again.
    """

    def containers() -> Iterable[str]:
        if not any(engine.project.running.iterdir()):
            return []
        from pipeline.tools.runtimes.sweep import sweep

        return sweep(engine.project)

    for removal in (engine.sweep, containers):
        try:
            for line in removal():
                tell(line)
        except PipelineError as error:
            note(f"could not sweep all that an interrupted run left: {error.message}")
        except OSError as fault:
            note(f"could not sweep all that an interrupted run left: {of_system(fault).message}")


def tidy_up_with(action: Callable[[], object]) -> None:
    """Have `action` called when an interrupt ends the process: it may have hit what tidies up by itself."""
    _TIDIERS.append(action)


def _end_undisturbed() -> None:
    """All is done and said: a signal now must not turn that into something else."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _close_containers() -> None:
    """Remove what other threads' containers are; the main thread's is gone by now."""
    container = sys.modules.get("pipeline.tools.runtimes.container")
    if container is not None:
        container.close_all()
