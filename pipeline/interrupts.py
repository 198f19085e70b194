"""Ctrl-C, SIGTERM and SIGHUP: one line, nothing left running, and an exit status that names the signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType


def end_politely(tell: Callable[[str], None]) -> None:
    """From now on an interrupt ends the process with one line and status 128 + the signal's number."""
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
        _close_containers()
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads of `doit -n` would hold the exit back; the tools that they run die with us.
        os._exit(128 + received[-1])

    sys.excepthook = hook


def _close_containers() -> None:
    """Remove what other threads' containers are; the main thread's is gone by now."""
    container = sys.modules.get("pipeline.tools.runtimes.container")
    if container is not None:
        container.close_all()
