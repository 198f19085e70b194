"""`seccomp`: a source -> the OCI document, the filters as BPF, and what they answer to each call."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.files import canonical_json, compact_json, sha256_bytes, write_atomic
from pipeline.model.bundle import UNCONFINED
from pipeline.model.nouns import Platform
from pipeline.oci import verdicts
from pipeline.oci.seccomp import Profile, architectures, resolution
from pipeline.oci.seccomp_tables import ARCHITECTURE_NAMES
from pipeline.profilesource import Filters, filters_of, floor_table, read_named, syscall_table
from pipeline.report.verdicts import render
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
    made = filters_of(profile, work.spec.cap_add)
    resolved = _resolve(profile, made, work.spec.cap_add)
    resolved["floor"] = floor_table(name, work.project.seccomp_sources)
    write_atomic(outputs / "profile.json", canonical_json(made.documents[here]))
    write_atomic(outputs / "resolved.json", canonical_json(resolved))
    for short, arch in ARCHITECTURE_NAMES.items():
        write_atomic(outputs / f"{short}.bpf", made.filters[arch])
    answers = verdicts.table(made.documents, made.filters, syscall_table().numbers)
    write_atomic(outputs / "verdicts.json", canonical_json(answers))
    write_atomic(outputs / "verdicts.html", render(answers, resolved, name))
    for line in _lines(profile, resolved, here):
        work.say(f"{name}: {line}")
    facts = _facts(name, profile, resolved)
    # What is for people alone (pages, warnings with their lines) makes no later stage run again.
    built_upon = {"documents": made.documents, "escapes": profile.escapes}
    return Output(facts, digest=sha256_bytes(compact_json(built_upon)))


def _resolve(profile: Profile, made: Filters, capabilities: Collection[str]) -> dict[str, Any]:
    table = syscall_table()
    return {
        "description": profile.description,
        "default": profile.default_error,
        "groups": profile.calls_by_group(),
        "libseccomp": table.version,
        "escapes": profile.escapes,
        "capabilities": sorted(capabilities),
        "warnings": [{"rule": w.code, "message": w.message, "place": str(w.place)} for w in profile.warnings],
        "architectures": {
            arch: {
                **resolution(profile, arch, table, capabilities),
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
