"""Which places in a rootfs something will be mounted on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.model.bundle import Bundle
from pipeline.model.image import ImageConfig
from pipeline.model.nouns import Platform
from pipeline.oci.mounts import IDENTITY_FILES, WORKDIR, MountPoint, clean, mount_points

ALWAYS = {"/dev", "/proc", "/sys", *IDENTITY_FILES}


def points(declared: tuple[str, ...] = (), workdir: str = "", /, **keys: Any) -> dict[str, MountPoint]:
    """The mount points of a spec and an image's VOLUMEs and WORKDIR, without those of every container."""
    bundle = Bundle.from_values({"image": "oci:x", "platform": "linux/amd64", **keys})
    image = ImageConfig(platform=Platform("linux", "amd64"), volumes=declared, working_dir=workdir)
    found = mount_points(bundle, image, lambda source: source.endswith(".conf"))
    assert list(found) == sorted(found, key=lambda point: point.path)
    assert {point.path for point in found} >= ALWAYS
    return {point.path: point for point in found if point.path not in ALWAYS}


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/a/b", "/a/b"),
        ("a//b/", "/a/b"),
        ("../../x", "/x"),
        ("//x", "/x"),
        ("/", "/"),
        ("..", "/"),
        ("/a/../b", "/b"),
    ],
)
def test_clean(path: str, short: str) -> None:
    """No path climbs above the container's root."""
    assert clean(path) == short


def test_each_reason() -> None:
    """tmpfs with its mode, binds by what their source is, devices, VOLUMEs."""
    found = points(
        ("/data",),
        tmpfs=[{"target": "/run", "mode": 0o755}],
        volumes=[
            {"type": "bind", "source": "./a.conf", "target": "/etc/a.conf"},
            {"type": "bind", "source": "./a", "target": "/a"},
            {"type": "volume", "source": "v", "target": "/v"},
        ],
        devices=[{"host": "/dev/kvm", "container": "/opt/kvm"}],
    )
    assert found == {
        "/run": MountPoint("/run", "dir", "tmpfs", 0o755),
        "/etc/a.conf": MountPoint("/etc/a.conf", "file", "volume ./a.conf"),
        "/a": MountPoint("/a", "dir", "volume ./a"),
        "/v": MountPoint("/v", "dir", "volume v"),
        "/opt/kvm": MountPoint("/opt/kvm", "file", "device /dev/kvm"),
        "/data": MountPoint("/data", "dir", "VOLUME of the image"),
    }


def test_the_runtime_makes_what_lies_in_its_own_mounts() -> None:
    """/dev/init, /dev/dri, /sys/fs/cgroup; and nothing is mounted on the root."""
    assert points(("/dev/x", "/"), devices=[{"host": "/dev/dri", "container": "/dev/dri"}], init=True) == {}


def test_the_spec_speaks_before_the_image() -> None:
    """A VOLUME that the spec makes a tmpfs has the tmpfs's mode."""
    found = points(("/data/",), tmpfs=[{"target": "/data", "mode": 0o700}])
    assert found == {"/data": MountPoint("/data", "dir", "tmpfs", 0o700)}


@pytest.mark.parametrize(
    ("workdir", "keys", "place"),
    [
        ("/app", {}, "/app"),
        ("app/x/", {}, "/app/x"),
        ("/app/../../work", {}, "/work"),
        ("/app", {"working_dir": "/srv"}, "/srv"),
        ("", {}, None),
        ("/", {}, None),
        ("/dev/shm", {}, None),
        ("/data/in", {"tmpfs": [{"target": "/data"}]}, None),
        ("/data", {"tmpfs": [{"target": "/data"}]}, None),
        ("/database", {"tmpfs": [{"target": "/data"}]}, "/database"),
    ],
)
def test_the_working_directory_must_be_there(workdir: str, keys: dict[str, Any], place: str | None) -> None:
    """Where a mount or the runtime brings it, nothing is to be made."""
    found = [point for point in points((), workdir, **keys).values() if point.reason == WORKDIR]
    assert found == ([MountPoint(place, "dir", WORKDIR)] if place else [])
