"""An archive gives its layout and nothing else, within limits."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.oci.archive import extract
from pipeline.oci.limits import Limits

BLOB = "blobs/sha256/" + "a" * 64
LIMITS = replace(Limits(), entries=20, total_bytes=10 << 20)
Tar = tarfile.TarFile


def add(tar: Tar, name: str, content: bytes = b"{}", **fields: Any) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for field, value in fields.items():
        setattr(entry, field, value)
    tar.addfile(entry, io.BytesIO(content))


def layout(tar: Tar) -> None:
    for name in ("oci-layout", "index.json", BLOB):
        add(tar, name)


def extracted(
    tmp_path: Path, fill: Callable[[Tar], None], mode: str = "w", limits: Limits = LIMITS
) -> list[str]:
    with tarfile.open(tmp_path / "x.tar", mode) as tar:  # type: ignore[call-overload]
        fill(tar)
    extract(tmp_path / "x.tar", tmp_path / "out", limits)
    return sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_layout_comes_out_whatever_packs_it(tmp_path: Path, mode: str) -> None:
    content = os.urandom(5 << 20)

    def fill(tar: Tar) -> None:
        add(tar, "./", b"", type=tarfile.DIRTYPE)
        add(tar, "./oci-layout")
        add(tar, "index.json")
        add(tar, BLOB, content)

    assert extracted(tmp_path, fill, mode) == [BLOB, "index.json", "oci-layout"]
    assert (tmp_path / "out" / BLOB).read_bytes() == content


def test_what_is_no_part_of_a_layout_is_left(tmp_path: Path) -> None:
    """Wherever it would go: it is never written."""

    def fill(tar: Tar) -> None:
        layout(tar)
        add(tar, "../outside")
        add(tar, "/absolute")
        add(tar, "blobs/sha256/../../x")
        add(tar, "manifest.json")
        add(tar, "blobs/sha512/" + "a" * 128)
        add(tar, "link", b"", type=tarfile.SYMTYPE, linkname="/etc")

    assert extracted(tmp_path, fill) == [BLOB, "index.json", "oci-layout"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.tar"]


def many(tar: Tar) -> None:
    for number in range(21):
        add(tar, str(number))


def large(tar: Tar) -> None:
    add(tar, BLOB, bytes(10 << 20))
    add(tar, "one more", b"x")


def large_and_left(tar: Tar) -> None:
    add(tar, "other", bytes((10 << 20) + 1))


def long_header(tar: Tar) -> None:
    add(tar, BLOB, pax_headers={"comment": "x" * (2 << 20)})


def twice(tar: Tar) -> None:
    layout(tar)
    add(tar, BLOB)


@pytest.mark.parametrize(
    ("fill", "code", "said"),
    [
        (many, "limit-entries", "has more than 20 entries"),
        (large, "limit-total", "has more than 10485760 bytes"),
        (large_and_left, "limit-total", "has more than 10485760 bytes"),
        (long_header, "bad-archive", "cannot be read as an archive: "),
        (twice, "bad-archive", f"has {BLOB} twice"),
        (
            lambda tar: add(tar, BLOB, b"", type=tarfile.SYMTYPE, linkname="/etc/shadow"),
            "bad-archive",
            f"has {BLOB} as something else than a plain file",
        ),
        (
            lambda tar: add(tar, "index.json", bytes((4 << 20) + 1)),
            "bad-archive",
            "has index.json of 4194305 bytes, more than 4194304",
        ),
    ],
    ids=["many", "large", "large-and-left", "long-header", "twice", "link", "large-index"],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_refused(tmp_path: Path, fill: Callable[[Tar], None], mode: str, code: str, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        extracted(tmp_path, fill, mode)
    assert caught.value.code == code
    assert said in caught.value.message
    assert str(tmp_path / "x.tar") in caught.value.message
    assert caught.value.hint


def test_the_limits_are_exact(tmp_path: Path) -> None:
    def fill(tar: Tar) -> None:
        for number in range(19):
            add(tar, str(number), b"")
        add(tar, BLOB, bytes(10 << 20))

    assert extracted(tmp_path, fill) == [BLOB]


def test_what_the_disk_cannot_hold_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk cannot be had here without one of its own."""
    monkeypatch.setattr("pipeline.oci.archive.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1})())
    with pytest.raises(PipelineError) as caught:
        extracted(tmp_path, layout)
    assert caught.value.code == "copy-no-space"
    assert "2 bytes are to come and the disk has 1 left" in caught.value.message


def test_damaged_packing_is_told(tmp_path: Path) -> None:
    """zlib's own error is none of OSError."""
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        add(tar, BLOB, os.urandom(100_000).hex().encode())
    content = bytearray((tmp_path / "x.tar").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(PipelineError, match="cannot be read as an archive"):
        extract(tmp_path / "x.tar", tmp_path / "out", LIMITS)
