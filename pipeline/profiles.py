"""A seccomp profile by any name that a command line can give it, compiled for every architecture."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, suggest
from pipeline.oci import seccomp_builtin as builtin
from pipeline.oci import verdicts
from pipeline.oci.floor import read_floors
from pipeline.oci.verdict_summary import Summary
from pipeline.paths import Project
from pipeline.profilesource import (
    Sources,
    export,
    filters_of,
    read_with_floor,
    sources_in,
    syscall_table,
)
from pipeline.source import read_source
from pipeline.tools import git, libseccomp

DOCKER_DEFAULT = "docker-default"
_SYSTEMD = "systemd:"
ARCHITECTURES = tuple(arch.name for arch in libseccomp.Architecture)
_FORMS = f"NAME, a path, REVISION:NAME, {DOCKER_DEFAULT} or {_SYSTEMD}@GROUP"


@dataclass(frozen=True)
class Compiled:
    """A profile's documents (`linux.seccomp`) and filters by architecture; `source` says what it is."""

    name: str
    source: str
    documents: Mapping[str, Mapping[str, Any]]
    filters: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    description: str = ""
    groups: Mapping[str, Any] = field(default_factory=dict)

    def summaries(self) -> dict[str, Summary]:
        """Return what each filter leaves open."""
        numbers = syscall_table().numbers
        return {arch: Summary.of_filter(bpf, arch, numbers[arch]) for arch, bpf in self.filters.items()}

    def verdicts(self) -> dict[str, Any]:
        """Return the table of verdicts."""
        return verdicts.table(self.documents, self.filters, syscall_table().numbers)


def compiled(project: Project, word: str, capabilities: Collection[str] = ()) -> Compiled:
    """Return the profile that a word of the command line names; a source, for a process with capabilities.

    Raises PipelineError `unknown-profile`, `unknown-revision`, `bad-profile` or `bad-filter`, PipelineErrors
    with the mistakes in a source.
    """
    if word == DOCKER_DEFAULT:
        documents = {arch: builtin.docker_default(arch) for arch in ARCHITECTURES}
        return _made(word, builtin.DOCKER_SOURCE, documents)
    if word.startswith(_SYSTEMD):
        return _systemd(word)
    if "/" in word or word.endswith((".json", ".yaml", ".yml")):
        return _file(project, Path(word), word)
    revision, colon, name = word.rpartition(":")
    if colon:
        return _revision(project, word, revision, name)
    return of_name(project, word, capabilities)


def of_name(project: Project, name: str, capabilities: Collection[str] = ()) -> Compiled:
    """Return the profile of a source of this checkout, by its name; raises as `compiled` does."""
    path = project.seccomp_sources / f"{name}.yaml"
    if not path.is_file():
        raise _unknown(name, names(project))
    shown = str(path.relative_to(project.root))
    return _source(name, shown, sources_in(path.parent, project.root), name, capabilities)


def names(project: Project) -> list[str]:
    """Return the names of the profiles that have a source."""
    return sorted(path.stem for path in project.seccomp_sources.glob("*.yaml"))


def _revision(project: Project, word: str, revision: str, name: str) -> Compiled:
    folder = project.seccomp_sources.relative_to(project.root)

    def read(name: str) -> bytes:
        return git.show(project.root, revision, f"{folder}/{name}.yaml")

    # What a revision had is asked for by name; that the source itself is in it, git says.
    known, shown = (name, *names(project)), f"{folder}/{name}.yaml of {revision}"
    return _source(word, shown, Sources(known, read, read_floors(project.floors)), name)


def _source(
    word: str, shown: str, sources: Sources, name: str, capabilities: Collection[str] = ()
) -> Compiled:
    profile = read_with_floor(name, shown.partition(" of ")[0], sources)
    made = filters_of(profile, capabilities)
    groups = profile.calls_by_group()
    return Compiled(word, shown, made.documents, made.filters, description=profile.description, groups=groups)


def _systemd(word: str) -> Compiled:
    group = "@" + word.removeprefix(_SYSTEMD).removeprefix("@")
    if group not in builtin.systemd_groups():
        raise _unknown(f"{_SYSTEMD}{group}", [_SYSTEMD + name for name in builtin.systemd_groups()])
    documents = {arch: builtin.systemd_group(group, arch) for arch in ARCHITECTURES}
    return _made(word, f"{group} of {builtin.SYSTEMD_SOURCE}", documents)


def _file(project: Project, path: Path, shown: str) -> Compiled:
    if path.suffix != ".json":
        beside = sources_in(path.parent)
        own = read_source(path, shown, follow=True)
        known = (path.stem, *beside)
        # A source on its way to specs/ is compared as it would be built there.
        floors = beside.floors or read_floors(project.floors)
        sources = Sources(known, lambda name: own if name == path.stem else beside[name], floors)
        return _source(shown, shown, sources, path.stem)
    content = read_source(path, shown, follow=True)
    try:
        value = json.loads(content)
        found = value.get("linux", {}).get("seccomp", value)
        if "archMap" in found:
            raise PipelineError(
                "bad-profile",
                f"{shown} is in the form of Docker, whose rules hang on capabilities and kernels",
                hint=f"compare with what it comes to: `linux.seccomp` of a config.json, or {DOCKER_DEFAULT}",
            )
        document = {**found, "syscalls": list(_as_runtimes_read(found))}
        foreign = sorted(set(found.get("architectures") or ()) - {*ARCHITECTURES})
        notes = [f"{shown} also opens {arch}, of which nothing is shown here" for arch in foreign]
        return _made(shown, shown, dict.fromkeys(ARCHITECTURES, document), tuple(notes))
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        message = f"{shown} is no seccomp profile of the OCI runtime specification"
        raise PipelineError("bad-profile", message, hint=f"{type(fault).__name__}: {fault}") from None


def _as_runtimes_read(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rules as runc and crun add them: two tests of one argument are two rules."""
    for rule in document.get("syscalls") or ():
        args = rule.get("args") or []
        parted = len({argument["index"] for argument in args}) < len(args)
        for part in [[argument] for argument in args] if parted else [args]:
            yield {**rule, "args": part}


def _made(
    name: str, source: str, documents: Mapping[str, Mapping[str, Any]], notes: tuple[str, ...] = ()
) -> Compiled:
    return Compiled(name, source, documents, export(documents), notes)


def _unknown(name: str, known: list[str]) -> PipelineError:
    meant = suggest(name, [*known, DOCKER_DEFAULT])
    hint = f"did you mean `{meant}`?" if meant else f"there are {', '.join(known)}; write {_FORMS}"
    return PipelineError("unknown-profile", f"there is no seccomp profile `{name}`", hint=hint)
