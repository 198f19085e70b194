"""What a report tells: receipts, findings and smoke results, read from `out/`; nothing is run or judged."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.checks.text import read_finding
from pipeline.errors import PipelineError, Place
from pipeline.files import read_json
from pipeline.graph import RUNTIMES, STAGES, Step
from pipeline.model.nouns import Finding
from pipeline.paths import BundlePaths, Project

_KEY = re.compile(r"([a-z_]+)\s*:")
# `.name` or `[index]` at the end of a path.
_LAST_STEP = re.compile(r"(\[[^\]]*\]|\.?[^.\[]+)$")


class State(Enum):
    """What `out/` says of a stage."""

    BUILT = "built"
    FAILED = "failed"
    ABSENT = "not built"


@dataclass(frozen=True)
class StageState:
    """One stage of a bundle; `facts` are those of its receipt."""

    label: str
    reads: tuple[str, ...]
    state: State
    digest: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Smoke:
    """What RUNTIME.json says; `proven` is true when nothing was amiss."""

    runtime: str
    proven: bool
    failure: str
    facts: tuple[dict[str, Any], ...]
    timings_ms: dict[str, float]


@dataclass(frozen=True)
class BundleReport:
    """All there is to tell of one bundle. `unreadable` names files that are there and say nothing."""

    name: str
    stages: tuple[StageState, ...]
    judged: bool
    findings: tuple[Finding, ...]
    smokes: tuple[Smoke, ...]
    unreadable: tuple[str, ...]


def collect(project: Project, names: list[str]) -> list[BundleReport]:
    """Read what `out/` has of each bundle; a damaged file is named and hides nothing else."""
    return [_bundle(project, name) for name in names]


def _bundle(project: Project, name: str) -> BundleReport:
    reader = _Reader(project.root)
    paths = project.bundle(name)
    judgement = reader.read(paths.findings)
    findings = tuple(reader.findings(judgement, paths.findings))
    smokes = tuple(smoke for runtime in RUNTIMES if (smoke := reader.smoke(paths, runtime)))
    steps = [step for stage in STAGES.values() for step in _steps(stage.name, name)]
    failed = {"validate"} if judgement is not None else set()
    failed |= {f"smoke-{smoke.runtime}" for smoke in smokes}
    stages = tuple(_stage(reader, paths, step, step.label in failed) for step in steps)
    provenance = reader.read(paths.provenance)
    places = _places(project, name, provenance if isinstance(provenance, dict) else {})
    return BundleReport(
        name,
        stages,
        judgement is not None,
        tuple(_placed(finding, places) for finding in findings),
        smokes,
        tuple(reader.unreadable),
    )


def _steps(stage: str, bundle: str) -> list[Step]:
    runtimes = RUNTIMES if stage == "smoke" else ("",)
    return [Step(STAGES[stage], bundle, runtime) for runtime in runtimes]


def _stage(reader: _Reader, paths: BundlePaths, step: Step, failed_unless_built: bool) -> StageState:
    receipt = reader.read(paths.receipt(step.label))
    if isinstance(receipt, dict) and isinstance(receipt.get("facts"), dict):
        digest = str(receipt.get("digest", ""))
        return StageState(step.label, step.stage.reads, State.BUILT, digest, receipt["facts"])
    # A failed stage keeps its findings or what was observed, and has no receipt.
    state = State.FAILED if failed_unless_built else State.ABSENT
    return StageState(step.label, step.stage.reads, state, "", {})


class _Reader:
    """Reads JSON files and remembers those that could not be understood."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.unreadable: list[str] = []

    def read(self, path: Path) -> Any:
        """The file's value, or None when it is absent or damaged."""
        if not path.exists():
            return None
        try:
            return read_json(path)
        except (PipelineError, OSError):
            self._note(path)
            return None

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
            facts = tuple(dict(fact) for fact in seen["facts"])
            return Smoke(runtime, seen["result"] == "proven", words, facts, dict(seen["timings_ms"]))
        except (KeyError, TypeError, ValueError):
            self._note(path)
            return None

    def _note(self, path: Path) -> None:
        self.unreadable.append(str(path.relative_to(self._root)))


def _places(project: Project, name: str, provenance: dict[str, Any]) -> dict[str, Place | None]:
    """Where in the bundle's own spec the key stands that decided a path of config.json (None: another)."""
    spec = project.specs / f"{name}.yaml"
    shown = str(spec.relative_to(project.root))
    try:
        lines = spec.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    keys = [(number, match[1]) for number, line in enumerate(lines, 1) if (match := _KEY.match(line))]
    own = {key: Place(shown, number, 1, len(key)) for number, key in keys}
    decided: dict[str, Place | None] = {}
    for path, origin in provenance.items():
        if isinstance(origin, dict):
            decided[path] = own.get(str(origin.get("key"))) if origin.get("from") == "spec" else None
    # `waive.RULE` and the like name a spec key themselves.
    return {**own, **decided}


def _placed(finding: Finding, places: dict[str, Place | None]) -> Finding:
    """The finding with its place in the spec, where the spec decided what it is about."""
    if finding.place is not None and finding.place.path.startswith("specs/"):
        return finding
    path = finding.path
    below = (f"{path}.", f"{path}[")
    inside = [place for leaf, place in places.items() if leaf == path or leaf.startswith(below)]
    while path and not inside:
        path = _LAST_STEP.sub("", path)
        inside = [places[path]] if path in places else []
    known = [place for place in inside if place is not None]
    return replace(finding, place=min(known)) if known else finding
