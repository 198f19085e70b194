"""`unpack` as the engine runs it, with the real umoci: owners, mount points, reuse, crashes, full disks."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import changed_entries, scan_tree, tree_digest
from pipeline.model.nouns import IdMap
from pipeline.oci import mountpoints
from pipeline.oci.mounts import MountPoint
from pipeline.stages import unpack as stage
from tests.evil_images import Tar, layer
from tests.real.unpack_shop import BASE, Shop

pytestmark = [pytest.mark.real, pytest.mark.root]
PROJECT = Path(__file__).resolve().parents[2]
TMPFS = {"target": "/tmp", "mode": 0o1777}
VOLUME = {"type": "volume", "source": "data", "target": "/srv/data"}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A project with a small image."""
    made = Shop(tmp_path)
    made.image([layer(_tar())])
    return made


def _tar() -> Tar:
    tar = Tar().dir("etc").add("etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n", uid=3, gid=4)
    tar.add("usr/bin/su", content=b"su", mode=0o4755).add("deep/er/file", content=b"x" * 70_000, uid=65532)
    return tar.dir("srv", 0o750, uid=7).link("bin", "usr/bin").dir("tmp", 0o755)


def test_two_unpacks_are_equal(shop: Shop, tmp_path: Path) -> None:
    """The digest depends on nothing but image and spec; a umask of 077 changes nothing."""
    (tmp_path / "b").mkdir()
    other = Shop(tmp_path / "b")
    other.image([layer(_tar())])
    assert shop.build() == "never built"
    before = os.umask(0o077)
    try:
        other.build()
    finally:
        os.umask(before)
    assert shop.receipt()["digest"] == other.receipt()["digest"] == tree_digest(scan_tree(shop.rootfs))
    assert shop.facts() == other.facts()
    assert shop.build() is None


def test_every_owner_is_mapped(shop: Shop) -> None:
    """Also of folders that no layer lists, and of mount points."""
    shop.build(volumes=[VOLUME])
    owners = {entry.path: (entry.uid - BASE, entry.gid - BASE) for entry in scan_tree(shop.rootfs)}
    assert owners["etc/passwd"] == (3, 4)
    assert owners["deep/er/file"] == (65532, 0)
    assert owners["srv"] == (7, 0)
    assert owners["."] == owners["deep"] == owners["srv/data"] == owners["proc"] == (0, 0)
    assert all(0 <= number < 65536 for owner in owners.values() for number in owner)


def test_host_ids_without_a_user_namespace(shop: Shop) -> None:
    """`userns: host` maps nothing."""
    shop.build(userns="host")
    assert (shop.rootfs / "etc/passwd").stat().st_uid == 3
    assert shop.paths.bundle.stat().st_gid == 0


def test_the_bundle_s_folder_is_closed_to_others(shop: Shop) -> None:
    """0710 root and the container's root group, set again whenever the stage runs."""
    shop.build()
    shop.paths.bundle.chmod(0o777)
    shop.build(userns="1000000000:65536")
    status = shop.paths.bundle.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o710, 0, 1_000_000_000)
    assert sorted(path.name for path in shop.paths.bundle.iterdir()) == ["rootfs"]


def test_the_record_is_that_of_the_tree(shop: Shop) -> None:
    """What was recorded is there, and a change is seen."""
    shop.build()
    assert changed_entries(shop.rootfs, shop.paths.tree_record) == []
    (shop.rootfs / "usr/bin/su").write_text("no")
    assert changed_entries(shop.rootfs, shop.paths.tree_record) == ["usr/bin/su"]


def test_privileges_are_taken_and_said(shop: Shop) -> None:
    """A set-id bit goes unless the spec keeps it; it is told either way."""
    shop.build()
    assert stat.S_IMODE((shop.rootfs / "usr/bin/su").stat().st_mode) == 0o755
    assert "took set-id bits or capabilities from /usr/bin/su (4755)" in shop.said
    shop.build(keep_privileged_files=["/bin/su"])
    assert stat.S_IMODE((shop.rootfs / "usr/bin/su").stat().st_mode) == 0o4755
    assert "kept them on /usr/bin/su (4755)" in shop.said


def test_mount_points_are_made(shop: Shop, tmp_path: Path) -> None:
    """One for each mount of spec and image, of the right kind; none where the runtime makes them."""
    shop.image([layer(_tar())], {"Volumes": {"/data": {}, "../../up": {}, "/": {}, "/dev/x": {}}})
    (tmp_path / "conf").write_text("conf")
    binds = [{"type": "bind", "source": "./conf", "target": "/etc/app/conf"}, VOLUME]
    devices = [{"host": "/dev/null", "container": "/opt/null"}, {"host": "/dev/null", "container": "/dev/n"}]
    shop.build(tmpfs=[TMPFS, {"target": "/run/x", "mode": 0o700}], volumes=binds, devices=devices)
    modes = {entry.path: (entry.kind, f"{entry.mode:04o}") for entry in scan_tree(shop.rootfs)}
    folder, file = ("dir", "0755"), ("file", "0644")
    wanted = {"proc": folder, "sys": folder, "dev": folder, "data": folder, "up": folder, "srv/data": folder}
    wanted |= {"etc/app/conf": file, "opt/null": file, "etc/resolv.conf": file, "etc/hosts": file}
    wanted |= {"etc/hostname": file, "tmp": ("dir", "1777"), "run/x": ("dir", "0700")}
    assert {path: modes[path] for path in wanted} == wanted
    assert list((shop.rootfs / "dev").iterdir()) == []
    assert shop.point("/tmp")["mode_was"] == 0o755
    assert shop.point("/run/x")["made"] == ["/run", "/run/x"]


def test_a_mount_point_behind_a_link_stays_inside(shop: Shop, tmp_path: Path) -> None:
    """A link to the host's root leads to the container's, and that is said."""
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = (
        Tar()
        .link("data", f"{outside}/v")
        .link("etc/resolv.conf", "../run/systemd/resolv.conf")
        .link("up", "../..")
    )
    shop.image([layer(tar)])
    shop.build(volumes=[{**VOLUME, "target": "/data/x"}, {**VOLUME, "target": "/up/y"}])
    assert list(outside.iterdir()) == []
    assert shop.point("/data/x")["place"] == f"{outside}/v/x"
    assert (shop.rootfs / str(outside)[1:] / "v/x").is_dir()
    assert (shop.rootfs / "y").is_dir()
    assert (shop.rootfs / "run/systemd/resolv.conf").is_file()
    assert any(line.startswith("mount point behind a link: /data/x -> ") for line in shop.said)


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_a_link_where_the_kernel_s_files_belong_is_refused(shop: Shop, name: str) -> None:
    """Else a runtime would mount them where the image wants them."""
    shop.image([layer(_tar().link(name, "srv"))])
    with pytest.raises(PipelineError) as caught:
        shop.build()
    assert str(caught.value) == (
        f"error[bad-mount-point]: /{name} is a link to /srv in the image, and runtimes mount the kernel's "
        f"files there\n  help: build the image with a folder /{name}, or with nothing in its place"
    )


def test_a_working_directory_that_no_layer_has(shop: Shop) -> None:
    """docker makes it, for root; nothing else is said of it, and one that is there stays as it is."""
    shop.image([layer(_tar())], {"WorkingDir": "/opt/../opt/app//new"})
    shop.build()
    made = (shop.rootfs / "opt/app/new").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (BASE, BASE, 0o755)
    assert "no layer has the working directory: made /opt/app/new" in shop.said
    shop.said.clear()
    shop.build(working_dir="/bin")
    assert not (shop.rootfs / "opt").exists()
    assert not shop.said
    assert changed_entries(shop.rootfs, shop.paths.tree_record) == []
    shop.build(working_dir="/srv")
    assert (shop.rootfs / "srv").stat().st_uid == BASE + 7


def test_a_working_directory_that_is_a_file(shop: Shop) -> None:
    """Nothing could start there."""
    with pytest.raises(PipelineError) as caught:
        shop.build(working_dir="/etc/passwd")
    assert str(caught.value) == (
        "error[bad-mount-point]: /etc/passwd (the working directory) needs a directory to start in, and in "
        "the image it is a regular file\n"
        "  help: name a folder of the image in the spec, such as `working_dir: /`"
    )


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False), (False, False)])
def test_a_tree_that_could_be_written_is_unpacked_anew(shop: Shop, before: bool, after: bool) -> None:
    """A container that still runs on it could put links in our way."""
    shop.build(read_only=before)
    inode = (shop.rootfs / "deep/er/file").stat().st_ino
    shop.build(read_only=after, volumes=[VOLUME])
    assert (shop.rootfs / "deep/er/file").stat().st_ino != inode


def test_nothing_is_made_or_taken_away_through_a_link(tmp_path: Path) -> None:
    """Not even where a folder becomes a link between a look and a deed."""
    rootfs, outside = tmp_path / "rootfs", tmp_path / "outside"
    (rootfs / "srv").mkdir(parents=True)
    (outside / "data").mkdir(parents=True)
    mapping = IdMap(BASE, 65536)
    points = [MountPoint("/srv/data", "dir", "volume data", 0o700)]
    prepared = mountpoints.prepare(rootfs, points, mapping)
    (rootfs / "srv").rename(rootfs / "was")
    (rootfs / "srv").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        mountpoints.undo(rootfs, prepared)
    assert (outside / "data").is_dir()
    (outside / "data").chmod(0o755)
    with pytest.raises(NotADirectoryError):
        mountpoints.undo(rootfs, [replace(prepared[0], made=(), mode_was=0o777)])
    assert stat.S_IMODE((outside / "data").stat().st_mode) == 0o755


def test_a_link_between_look_and_deed_makes_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resolve` saw a folder; what stands there when it comes to making is a link to the host's."""
    rootfs, outside = tmp_path / "rootfs", tmp_path / "outside"
    rootfs.mkdir()
    outside.mkdir()
    (rootfs / "srv").symlink_to(outside)
    monkeypatch.setattr(mountpoints, "resolve", lambda root, path: path)
    with pytest.raises((OSError, PipelineError)):
        mountpoints.prepare(rootfs, [MountPoint("/srv/data", "dir", "volume data")], IdMap(BASE, 65536))
    assert list(outside.iterdir()) == []


def test_what_a_mount_hides_is_said(shop: Shop) -> None:
    """Files of the image under a volume are not seen in the container."""
    shop.build(volumes=[{**VOLUME, "target": "/deep"}])
    assert shop.point("/deep")["hides"] == 1
    assert "a mount will hide what the image has in /deep (1; volume data)" in shop.said


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "/etc/passwd",
            "/etc/passwd (volume data) needs a directory to mount on, and in the image it is a regular",
        ),
        ("/etc/passwd/x", "cannot be resolved in the image: Not a directory"),
        ("/loop/x", "cannot be resolved in the image: Too many levels of symbolic links"),
        ("/top", "/top (volume data) is the root of the container"),
        ("/pipe", "in the image it is a FIFO"),
    ],
)
def test_what_stands_in_the_way(shop: Shop, target: str, said: str) -> None:
    """Nothing of the image is replaced by a mount point."""
    tar = _tar().link("loop", "loop").link("top", "/").add("pipe", b"6")
    shop.image([layer(tar)])
    with pytest.raises(PipelineError) as caught:
        shop.build(volumes=[{**VOLUME, "target": target}])
    assert (caught.value.code, said in caught.value.message) == ("bad-mount-point", True), (
        caught.value.message
    )


def test_other_mount_points_need_no_new_unpacking(shop: Shop, tmp_path: Path) -> None:
    """The tree is altered, and is what a new unpacking would have made."""
    shop.build(volumes=[VOLUME, {**VOLUME, "target": "/gone/away"}], tmpfs=[TMPFS])
    inode = (shop.rootfs / "deep/er/file").stat().st_ino
    changed = {"volumes": [{**VOLUME, "target": "/srv/other"}], "tmpfs": [{"target": "/srv", "mode": 0o700}]}
    shop.build(**changed)
    assert (shop.rootfs / "deep/er/file").stat().st_ino == inode
    assert not (shop.rootfs / "gone").exists()
    assert stat.S_IMODE((shop.rootfs / "tmp").stat().st_mode) == 0o755
    assert changed_entries(shop.rootfs, shop.paths.tree_record) == []
    (tmp_path / "b").mkdir()
    fresh = Shop(tmp_path / "b")
    fresh.image([layer(_tar())])
    fresh.build(**changed)
    assert shop.receipt()["digest"] == fresh.receipt()["digest"] == tree_digest(scan_tree(shop.rootfs))
    assert shop.facts() == fresh.facts()


@pytest.mark.parametrize("key", ["userns", "keep_privileged_files", "image"])
def test_another_tree_is_unpacked_anew(shop: Shop, key: str) -> None:
    """Whatever else changes, nothing of the old tree is used."""
    shop.build()
    inode = (shop.rootfs / "deep/er/file").stat().st_ino
    changed = {"userns": "1000000000:65536", "keep_privileged_files": ["/usr/bin/su"]}
    if key == "image":
        shop.image([layer(_tar().add("new"))])
        shop.build()
    else:
        shop.build(**{key: changed[key]})
    assert (shop.rootfs / "deep/er/file").stat().st_ino != inode


def test_a_changed_tree_is_not_built_upon(shop: Shop) -> None:
    """Someone put a file into the rootfs: it is unpacked anew, and said."""
    shop.build()
    (shop.rootfs / "usr/bin/evil").write_text("evil")
    shop.build(volumes=[VOLUME])
    assert not (shop.rootfs / "usr/bin/evil").exists()
    assert "the rootfs is not as it was unpacked: unpacking it again" in shop.said


def test_a_failure_while_reusing_leaves_nothing_half(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old receipt goes before the old tree is touched."""
    shop.build()
    digest = shop.receipt()["digest"]

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(stage, "prepare", fail)
        shop.build(volumes=[VOLUME])
    assert not shop.paths.receipt("unpack").exists()
    assert shop.build() == "forgotten"
    assert shop.receipt()["digest"] == digest


def test_progress_is_in_bytes_read(shop: Shop) -> None:
    """It ends at the sum of the layers."""
    shop.build()
    done, total = shop.seen_bytes[-1]
    assert done == total > 0
