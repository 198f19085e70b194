"""A seccomp source on its way to filters: read with what it extends, given the runtimes' floor, compiled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, suggest
from pipeline.graph import RUNTIMES
from pipeline.oci.floor import Floor, Wanted, names, read_floors, read_wanted, union, with_floor
from pipeline.oci.seccomp import Profile, SyscallTable, oci_profile
from pipeline.oci.seccomp_source import read_profile
from pipeline.oci.seccomp_tables import ARCHITECTURE_NAMES
from pipeline.source import read_source
from pipeline.tools import libseccomp

FLOORS = "floors.json"
"""What was measured of the runtimes, beside the sources."""


@dataclass(frozen=True)
class Sources(Mapping[str, bytes]):
    """The sources in one place by name, each read when it is asked for; and the floors beside them."""

    known: tuple[str, ...]
    read: Callable[[str], bytes]
    floors: tuple[Floor, ...] = ()

    def __getitem__(self, name: str) -> bytes:
        if name not in self.known:
            raise KeyError(name)
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


@dataclass(frozen=True)
class Filters:
    """A profile for every architecture (by its OCI name), for a process with certain capabilities."""

    documents: Mapping[str, Mapping[str, Any]]
    filters: Mapping[str, bytes]


def syscall_table() -> SyscallTable:
    """Return what the installed libseccomp knows. Raises PipelineError `missing-tool`."""
    numbers = {arch.name: libseccomp.numbers(arch) for arch in libseccomp.Architecture}
    return SyscallTable(libseccomp.version(), numbers, libseccomp.is_known)


def sources_in(folder: Path, root: Path | None = None) -> Sources:
    """Return the sources in a folder; errors name files from `root` on, and without one follow links."""

    def read(name: str) -> bytes:
        path = folder / f"{name}.yaml"
        return read_source(path, str(path.relative_to(root) if root else path), follow=root is None)

    listed = sorted(path.stem for path in folder.glob("*.yaml"))
    return Sources(tuple(listed), read, read_floors(folder / FLOORS))


def read_with_floor(name: str, shown: str, sources: Sources) -> Profile:
    """Return the profile of one of the sources, which errors call `shown`.

    Raises PipelineErrors with every mistake in it.
    """
    profile = read_profile(sources[name], shown, syscall_table(), sources)
    return with_floor(profile, sources.floors, _wanted(sources[name], shown, sources.floors))


def read_named(name: str, folder: Path, root: Path) -> Profile:
    """Return the profile of `folder/NAME.yaml`; errors name files from `root` on.

    Raises PipelineErrors with every mistake in it, PipelineError `unknown-profile`.
    """
    sources = sources_in(folder, root)
    shown = str((folder / f"{name}.yaml").relative_to(root))
    if name not in sources:
        meant = suggest(name, sources)
        raise PipelineError(
            "unknown-profile",
            f"there is no seccomp profile `{name}` ({shown})",
            hint=f"did you mean `{meant}`?" if meant else f"there are: {', '.join(sources) or 'none'}",
        )
    return read_with_floor(name, shown, sources)


def floor_table(name: str, folder: Path) -> dict[str, list[str]]:
    """Return each call that a profile takes in for a runtime's sake, with the runtimes that need it."""
    sources = sources_in(folder)
    return union(sources.floors, _wanted(sources[name], name, sources.floors))


def filters_of(profile: Profile, capabilities: Collection[str] = ()) -> Filters:
    """Compile a profile for every architecture. Raises PipelineError `bad-filter`."""
    table = syscall_table()
    archs = ARCHITECTURE_NAMES.values()
    documents = {arch: oci_profile(profile, (arch,), table, capabilities) for arch in archs}
    return Filters(documents, export(documents))


def export(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """Compile OCI documents, by architecture. Raises PipelineError `bad-filter`."""
    return {
        arch: libseccomp.export_bpf(document, libseccomp.Architecture[arch])
        for arch, document in documents.items()
    }


def _wanted(source: bytes, shown: str, floors: Sequence[Floor]) -> Wanted:
    return read_wanted(source, shown, {*RUNTIMES, *names(floors)})
