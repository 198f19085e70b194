"""What a bind's source is on the host, beyond being there: a link, a file system with flags, the bundle.

Sources: mount(8), mount_namespaces(7) (flags that are locked), user_namespaces(7), path_resolution(7).
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checks.access import WRITE, process_credentials
from pipeline.checks.sources import Source, source_of
from pipeline.checks.subject import HIGH, INFO, LOW, MEDIUM, Findings, Subject, is_bind, normal, options
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount


def links(subject: Subject) -> Findings:
    """A source without links: one that is repointed shows something else at the next start."""
    for path, _, source in _binds(subject):
        if source.real != source.path:
            message = f"the bind source `{source.path}` is reached by a link, and is `{source.real}` today"
            mend = f"name `{source.real}`"
            yield Finding("bind-source-link", INFO, message, f"{path}.source", mend, "path_resolution(7)")


def file_systems(subject: Subject) -> Findings:
    """What the mount allows, the source's own file system allows too."""
    for path, mount, source in _binds(subject):
        flags, asked = subject.host_view.flags(source.real), options(mount)
        if "ro" in flags and "ro" not in asked:
            message = f"`{source.path}` lies on a file system that is read-only: nothing can be written"
            mend = "`:ro` on the volume, or mount that file system rw"
            yield Finding("bind-source-readonly", HIGH, message, f"{path}.options", mend, "mount(2), EROFS")
        if "noexec" in flags and "noexec" not in asked:
            message = f"`{source.path}` lies on a file system that is mounted noexec: no program starts there"
            mend = "drop `exec` from the volume, or mount that file system exec"
            yield Finding("bind-source-noexec", MEDIUM, message, f"{path}.options", mend, "mount(2), EACCES")


def inside_bundle(subject: Subject) -> Findings:
    """No bind shows the bundle's own files: the program would see, or write, what it is started from."""
    for path, mount, source in _binds(subject):
        folder = normal(subject.host_view.realpath(subject.folder))
        if _within(source.real, folder) or _within(folder, source.real):
            is_readonly = "ro" in options(mount)
            message = (
                f"`{source.path}` is the bundle's own: {'it is shown' if is_readonly else 'it can change'}"
            )
            mend = "keep data beside the bundle, or in a named volume"
            is_itself = source.real in (folder, f"{folder}/config.json")
            severity = LOW if is_readonly else HIGH if is_itself else MEDIUM
            yield Finding("bind-source-in-bundle", severity, message, f"{path}.source", mend, "bundle.md")


def foreign_owners(subject: Subject) -> Findings:
    """What can be written belongs to ids that the container has: else it is nobody's there (65534)."""
    credentials = process_credentials(subject)
    for path, mount, source in _binds(subject):
        status = source.status
        if status is None or "ro" in options(mount) or source.is_device or credentials is None:
            continue
        if credentials.may(status, WRITE) and not _is_mapped(subject, status.st_uid):
            message = (
                f"`{source.path}` belongs to user {status.st_uid} of the host, nobody in the container: "
                "it may write there, and can change neither owner nor mode"
            )
            mend = f"chown {credentials.uid} {source.path}"
            yield Finding("bind-source-foreign", INFO, message, f"{path}.source", mend, "user_namespaces(7)")


def _binds(subject: Subject) -> Iterator[tuple[str, Mount, Source]]:
    for path, mount in subject.mounts:
        if is_bind(mount) and mount.source:
            source = source_of(subject, mount)
            if source.status is not None:
                yield path, mount, source


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_mapped(subject: Subject, uid: int) -> bool:
    linux = subject.config.linux
    listed = (linux.uid_mappings if linux else None) or ()
    return not listed or any(entry.host_id <= uid < entry.host_id + entry.size for entry in listed)
