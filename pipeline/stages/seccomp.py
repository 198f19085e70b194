"""`seccomp`: a source -> the OCI document, the filters as BPF, and what they answer to each call."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, suggest
from pipeline.files import canonical_json, sha256_bytes, write_atomic
from pipeline.graph import RUNTIMES
from pipeline.model.bundle import UNCONFINED
from pipeline.model.nouns import Platform
from pipeline.oci import verdicts
from pipeline.oci.floor import names, read_floors, read_wanted, union, with_floor
from pipeline.oci.seccomp import Profile, SyscallTable, architectures, oci_profile, resolution
from pipeline.oci.seccomp_source import read_profile
from pipeline.oci.seccomp_tables import ARCHITECTURE_NAMES
from pipeline.paths import Project
from pipeline.report.verdicts import render
from pipeline.source import read_source
from pipeline.tools import libseccomp
from pipeline.work import Output

if TYPE_CHECKING:
    from pipeline.work import Work

# struct sock_filter of linux/filter.h.
_INSTRUCTION_BYTES = 8
# A line that names more calls than this is not read; resolved.json has them all.
_SHOWN_NAMES = 8


def build(work: Work) -> Output:
    """Write `seccomp/`: `profile.json`, `ARCH.bpf`, `resolved.json`, and `verdicts.json` and `.html`.

    For `unconfined` there is `resolved.json` alone.

    Raises PipelineErrors with every mistake in the source, PipelineError `unknown-profile`.
    """
    outputs = work.work / "seccomp"
    name = work.spec.seccomp
    if name == UNCONFINED:
        facts: dict[str, Any] = {"unconfined": True}
        write_atomic(outputs / "resolved.json", canonical_json(facts))
        return Output(facts)
    (here,) = architectures(Platform.parse(work.spec.platform))
    profile = read_named(name, work.project.seccomp_sources, work.project.root)
    made = compiled(profile, work.spec.cap_add)
    resolved = {**_resolve(profile, made), "floor": floor_table(name, work.project)}
    write_atomic(outputs / "profile.json", canonical_json(made.documents[here]))
    write_atomic(outputs / "resolved.json", canonical_json(resolved))
    for short, arch in ARCHITECTURE_NAMES.items():
        write_atomic(outputs / f"{short}.bpf", made.filters[arch])
    answers = verdicts.table(made.documents, made.filters, made.table.numbers)
    write_atomic(outputs / "verdicts.json", canonical_json(answers))
    write_atomic(outputs / "verdicts.html", render(answers, resolved, name))
    for line in _lines(profile, resolved, here):
        work.say(f"{name}: {line}")
    return Output(_facts(name, profile, resolved))


@dataclass(frozen=True)
class Compiled:
    """A profile for every architecture (by its OCI name), for a process with certain capabilities."""

    table: SyscallTable
    capabilities: tuple[str, ...]
    documents: Mapping[str, Mapping[str, Any]]
    filters: Mapping[str, bytes]


class _Sources(Mapping[str, bytes]):
    """The sources in a folder by name, each read when it is asked for."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root

    @cached_property
    def _names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.yaml"))

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        path = self._folder / f"{name}.yaml"
        return read_source(path, str(path.relative_to(self._root)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def syscall_table() -> SyscallTable:
    """Return what the installed libseccomp knows. Raises PipelineError `missing-tool`."""
    numbers = {arch.name: libseccomp.numbers(arch) for arch in libseccomp.Architecture}
    return SyscallTable(libseccomp.version(), numbers, libseccomp.is_known)


def read_named(name: str, folder: Path, root: Path) -> Profile:
    """Return the profile of `folder/NAME.yaml`; messages name files from `root` on.

    Raises PipelineErrors with every mistake in it, PipelineError `unknown-profile`.
    """
    sources = _Sources(folder, root)
    shown = (folder / f"{name}.yaml").relative_to(root)
    if name not in sources:
        meant = suggest(name, sources)
        raise PipelineError(
            "unknown-profile",
            f"there is no seccomp profile `{name}` ({shown})",
            hint=f"did you mean `{meant}`?" if meant else f"there are: {', '.join(sources) or 'none'}",
        )
    profile = read_profile(sources[name], str(shown), syscall_table(), sources)
    floors = read_floors(folder / "floors.json")
    return with_floor(profile, floors, read_wanted(sources[name], str(shown), {*RUNTIMES, *names(floors)}))


def floor_table(name: str, project: Project) -> dict[str, list[str]]:
    """Return each call that the profile takes in for a runtime's sake, with the runtimes that need it."""
    floors = read_floors(project.floors)
    source = read_source(project.seccomp_sources / f"{name}.yaml", name)
    return union(floors, read_wanted(source, name, {*RUNTIMES, *names(floors)}))


def compiled(profile: Profile, capabilities: Collection[str] = ()) -> Compiled:
    """Compile a profile for every architecture. Raises PipelineError `bad-filter`."""
    table = syscall_table()
    documents = {
        arch: oci_profile(profile, (arch,), table, capabilities) for arch in ARCHITECTURE_NAMES.values()
    }
    filters = {
        arch: libseccomp.export_bpf(document, libseccomp.Architecture[arch])
        for arch, document in documents.items()
    }
    return Compiled(table, tuple(sorted(capabilities)), documents, filters)


def _resolve(profile: Profile, made: Compiled) -> dict[str, Any]:
    return {
        "description": profile.description,
        "default": profile.default_error,
        "groups": profile.calls_by_group(),
        "libseccomp": made.table.version,
        "escapes": profile.escapes,
        "capabilities": list(made.capabilities),
        "warnings": [{"rule": w.code, "message": w.message, "place": str(w.place)} for w in profile.warnings],
        "architectures": {
            arch: {
                **resolution(profile, arch, made.table, made.capabilities),
                "filter": {"instructions": len(bpf) // _INSTRUCTION_BYTES, "sha256": sha256_bytes(bpf)},
            }
            for arch, bpf in made.filters.items()
        },
    }


def _facts(name: str, profile: Profile, resolved: dict[str, Any]) -> dict[str, Any]:
    found = resolved["architectures"]
    return {
        "unconfined": False,
        "profile": name,
        "libseccomp": resolved["libseccomp"],
        "escapes": profile.escapes,
        "allowed": {arch: of["counts"]["allowed"] for arch, of in found.items()},
        "absent": {arch: of["absent"] for arch, of in found.items()},
        "unknown": {arch: of["unknown"] for arch, of in found.items()},
        "warnings": resolved["warnings"],
    }


def _lines(profile: Profile, resolved: dict[str, Any], here: str) -> Iterator[str]:
    """What the user is told: of the bundle's architecture first, then what is not as it may seem."""
    short = {oci: name for name, oci in ARCHITECTURE_NAMES.items()}
    for arch, found in sorted(resolved["architectures"].items(), key=lambda item: item[0] != here):
        counts = found["counts"]
        absent = f"; it has no {_some(found['absent'])}" if found["absent"] else ""
        yield f"{counts['allowed']} of {counts['native']} calls allowed on {short[arch]}{absent}"
        for old, newer in found["lacking"].items():
            yield f"warning: {short[arch]} has no {old}, only {newer}, which is not allowed there"
    for warning in profile.warnings:
        yield f"warning[{warning.code}]: {warning.place}: {warning.message}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES} more"
