"""The demo image: the same every time, and it stops when told."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform
from pipeline.oci.layout import read_image
from pipeline.tools import umoci_demo
from tests.copying import (
    HERE,
    Place,
    await_true,
    children_of,
    layer_of,
    temporary_place,
)

pytestmark = pytest.mark.real


@pytest.fixture
def place() -> Iterator[Place]:
    with temporary_place() as made:
        yield made


def test_the_demo_image_is_the_same_every_time(place: Place) -> None:
    first = place.copy("demo:busybox-httpd")
    time.sleep(1.1)
    second = place.copy("demo:busybox-httpd")
    assert first.manifest == second.manifest
    config = read_image(place.image, HERE).config
    assert (config.user, config.entrypoint, config.command) == (
        "65532:65532",
        ("/bin/serve",),
        ("-p", "8080"),
    )
    assert (config.exposed_ports, config.stop_signal) == (("8080/tcp",), "SIGTERM")
    assert config.healthcheck is not None
    assert config.healthcheck.test[:2] == ("CMD", "/bin/busybox")
    assert (config.healthcheck.interval_s, config.healthcheck.retries) == (10, 3)


def test_the_demo_for_another_platform_is_refused(place: Place) -> None:
    with pytest.raises(PipelineError, match="demo:busybox-httpd has no image for linux/s390x"):
        place.copy("demo:busybox-httpd", platform=Platform.parse("linux/s390x"))


def test_a_dynamic_busybox_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.project.root / "bin"
    folder.mkdir()
    shutil.copy(shutil.which("umoci") or "", folder / "busybox")
    shutil.copy("/bin/ls", folder / "busybox")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(PipelineError) as caught:
        place.copy("demo:busybox-httpd", "absent")
    assert caught.value.code == "dynamic-busybox"
    assert "apt install busybox-static" in str(caught.value)


@pytest.mark.root
def test_the_demo_serves_as_pid_1_and_stops_when_told(place: Place) -> None:
    place.copy("demo:busybox-httpd")
    rootfs = place.project.root / "rootfs"
    image = read_image(place.image)
    rootfs.mkdir()
    subprocess.run(["tar", "-xpf", image.blob(layer_of(image)), "-C", rootfs], check=True)
    (rootfs / "dev").mkdir()
    os.mknod(rootfs / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    port = "18273"
    argv = [
        "unshare",
        "--pid",
        "--net",
        "--fork",
        "--kill-child",
        "chroot",
        str(rootfs),
        "/bin/serve",
        "-p",
        port,
    ]
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_true(lambda: len(children_of(running.pid)) == 1)
        (first,) = children_of(running.pid)
        await_true(lambda: len(children_of(int(first))) == 1)
        enter = ["nsenter", "--net", "--target", first, "busybox"]
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        await_true(lambda: "Hello" in fetch(enter, port))
        os.kill(int(first), signal.SIGTERM)
        assert running.wait(5) == 0
    finally:
        running.kill()
        running.wait()


def fetch(enter: list[Any], port: str) -> str:
    argv = [*enter, "wget", "-q", "-O", "-", f"http://127.0.0.1:{port}/"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=10).stdout


def test_the_demo_needs_no_clock(place: Place) -> None:
    """What identifies the demo image is busybox and the code, and nothing of when it was made."""
    first = umoci_demo.demo_identity(lambda path: "sha256:0")
    time.sleep(0.01)
    assert umoci_demo.demo_identity(lambda path: "sha256:0") == first
    assert umoci_demo.demo_identity(lambda path: "sha256:1") != first
