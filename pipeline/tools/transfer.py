"""Transfers that may fail for a while: when to try again, when to give up."""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.run import Argument, Result, start
from pipeline.tools.failure import Failure, Kind, classify, redact

_PROGRESS_POLL_S = 0.1


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try; times in seconds."""

    total_s: float = 1800
    stall_s: float = 60
    attempts: int = 5
    delay_s: float = 1
    longest_delay_s: float = 30

    @classmethod
    def from_environment(cls) -> Patience:
        """Read COOPERAGE_{PULL_TIMEOUT,STALL_TIMEOUT,RETRY_DELAY}_S. Raises PipelineError `bad-setting`."""
        return cls(
            total_s=_seconds("COOPERAGE_PULL_TIMEOUT_S", cls.total_s),
            stall_s=_seconds("COOPERAGE_STALL_TIMEOUT_S", cls.stall_s),
            delay_s=_seconds("COOPERAGE_RETRY_DELAY_S", cls.delay_s),
        )

    def pause_s(self, attempt: int) -> float:
        """Return how long to wait after the failed `attempt`, from 1: doubled each time, with jitter.

        Jitter of half keeps many clients from coming back at the same moment.
        """
        longest = min(self.delay_s * 2.0 ** (attempt - 1), self.longest_delay_s)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - not a secret


def transfer(
    attempt: Callable[[float], tuple[Result, Kind | None]],
    patience: Patience,
    failed: Callable[[Failure, int], PipelineError],
    say: Callable[[str], None] = lambda line: None,
    secrets: Sequence[str] = (),
) -> Result:
    """Call `attempt` with the seconds left until it succeeds or trying again is in vain.

    `failed` makes the error that is raised from the last failure and the number of attempts.
    """
    deadline = time.monotonic() + patience.total_s
    for number in range(1, patience.attempts + 1):
        result, ended = attempt(max(deadline - time.monotonic(), 0.1))
        if result.returncode == 0 and ended is None:
            return result
        failure = _failure(result, ended, secrets)
        pause_s = patience.pause_s(number)
        late = time.monotonic() + pause_s >= deadline
        if not failure.transient or ended is Kind.TIMEOUT or late or number == patience.attempts:
            raise failed(failure, number)
        say(f"{failure.summary()}; attempt {number + 1} of {patience.attempts} in {pause_s:.0f} s")
        time.sleep(pause_s)
    raise AssertionError("unreachable")


def _failure(result: Result, ended: Kind | None, secrets: Sequence[str]) -> Failure:
    failure = classify(result.stderr)
    return Failure(ended, "") if ended else Failure(failure.kind, redact(failure.said, secrets))


def watched(
    argv: Sequence[Argument],
    folder: Path,
    total_s: float,
    stall_s: float,
    moved: Callable[[], int],
) -> tuple[Result, Kind | None]:
    """Run a program while `moved()` grows; end its group when it takes too long or nothing moves.

    Its output goes to files in `folder`, so that a full pipe never stops it. Returns what it said and
    why it was ended, None when it ended by itself.
    """
    started = time.monotonic()
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        with start(argv, stdout=out, stderr=err) as process:
            ended = _watch(process.pid, process.poll, total_s, stall_s, moved)
            process.stop()
            code = process.poll()
        out.seek(0)
        err.seek(0)
        texts = (out.read().decode(errors="replace"), err.read().decode(errors="replace"))
    words = tuple(os.fspath(word) for word in argv)
    return Result(words, 1 if code is None else code, *texts, time.monotonic() - started), ended


def _watch(
    pid: int, poll: Callable[[], int | None], total_s: float, stall_s: float, moved: Callable[[], int]
) -> Kind | None:
    started = last_time = time.monotonic()
    last = -1
    # A pidfd wakes us when the program ends: no copy is longer by a polling interval.
    ending = os.pidfd_open(pid)
    try:
        waiter = select.poll()
        waiter.register(ending, select.POLLIN)
        while True:
            waiter.poll(_PROGRESS_POLL_S * 1000)
            if poll() is not None:
                return None
            now = time.monotonic()
            amount = moved()
            if amount != last:
                last, last_time = amount, now
            if now - started > total_s:
                return Kind.TIMEOUT
            if now - last_time > stall_s:
                return Kind.STALLED
    finally:
        os.close(ending)


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise PipelineError("bad-setting", f"{name}={text} is no time", hint=f"seconds: {name}={default:g}")
    return value
