"""Freshness by content: keys, receipts, locks, atomic outputs. doit only orders; this decides.

A stage's key is the digest of all that its output depends on. Its receipt, written after its outputs
are in place, holds the key, the readable parts of it, and the digest of the outputs, which is a part of
the keys of the stages that read it. So an equal output stops the rebuild, whatever changed before it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline import hostfacts
from pipeline.errors import PipelineError
from pipeline.files import (
    canonical_json,
    compact_json,
    remove_tree,
    sha256_bytes,
    sha256_file,
    sync_directory,
    sync_tree,
    write_atomic,
)
from pipeline.fingerprint import Fingerprints
from pipeline.graph import STAGES, Stage, Step
from pipeline.paths import BundlePaths, Project

if TYPE_CHECKING:
    from pipeline.model.bundle import Bundle

Parts = dict[str, Any]
# A small output is read again at every start, so a flipped bit in config.json is seen at once; for a
# larger one and for trees `validate`, `smoke` and `doit verify` do it before anything is built upon them.
_REREAD_BYTES = 256 * 1024


class UndeclaredKey(Exception):
    """A stage read a spec key that its row in `graph.STAGES` does not name: a fault in this program."""


class StageFailed(PipelineError):
    """A stage that failed and whose outputs (findings, what was observed) are kept to be read."""


@dataclass(frozen=True)
class Output:
    """What a stage made: facts for its receipt, and the outputs' digest (None: the engine takes it)."""

    facts: dict[str, Any]
    digest: str | None = None


class Voice(Protocol):
    """Where a stage's words to the user go."""

    def say(self, task: str, line: str) -> None:
        """Show one line."""

    def progress(self, task: str, done_bytes: int, total_bytes: int, what: str) -> None:
        """Show how far it is."""


@dataclass(frozen=True)
class Assessment:
    """Whether a step is fresh: `stale` says why not, in words; `parts` is what its key was made of."""

    parts: Parts
    key: str
    stale: str | None
    receipt: dict[str, Any] | None = None


@dataclass
class Work:
    """All that a stage's `build(work)` may read and write."""

    step: Step
    spec: Bundle
    work: Path
    paths: BundlePaths
    project: Project
    log: Path
    parts: Parts
    previous: dict[str, Any] | None
    reason: str
    voice: Voice
    _receipts: Callable[[str], dict[str, Any] | None] = field(repr=False)

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.step.bundle

    @property
    def runtime(self) -> str:
        """The runtime of a smoke step."""
        return self.step.runtime

    @property
    def pin(self) -> str:
        """The content that the image reference stands for; `copy` only."""
        return str(self.parts["pin"])

    def tool_version(self, name: str) -> str:
        """The version of a tool that the stage declares, as its key has it."""
        return str(self.parts["tools"][name]).partition(" ")[0]

    def facts(self, stage: str) -> dict[str, Any]:
        """The facts that a stage which this one reads has put into its receipt."""
        if stage not in self.step.stage.reads:
            raise UndeclaredKey(f"{self.step.stage.name} does not declare that it reads {stage}")
        receipt = self._receipts(stage)
        if receipt is None:
            raise PipelineError(
                "not-built", f"{stage}:{self.name} is not built", hint=f"doit {stage}:{self.name}"
            )
        return dict(receipt["facts"])

    def upstream_digest(self, stage: str) -> str:
        """The output digest in the receipt of a stage which this one reads."""
        self.facts(stage)
        return str((self._receipts(stage) or {})["digest"])

    def take_previous(self, output: str) -> Path | None:
        """Move an output of the last run into the work folder, to be altered there; None if there is none."""
        place = self.paths.dir / self.step.outputs[output]
        if not place.exists():
            return None
        # From here on the old receipt would speak of an output that is no more.
        _drop(self.paths.receipt(self.step.label))
        os.rename(place, self.work / output)
        return self.work / output

    def say(self, line: str) -> None:
        """Show the user one line."""
        self.voice.say(self.step.task, line)

    def progress(self, done_bytes: int, total_bytes: int, what: str) -> None:
        """Show the user how far the stage is."""
        self.voice.progress(self.step.task, done_bytes, total_bytes, what)


class _Declared:
    """A view of a spec that refuses keys which the stage does not declare."""

    def __init__(self, spec: Bundle, stage: Stage) -> None:
        self._spec = spec
        self._stage = stage

    def __getattr__(self, key: str) -> Any:
        if key not in self._stage.keys:
            raise UndeclaredKey(
                f"stage {self._stage.name} reads `{key}`, which graph.py does not declare for it"
            )
        return getattr(self._spec, key)


class Engine:
    """Decides for each step whether it is fresh, and runs it if not."""

    def __init__(
        self,
        project: Project,
        specs: Mapping[str, Mapping[str, Any]],
        pin: Callable[[Mapping[str, Any]], str],
        voice: Voice,
    ) -> None:
        self.project = project
        self.specs = specs
        self.fingerprints = Fingerprints(project)
        self._pin = pin
        self._voice = voice
        self._receipts: dict[Path, dict[str, Any] | None] = {}

    def assess(self, step: Step) -> Assessment:
        """Compute the step's key from what is there now and compare it with its receipt."""
        parts = self._parts(step)
        key = sha256_bytes(compact_json(parts))
        paths = self.project.bundle(step.bundle)
        receipt = self.receipt(step.bundle, step.label)
        if receipt is None:
            stale: str | None = (
                "never built" if not paths.receipt(step.label).exists() else "its receipt is damaged"
            )
        elif receipt["key"] != key:
            stale = "; ".join(differences(receipt["parts"], parts)) or "its key is computed in a new way"
        else:
            stale = _damage(paths, receipt["outputs"])
        return Assessment(parts, key, stale, receipt)

    def receipt(self, bundle: str, label: str) -> dict[str, Any] | None:
        """The receipt of a stage, or None where there is none that can be read."""
        path = self.project.bundle(bundle).receipt(label)
        if path not in self._receipts:
            self._receipts[path] = _read_receipt(path)
        return self._receipts[path]

    def execute(self, step: Step) -> str | None:
        """Build the step unless another process just has; return why it was built, or None.

        Raises PipelineError when it fails; its old receipt is gone then, if its outputs are.
        """
        with self._locked(step):
            self._receipts.pop(self.project.bundle(step.bundle).receipt(step.label), None)
            state = self.assess(step)
            if state.stale is None:
                return None
            self._build(step, state)
            return state.stale

    def forget(self, step: Step) -> None:
        """Remove the step's receipt, so that it is built again."""
        path = self.project.bundle(step.bundle).receipt(step.label)
        self._receipts.pop(path, None)
        _drop(path)

    def sweep(self) -> list[str]:
        """Remove the work folders of processes that died; return their names."""
        swept = []
        with os.scandir(self.project.tmp) as folders:
            names = [folder.name for folder in folders]
        for name in names:
            with _try_lock(self.project.locks / name.rsplit(".", 1)[0]) as ours:
                if ours:
                    remove_tree(self.project.tmp / name)
                    swept.append(name)
        return swept

    def _parts(self, step: Step) -> Parts:
        spec = self.specs[step.bundle]
        stage = step.stage
        parts: Parts = {
            "spec": {key: spec[key] for key in stage.keys},
            "tools": {name: self.fingerprints.tool(name) for name in step.tools(spec)},
            "code": self.fingerprints.code(stage.module),
            "upstream": {name: self._digest(step.bundle, name) for name in stage.reads},
        }
        if stage.name == "copy":
            parts["pin"] = self._pin(spec)
        if stage.host:
            parts["host"] = hostfacts.facts(stage.host, self.project, step.bundle, spec)
        return parts

    def _digest(self, bundle: str, stage: str) -> str:
        receipt = self.receipt(bundle, stage)
        return str(receipt["digest"]) if receipt else "absent"

    def _build(self, step: Step, state: Assessment) -> None:
        import importlib

        from pipeline.model.bundle import Bundle

        paths = self.project.bundle(step.bundle)
        folder = self.project.tmp / f"{step.bundle}.{step.label}.{os.urandom(4).hex()}"
        folder.mkdir(mode=0o700)
        log = paths.log(step.label)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        declared: Any = _Declared(Bundle.from_values(dict(self.specs[step.bundle])), step.stage)
        work = Work(
            step=step,
            spec=declared,
            work=folder,
            paths=paths,
            project=self.project,
            log=log,
            parts=state.parts,
            previous=state.receipt,
            reason=state.stale or "",
            voice=self._voice,
            _receipts=lambda label: self.receipt(step.bundle, label),
        )
        try:
            output: Output = importlib.import_module(step.stage.module).build(work)
            self._commit(step, state, folder, output)
        except StageFailed:
            self._keep(step, folder)
            raise
        finally:
            remove_tree(folder)

    def _commit(self, step: Step, state: Assessment, folder: Path, output: Output) -> None:
        paths = self.project.bundle(step.bundle)
        outputs = {place: _mark(folder / name) for name, place in step.outputs.items()}
        digest = output.digest or sha256_bytes(compact_json(outputs))
        self._keep(step, folder)
        receipt = {
            "key": state.key,
            "parts": state.parts,
            "digest": digest,
            "outputs": outputs,
            "facts": output.facts,
        }
        write_atomic(paths.receipt(step.label), canonical_json(receipt))
        self._receipts.pop(paths.receipt(step.label), None)

    def _keep(self, step: Step, folder: Path) -> None:
        """Put what is in the work folder in its place; the receipt of what stood there goes first."""
        paths = self.project.bundle(step.bundle)
        made = {folder / name: paths.dir / place for name, place in step.outputs.items()}
        _sync([path for path in made if path.exists()])
        self.forget(step)
        for source, place in made.items():
            if source.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                _replace(source, place, folder)
                sync_directory(place.parent)

    @contextmanager
    def _locked(self, step: Step) -> Iterator[None]:
        path = self.project.locks / f"{step.bundle}.{step.label}"
        with open(path, "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._voice.say(step.task, "another doit is building it; waiting for that one")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def differences(old: Parts, new: Parts) -> list[str]:
    """Say in words what differs between two sets of key parts: `spec mem_limit: 1 -> 2`."""
    said = []
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind), new.get(kind)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
            said += [_difference(f"{kind} {name}", before.get(name), after.get(name)) for name in names]
        else:
            said.append(_difference(kind, before, after))
    return said


def _difference(what: str, before: object, after: object) -> str:
    if what == "code":
        return "its code changed"
    return f"{what}: {_short(before)} -> {_short(after)}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    head, _, digits = text.rpartition(":")
    if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
        return f"{head}:{digits[:12]}".lstrip(":")
    return text if len(text) <= 60 else text[:57] + "..."


def _read_receipt(path: Path) -> dict[str, Any] | None:
    try:
        receipt = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(receipt, dict) and {"key", "parts", "digest", "outputs", "facts"} <= receipt.keys()
    return receipt if known else None


def _mark(path: Path) -> str:
    """What a receipt remembers of an output: a file's digest; of a tree, one over its files."""
    if path.is_dir():
        if path.name in ("rootfs", "image"):
            return "tree"
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return "tree:" + sha256_bytes(compact_json({str(p.relative_to(path)): sha256_file(p) for p in files}))
    return "sha256:" + sha256_file(path)


def _damage(paths: BundlePaths, outputs: Mapping[str, str]) -> str | None:
    """Say which output is not there or, for small files, not as it was written."""
    for place, mark in outputs.items():
        full = f"{paths.dir}/{place}"
        try:
            status = os.lstat(full)
        except OSError:
            return f"{place} is gone"
        if mark.startswith("sha256:") and status.st_size <= _REREAD_BYTES:
            with open(full, "rb") as stream:
                if sha256_bytes(stream.read()) != mark[7:]:
                    return f"{place} was changed after it was made"
    return None


def _sync(outputs: list[Path]) -> None:
    for path in outputs:
        if path.is_dir():
            sync_tree(path)
            return
    for path in outputs:
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())


def _replace(source: Path, place: Path, folder: Path) -> None:
    # rename(2) does not replace a folder that has something in it.
    if place.is_dir() and not place.is_symlink():
        os.rename(place, folder / f".old-{source.name}")
    os.rename(source, place)


def _drop(path: Path) -> None:
    if path.exists():
        path.unlink()
        sync_directory(path.parent)


@contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    with open(path, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


__all__ = ["STAGES", "Assessment", "Engine", "Output", "StageFailed", "Step", "Work", "differences"]
