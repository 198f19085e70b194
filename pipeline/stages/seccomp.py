"""`seccomp`: a profile's source -> the OCI document and what it means on the bundle's architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, suggest
from pipeline.files import canonical_json, sha256_bytes, write_atomic
from pipeline.model.bundle import UNCONFINED
from pipeline.model.nouns import Platform
from pipeline.oci.seccomp import Profile, SyscallTable, architectures, oci_profile, resolution
from pipeline.oci.seccomp_source import read_profile
from pipeline.source import read_source
from pipeline.tools import libseccomp
from pipeline.work import Output

if TYPE_CHECKING:
    from pipeline.work import Work

# struct sock_filter of linux/filter.h.
_INSTRUCTION_BYTES = 8


def build(work: Work) -> Output:
    """Write `seccomp/profile.json` and `seccomp/resolved.json`; for `unconfined` only the latter.

    Raises PipelineErrors with every mistake in the source, PipelineError `unknown-profile`.
    """
    outputs = work.work / "seccomp"
    name = work.spec.seccomp
    if name == UNCONFINED:
        facts: dict[str, Any] = {"unconfined": True}
        write_atomic(outputs / "resolved.json", canonical_json(facts))
        return Output(facts)
    source = work.project.seccomp_sources / f"{name}.yaml"
    profile = _read(source, work.project.root)
    archs = architectures(Platform.parse(work.spec.platform))
    table = syscall_table()
    document = oci_profile(profile, archs, table)
    resolved = _resolve(profile, archs, table, document)
    write_atomic(outputs / "profile.json", canonical_json(document))
    write_atomic(outputs / "resolved.json", canonical_json(resolved))
    _say(work, name, resolved)
    return Output(_facts(name, profile, resolved))


def syscall_table() -> SyscallTable:
    """Return what the installed libseccomp knows. Raises PipelineError `missing-tool`."""
    numbers = {arch.name: libseccomp.numbers(arch) for arch in libseccomp.Architecture}
    return SyscallTable(libseccomp.version(), numbers, libseccomp.is_known)


def _read(source: Path, root: Path) -> Profile:
    if not source.is_file():
        there = sorted(path.stem for path in source.parent.glob("*.yaml"))
        meant = suggest(source.stem, there)
        raise PipelineError(
            "unknown-profile",
            f"there is no seccomp profile `{source.stem}` ({source.relative_to(root)})",
            hint=f"did you mean `{meant}`?" if meant else f"there are: {', '.join(there) or 'none'}",
        )
    shown = str(source.relative_to(root))
    return read_profile(read_source(source, shown), shown, syscall_table())


def _resolve(
    profile: Profile, archs: tuple[str, ...], table: SyscallTable, document: dict[str, Any]
) -> dict[str, Any]:
    return {
        "description": profile.description,
        "default": profile.default_error,
        "groups": profile.calls_by_group(),
        "libseccomp": table.version,
        "escapes": profile.escapes,
        "architectures": {
            arch: {**resolution(profile, arch, table), "filter": _filter(document, arch)} for arch in archs
        },
    }


def _filter(document: dict[str, Any], arch: str) -> dict[str, Any]:
    bpf = libseccomp.export_bpf(document, libseccomp.Architecture[arch])
    return {"instructions": len(bpf) // _INSTRUCTION_BYTES, "sha256": sha256_bytes(bpf)}


def _facts(name: str, profile: Profile, resolved: dict[str, Any]) -> dict[str, Any]:
    return {
        "unconfined": False,
        "profile": name,
        "libseccomp": resolved["libseccomp"],
        "escapes": profile.escapes,
        "allowed": {arch: found["counts"]["allowed"] for arch, found in resolved["architectures"].items()},
        "absent": {arch: found["absent"] for arch, found in resolved["architectures"].items()},
        "unknown": {arch: found["unknown"] for arch, found in resolved["architectures"].items()},
    }


def _say(work: Work, name: str, resolved: dict[str, Any]) -> None:
    for arch, found in resolved["architectures"].items():
        counts = found["counts"]
        work.say(f"{name}: {counts['allowed']} of {counts['native']} calls allowed on {arch}")
        if found["unknown"]:
            work.say(
                f"{name}: libseccomp {resolved['libseccomp']} does not know {', '.join(found['unknown'])}: "
                f"{resolved['default']} on {arch}"
            )
