"""How processes end that are ours: a runtime that was called, and a container's first process."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pipeline.run import Argument, Process, Result, start
from pipeline.tools.runtimes import standstill
from pipeline.tools.runtimes.capture import Capture
from pipeline.tools.runtimes.shield import shielded

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_LONGEST_POLL_MS = 2**31 - 1  # poll(2) takes an int


@dataclass(frozen=True)
class Exit:
    """How a container's first process ended: a code, or a signal; neither when that could not be seen."""

    code: int | None = None
    signal: str | None = None

    def __str__(self) -> str:
        if self.signal:
            return f"was ended by {self.signal}"
        return "ended" if self.code is None else f"exited {self.code}"


def become_subreaper() -> None:
    """Make orphans among our descendants our children, for the rest of this process."""
    # A runtime's `create` ends and leaves the container's first process without a parent. As subreaper we
    # become it, and can learn the exit status; it also keeps the process id from being used again.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def call(
    words: list[Argument], timeout_s: float, output_fd: int | None = None, *, removal: bool = False
) -> Result:
    """Run a runtime to its end; whatever happens, it has ended when this returns.

    What it prints goes to `output_fd`, or its last 16 KiB are in the result. A `removal` goes on even
    while the process is about to end. Raises ToolFailed when it runs longer than `timeout_s`.
    """
    process: Process | None = None
    with ExitStack() as opened:
        try:
            # An interrupt in the middle of Popen would leave a process that nobody knows: a `create` that
            # goes on while its container is being removed.
            with shielded(), standstill.room(always=removal):
                captured = None if output_fd is not None else opened.enter_context(Capture())
                out, err = (captured.out.writer, captured.err.writer) if captured else (output_fd, output_fd)
                process = start(words, stdout=out, stderr=err)
            return _end(process, captured, timeout_s)
        finally:
            with shielded():
                if process is not None:
                    process.stop()
    raise AssertionError("unreachable")


def _end(process: Process, captured: Capture | None, timeout_s: float) -> Result:
    if captured is None:
        return process.wait(timeout_s)
    begun = time.monotonic()
    captured.follow(process.pid, timeout_s)
    result = process.wait(max(0.0, begun + timeout_s - time.monotonic()))
    return replace(result, stdout=captured.out.text, stderr=captured.err.text)


def readable(fd: int, timeout_s: float) -> bool:
    """Wait until a descriptor can be read; for a pidfd, until the process has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(min(timeout_s * 1000, _LONGEST_POLL_MS)))


def reap(pid: int) -> Exit:
    """Take the exit status of a child that has ended; of another's child there is none to take."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return Exit()
    if os.WIFSIGNALED(status):
        return Exit(signal=_signal_name(os.WTERMSIG(status)))
    return Exit(code=os.WEXITSTATUS(status))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
