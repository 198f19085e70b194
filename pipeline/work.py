"""What a stage is given, and what it gives back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import PipelineError
from pipeline.graph import Stage, Step
from pipeline.paths import BundlePaths, Project
from pipeline.receipts import Parts, drop

if TYPE_CHECKING:
    from pipeline.model.bundle import Bundle


class UndeclaredKey(Exception):
    """A stage read a spec key that its row in `graph.STAGES` does not name: a fault in this program."""


class StageFailed(PipelineError):
    """A stage that failed and whose outputs (findings, what was observed) are kept to be read."""


@dataclass(frozen=True)
class Output:
    """What a stage made: facts for its receipt, and the outputs' digest (None: the engine takes it).

    `places` are absolute paths outside `out/` that the stage made and that must stay there.
    """

    facts: dict[str, Any]
    digest: str | None = None
    places: tuple[str, ...] = ()


class Voice(Protocol):
    """Where a stage's words to the user go."""

    def say(self, task: str, line: str) -> None:
        """Show one line."""

    def progress(self, task: str, done_bytes: int, total_bytes: int, what: str) -> None:
        """Show how far it is."""


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

    def take_previous(self, output: str) -> Path | None:
        """Move an output of the last run into the work folder, to be altered there; None if there is none."""
        place = self.paths.dir / self.step.outputs[output]
        if not place.exists():
            return None
        # From here on the old receipt would speak of an output that is no more.
        drop(self.paths.receipt(self.step.label))
        os.rename(place, self.work / output)
        return self.work / output

    def say(self, line: str) -> None:
        """Show the user one line."""
        self.voice.say(self.step.task, line)

    def progress(self, done_bytes: int, total_bytes: int, what: str) -> None:
        """Show the user how far the stage is."""
        self.voice.progress(self.step.task, done_bytes, total_bytes, what)


class Declared:
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
