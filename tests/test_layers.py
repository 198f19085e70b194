"""Every hostile image meets its refusal, or unpacks with nothing outside touched (real umoci)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap
from pipeline.oci.layout import read_image
from pipeline.oci.limits import Limits
from pipeline.oci.unpacking import Unpacked, layers_of, unpack_layers
from tests.evil_cases import CASES
from tests.evil_images import Case, Tar, layer, sha256, write_layout

MAPPING = IdMap(2_000_000_000, 65536)
pytestmark = [pytest.mark.real, pytest.mark.root]


class Ground:
    """A folder for one unpacking, and one beside it that must stay as it is."""

    def __init__(self, top: Path) -> None:
        self.outside = top / "outside"
        self.work = top / "work"
        self.layout = top / "image"
        self.outside.mkdir()
        self.work.mkdir(mode=0o700)
        self.canary = self.outside / "canary"
        self.canary.write_text("alive\n")
        self.before = self.seen()

    @property
    def rootfs(self) -> Path:
        """Where the image was unpacked to."""
        return self.work / "rootfs"

    def seen(self) -> list[tuple[str, int, int, int, str]]:
        """All that is outside: names, modes, owners, links, content."""
        found = []
        for path in sorted([self.outside, *self.outside.rglob("*")]):
            status = path.lstat()
            content = path.read_text() if path.is_file() else ""
            found.append((path.name, status.st_mode, status.st_uid, status.st_nlink, content))
        return found

    def unpack(
        self, limits: Limits | None = None, keep: tuple[str, ...] = (), mapping: IdMap = MAPPING
    ) -> Unpacked:
        """Unpack the layout."""
        image = read_image(self.layout)
        log = self.work.parent / "unpack.log"
        return unpack_layers(layers_of(image), self.work, mapping, keep, limits or Limits(), log)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A place to unpack to."""
    return Ground(tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_evil_image(name: str, ground: Ground) -> None:
    """An image of the catalogue is refused in its words, or contained."""
    case = CASES[name]
    case.write(ground.layout, ground.outside)
    if case.code:
        with pytest.raises(PipelineError) as caught:
            ground.unpack(Limits(**case.limits))
        assert (caught.value.code, case.text in caught.value.message) == (case.code, True), str(caught.value)
        _says_enough(caught.value)
    else:
        ground.unpack()
        _stands(ground.rootfs, case)
    assert ground.seen() == ground.before


def test_the_catalogue_is_large() -> None:
    """At least as many as the groups that other unpackers are tested with."""
    assert len(CASES) >= 80


def _says_enough(fault: PipelineError) -> None:
    text = str(fault)
    assert "goroutine" not in text
    assert "panic" not in text
    assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}
    assert fault.hint or fault.code == "bad-manifest"


def _stands(rootfs: Path, case: Case) -> None:
    for name in case.there:
        assert os.path.lexists(rootfs / name), name
    for name in case.gone:
        assert not os.path.lexists(rootfs / name), name
    for folder, folders, files in os.walk(rootfs):
        for name in [".", *folders, *files]:
            status = (Path(folder) / name).lstat()
            assert status.st_uid in range(MAPPING.host_id, MAPPING.host_id + MAPPING.size), name
            assert not stat.S_ISCHR(status.st_mode)
            assert not stat.S_ISBLK(status.st_mode)
            assert stat.S_ISDIR(status.st_mode) or not status.st_mode & 0o6000, name


def test_content_owner_mode_time_and_links_are_the_image_s(ground: Ground) -> None:
    """What a layer says of a file is what the rootfs has."""
    tar = Tar().dir("d", 0o2750, uid=5, gid=6, mtime=1_000_000_000)
    tar.add("d/f", content=b"content\n" * 100_000, mode=0o640, uid=65532, gid=100, mtime=1_234_567_890)
    tar.hard("d/g", "d/f").link("l", "/d/f").add("d/tiny", content=b"x").add("empty")
    write_layout(ground.layout, [layer(tar)])
    ground.unpack()
    file = (ground.rootfs / "d/f").lstat()
    assert (ground.rootfs / "d/f").read_bytes() == b"content\n" * 100_000
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid) == (0o640, 2_000_065_532, 2_000_000_100)
    assert (int(file.st_mtime), file.st_nlink) == (1_234_567_890, 2)
    assert (ground.rootfs / "d/tiny").read_bytes() == b"x"
    assert (ground.rootfs / "empty").read_bytes() == b""
    assert (ground.rootfs / "l").readlink() == Path("/d/f")
    assert stat.S_IMODE((ground.rootfs / "d").lstat().st_mode) == 0o2750


@pytest.mark.parametrize("missing", [1, 500, 511])
def test_a_tar_may_end_with_its_last_content(ground: Ground, missing: int) -> None:
    """`umoci insert` writes no padding and no end."""
    ends = Tar().add("a").add("f", content=b"x" * (1024 - 511)).end().rstrip(b"\0")
    write_layout(ground.layout, [layer(ends + bytes(511 - missing))])
    ground.unpack()
    assert (ground.rootfs / "f").read_bytes() == b"x" * 513


def test_a_tar_that_ends_within_its_last_content_is_cut_short(ground: Ground) -> None:
    """By one byte."""
    ends = Tar().add("a").add("f", content=b"x" * 513).end().rstrip(b"\0")
    write_layout(ground.layout, [layer(ends[:-1])])
    with pytest.raises(PipelineError, match="entry f is cut short"):
        ground.unpack()


def test_last_of_duplicates_wins(ground: Ground) -> None:
    """As in every other unpacker."""
    CASES["duplicates"].write(ground.layout, ground.outside)
    ground.unpack()
    assert (ground.rootfs / "f").read_bytes() == b"last!"


def test_upper_layer_replaces_content_of_any_size(ground: Ground) -> None:
    """The token that counts is the last layer's."""
    sizes = (0, 1, 23, 24, 25, 4096, 70_000)
    low, high = Tar(), Tar()
    for number, size in enumerate(sizes):
        low.add(f"f{number}", content=b"a" * sizes[-1 - number])
        high.add(f"f{number}", content=b"b" * size)
    write_layout(ground.layout, [layer(low), layer(high)])
    ground.unpack()
    assert [(ground.rootfs / f"f{number}").read_bytes() for number in range(7)] == [b"b" * s for s in sizes]


def test_privileges_are_taken_and_listed(ground: Ground) -> None:
    """Set-id bits and capabilities go, and the receipt says from what."""
    tar = Tar().add("bin/su", content=b"x", mode=0o4755).link("sbin", "bin")
    tar.hard("bin/su2", "bin/su").dir("d", 0o2755)
    write_layout(ground.layout, [layer(tar), *CASES["capabilities"].layers("")])
    facts = ground.unpack().to_facts()
    listed = [(file["path"], file["mode"], bool(file["capabilities"])) for file in facts["privileged_files"]]
    assert listed == [("/bin/su", "4755", False), ("/bin/su2", "4755", False), ("/ping", "0755", True)]
    assert not (ground.rootfs / "bin/su").stat().st_mode & 0o6000
    assert os.listxattr(ground.rootfs / "ping") == []


def test_privileges_stay_where_the_spec_keeps_them(ground: Ground) -> None:
    """`keep_privileged_files` works through links of the image; what it names in vain is told."""
    tar = (
        Tar()
        .add("bin/su", content=b"x", mode=0o4755)
        .link("sbin", "/bin")
        .add("bin/mount", content=b"x", mode=0o4755)
    )
    write_layout(ground.layout, [layer(tar), *CASES["capabilities"].layers("")])
    facts = ground.unpack(keep=("/ping", "/sbin/su", "/nowhere")).to_facts()
    assert [file["path"] for file in facts["privileged_files"] if file["kept"]] == ["/bin/su", "/ping"]
    assert facts["keep_not_found"] == ["/nowhere"]
    assert stat.S_IMODE((ground.rootfs / "bin/su").stat().st_mode) == 0o4755
    assert stat.S_IMODE((ground.rootfs / "bin/mount").stat().st_mode) == 0o755
    assert "security.capability" in os.listxattr(ground.rootfs / "ping")


def test_devices_and_xattrs_are_listed(ground: Ground) -> None:
    """What was left out is known."""
    device = Tar().add("dev/mem", b"3", devmajor=1, devminor=1).hard("m", "dev/mem")
    write_layout(ground.layout, [layer(device), *CASES["xattrs"].layers(""), *CASES["fifo"].layers("")])
    facts = ground.unpack().to_facts()
    assert facts["dropped_devices"] == {"dev/mem": "c 1:1", "m": "hard link to dev/mem"}
    dropped = ("security.selinux", "system.posix_acl_access", "trusted.overlay.opaque")
    assert facts["dropped_xattrs"] == dict.fromkeys(dropped, 1)
    assert facts["fifos"] == ["pipe"]
    assert os.listxattr(ground.rootfs / "f") == ["user.mine"]


def test_host_mapping_keeps_ids(ground: Ground) -> None:
    """Without a user namespace an id is itself, however large."""
    write_layout(ground.layout, [layer(Tar().add("f", uid=3_000_000, gid=70_000))])
    ground.unpack(mapping=IdMap.identity())
    status = (ground.rootfs / "f").stat()
    assert (status.st_uid, status.st_gid) == (3_000_000, 70_000)


def test_missing_blob_is_named(ground: Ground) -> None:
    """A layer that is not there is told from one that is wrong."""
    write_layout(ground.layout, [blob := layer(Tar().add("f"))])
    (ground.layout / "blobs/sha256" / sha256(blob.content)[7:]).unlink()
    with pytest.raises(PipelineError, match="cannot be read: No such file or directory"):
        ground.unpack()


def test_blob_that_is_a_link_is_not_followed(ground: Ground) -> None:
    """The store has files; a link would lead anywhere."""
    write_layout(ground.layout, [blob := layer(Tar().add("f"))])
    stored = ground.layout / "blobs/sha256" / sha256(blob.content)[7:]
    stored.rename(ground.outside.parent / "elsewhere")
    stored.symlink_to(ground.outside.parent / "elsewhere")
    with pytest.raises(PipelineError, match="cannot be read: Too many levels of symbolic links"):
        ground.unpack()


def test_limits_come_from_the_environment() -> None:
    """Each is raised by its variable; anything but a number is refused."""
    assert Limits.from_environment({"COOPERAGE_LIMIT_ENTRIES": "7"}).entries == 7
    assert Limits.from_environment({}) == Limits()
    with pytest.raises(PipelineError, match=r"COOPERAGE_LIMIT_RATIO=many is not a limit"):
        Limits.from_environment({"COOPERAGE_LIMIT_RATIO": "many"})


def test_the_limit_s_error_says_how_to_raise_it(ground: Ground) -> None:
    """The help line can be pasted."""
    CASES["entries"].write(ground.layout, ground.outside)
    with pytest.raises(PipelineError) as caught:
        ground.unpack(Limits(entries=40))
    assert "COOPERAGE_LIMIT_ENTRIES=80 doit" in str(caught.value)
