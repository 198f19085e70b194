"""What lies in the rootfs that gives rights: set-id files, file capabilities, device nodes, open folders.

Sources: execve(2), capabilities(7), mknod(2), CVE-2021-41103 and CVE-2024-25621 (a rootfs that other users of
the host can reach), inode(7) (the sticky bit).
"""

from __future__ import annotations

import stat
from collections.abc import Sequence

from pipeline.checks.subject import HIGH, INFO, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding, Severity

_SHOWN = 5


def set_id(subject: Subject) -> Findings:
    """No file gives its owner's rights to whoever starts it."""
    kept = {file.path for file in subject.unpacked.privileged if file.kept}
    listed = [path for path in subject.tree.set_id if path not in kept]
    if listed:
        message = f"the rootfs has set-id programs: {_capped(listed)}" + _reach(subject)
        mend = f"chmod ug-s on each, as rootfs{listed[0]}"
        yield Finding("rootfs-set-id", _severity(subject), message, "root.path", mend, "CVE-2021-41103")


def capabilities(subject: Subject) -> Findings:
    """No file gives capabilities to whoever starts it."""
    kept = {file.path for file in subject.unpacked.privileged if file.kept}
    listed = [path for path in subject.tree.capabilities if path not in kept]
    if listed:
        message = f"the rootfs has programs with file capabilities: {_capped(listed)}" + _reach(subject)
        mend = f"setcap -r on each, as rootfs{listed[0]}"
        severity = _severity(subject)
        yield Finding("rootfs-file-capability", severity, message, "root.path", mend, "capabilities(7)")


def devices(subject: Subject) -> Findings:
    """No device node lies in the rootfs, where it works for everyone of the host who can reach it."""
    listed = subject.tree.devices
    if listed:
        message = f"the rootfs has device nodes: {_capped(listed)}" + _reach(subject)
        mend = f"rm rootfs{listed[0]}; the runtime makes what a container needs"
        severity = HIGH if _is_reachable(subject) else MEDIUM
        yield Finding("rootfs-device", severity, message, "root.path", mend, "mknod(2); CVE-2021-41103")


def open_to_all(subject: Subject) -> Findings:
    """In a root that can be written, root's own files are not everybody's to change."""
    listed = subject.tree.world_writable
    if listed and not subject.config.root.readonly:
        message = f"every user of the container may change root's own {_capped(listed)}"
        mend = f"chmod o-w on each, as rootfs{listed[0]}; or `read_only: true`"
        yield Finding("rootfs-world-writable", MEDIUM, message, "root.path", mend, "CWE-732; inode(7)")


def complete(subject: Subject) -> Findings:
    """The whole rootfs was looked at; what was not is said."""
    if subject.tree.unread:
        message = f"not looked at for set-id files and device nodes: {_capped(subject.tree.unread)}"
        yield Finding("rootfs-unread", INFO, message, "root.path", "", "a walk with bounds")


def _severity(subject: Subject) -> Severity:
    if not subject.process.no_new_privileges or _is_reachable(subject):
        return MEDIUM
    return LOW


def _reach(subject: Subject) -> str:
    return ", within reach of every user of the host" if _is_reachable(subject) else ""


def _is_reachable(subject: Subject) -> bool:
    status = subject.host_view.stat(subject.folder)
    return status is not None and bool(status.st_mode & stat.S_IXOTH)


def _capped(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
