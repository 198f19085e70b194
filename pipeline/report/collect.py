"""What a report tells: receipts, errors, findings and smoke results, read from `out/`; nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline import specfile
from pipeline.checks.text import read_finding
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.graph import RUNTIMES, STAGES, Step
from pipeline.model.nouns import Finding, Severity
from pipeline.origins import read_origins, with_origin
from pipeline.paths import BundlePaths, Project
from pipeline.pins import Pins
from pipeline.report.judged import FAIL_ON, Judged

Assess = Callable[[str], Iterable[tuple[str, str, str | None]]]
"""What the engine says of a bundle's stages now: (task, label, why it is stale or None)."""

# An error's text is for people; what is longer than this is in the log.
_ERROR_BYTES = 16 * 1024
_BROKEN = "its spec has errors"


class State(Enum):
    """How a stage is; the worst one first."""

    FAILED = "failed"
    STALE = "stale"
    ABSENT = "not built"
    UNPINNED = "not pinned"
    BUILT = "built"


@dataclass(frozen=True)
class StageState:
    """One stage of a bundle: `why` it is not BUILT, the `error` it failed with, its receipt's `facts`."""

    label: str
    reads: tuple[str, ...]
    state: State
    why: str = ""
    error: str = ""
    digest: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def builds(self) -> bool:
        """True for what makes the bundle, false for what runs it (`smoke`)."""
        return self.label in STAGES


@dataclass(frozen=True)
class Smoke:
    """What RUNTIME.json says of a run; `outdated` says why it was one of an earlier bundle."""

    runtime: str
    proven: bool
    failure: str
    facts: tuple[dict[str, Any], ...]
    timings_ms: dict[str, float]
    outdated: str = ""

    @property
    def sound(self) -> bool:
        """True when nothing was amiss, in any fact either."""
        return self.proven and all(fact.get("ok") for fact in self.facts)


@dataclass(frozen=True)
class BundleReport:
    """All there is to tell of one bundle. `mistakes` are those of its spec; `unreadable` names files
    that are there and say nothing."""

    name: str
    stages: tuple[StageState, ...]
    judged: bool
    findings: tuple[Finding, ...]
    smokes: tuple[Smoke, ...]
    unreadable: tuple[str, ...]
    mistakes: tuple[Finding, ...] = ()

    @property
    def state(self) -> State:
        """The worst state of the stages that make the bundle; a broken spec is a failure."""
        if self.mistakes:
            return State.FAILED
        order = list(State)
        return min((stage.state for stage in self.stages if stage.builds), key=order.index)

    @property
    def judgement(self) -> Judged:
        """What `validate` found, in the shape that all forms take."""
        return Judged(
            self.name, self.findings, specfile.shown(self.name), f"out/{self.name}/bundle/config.json"
        )

    @property
    def told(self) -> Judged:
        """The same with the mistakes of the spec, for forms that know findings only."""
        return replace(self.judgement, findings=(*self.mistakes, *self.findings))


def collect(project: Project, names: Iterable[str], assess: Assess | None = None) -> list[BundleReport]:
    """Read what `out/` has of these bundles and of all whose specs have errors, by name.

    Without `assess`, a stage that has a receipt and no error counts as built. A damaged file is named
    and hides nothing else. Raises PipelineError `bad-lock`.
    """
    loaded, pins = specfile.load(project), Pins(project)
    reports = []
    for name in sorted({*names, *loaded.broken}):
        spec = loaded.specs.get(name)
        unpinned = spec is not None and pins.pin_of(spec.values) is None
        if name in loaded.broken:
            known: dict[str, str | None] | None = {step.label: _BROKEN for step in _steps(name)}
        else:
            known = {label: why for _, label, why in assess(name)} if assess else None
        mistakes = _mistakes(name, loaded) if name in loaded.broken else ()
        reports.append(_bundle(project, name, _Known(known, unpinned), mistakes))
    return reports


def _mistakes(name: str, loaded: specfile.Loaded) -> tuple[Finding, ...]:
    """The errors in the bundle's own file; all of them when what is wrong is in another one."""
    own = [e for e in loaded.errors if e.place and e.place.path in (specfile.shown(name), f"specs/{name}")]
    return tuple(
        Finding(error.code, Severity.HIGH, error.message, mend=error.hint or "", place=error.place)
        for error in own or loaded.errors
    )


@dataclass(frozen=True)
class _Known:
    """What is known of a bundle's stages beside its files: by label why stale, and whether it is pinned."""

    stale: Mapping[str, str | None] | None
    unpinned: bool


def _bundle(project: Project, name: str, known: _Known, mistakes: tuple[Finding, ...]) -> BundleReport:
    reader = _Reader(project)
    paths = project.bundle(name)
    judgement = reader.read(paths.findings)
    findings = reader.findings(judgement, paths.findings)
    seen = {runtime: reader.smoke(paths, runtime) for runtime in RUNTIMES}
    failed = (
        {"validate"} if any(f.waived is None and f.severity.at_least(FAIL_ON) for f in findings) else set()
    )
    failed |= {f"smoke-{runtime}" for runtime, smoke in seen.items() if smoke and not smoke.sound}
    stages: dict[str, StageState] = {}
    for step in _steps(name):
        stages[step.label] = _stage(reader, step, known, stages, step.label in failed)
    origins = read_origins(project, name, reader.read(paths.provenance))
    return BundleReport(
        name,
        tuple(stages.values()),
        judgement is not None,
        tuple(with_origin(findings, origins)),
        tuple(
            filter(None, (_run(runtime, seen[runtime], stages[f"smoke-{runtime}"]) for runtime in RUNTIMES))
        ),
        tuple(reader.unreadable),
        mistakes,
    )


def _steps(bundle: str) -> list[Step]:
    runs = [(stage, runtime) for stage in STAGES.values() for runtime in _runtimes(stage.name)]
    return [Step(stage, bundle, runtime) for stage, runtime in runs]


def _runtimes(stage: str) -> tuple[str, ...]:
    return RUNTIMES if stage == "smoke" else ("",)


def _stage(
    reader: _Reader, step: Step, known: _Known, before: Mapping[str, StageState], failed: bool
) -> StageState:
    """Judge one stage. `failed` says that its outputs tell of a failure, which they do without a receipt."""
    paths = reader.project.bundle(step.bundle)
    receipt = reader.receipt(paths, step.label)
    error = reader.text(paths.error(step.label))
    reads = step.stage.reads
    why = _why(step, known.stale, receipt is not None, bool(error))
    waits = [label for label in reads if before[label].state is not State.BUILT]
    if why is None and waits:
        why = f"{', '.join(waits)} may change"
    if why is None:
        # An error that is still there is of a spec that was taken back.
        state, error = State.BUILT, ""
    elif known.unpinned:
        state, why, error = State.UNPINNED, f"'doit update {step.bundle}' resolves it", ""
    elif error or (failed and receipt is None):
        state = State.FAILED
    else:
        state = State.ABSENT if receipt is None else State.STALE
    found = receipt or {}
    return StageState(
        step.label, reads, state, why or "", error, str(found.get("digest", "")), found.get("facts", {})
    )


def _why(step: Step, stale: Mapping[str, str | None] | None, receipt: bool, error: bool) -> str | None:
    """Why the stage is not fresh, or None."""
    if stale is None:
        return "failed last time" if error else None if receipt else "never built"
    return stale.get(step.label, f"{step.runtime} is not installed")


def _run(runtime: str, seen: Smoke | None, stage: StageState) -> Smoke | None:
    """What is known of the last run: what it saw, and whether that was this bundle."""
    if stage.state is not State.FAILED:
        return replace(seen, outdated=stage.why) if seen else None
    if seen is None or seen.sound:
        # It failed before it started anything; what was seen is of an earlier run.
        before = seen or Smoke(runtime, False, "", (), {})
        return replace(before, proven=False, failure=stage.error or stage.why, outdated=stage.why)
    return replace(seen, failure=stage.error or seen.failure)


class _Reader:
    """Reads files of `out/` and remembers those that could not be understood."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.unreadable: list[str] = []

    def read(self, path: Path) -> Any:
        """The JSON file's value, or None when it is absent or damaged."""
        if not path.exists():
            return None
        try:
            return read_json(path)
        except (PipelineError, OSError):
            self._note(path)
            return None

    def receipt(self, paths: BundlePaths, label: str) -> dict[str, Any] | None:
        """The receipt of a stage, or None."""
        receipt = self.read(paths.receipt(label))
        known = isinstance(receipt, dict) and isinstance(receipt.get("facts"), dict)
        return receipt if known else None

    def text(self, path: Path) -> str:
        """The beginning of a text file; nothing when it is absent."""
        try:
            with path.open("rb") as stream:
                return stream.read(_ERROR_BYTES).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return ""
        except OSError:
            self._note(path)
            return ""

    def findings(self, judgement: Any, path: Path) -> list[Finding]:
        """The findings of findings.json."""
        if judgement is None:
            return []
        try:
            return [read_finding(value) for value in judgement["findings"]]
        except (KeyError, TypeError, ValueError):
            self._note(path)
            return []

    def smoke(self, paths: BundlePaths, runtime: str) -> Smoke | None:
        """What RUNTIME.json says, or None."""
        path = paths.smoke / f"{runtime}.json"
        seen = self.read(path)
        if seen is None:
            return None
        try:
            failure = seen["failure"]
            words = f"{failure['code']}: {failure['message']}" if failure else ""
            facts = tuple(_fact(fact) for fact in seen["facts"])
            timings_ms = {str(what): float(ms) for what, ms in seen["timings_ms"].items()}
            return Smoke(runtime, seen["result"] == "proven", words, facts, timings_ms)
        except (AttributeError, KeyError, TypeError, ValueError):
            self._note(path)
            return None

    def _note(self, path: Path) -> None:
        self.unreadable.append(str(path.relative_to(self.project.root)))


def _fact(fact: Any) -> dict[str, Any]:
    words = {key: str(fact.get(key, "")) for key in ("name", "expected", "observed", "where")}
    return {**words, "ok": fact.get("ok") is True}
