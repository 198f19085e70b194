"""`doit floor`: measure the floors of the runtimes found here, and write them into the file of floors."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import remove_tree, sha256_file, write_atomic
from pipeline.floor import bundle
from pipeline.floor.measure import Bench, Unmeasurable, measure
from pipeline.model.nouns import Platform
from pipeline.oci.floor import Floor, content, floor_of, merged, read_floors
from pipeline.paths import Project
from pipeline.run import require
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime

_LOCK = "floor"
_MODES = {True: "noNewPrivileges", False: "without noNewPrivileges"}


@dataclass(frozen=True)
class Answer:
    """What one runtime needs now, and what was known of this very program before."""

    new: Floor
    old: Floor | None
    starts: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """The answer in words: for each mode what is needed, and what changed."""
        yield f"{self.new.label}: {self.starts} starts in {self.seconds:.0f} s"
        for quiet, words in _MODES.items():
            now = self.new.wanted(no_new_privileges=quiet)
            yield f"  {words}: {' '.join(sorted(now))}"
            if self.old is None:
                continue
            before = self.old.wanted(no_new_privileges=quiet)
            gone, come = sorted(before - now), sorted(now - before)
            change = " ".join([*(f"-{name}" for name in gone), *(f"+{name}" for name in come)])
            yield f"    {len(before)} -> {len(now)} calls{f': {change}' if change else ', the same'}"

    def to_json(self) -> dict[str, Any]:
        """The form for programs."""
        old = None if self.old is None else self.old.to_json()
        return {
            "old": old,
            "new": self.new.to_json(),
            "starts": self.starts,
            "seconds": round(self.seconds, 1),
        }


def chosen(names: tuple[str, ...]) -> list[Runtime]:
    """Return the runtimes of these names, or all that are installed.

    Raises PipelineError `usage` for a name without an adapter, `missing-tool` for one that is not here.
    """
    for name in names:
        if name not in registry.ADAPTERS:
            hint = f"there are {', '.join(registry.ADAPTERS)}"
            raise PipelineError("usage", f"there is no runtime `{name}`", hint=hint)
    if names:
        return [registry.get(name) for name in names]
    return [found for name in registry.ADAPTERS if (found := registry.find(name))]


def measure_floors(
    project: Project, runtimes: list[Runtime], tell: Callable[[str], None]
) -> Iterator[Answer]:
    """Measure each runtime, write it down, and yield the answer; floors of other programs are kept.

    Raises PipelineError `floor-unmeasurable`, `missing-tool`.
    """
    require("strace", "see what a runtime calls")
    for runtime in runtimes:
        begun = time.monotonic()
        with _bench(project, runtime, tell) as bench:
            try:
                new = _measured(bench, tell)
            except Unmeasurable as fault:
                hint = "see `doit doctor`; nothing was written for it"
                raise PipelineError("floor-unmeasurable", f"{runtime.name}: {fault}", hint=hint) from None
        old = _write(project, new)
        yield Answer(new, old, bench.starts, time.monotonic() - begun)


def _measured(bench: Bench, tell: Callable[[str], None]) -> Floor:
    calls = {}
    for quiet, words in _MODES.items():
        tell(f"{bench.runtime.name}: {words}")
        calls[quiet] = measure(bench, quiet=quiet)
    return Floor(
        runtime=bench.runtime.name,
        version=bench.runtime.version().number,
        calls=calls,
        sha256=sha256_file(bench.runtime.path),
        architecture=Platform.host().architecture,
        kernel=os.uname().release,
    )


def _write(project: Project, new: Floor) -> Floor | None:
    """Put the floor into the file and return what it replaces; two writers take turns."""
    fd = os.open(project.floors.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        floors = read_floors(project.floors)
        old, exact = floor_of(floors, new.runtime, new.version, new.sha256)
        write_atomic(project.floors, content(merged(floors, new)))
        return old if exact else None
    finally:
        os.close(fd)


@contextmanager
def _bench(project: Project, runtime: Runtime, tell: Callable[[str], None]) -> Iterator[Bench]:
    """A folder that a mapped root can reach, held by a lock so that a sweep takes it when its owner died."""
    with open(project.locks / _LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder: Path = project.tmp / f"{_LOCK}.{os.urandom(4).hex()}"
        try:
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
            bundle.make_bundle(folder / "bundle")
            yield Bench(runtime, project, folder, tell)
        finally:
            remove_tree(folder)
