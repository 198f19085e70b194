"""Which question a bundle is asked, how long, and that it is asked in the container's network alone."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import netns, probe
from pipeline.model.bundle import Healthcheck, HttpProbe, Port
from pipeline.probe import Check, choose, wait_until_ready
from pipeline.run import Result, ToolFailed

IMAGE = {
    "test": ["CMD", "curl", "x"],
    "interval_s": 5.0,
    "timeout_s": 2.0,
    "start_period_s": 1.0,
    "retries": 2,
}


def port(number: int, protocol: Any = "tcp") -> Port:
    """A published port."""
    return Port(host_ip="127.0.0.1", host_port=1, container_port=number, protocol=protocol)


def test_docker_defaults() -> None:
    """30 s between questions, 30 s for an answer, 3 failures."""
    assert choose(Healthcheck(tcp=80), None, (), ()) == Check(port=80, timeout_s=30.0, patience_s=90.0)


def test_the_spec_wins_over_the_image_key_by_key() -> None:
    """What the spec leaves out, the image says."""
    check = choose(Healthcheck(http=HttpProbe(port=80, path="/up"), retries=4), IMAGE, (), ())
    assert check == Check(http_path="/up", port=80, timeout_s=2.0, patience_s=21.0)
    assert str(check) == "GET http://127.0.0.1:80/up"


def test_the_image_alone() -> None:
    """Its HEALTHCHECK as it is."""
    assert choose(None, IMAGE, (), ()) == Check(test=("curl", "x"), timeout_s=2.0, patience_s=11.0)


def test_a_shell_line() -> None:
    """CMD-SHELL means /bin/sh -c."""
    check = choose(Healthcheck(test=("CMD-SHELL", "true | cat")), IMAGE, (), ())
    assert check.test == ("/bin/sh", "-c", "true | cat")


@pytest.mark.parametrize(
    ("spec", "image"),
    [(Healthcheck(disable=True), IMAGE), (None, {"test": ["NONE"]}), (Healthcheck(test=("NONE",)), IMAGE)],
)
def test_no_health_check(spec: Healthcheck | None, image: dict[str, Any]) -> None:
    """Then the first TCP port must answer, or without one the program go on for a moment."""
    assert choose(spec, image, (), ()) == Check()
    assert choose(spec, image, (port(53, "udp"), port(80)), ("1/tcp",)).port == 80
    assert choose(spec, image, (), ("53/udp", "8000-8005/tcp")).port == 8000
    assert choose(spec, image, (), ("8080",)).port == 8080


class Program:
    """A container that answers as told and counts its questions."""

    def __init__(self, codes: list[int], ends_after: int | None = None) -> None:
        self.pid = os.getpid()
        self.codes = codes
        self.asked = 0
        self.ends_after = ends_after

    def exec(self, args: list[str], timeout_s: float) -> Result:
        """Answer with the next code; the last one for ever; -1 never answers."""
        code = self.codes[min(self.asked, len(self.codes) - 1)]
        self.asked += 1
        result = Result(tuple(args), code, "", "not yet\n", 0.0)
        if code == -1:
            raise ToolFailed(result, "late")
        return result

    def wait(self, timeout_s: float) -> object | None:
        """Ended after so many questions."""
        return True if self.ends_after is not None and self.asked >= self.ends_after else None


ASK = Check(test=("up",), patience_s=0.05)


def test_asked_again_until_ready() -> None:
    """A bad answer counts only when time is up."""
    ready = wait_until_ready(Check(test=("up",), patience_s=60.0), Program([1, 1, 0]))
    assert (ready.ok, ready.answer, ready.tries) == (True, "exit 0", 3)


def test_patience_ends() -> None:
    """With the last answer."""
    ready = wait_until_ready(ASK, Program([1]))
    assert (ready.ok, ready.answer, ready.ended) == (False, "exit 1: not yet", False)


def test_the_program_ends_first() -> None:
    """Known at once, not when time is up."""
    ready = wait_until_ready(Check(test=("up",), patience_s=3600.0), Program([1], ends_after=1))
    assert (ready.ok, ready.ended, ready.tries) == (False, True, 1)


def test_a_good_answer_of_a_program_that_ended_is_none() -> None:
    """It must be running when it is called ready."""
    ready = wait_until_ready(ASK, Program([0], ends_after=1))
    assert (ready.ok, ready.ended) == (False, True)


def test_no_answer() -> None:
    """A question that hangs is a bad answer."""
    assert "no end within" in wait_until_ready(ASK, Program([-1])).answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """busybox httpd in a network namespace of its own: its process, and its port."""
    own = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    (tmp_path / "index.html").write_text("hello\n")
    serve = f"busybox ip link set lo up && echo up && exec busybox httpd -f -p 18081 -h {tmp_path}"
    process = subprocess.Popen(["unshare", *own, "sh", "-c", serve], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process.pid, 18081
    process.kill()
    process.communicate()


class Served(Program):
    """A program that is asked over its network."""

    def __init__(self, pid: int) -> None:
        super().__init__([])
        self.pid = pid

    def wait(self, timeout_s: float) -> object | None:
        """It runs."""
        threading.Event().wait(timeout_s)
        return None


def test_http_inside_the_network_namespace(server: tuple[int, int]) -> None:
    """Answers from inside, with the status."""
    pid, number = server
    ready = wait_until_ready(Check(http_path="/", port=number, patience_s=10.0), Served(pid))
    assert (ready.ok, ready.answer) == (True, "200 OK")
    found = probe.ask(Check(http_path="/nothing", port=number), Served(pid), 5.0)
    assert (found.ok, found.words) == (False, "404 Not Found")


def test_tcp_inside_the_network_namespace_only(server: tuple[int, int]) -> None:
    """The port is open there and shut here, and this process has not moved."""
    pid, number = server
    here = Path("/proc/self/ns/net").stat().st_ino
    assert wait_until_ready(Check(port=number, patience_s=10.0), Served(pid)).ok
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", number), 1):
        pass
    assert Path("/proc/thread-self/ns/net").stat().st_ino == here


def test_the_host_is_not_reachable_from_there(server: tuple[int, int]) -> None:
    """A port that listens here is refused there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.getsockname()[1]
        answer = probe.ask(Check(port=number), Served(server[0]), 1.0)
        assert (answer.ok, answer.words) == (False, "Connection refused")


def test_many_at_once_leave_no_descriptor_and_no_child(server: tuple[int, int]) -> None:
    """Each question forks; nothing piles up."""
    pid, number = server
    assert wait_until_ready(Check(port=number, patience_s=10.0), Served(pid)).ok
    before = len(list(Path("/proc/self/fd").iterdir()))

    def connect() -> None:
        for _ in range(10):
            netns.connect(pid, number, 5.0).close()

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_process_that_is_gone() -> None:
    """A bad answer, no failure."""
    answer = probe.ask(Check(port=80), Served(2**22 + 1), 1.0)
    assert (answer.ok, answer.words) == (False, "No such file or directory")
