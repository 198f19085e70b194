"""`unpack` when things go wrong: kill -9, full disks, a umoci that fails, hangs or lies, hostile accounts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import scan_tree, tree_digest
from pipeline.oci.users import resolve_user
from tests.evil_images import Tar, layer
from tests.real.unpack_shop import Shop

pytestmark = [pytest.mark.real, pytest.mark.root]
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A project with a small image."""
    made = Shop(tmp_path)
    made.image([layer(Tar().add("usr/bin/tool", content=b"tool"))])
    return made


def _large() -> Tar:
    random.seed(1)
    tar = Tar()
    for number in range(1000):
        tar.add(f"d{number % 30}/f{number}", content=random.randbytes(5000))
    return tar


@pytest.mark.parametrize(
    "phase", ["tars", "tars/0.tar", "skeleton", "rootfs", "rootfs/d9", "rootfs/proc", "tree.json"]
)
def test_killed_and_run_again(tmp_path: Path, phase: str, large_digest: str) -> None:
    """kill -9 at any moment: no process stays, and the next run makes the same bundle."""
    shop = Shop(tmp_path)
    shop.image([layer(_large())])
    shop.write_spec()
    _kill_at(shop, phase)
    assert not shop.paths.receipt("unpack").exists() or shop.receipt()["digest"] == large_digest
    _wait_for_silence(str(tmp_path))
    shop.engine({}).sweep()
    assert list(shop.project.tmp.iterdir()) == []
    shop.build()
    assert shop.receipt()["digest"] == large_digest == tree_digest(scan_tree(shop.rootfs))


@pytest.fixture(scope="module")
def large_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an undisturbed run makes of the large image."""
    shop = Shop(tmp_path_factory.mktemp("large"))
    shop.image([layer(_large())])
    shop.build()
    return str(shop.receipt()["digest"])


def _kill_at(shop: Shop, phase: str) -> None:
    root = shop.project.root
    argv = [sys.executable, "-m", "tests.real.unpack_shop", str(root)]
    with subprocess.Popen(argv, cwd=PROJECT, start_new_session=True) as process:
        while process.poll() is None and not list(shop.project.tmp.glob(f"*/{phase}")):
            time.sleep(0.001)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for_silence(word: str) -> None:
    """No process works in the folder `word`: children die with their parent."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not [pid for pid in os.listdir("/proc") if pid.isdigit() and _works_in(pid, word)]:
            return
        time.sleep(0.05)
    pytest.fail(f"a process still works in {word}")


def _works_in(pid: str, word: str) -> bool:
    try:
        return pid != str(os.getpid()) and str(Path(f"/proc/{pid}/cwd").readlink()).startswith(word)
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("copies", "inodes"), [(2, 0), (1, 0), (1, 200)], ids=["inflating", "filling", "umoci"]
)
def test_full_disk(small_disk: Path, copies: int, inodes: int) -> None:
    """No space left: said as such, nothing half-made stays, and with room it works."""
    shop = Shop(small_disk)
    content = random.randbytes(9 << 20)
    many = Tar()
    for number in range(500 if inodes else 0):
        many.add(f"many/{number}", content=b"x")
    shop.image([*(layer(Tar().add(f"f{n}", content=content)) for n in range(copies)), layer(many)])
    if inodes:
        subprocess.run(["mount", "-o", f"remount,size=48m,nr_inodes={inodes}", small_disk], check=True)
    with pytest.raises(PipelineError) as caught:
        shop.build()
    assert caught.value.code == "no-space"
    assert "no space left" in caught.value.message
    assert list(shop.project.tmp.iterdir()) == []
    assert not shop.paths.receipt("unpack").exists()
    subprocess.run(["mount", "-o", "remount,size=128m,nr_inodes=10000", small_disk], check=True)
    shop.build()
    assert (shop.rootfs / "f0").read_bytes() == content


def _fake_umoci(folder: Path, script: str) -> str:
    (folder / "fake").mkdir()
    program = folder / "fake/umoci"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec echo "umoci version 0"\n{script}\n')
    program.chmod(0o755)
    return f"{folder / 'fake'}:{os.environ['PATH']}"


def test_a_crash_of_umoci_shows_no_trace(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has it; the user is told that it crashed and where to look."""
    trace = "panic: runtime error: index out of range [1]\\n\\ngoroutine 1 [running]:\\nmain.main()\\n"
    monkeypatch.setenv("PATH", _fake_umoci(tmp_path, f'printf "{trace}" >&2; exit 2'))
    with pytest.raises(PipelineError) as caught:
        shop.build()
    assert str(caught.value).splitlines() == [
        "error[umoci-failed]: umoci exited 2 while unpacking",
        "  it crashed",
        f"  help: the whole output is in {shop.paths.log('unpack')}",
    ]
    assert "goroutine 1 [running]" in shop.paths.log("unpack").read_text()


def test_umoci_that_hangs_is_stopped(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is a limit like the others."""
    monkeypatch.setenv("PATH", _fake_umoci(tmp_path, "sleep 60"))
    monkeypatch.setenv("COOPERAGE_LIMIT_SECONDS", "1")
    with pytest.raises(PipelineError, match="umoci did not end within 1 s and was stopped"):
        shop.build()


def test_umoci_that_adds_something_is_caught(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the rootfs must come from the layers that were scanned."""
    monkeypatch.setenv("PATH", _fake_umoci(tmp_path, "mkdir rootfs; echo evil > rootfs/x"))
    with pytest.raises(PipelineError, match="/x in the rootfs holds something that no layer has"):
        shop.build()


def test_account_files_are_not_read_while_unpacking(shop: Shop, tmp_path: Path) -> None:
    """`umoci unpack` follows a link to the host and hangs on a FIFO; here neither happens."""
    (tmp_path / "passwd").write_text("evil:x:4242:4242::/:/bin/sh\n")
    shop.image([layer(Tar().link("etc/passwd", f"{tmp_path}/passwd"))], {"User": "evil"})
    shop.build()
    with pytest.raises(PipelineError, match="user `evil` is not in /etc/passwd of the image"):
        resolve_user(shop.rootfs, "evil")
    shop.image(
        [layer(Tar().add("etc/passwd", b"6").add("etc/group", content=b"x" * (17 << 20)))], {"User": "evil"}
    )
    shop.build()
    with pytest.raises(PipelineError, match="/etc/group in the rootfs has 17825792 bytes; at most"):
        resolve_user(shop.rootfs, "evil")
    (shop.rootfs / "etc/group").unlink()
    with pytest.raises(PipelineError, match="/etc/passwd in the rootfs is a FIFO"):
        resolve_user(shop.rootfs, "evil")
