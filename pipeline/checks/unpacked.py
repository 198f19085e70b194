"""What the rootfs lost or kept of the image's privileges: each is told, so that nobody looks for it later."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.checks.subject import INFO, LOW, MEDIUM, Findings, PrivilegedFile, Subject
from pipeline.model.nouns import Finding

_SHOWN = 20


def privileged_files(subject: Subject) -> Findings:
    """Set-id bits and file capabilities are gone, or kept because the spec says so (execve(2))."""
    listed = subject.unpacked.privileged
    dropped = [_named(file) for file in listed if not file.kept]
    if dropped:
        message = f"took set-id bits or file capabilities from {_capped(dropped)}"
        mend = "a program that needs them: `keep_privileged_files`; noNewPrivileges makes them useless anyway"
        yield Finding("privilege-dropped", INFO, message, "", mend, "execve(2); capabilities(7)")
    for file in listed:
        if file.kept:
            message = f"`{file.path}` keeps its set-id bits or file capabilities {_named(file, bare=True)}"
            mend = "take it out of `keep_privileged_files`; noNewPrivileges makes it useless anyway"
            yield Finding("privileged-file", MEDIUM, message, file.path, mend, "execve(2); capabilities(7)")
    for path in subject.unpacked.keep_not_found:
        message = (
            f"`keep_privileged_files` names `{path}`, which has no privileges in the image or is not there"
        )
        yield Finding("privileged-file-not-found", LOW, message, path, "take it out")


def devices(subject: Subject) -> Findings:
    """Device nodes of the image were left out: a container has those of its runtime (mknod(2))."""
    if subject.unpacked.devices:
        message = f"left out the image's device nodes {_capped(subject.unpacked.devices)}"
        yield Finding("device-dropped", INFO, message, "", "`devices:` gives one of the host's", "mknod(2)")


def attributes(subject: Subject) -> Findings:
    """Extended attributes that mean something to the host's kernel were left out (xattr(7))."""
    if subject.unpacked.xattrs:
        message = f"left out the image's extended attributes {_capped(subject.unpacked.xattrs)}"
        yield Finding("xattr-dropped", INFO, message, "", "", "xattr(7)")


def _named(file: PrivilegedFile, *, bare: bool = False) -> str:
    parts = [part for part in (file.mode, "capabilities" if file.capabilities else "") if part]
    words = f"({', '.join(parts)})" if parts else ""
    return words if bare else f"{file.path} {words}".rstrip()


def _capped(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
