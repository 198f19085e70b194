"""Mounts: their order, their flags, what covers what, and named volumes on the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.model.bundle import Bundle
from pipeline.oci.convert_mounts import uncovered_volumes, volume_fates
from pipeline.oci.volumes import ensure_volume
from tests.test_convert import result


def bundle(**values: Any) -> Bundle:
    return Bundle.from_values({"image": "x", "platform": "linux/amd64", **values})


def volume(source: str, target: str, kind: str = "volume", **values: Any) -> dict[str, Any]:
    return {"type": kind, "source": source, "target": target, **values}


def test_parents_come_before_what_lies_in_them() -> None:
    volumes = [volume("a", "/a/b/c"), volume("b", "/a"), volume("./c", "/dev/shm/x", "bind")]
    targets = [
        mount["destination"]
        for mount in result({"volumes": volumes, "tmpfs": [{"target": "/a/b"}]})["mounts"]
    ]
    for target in targets:
        later = targets[targets.index(target) + 1 :]
        assert not [other for other in later if target.startswith(f"{other}/")]


def test_what_the_spec_mounts_replaces_the_baseline() -> None:
    mounts = result({"tmpfs": [{"target": "/dev/shm", "size_bytes": 4096}]})["mounts"]
    (shm,) = [mount for mount in mounts if mount["destination"] == "/dev/shm"]
    assert "size=4096" in shm["options"]


def test_flags_of_volumes() -> None:
    volumes = [
        volume("data", "/data"),
        volume("./tools", "/tools", "bind", read_only=True, exec=True),
    ]
    mounts = {mount["destination"]: mount for mount in result({"volumes": volumes})["mounts"]}
    assert mounts["/data"]["source"] == "/var/lib/cooperage/volumes/box/data"
    assert mounts["/data"]["options"] == ["bind", "rprivate", "nosuid", "nodev", "noexec", "rw"]
    assert mounts["/tools"]["source"] == "/project/./tools"
    assert mounts["/tools"]["options"] == ["bind", "rprivate", "nosuid", "nodev", "ro"]


def test_a_tmpfs_belongs_to_the_process() -> None:
    (mount,) = [
        m
        for m in result({"tmpfs": [{"target": "/tmp", "mode": 0o700}]})["mounts"]
        if m["destination"] == "/tmp"
    ]
    assert mount["options"] == [
        "nosuid",
        "nodev",
        "noexec",
        "mode=0700",
        "size=67108864",
        "uid=65532",
        "gid=65532",
    ]


def test_system_mounts_have_the_flags_of_every_container() -> None:
    mounts = {mount["destination"]: set(mount["options"]) for mount in result({})["mounts"]}
    assert mounts["/proc"] == {"nosuid", "nodev", "noexec"}
    assert {"ro", "nosuid", "nodev", "noexec"} <= mounts["/sys"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= mounts["/sys/fs/cgroup"]
    assert {"/dev/pts", "/dev/mqueue", "/dev/shm"} <= mounts.keys()


@pytest.mark.parametrize(
    ("given", "uncovered"),
    [
        ({"volumes": [volume("d", "/data")]}, []),
        ({"volumes": [volume("d", "/")]}, []),
        ({"tmpfs": [{"target": "/data"}]}, []),
        ({"volumes": [volume("d", "/data/inner")]}, ["/data"]),
        ({"volumes": [volume("d", "/database")]}, ["/data"]),
    ],
)
def test_what_covers_a_volume(given: dict[str, Any], uncovered: list[str]) -> None:
    errors = uncovered_volumes(bundle(**given), ("/data",))
    assert [error.message.split("`")[1] for error in errors] == uncovered


def test_what_became_of_each_volume_is_told() -> None:
    made = bundle(
        volumes=[volume("d", "/data"), volume("/srv", "/srv", "bind")], tmpfs=[{"target": "/data/cache"}]
    )
    fates = volume_fates(made, ("/data", "/data/cache", "/srv/x"))
    assert fates == {"/data": "volume d", "/data/cache": "tmpfs", "/srv/x": "bind /srv"}


def test_a_volume_is_made_once_and_then_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "volumes" / "box" / "data"
    uid, gid = (2_000_065_532, 2_000_065_532) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    old = os.umask(0o077)
    try:
        made = ensure_volume(path, uid, gid)
    finally:
        os.umask(old)
    assert (made.path, made.is_new) == (path, True)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, gid, 0o750)
    assert (
        stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o755
    )
    path.chmod(0o700)
    (path / "kept").write_text("x")
    assert not ensure_volume(path, 0, 0).is_new
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert (path.stat().st_uid, (path / "kept").read_text()) == (uid, "x")


@pytest.mark.parametrize("spoil", ["link", "file", "parent"])
def test_no_link_is_followed_to_a_volume(tmp_path: Path, spoil: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = tmp_path / "volumes" / "data"
    if spoil == "parent":
        path.parent.symlink_to(elsewhere)
    else:
        path.parent.mkdir()
        path.symlink_to(elsewhere) if spoil == "link" else path.write_text("")
    with pytest.raises(PipelineError) as fault:
        ensure_volume(path, os.getuid(), os.getgid())
    assert fault.value.code == "bad-volume"
    assert fault.value.message.startswith(f"the volume {path} ")
    assert not list(elsewhere.iterdir())
