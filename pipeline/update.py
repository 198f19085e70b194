"""`doit update` and `doit outdated`: the only questions that are put to a registry about tags."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import lock
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.model.reference import Reference
from pipeline.paths import Project
from pipeline.registry import resolve

Specs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What a bundle's image is pinned to, and what a registry says that it is now."""

    bundle: str
    old: str | None
    new: str | None

    @property
    def outdated(self) -> bool:
        """True when `doit update` would change the pin."""
        return self.old != self.new

    def line(self, done: str) -> str:
        """The answer in words; `done` says what became of it."""
        if not self.outdated:
            return f"{self.bundle}: still {_short(self.new)}"
        old = _short(self.old) if self.old else "not pinned"
        return f"{self.bundle}: {old} -> {_short(self.new)} ({done})"

    def to_json(self) -> dict[str, Any]:
        """The form for programs."""
        return {"bundle": self.bundle, "old": self.old, "new": self.new, "outdated": self.outdated}


def pin_images(project: Project, specs: Specs) -> Iterator[str]:
    """Pin what each remote image means now; yield a line for each bundle, old -> new.

    Raises PipelineErrors with every image that could not be resolved, after pinning the others.
    """
    errors: list[PipelineError] = []
    for name, reference, platform, found in _resolved(project, specs, errors):
        with lock.update(project.lock_file) as pins:
            old = pins.pin_of(reference, platform)
            pins.images[reference.key] = found
            new = pins.pin_of(reference, platform)
        yield Answer(name, old, new).line("pinned")
    if errors:
        raise PipelineErrors(errors)


def outdated_images(project: Project, specs: Specs) -> Iterator[Answer]:
    """Yield for each bundle what its tag means now against its pin; change nothing.

    Raises PipelineErrors with every image that could not be resolved, after answering for the others.
    """
    errors: list[PipelineError] = []
    pins = lock.Lock.load(project.lock_file)
    with _elsewhere(project) as scratch:
        for name, reference, platform, found in _resolved(scratch, specs, errors):
            old, new = pins.pin_of(reference, platform), _pin_now(project, reference, platform, found)
            yield Answer(name, old, new)
    if errors:
        raise PipelineErrors(errors)


@contextmanager
def _elsewhere(project: Project) -> Iterator[Project]:
    """The project with its work in progress outside `out/`, which may be another user's."""
    with tempfile.TemporaryDirectory(prefix="cooperage-ask.") as folder:
        scratch = copy.copy(project)
        scratch.tmp, scratch.locks = Path(folder, "tmp"), Path(folder, "locks")
        yield scratch


def _resolved(
    project: Project, specs: Specs, errors: list[PipelineError]
) -> Iterator[tuple[str, Reference, str, lock.Pin]]:
    asked: dict[str, lock.Pin] = {}
    for name, spec in specs.items():
        reference = Reference.parse(spec["image"])
        if not reference.remote or reference.digest:
            continue
        try:
            if reference.key not in asked:
                asked[reference.key] = resolve(reference, project)
            found = asked[reference.key]
            _check_platform(project, name, reference, spec["platform"], found)
        except PipelineError as error:
            errors.append(error)
        else:
            yield name, reference, spec["platform"], found


def _check_platform(
    project: Project, name: str, reference: Reference, platform: str, found: lock.Pin
) -> None:
    if _pin_now(project, reference, platform, found) is None:
        raise PipelineError(
            "missing-platform",
            f"{name}: {reference} has no image for {platform}",
            hint="it has: " + ", ".join(sorted(found.platforms)),
        )


def _pin_now(project: Project, reference: Reference, platform: str, found: lock.Pin) -> str | None:
    return lock.Lock(project.lock_file, {reference.key: found}).pin_of(reference, platform)


def _short(digest: str | None) -> str:
    return (digest or "nothing")[:19]
