"""The host's side of bind mounts: what is really shown, and whether a program may see it.

Anchors: CIS Docker Benchmark 5.5, 5.6, 5.32; Pod Security Standards, hostPath.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass

from pipeline.checks.subject import CRITICAL, HIGH, Findings, Subject, is_bind, normal, options
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

# Their content, or a socket in them, gives the host away.
_SENSITIVE = (
    "/boot",
    "/dev",
    "/etc",
    "/lib/modules",
    "/usr/lib/modules",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/run",
    "/var/spool/cron",
)
# The host's programs: to read them is harmless, to write them is to be root at the next start.
_PROGRAMS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr")
_HOMES = "/home"
_SECRETS = (".aws", ".config", ".docker", ".gnupg", ".kube", ".netrc", ".ssh")
# Only as long as they are read-only.
_HARMLESS = (
    "/etc/hosts",
    "/etc/localtime",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/timezone",
    "/run/systemd/resolve/resolv.conf",
    "/run/systemd/resolve/stub-resolv.conf",
)
_SOCKETS = (
    *("buildkitd.sock", "containerd.sock", "cri-dockerd.sock", "crio.sock", "docker.sock", "dockershim.sock"),
    *("podman.sock",),
)
_INITS = ("catatonit", "dumb-init", "tini", "tini-static")
# What lxcfs shows of the container's own limits; runtimes allow these and no others below /proc.
_LXCFS = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime")
)


@dataclass(frozen=True)
class Source:
    """A bind's source as written and without links, and what is there."""

    path: str
    real: str
    status: os.stat_result | None

    @property
    def is_device(self) -> bool:
        """True for a device node, wherever it lies, and for whatever lies in /dev."""
        if self.status is None or self.real.startswith("/dev/"):
            return self.real.startswith("/dev/")
        return stat.S_ISCHR(self.status.st_mode) or stat.S_ISBLK(self.status.st_mode)


def source_of(subject: Subject, mount: Mount) -> Source:
    """Look up the source of a bind; a relative one counts from the bundle."""
    path = normal(posixpath.join(subject.folder, mount.source or ""))
    return Source(path, normal(subject.host_view.realpath(path)), subject.host_view.stat(path))


def binds(subject: Subject) -> Findings:
    """No bind shows the host's own files or a socket of one of its services."""
    for path, mount in subject.mounts:
        if not is_bind(mount) or not mount.source:
            continue
        source = source_of(subject, mount)
        shown = f"`{source.path}`" + (f" (really `{source.real}`)" if source.real != source.path else "")
        names = {posixpath.basename(source.path), posixpath.basename(source.real)}
        if names & set(_SOCKETS):
            message = f"{shown} lets the program start containers as root of the host"
            yield Finding("engine-socket", CRITICAL, message, f"{path}.source", "drop it", "CIS 5.32")
        elif source.status is not None and stat.S_ISSOCK(source.status.st_mode):
            message = f"{shown} is the socket of a program outside, which obeys whoever connects"
            mend = "let them talk over the network, or have the socket made in a volume of their own"
            yield Finding("socket-bind", HIGH, message, f"{path}.source", mend, "CIS 5.32; PSS hostPath")
        elif _is_init(mount, source) or source.is_device:
            continue
        elif _shows_host(source, "ro" in options(mount)):
            message = f"the bind shows {shown} of the host to the program"
            mend = "bind a folder that is there for this program alone"
            severity = HIGH if "ro" in options(mount) else CRITICAL
            yield Finding(
                "sensitive-bind", severity, message, f"{path}.source", mend, "CIS 5.6; PSS hostPath"
            )


def _shows_host(source: Source, is_readonly: bool) -> bool:
    # The host says where /etc/resolv.conf and the like lead; nobody else can.
    if is_readonly and _below(source.path, _HARMLESS):
        return False
    return _is_sensitive(source.path, is_readonly) or _is_sensitive(source.real, is_readonly)


def _is_sensitive(path: str, is_readonly: bool) -> bool:
    tops = (*_SENSITIVE, *(() if is_readonly else _PROGRAMS))
    above = any(top.startswith(path.rstrip("/") + "/") for top in (*_SENSITIVE, *_PROGRAMS, _HOMES))
    return above or _below(path, tops) or _is_home(path)


def _is_home(path: str) -> bool:
    """True for all homes, one whole home, and what holds keys in one."""
    parts = path.split("/")[1:]
    if parts[0] != _HOMES[1:]:
        return False
    return len(parts) <= 2 or parts[2] in _SECRETS


def _below(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def _is_init(mount: Mount, source: Source) -> bool:
    # The init that `init: true` binds is a program like the image's own.
    is_file = source.status is None or stat.S_ISREG(source.status.st_mode)
    return posixpath.basename(source.path) in _INITS and "ro" in options(mount) and is_file


def bind_targets(subject: Subject) -> Findings:
    """No volume replaces what the kernel shows, nor the root itself: masks and limits would be off it."""
    for path, mount in subject.mounts:
        target = _inside(subject, normal(mount.destination))
        if target == "/":
            message = "a mount on `/` hides the rootfs, with its protection against writing"
            yield Finding(
                "mount-over-system", HIGH, message, f"{path}.destination", "mount it below", "mount(8)"
            )
        elif (
            is_bind(mount)
            and (target == "/dev" or _below(target, ("/proc", "/sys")))
            and target not in _LXCFS
        ):
            message = f"a volume lies on `{target}`, where the kernel's own files belong"
            mend = "mount it elsewhere, below a folder of its own"
            yield Finding(
                "mount-over-system", HIGH, message, f"{path}.destination", mend, "moby; PSS hostPath"
            )


def _inside(subject: Subject, target: str) -> str:
    """Return where a mount lands: runtimes follow the links of the rootfs."""
    try:
        return normal(subject.rootfs.realpath(target))
    except OSError:
        return target
