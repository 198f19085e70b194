"""One container's life under observation: create, start, ready, looked at from outside, stopped, gone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import proc
from pipeline.errors import PipelineError
from pipeline.observe.cgroups import limit_facts, oom_kills
from pipeline.observe.fact import Config, Fact
from pipeline.observe.mounts import mount_facts
from pipeline.observe.process import namespace_facts, process_facts
from pipeline.oci.mounts import INIT_PATH
from pipeline.probe import Check, Ready, wait_until_ready
from pipeline.tools.runtimes.container import Container, RuntimeRefused
from pipeline.tools.runtimes.crash import explain_exit, plain, printable
from pipeline.tools.runtimes.ending import Exit
from pipeline.tools.runtimes.output import MAX_LOG_BYTES

_LAST_LINES = 12
_KILL_TIMEOUT_S = 10.0
_CRASH_SIGNALS = frozenset({"SIGSYS", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL"})


@dataclass(frozen=True)
class Plan:
    """What to expect of a bundle: how it shows that it is ready, and how it is asked to stop."""

    bundle: str
    check: Check
    stop_signal: str
    stop_number: int
    grace_s: float


@dataclass
class Report:
    """What was seen. `failure` says what went wrong, None when everything is proven."""

    facts: list[Fact] = field(default_factory=list)
    ready: Ready | None = None
    stopped: bool | None = None
    exit: Exit | None = None
    oom_killed: bool = False
    left: list[str] = field(default_factory=list)
    dropped_bytes: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
    failure: PipelineError | None = None

    def proven(self, plan: Plan) -> dict[str, Any]:
        """What another run on this host must find again: everything but times and counts."""
        failure = self.failure
        return {
            "bundle": plan.bundle,
            "result": "failed" if failure else "proven",
            "facts": [fact.to_json() for fact in self.facts],
            "ready": None if self.ready is None else {"check": str(plan.check), "ok": self.ready.ok},
            "stop": {"signal": plan.stop_signal, "grace_s": plan.grace_s, "ok": self.stopped},
            "exit": None if self.exit is None else {**asdict(self.exit), "oom_killed": self.oom_killed},
            "leftovers": self.left,
            "failure": None if failure is None else {"code": failure.code, "message": failure.message},
        }


def observe(
    container: Container,
    plan: Plan,
    *,
    before_start: Callable[[Container], None] = lambda container: None,
    look: Callable[[Container], list[Fact]] | None = None,
) -> Report:
    """Run the container through its life and return all that was seen; it is gone afterwards.

    `before_start` is called between create and start, `look` in the place of comparing it with its config
    while it is ready; what they raise is raised here. Raises nothing for a container that fails: that is
    the report's `failure`.
    """
    report = Report()
    begun = time.monotonic()
    try:
        with container:
            before_start(container)
            _live(container, plan, report, look or _look)
            with _timed(report, "remove"):
                container.close()
    except RuntimeRefused as refusal:
        report.failure = refusal
    report.left = container.left
    report.exit = report.exit or container.exit
    report.dropped_bytes = container.output.dropped_bytes if container.output else 0
    report.timings_ms = {**container.timings_ms, **report.timings_ms}
    report.timings_ms["total"] = round((time.monotonic() - begun) * 1000, 1)
    if report.left and report.failure is None:
        report.failure = _leftovers(plan, report.left)
    return report


def _live(container: Container, plan: Plan, report: Report, look: Callable[[Container], list[Fact]]) -> None:
    container.start()
    with _timed(report, "ready"):
        report.ready = wait_until_ready(plan.check, container)
    if not report.ready.ok:
        report.failure = _not_ready(container, plan, report)
        return
    with _timed(report, "look"):
        try:
            report.facts = look(container)
        except (OSError, KeyError):
            # The kernel shows next to nothing of a process that has ended.
            if container.wait(_KILL_TIMEOUT_S) is None:
                raise
            report.failure = _ended(container, plan, report, "while it was looked at")
            return
    with _timed(report, "stop"):
        _stop(container, plan, report)
    missing = [fact for fact in report.facts if not fact.ok]
    if missing:
        report.failure = _unprotected(plan, container.runtime.name, missing)


def _look(container: Container) -> list[Fact]:
    config: Config = json.loads((container.bundle / "config.json").read_bytes())
    facts = [*process_facts(config, container.pid)]
    if config["process"]["args"][0] == INIT_PATH:
        # The init is the first process; the program that matters is its child.
        facts += [
            replace(fact, name=f"{fact.name} of the init's child", where=fact.where.replace("PID", "CHILD"))
            for child in proc.children(container.pid)[:1]
            for fact in process_facts(config, child)
        ]
    facts += namespace_facts(config, container.pid)
    facts += mount_facts(config, container.bundle / config["root"]["path"], container.pid)
    facts += limit_facts(config, container.cgroups)
    return facts


def _stop(container: Container, plan: Plan, report: Report) -> None:
    if container.wait(0) is not None:
        report.failure = _ended(container, plan, report, "of itself, when it had just been ready")
        return
    container.signal(plan.stop_number)
    report.exit = container.wait(plan.grace_s)
    report.stopped = report.exit is not None
    report.oom_killed = oom_kills(container.cgroups) > 0
    if report.exit is not None and report.exit.signal in _CRASH_SIGNALS:
        report.failure = _ended(container, plan, report, f"when it got {plan.stop_signal}")
    if report.exit is None:
        container.kill()
        report.exit = container.wait(_KILL_TIMEOUT_S)
        report.failure = PipelineError(
            "did-not-stop",
            f"{plan.bundle}: {plan.stop_signal} did not end it within {plan.grace_s:g} s; it was killed",
            hint=f"PID 1 ignores {plan.stop_signal}: set `init: true` or `stop_signal`; or give it more time "
            "with `stop_grace_period`",
        )


def _not_ready(container: Container, plan: Plan, report: Report) -> PipelineError:
    check, answer = plan.check, report.ready.answer if report.ready else ""
    if container.wait(0) is not None:
        return _ended(container, plan, report, f"before it was ready ({check})")
    message = f"{plan.bundle} was not ready after {check.patience_s:g} s: {check}: {answer}"
    hint = "see what it printed, and `healthcheck`: its start_period gives a slow program more time"
    return PipelineError("not-ready", message + _last_words(container), hint=hint)


def _ended(container: Container, plan: Plan, report: Report, when: str) -> PipelineError:
    ending = container.wait(0) or Exit()
    report.exit, report.oom_killed = ending, oom_kills(container.cgroups) > 0
    container.output_ended()
    why = explain_exit(ending.code, ending.signal, report.oom_killed, _lines(container))
    message = f"{plan.bundle} {ending} {when}"
    return PipelineError("crashed", message + _last_words(container), hint=why or "look at what it printed")


def _lines(container: Container) -> list[str]:
    lines = container.output.last_lines(_LAST_LINES) if container.output else []
    return [plain(line) for line in lines]


def _last_words(container: Container) -> str:
    lines = _lines(container)
    return "".join(f"\n  | {printable(line)[:200]}" for line in lines) if lines else "\n  it printed nothing"


def _unprotected(plan: Plan, runtime: str, missing: list[Fact]) -> PipelineError:
    lines = [
        f"  {fact.name}: expected {fact.expected}; observed {printable(fact.observed)}" for fact in missing
    ]
    return PipelineError(
        "not-as-configured",
        "\n".join([f"{plan.bundle}: {runtime} did not do what config.json says", *lines]),
        hint=f"it was less protected than the spec says: use another version of {runtime} or another runtime",
    )


def _leftovers(plan: Plan, left: list[str]) -> PipelineError:
    return PipelineError(
        "left-behind",
        f"{plan.bundle}: its container is gone, but not all of it: {printable(', '.join(left))}",
        hint="the next `doit` tries again to remove it",
    )


@contextmanager
def _timed(report: Report, phase: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        report.timings_ms[phase] = round((time.monotonic() - begun) * 1000, 1)


def log_note(report: Report, log: Path) -> str | None:
    """Return a line to say when the container printed more than its log may hold."""
    if not report.dropped_bytes:
        return None
    return f"{log.name} was cut after {MAX_LOG_BYTES >> 20} MiB; {report.dropped_bytes} bytes more followed"
