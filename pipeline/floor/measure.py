"""Find what a runtime itself calls under the filter: watch real starts, then forbid one call at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import proc
from pipeline.floor import bundle
from pipeline.floor.program import OWN_CALLS
from pipeline.oci.floor import NEEDED, SEEN, SOMETIMES
from pipeline.paths import Project
from pipeline.run import Argument, ToolFailed
from pipeline.tools import strace
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.container import Container, RuntimeRefused

TRACES = 5
"""Starts that are watched: a Go program calls other things each time."""

TRIES = 3
"""Starts without a call that succeed before it is called not needed."""

FAILURES = 2
"""Starts without a call that fail, and none else, before it is called needed."""

CONFIRMATIONS = 20
"""Starts with nothing allowed but the floor, all of which must succeed."""

# A start takes a twentieth of a second; crun, refused a call it needs, may wait for ever.
_PATIENCE_S = 3.0
_PAUSE_S = 0.002
_WRITTEN_S = 5.0

# What the scheduler and the garbage collector of a Go program may call in any thread at any moment, and fail
# without (Go's src/runtime/os_linux.go, sys_linux_amd64.s: futex, rt_sigreturn, sigaltstack and mmap end the
# program when refused; the others are its way to wait and to call threads to order).
GO_SCHEDULER = frozenset(
    {
        "futex",
        "getpid",
        "madvise",
        "mmap",
        "nanosleep",
        "rt_sigreturn",
        "sched_yield",
        "sigaltstack",
        "tgkill",
    }
)
# The head of the section .go.buildinfo (Go's src/debug/buildinfo), in every Go program.
_GO_MARK = b"\xff Go buildinf:"


class Unmeasurable(Exception):
    """The runtime does not start the program even when everything is allowed, or its floor does not hold."""


@dataclass
class Bench:
    """Where starts are made: one bundle, whose config.json is written anew for each."""

    runtime: Runtime
    project: Project
    folder: Path
    tell: Callable[[str], None]
    starts: int = 0

    def start(self, profile: dict[str, Any], *, quiet: bool, traces: Path | None = None) -> bool:
        """Start the program and one more in its container; True when both are really running or have ended.

        With `traces`, the starts are watched and written to `create` and `exec` there. Raises Unmeasurable
        when something of the container stays.
        """
        self.starts += 1
        bundle.write_config(self.folder / "bundle", profile, no_new_privileges=quiet)

        def before(verb: str) -> list[Argument]:
            return strace.watching(traces / verb) if traces is not None else []

        container = Container(
            self.runtime,
            self.folder / "bundle",
            name="floor",
            project=self.project,
            scratch=self.folder,
            before=before,
            patience_s=_PATIENCE_S,
        )
        done = self._lives(container)
        if container.left:
            raise Unmeasurable(f"a start left something behind: {', '.join(container.left)}")
        return done

    @staticmethod
    def _lives(container: Container) -> bool:
        try:
            with container:
                container.start()
                # `start` is done when the runtime's last process is told to go on, not when it has.
                return _runs(container) and container.exec([bundle.ENDS], _PATIENCE_S).returncode == 0
        except (RuntimeRefused, ToolFailed):
            return False
        raise AssertionError("unreachable")


def _runs(container: Container) -> bool:
    """Wait until the program has taken the runtime's place; False when that ends before, or never does."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and container.wait(_PAUSE_S) is None:
        if f"/{proc.text(container.pid, 'comm').strip()}" == bundle.WAITS:
            return True
    return False


def is_go(program: Path) -> bool:
    """True for a program that was built by Go."""
    return _GO_MARK in program.read_bytes()


def measure(bench: Bench, *, quiet: bool) -> dict[str, str]:
    """Return each call that the runtime makes under the filter: needed, sometimes, or only seen.

    `quiet` is noNewPrivileges. Raises Unmeasurable when a start fails that must not.
    """
    seen = watch(bench, quiet=quiet)
    candidates = sorted(seen | (GO_SCHEDULER if is_go(bench.runtime.path) else set()))
    bench.tell(f"{len(seen)} calls seen in {TRACES} starts; now each is forbidden")
    found = {call: _without(bench, call, call in seen, quiet=quiet) for call in candidates}
    _confirm(bench, found, quiet=quiet)
    return found


def watch(bench: Bench, *, quiet: bool) -> set[str]:
    """Return the calls between filter and program, of `create` with `start` and of `exec`, in all starts."""
    found: set[str] = set()
    for number in range(TRACES):
        traces = bench.folder / f"trace-{number}"
        traces.mkdir()
        if not bench.start(bundle.recording(), quiet=quiet, traces=traces):
            raise Unmeasurable(f"{bench.runtime.name} starts no program at all here")
        for verb in ("create", "exec"):
            found |= set(read_trace(traces / verb))
            (traces / verb).unlink()
        traces.rmdir()
    return found


def read_trace(log: Path) -> list[str]:
    """Return the calls of one watched start. Raises Unmeasurable when the log shows none whole."""
    whole = strace.wait_until_written(log, _WRITTEN_S)
    with log.open(errors="replace") as lines:
        calls = strace.between_filter_and_program(strace.read_calls(lines))
    if not whole or not calls or not calls[-1].starts_program:
        raise Unmeasurable("strace did not see a whole start, from the filter to the program")
    return [call.name for call in calls]


def _without(bench: Bench, call: str, seen: bool, *, quiet: bool) -> str:
    """How much a call is needed. A Go scheduler's is never safe to refuse, however many starts succeed."""
    tries: list[bool] = []
    while len(tries) < TRIES and (any(tries) or len(tries) < FAILURES):
        tries.append(bench.start(bundle.all_but(call), quiet=quiet))
    if not any(tries):
        return NEEDED
    if not all(tries) or (call in GO_SCHEDULER and is_go(bench.runtime.path)):
        return SOMETIMES
    return SEEN


def _confirm(bench: Bench, found: dict[str, str], *, quiet: bool) -> None:
    """Start under the floor alone, many times; a call that is missed then was only seen and is wanted."""
    for _ in range(CONFIRMATIONS):
        if not bench.start(bundle.only(_wanted(found)), quiet=quiet):
            _widen(bench, found, quiet=quiet)


def _widen(bench: Bench, found: dict[str, str], *, quiet: bool) -> None:
    """Two calls that stand in for one another are both only seen: find those that the floor lacks."""
    everything = [*found, *OWN_CALLS]
    if not all(bench.start(bundle.only(everything), quiet=quiet) for _ in range(TRIES)):
        raise Unmeasurable(
            "with all that it was seen to call, and nothing else, it does not start every time"
        )
    kept = set(everything)
    for call in [name for name, how in found.items() if how == SEEN]:
        if all(bench.start(bundle.only(kept - {call}), quiet=quiet) for _ in range(TRIES)):
            kept.discard(call)
        else:
            found[call] = SOMETIMES


def _wanted(found: dict[str, str]) -> Iterable[str]:
    return [*(call for call, how in found.items() if how != SEEN), *OWN_CALLS]
