"""How processes end that are ours: a runtime that was called, and a container's first process."""

from __future__ import annotations

import ctypes
import os
import select
import signal
from dataclasses import dataclass

from pipeline.run import Argument, Process, Result, start
from pipeline.tools.runtimes.shield import shielded

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


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


def call(words: list[Argument], timeout_s: float, output_fd: int | None = None) -> Result:
    """Run a runtime to its end; whatever happens, it has ended when this returns.

    An interrupt in the middle of Popen would leave a process that nobody knows: a `create` that goes on
    while its container is being removed.
    """
    process: Process | None = None
    try:
        with shielded():
            process = start(words, stdout=output_fd, stderr=output_fd)
        if output_fd is not None:
            # Without a pipe to read, Popen.wait polls in steps of up to 50 ms.
            _await(process.pid, timeout_s)
        return process.wait(timeout_s)
    finally:
        with shielded():
            if process is not None:
                process.stop()


def readable(fd: int, timeout_s: float) -> bool:
    """Wait until a descriptor can be read; for a pidfd, until the process has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def reap(pid: int) -> Exit:
    """Take the exit status of a child that has ended; of another's child there is none to take."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return Exit()
    if os.WIFSIGNALED(status):
        return Exit(signal=_signal_name(os.WTERMSIG(status)))
    return Exit(code=os.WEXITSTATUS(status))


def _await(pid: int, timeout_s: float) -> None:
    fd = os.pidfd_open(pid)
    try:
        readable(fd, timeout_s)
    finally:
        os.close(fd)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
