"""Which question a bundle is asked, how long, and that it is asked in the container's network alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize(
    ("image", "shell"),
    [
        (IMAGE, ("/bin/sh", "-c")),
        (None, ("/bin/sh", "-c")),
        ({**IMAGE, "shell": ["/bin/bash", "-eo", "pipefail", "-c"]}, ("/bin/bash", "-eo", "pipefail", "-c")),
    ],
)
def test_a_shell_line(image: dict[str, Any] | None, shell: tuple[str, ...]) -> None:
    """CMD-SHELL is run by the image's SHELL, which is /bin/sh -c unless it says so."""
    check = choose(Healthcheck(test=("CMD-SHELL", "true | cat")), image, (), ())
    assert check.test == (*shell, "true | cat")
    own = {**(image or {}), "test": ["CMD-SHELL", "up"]}
    assert choose(None, own, (), ()).test == (*shell, "up")


ENDLESS = {"test": ["CMD", "no"], "interval_s": 1e18, "retries": 10**6, "start_period_s": 1e18}


@pytest.mark.parametrize(
    ("spec", "image", "patience_s"),
    [
        (None, ENDLESS, 600.0),
        (None, {**ENDLESS, "start_period_s": None}, 300.0),
        (Healthcheck(retries=10), ENDLESS, 600.0),
        (Healthcheck(start_period_s=900.0), {**ENDLESS, "interval_s": 10.0, "retries": 3}, 930.0),
        (Healthcheck(interval_s=1000.0), ENDLESS, 1300.0),
        (Healthcheck(interval_s=1000.0, retries=10, start_period_s=5000.0), ENDLESS, 15000.0),
        (None, {"test": ["CMD", "no"], "interval_s": 60.0, "retries": 5}, 300.0),
        (None, {"test": ["CMD", "no"], "interval_s": -5.0, "retries": -1}, 90.0),
    ],
)
def test_an_image_may_not_ask_for_endless_patience(
    spec: Healthcheck | None, image: dict[str, Any], patience_s: float
) -> None:
    """5 min for what it says of start and retries; what the spec itself says is meant so."""
    assert choose(spec, image, (), ()).patience_s == patience_s


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        (Healthcheck(disable=True), IMAGE),
        (Healthcheck(disable=True), None),
        (None, {"test": ["NONE"]}),
        (Healthcheck(interval_s=1.0), {"test": ["NONE"]}),
        (Healthcheck(test=("NONE",)), IMAGE),
    ],
)
def test_a_health_check_that_is_switched_off(spec: Healthcheck | None, image: dict[str, Any] | None) -> None:
    """Then nothing is asked, not even a port that there is."""
    assert choose(spec, image, (port(80),), ("1/tcp",)) == Check()
    assert choose(Healthcheck(tcp=90), image, (port(80),), ()).port == 90


@pytest.mark.parametrize(
    ("spec", "image"), [(None, None), (Healthcheck(interval_s=1.0), {}), (None, {"test": []})]
)
def test_no_health_check(spec: Healthcheck | None, image: dict[str, Any] | None) -> None:
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


def test_words_of_a_container_are_fit_for_a_terminal() -> None:
    """In the question, which may be the image's, and in the answer."""
    assert str(Check(test=("up", "\x1b[2J"))) == r"exec up \x1b[2J"

    class Rude(Program):
        def exec(self, args: list[str], timeout_s: float) -> Result:
            return Result(tuple(args), 1, "", "no\x1b[31m\n", 0.0)

    assert probe.ask(ASK, Rude([]), 1.0).words == r"exit 1: no\x1b[31m"


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


@pytest.fixture
def answering(server: tuple[int, int]) -> Iterator[Callable[[str], int]]:
    """Start a server in that namespace: a line of shell for each connection; returns its port."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(script: str) -> int:
        number = 18090 + len(started)
        argv = ["nsenter", f"--net=/proc/{server[0]}/ns/net", "busybox", "nc", "-ll", "-p", str(number)]
        # A server that leaves a request unread resets the connection, and its answer with it.
        whole = f'while read -r line && [ "${{#line}}" -gt 1 ]; do :; done; {script}'
        started.append(subprocess.Popen([*argv, "-e", "sh", "-c", whole], start_new_session=True))
        assert wait_until_ready(Check(port=number, patience_s=10.0), Served(server[0])).ok
        return number

    yield serve
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


ANSWERS = {
    "a byte now and then": (
        "printf 'HTTP/1.1 200 OK\\r\\n'; while printf x; do sleep 0.1; done",
        (False, "no answer within 0.5 s"),
    ),
    "a head without end": (
        "printf 'HTTP/1.1 200 OK\\r\\nX: '; exec tr '\\0' x < /dev/zero",
        (False, "more than 64 KiB before the end of the HTTP headers"),
    ),
    "a body without end": ("printf 'HTTP/1.1 200 OK\\r\\n\\r\\n'; exec cat /dev/zero", (True, "200 OK")),
    "interim answers": (
        "printf 'HTTP/1.1 100 Continue\\r\\n\\r\\nHTTP/1.1 103 Hints\\r\\nLink: x\\r\\n\\r\\n'; "
        "sleep 0.1; printf 'HTTP/1.1 204 None\\r\\n\\r\\n'",
        (True, "204 None"),
    ),
    "in pieces": (
        "printf 'HTTP/1.0 20'; sleep 0.1; printf '0 OK\\r\\nA: b\\r'; sleep 0.1; printf '\\n\\r\\n'",
        (True, "200 OK"),
    ),
    "no end of the head": ("printf 'HTTP/1.0 200 OK\\r\\nA: b'", (True, "200 OK")),
    "rude words": ("printf 'HTTP/1.1 500 \\033[31mno\\r\\n\\r\\n'", (False, r"500 \x1b[31mno")),
    "not HTTP": ("printf 'SSH-2.0-\\033[31m\\r\\n\\r\\n'", (False, r"SSH-2.0-\x1b[31m")),
    "nothing": ("true", (False, "Remote end closed connection without response")),
}


@pytest.mark.root
@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS)
def test_each_kind_of_answer(
    server: tuple[int, int], answering: Callable[[str], int], case: tuple[str, tuple[bool, str]]
) -> None:
    """One time limit for all of it, one size, and words that a terminal can take."""
    script, expected = case
    check = Check(http_path="/", port=answering(script))
    # The time limit is what one case is about; elsewhere it must not matter.
    answer = probe.ask(check, Served(server[0]), 0.5 if "0.5" in expected[1] else 20.0)
    assert (answer.ok, answer.words) == expected


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
