"""`doit update` and `doit outdated`: the only questions that are put to a registry about tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import lock
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.model.reference import Reference
from pipeline.paths import Project
from pipeline.registry import resolve

Specs = Mapping[str, Mapping[str, Any]]


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
        yield _moved(name, old, new, "pinned")
    if errors:
        raise PipelineErrors(errors)


def outdated_images(project: Project, specs: Specs) -> Iterator[str]:
    """Yield a line for each bundle: what its tag means now against its pin; change nothing."""
    errors: list[PipelineError] = []
    pins = lock.Lock.load(project.lock_file)
    for name, reference, platform, found in _resolved(project, specs, errors):
        old, new = pins.pin_of(reference, platform), _pin_now(project, reference, platform, found)
        yield _moved(name, old, new, "would be pinned")
    if errors:
        raise PipelineErrors(errors)


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


def _moved(name: str, old: str | None, new: str | None, done: str) -> str:
    if old == new:
        return f"{name}: still {_short(new)}"
    return f"{name}: {_short(old) if old else 'not pinned'} -> {_short(new)} ({done})"


def _short(digest: str | None) -> str:
    return (digest or "nothing")[:19]
