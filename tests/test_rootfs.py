"""Look-ups in a rootfs: nothing leads out, nothing hangs; by openat2 and by name alike."""

from __future__ import annotations

import os
import socket
import stat as status_bits
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.oci import rootfs as module
from pipeline.oci.rootfs import read_file, realpath, resolve, stat


@pytest.fixture(params=["openat2", "by name"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A rootfs with links of every kind, beside a secret."""
    if request.param == "by name":
        monkeypatch.setattr(module, "_has_openat2", lambda: False)
    else:
        assert module._has_openat2(), "this kernel has no openat2(2)"
    (tmp_path / "secret").write_text("secret")
    top = tmp_path / "rootfs"
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/bin/tool").write_text("#!")
    (top / "usr/bin/tool").chmod(0o755)
    (top / "usr/data").write_text("data")
    for name, target in {
        "bin": "usr/bin",
        "abs": "/usr/data",
        "out": "../secret",
        "far": "../" * 40 + "usr/data",
        "host": str(tmp_path / "secret"),
        "loop": "loop",
        "dangling": "/nowhere/x",
        "up": "/proc/self/root",
    }.items():
        (top / name).symlink_to(target)
    return top


def test_links_resolve_inside(root: Path) -> None:
    """A link is read as the container would read it."""
    assert read_file(root, "/abs", 100) == b"data"
    assert read_file(root, "far", 100) == b"data"
    assert read_file(root, "/usr/bin/../../../../usr/data", 100) == b"data"
    assert realpath(root, "/bin//tool") == "/usr/bin/tool"
    assert realpath(root, "/") == "/"
    assert stat(root, "/bin/tool").st_mode & 0o111


@pytest.mark.parametrize("path", ["/out", "/host", "/../secret", "/up/etc/passwd", "/up"])
def test_nothing_leads_out(root: Path, path: str) -> None:
    """What the host has is not there."""
    with pytest.raises(FileNotFoundError):
        read_file(root, path, 100)


def test_magic_links_of_proc_are_not_followed(tmp_path: Path) -> None:
    """Even where the host's /proc lies in the rootfs, /proc/self/root is no way out."""
    with pytest.raises(OSError, match="symbolic links"):
        read_file(Path("/"), "/proc/self/root/etc/hostname", 1000)


def test_what_is_not_there(root: Path) -> None:
    """Absent, dangling and circular are all nothing; a way through a file is none."""
    for path in ("/no", "/dangling", "/loop", "/usr/data/x", "/a\0b"):
        with pytest.raises(OSError, match=r"^\[Errno "):
            stat(root, path)
    assert status_bits.S_ISLNK(stat(root, "/dangling", follow=False).st_mode)
    assert status_bits.S_ISDIR(stat(root, "/bin").st_mode)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [(_fifo, "is a FIFO"), (_socket, "is a socket"), (Path.mkdir, "is a directory")],
    ids=["fifo", "socket", "folder"],
)
def test_only_regular_files_are_read(root: Path, make: Callable[[Path], None], said: str) -> None:
    """A FIFO would hang for ever, a device do anything."""
    make(root / "odd")
    with pytest.raises(PipelineError) as caught:
        read_file(root, "/odd", 100)
    assert (caught.value.code, f"/odd in the rootfs {said}, not a regular file") == (
        "unsafe-file",
        caught.value.message,
    )


def test_a_long_file_is_refused(root: Path) -> None:
    """The limit is exact."""
    assert read_file(root, "/usr/data", 4) == b"data"
    with pytest.raises(PipelineError, match="/usr/data in the rootfs has 4 bytes; at most 3 are read"):
        read_file(root, "/usr/data", 3)


def test_resolve_of_what_is_not_there_yet(root: Path) -> None:
    """The way to a new mount point follows links that exist and keeps the rest as it is."""
    assert resolve(root, "/bin/new/x") == "/usr/bin/new/x"
    assert resolve(root, "/out") == "/secret"
    assert resolve(root, "/dangling") == "/nowhere/x"
    assert resolve(root, "/new/../../..") == "/"
    with pytest.raises(NotADirectoryError):
        resolve(root, "/usr/data/x")
    with pytest.raises(OSError, match="symbolic links"):
        resolve(root, "/loop/x")
