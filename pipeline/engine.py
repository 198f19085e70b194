"""Freshness by content: keys, receipts, locks, atomic outputs. doit only orders; this decides.

A stage's key is the digest of all that its output depends on. Its receipt, written after its outputs
are in place, holds the key, the readable parts of it, and the digest of the outputs, which is a part of
the keys of the stages that read it. So an equal output stops the rebuild, whatever changed before it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import hostfacts
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.files import (
    canonical_json,
    compact_json,
    remove_tree,
    sha256_bytes,
    sync_directory,
    sync_tree,
    write_atomic,
)
from pipeline.fingerprint import Fingerprints
from pipeline.graph import Step
from pipeline.paths import BundlePaths, Project
from pipeline.receipts import THERE, Parts, damage, drop, mark, read_receipt, reason
from pipeline.work import Declared, Output, StageFailed, Voice, Work


@dataclass(frozen=True)
class Assessment:
    """Whether a step is fresh: `stale` says why not, in words; `parts` is what its key is made of."""

    parts: Parts
    stale: str | None
    receipt: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """The digest of the parts."""
        return _key(self.parts)


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
        self._receipts: dict[tuple[str, str], dict[str, Any] | None] = {}

    def assess(self, step: Step) -> Assessment:
        """Compute the step's key from what is there now and compare it with its receipt."""
        parts = self._parts(step)
        paths = self.project.bundle(step.bundle)
        receipt = self.receipt(step.bundle, step.label)
        stale: str | None
        if receipt is None:
            stale = _without_receipt(step, paths)
        elif receipt["parts"] != parts and receipt["key"] != _key(parts):
            stale = reason(receipt["parts"], parts)
        else:
            stale = damage(paths, receipt["outputs"])
        return Assessment(parts, stale, receipt)

    def receipt(self, bundle: str, label: str) -> dict[str, Any] | None:
        """The receipt of a stage, or None where there is none that can be read."""
        which = bundle, label
        if which not in self._receipts:
            self._receipts[which] = read_receipt(f"{self.project.bundle(bundle).stages}/{label}.json")
        return self._receipts[which]

    def is_built(self, step: Step) -> bool:
        """True when the step has a receipt, be it fresh, stale or damaged."""
        return self.project.bundle(step.bundle).receipt(step.label).exists()

    def execute(self, step: Step) -> str | None:
        """Build the step unless another process just has; return why it was built, or None.

        Raises PipelineError when it fails; its old receipt is gone then, if its outputs are.
        """
        with self.locked(step), self.kept(step.bundle, step.stage.reads):
            # Another process may have built what this one has read of before.
            self._receipts.clear()
            state = self.assess(step)
            if state.stale is None:
                return None
            self._build(step, state)
            return state.stale

    def forget(self, step: Step) -> None:
        """Remove the step's receipt, so that it is built again."""
        self._receipts.pop((step.bundle, step.label), None)
        drop(self.project.bundle(step.bundle).receipt(step.label))

    def sweep(self) -> list[str]:
        """Remove the work folders of processes that died; return a line for each, also where it stays."""
        said = []
        with os.scandir(self.project.tmp) as folders:
            names = [folder.name for folder in folders]
        for name in names:
            with _try_lock(self.project.locks / name.rsplit(".", 1)[0]) as ours:
                # Gone by now: its owner was not dead, but done.
                if ours and (self.project.tmp / name).exists():
                    said.append(_swept(self.project.tmp / name))
        return said

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

        paths = self.project.bundle(step.bundle)
        folder = self.project.tmp / f"{step.bundle}.{step.label}.{os.urandom(4).hex()}"
        error = paths.error(step.label)
        try:
            folder.mkdir(mode=0o700)
            work = self._work(step, state, folder)
            output: Output = importlib.import_module(step.stage.module).build(work)
            self._commit(step, state, folder, output)
            error.unlink(missing_ok=True)
        except (PipelineError, PipelineErrors) as fault:
            if isinstance(fault, StageFailed):
                self._keep(step, folder)
            # A disk that is full is what the fault may be about.
            with suppress(OSError):
                error.write_text(f"{fault}\n")
            raise
        finally:
            remove_tree(folder)

    def _work(self, step: Step, state: Assessment, folder: Path) -> Work:
        from pipeline.model.bundle import Bundle

        paths = self.project.bundle(step.bundle)
        log = paths.log(step.label)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        declared: Any = Declared(Bundle.from_values(dict(self.specs[step.bundle])), step.stage)
        return Work(
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

    def _commit(self, step: Step, state: Assessment, folder: Path, output: Output) -> None:
        paths = self.project.bundle(step.bundle)
        outputs = {place: mark(folder / name) for name, place in step.outputs.items()}
        outputs |= dict.fromkeys(output.places, THERE)
        digest = output.digest or sha256_bytes(compact_json(outputs))
        self._keep(step, folder)
        receipt = {
            "key": state.key,
            "parts": state.parts,
            "digest": digest,
            "outputs": outputs,
            "facts": output.facts,
        }
        # The environment may hold secrets: no other user may read what the bundle's folder hides from them.
        write_atomic(paths.receipt(step.label), canonical_json(receipt), mode=0o600)
        self._receipts.pop((step.bundle, step.label), None)

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
    def locked(self, step: Step) -> Iterator[None]:
        """Hold the step's lock, waiting for another process that has it."""
        busy = "another doit is building it; waiting for that one"
        with self.held(f"{step.bundle}.{step.label}", step.task, busy):
            yield

    @contextmanager
    def held(self, name: str, task: str, busy: str) -> Iterator[None]:
        """Hold the lock of a name, saying `busy` for the task and waiting when another process has it."""
        with open(self.project.locks / name, "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._voice.say(task, busy)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def kept(self, bundle: str, stages: Iterable[str]) -> Iterator[None]:
        """Keep other processes from rebuilding stages of a bundle that are read here.

        Stages read only earlier ones, so no two processes can wait for each other.
        """
        with ExitStack() as held:
            for stage in stages:
                lock = held.enter_context(open(self.project.locks / f"{bundle}.{stage}", "ab"))
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield


def _key(parts: Parts) -> str:
    return sha256_bytes(compact_json(parts))


def _swept(folder: Path) -> str:
    try:
        remove_tree(folder)
    except (PipelineError, OSError) as fault:
        return f"could not sweep {folder.name}, which an interrupted run left: {fault}"
    return f"swept what an interrupted run left: {folder.name}"


def _without_receipt(step: Step, paths: BundlePaths) -> str:
    if paths.receipt(step.label).exists():
        return "its receipt is damaged"
    if paths.error(step.label).exists():
        return "failed last time"
    return (
        "forgotten" if any((paths.dir / place).exists() for place in step.outputs.values()) else "never built"
    )


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


@contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    with open(path, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
