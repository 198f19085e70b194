"""The places in a rootfs that something will be mounted on.

A root that is mapped to an ordinary user of the host cannot make them later, and a read-only root must
have them from the start; so `unpack` prepares exactly what `spec` is going to mount.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.model.bundle import Bundle, VolumeType

# The runtime mounts its own tmpfs and pseudo file systems here and makes what is mounted further below
# itself, inside them; the rootfs needs only these.
SYSTEM_POINTS = ("/dev", "/proc", "/sys")
# Bind-mounted over when a container is given a network (runtimes do not make them).
IDENTITY_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
WORKDIR = "the working directory"
"""The reason of the one place that nothing is mounted on: where the process starts."""
INIT_PATH = "/dev/init"
"""Where `init: true` binds the host's static init; below /dev, so the rootfs needs nothing for it."""


@dataclass(frozen=True)
class MountPoint:
    """A path of the container that something is mounted on, or that must be there for another `reason`.

    `kind` is `dir` or `file`. `mode` is the mode that the place itself must have, None for any: runc
    before 1.1.15 gives a tmpfs the mode of the directory below it, whatever `mode=` says.
    """

    path: str
    kind: str
    reason: str
    mode: int | None = None


class HasPaths(Protocol):
    """What is read of an image's config."""

    @property
    def volumes(self) -> Sequence[str]:
        """The paths of its VOLUME instructions."""

    @property
    def working_dir(self) -> str:
        """Its WORKDIR, empty for none."""


def mount_points(
    bundle: Bundle, image: HasPaths, is_file: Callable[[str], bool] = os.path.isfile
) -> tuple[MountPoint, ...]:
    """Return the places in the rootfs that the bundle's mounts and its process need, by path; each once.

    A relative source of a bind mount is passed to `is_file` as the spec has it. Where two reasons name
    one path, the one of the spec counts.
    """
    points: dict[str, MountPoint] = {}
    for point in _wanted(bundle, image, is_file):
        if not _made_by_runtime(point.path):
            points.setdefault(point.path, point)
    place = clean(bundle.working_dir or image.working_dir)
    # docker makes a WORKDIR that no layer has, for root. What lies in a mount is the runtime's to make.
    if not any(_covers(point, place) for point in points.values()) and not _made_by_runtime(place):
        points[place] = MountPoint(place, "dir", WORKDIR)
    return tuple(points[path] for path in sorted(points))


def clean(path: str) -> str:
    """Return a path of the container in its shortest form: `//data/../x/` is `/x`, `../..` is `/`."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _wanted(bundle: Bundle, image: HasPaths, is_file: Callable[[str], bool]) -> Iterator[MountPoint]:
    for tmpfs in bundle.tmpfs:
        yield MountPoint(clean(tmpfs.target), "dir", "tmpfs", tmpfs.mode)
    for volume in bundle.volumes:
        binds_file = volume.type is VolumeType.BIND and is_file(volume.source)
        yield MountPoint(clean(volume.target), "file" if binds_file else "dir", f"volume {volume.source}")
    for device in bundle.devices:
        yield MountPoint(clean(device.container), "file", f"device {device.host}")
    for path in sorted(image.volumes):
        yield MountPoint(clean(path), "dir", "VOLUME of the image")
    for path in SYSTEM_POINTS:
        yield MountPoint(path, "dir", "every container has it")
    for path in IDENTITY_FILES:
        yield MountPoint(path, "file", "the container's own name and resolver")


def _covers(point: MountPoint, path: str) -> bool:
    return f"{path}/".startswith(f"{point.path}/")


def _made_by_runtime(path: str) -> bool:
    return path == "/" or any(path.startswith(f"{system}/") for system in SYSTEM_POINTS)
