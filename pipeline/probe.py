"""Is the program in a container ready? Ask it as its health check says, from inside its own network."""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from pipeline import netns
from pipeline.model.bundle import Healthcheck, Port
from pipeline.run import Result, ToolFailed
from pipeline.tools.runtimes.crash import printable

# Docker's defaults for HEALTHCHECK.
_INTERVAL_S = 30.0
_TIMEOUT_S = 30.0
_RETRIES = 3
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_SETTLE_S = 0.5
_PORT_PATIENCE_S = 30.0
_HTTP_OK = range(200, 400)
_MOST_PATIENCE_FOR_AN_IMAGE_S = 300.0
_SAID_MAX = 200
_MAX_HEAD_BYTES = 64 << 10
_PIECE_BYTES = 4 << 10
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_HEAD_END_BYTES = 4
_INTERIM = re.compile(rb"HTTP/1\.\d 1\d\d")  # RFC 9110, 15.2: any number of them may come first
_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True)
class Check:
    """How to ask, and how long to go on. Without `test`, `http_path` and `port`: does it run at all?"""

    test: tuple[str, ...] = ()
    http_path: str | None = None
    port: int | None = None
    timeout_s: float = _TIMEOUT_S
    patience_s: float = _SETTLE_S

    def __str__(self) -> str:
        if self.test:
            return printable("exec " + " ".join(self.test))
        if self.http_path is not None:
            return printable(f"GET http://127.0.0.1:{self.port}{self.http_path}")
        return f"connect to tcp port {self.port}" if self.port else f"still running after {_SETTLE_S:g} s"


@dataclass(frozen=True)
class Answer:
    """What one question brought."""

    ok: bool
    words: str


@dataclass(frozen=True)
class Ready:
    """The end of waiting: the last answer of `tries`; `ended` when the program ended before a good one."""

    check: Check
    ok: bool
    answer: str
    tries: int
    ended: bool = False


class Subject(Protocol):
    """What is asked: a running container."""

    pid: int

    def exec(self, args: list[str], timeout_s: float) -> Result:
        """Run a command in it."""

    def wait(self, timeout_s: float) -> object | None:
        """Return something when its program has ended within that time."""


def choose(
    spec: Healthcheck | None, image: Mapping[str, Any] | None, ports: Iterable[Port], exposed: Iterable[str]
) -> Check:
    """Return the check to make: the spec's over the image's; without one, the first TCP port, or just life.

    `image` is the image's HEALTHCHECK as {test, interval_s, timeout_s, start_period_s, retries, shell};
    `exposed` has entries like ``8080/tcp``. Where the spec disables the check, or the image says NONE and
    the spec nothing, no question is asked: being alive is enough.
    """
    image = image or {}
    timing = _timing(spec, image)
    if spec is not None and spec.http is not None:
        return replace(timing, http_path=spec.http.path, port=spec.http.port)
    if spec is not None and spec.tcp is not None:
        return replace(timing, port=spec.tcp)
    test = tuple((spec.test if spec else None) or image.get("test") or ())
    if test[:1] == ("NONE",) or (spec is not None and spec.disable):
        return Check()
    command = _command(test, tuple(image.get("shell") or _SHELL))
    if command:
        return replace(timing, test=command)
    port = _first_port(ports, exposed)
    return Check(port=port, timeout_s=_TIMEOUT_S, patience_s=_PORT_PATIENCE_S) if port else Check()


def _timing(spec: Healthcheck | None, image: Mapping[str, Any]) -> Check:
    """How long for one answer and for all: as the spec says, and within reason as the image says."""

    def given(key: str, default: float) -> tuple[float, bool]:
        """The value, and whether it is the image's."""
        own, foreign = getattr(spec, key, None), image.get(key)
        if own is not None:
            return float(own), False
        # An image may hold any number; Docker takes none that is not above zero.
        return (float(foreign), True) if foreign and foreign > 0 else (default, False)

    # A health check fails for good when `retries` in a row fail after the start period.
    start_s, start_foreign = given("start_period_s", 0.0)
    interval_s, interval_foreign = given("interval_s", _INTERVAL_S)
    retries, retries_foreign = given("retries", _RETRIES)
    window_s = interval_s * retries
    if retries_foreign or interval_foreign:
        window_s = min(window_s, max(_MOST_PATIENCE_FOR_AN_IMAGE_S, 0 if interval_foreign else interval_s))
    if start_foreign:
        start_s = min(start_s, _MOST_PATIENCE_FOR_AN_IMAGE_S)
    return Check(timeout_s=given("timeout_s", _TIMEOUT_S)[0], patience_s=start_s + window_s)


def _command(test: tuple[str, ...], shell: tuple[str, ...]) -> tuple[str, ...]:
    """What to run for a HEALTHCHECK; a line of shell goes to the image's SHELL, as Docker does it."""
    match test:
        case ("CMD", *args):
            return tuple(args)
        case ("CMD-SHELL", line):
            return (*shell, line)
        case _:
            return ()


def _first_port(ports: Iterable[Port], exposed: Iterable[str]) -> int | None:
    for port in ports:
        if port.protocol == "tcp":
            return port.container_port
    # EXPOSE without a protocol means TCP; of a range, the first port will do.
    numbers = [entry.partition("/") for entry in exposed]
    found = [int(number.partition("-")[0]) for number, _, protocol in numbers if protocol in ("", "tcp")]
    return found[0] if found else None


def wait_until_ready(check: Check, subject: Subject) -> Ready:
    """Ask until the answer is good, the program ends, or patience does.

    Asks more often than the check's interval says: sooner known is as true, and a failure counts only
    when the time for all retries is over.
    """
    if not check.test and check.port is None:
        ended = subject.wait(check.patience_s) is not None
        return Ready(check, not ended, "it ended" if ended else "it runs", 1, ended)
    end = time.monotonic() + check.patience_s
    pause_s, tries = _FIRST_PAUSE_S, 0
    while True:
        answer = ask(check, subject, max(0.1, min(check.timeout_s, end - time.monotonic())))
        tries += 1
        late = time.monotonic() >= end
        ended = subject.wait(0 if answer.ok or late else pause_s) is not None
        if answer.ok or late or ended:
            return Ready(check, answer.ok and not ended, answer.words, tries, ended)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def ask(check: Check, subject: Subject, timeout_s: float) -> Answer:
    """Ask once, for `timeout_s` in all; a question that cannot be asked has a bad answer."""
    end = time.monotonic() + timeout_s
    try:
        if check.test:
            return _run(check.test, subject, timeout_s)
        with netns.connect(subject.pid, check.port or 0, timeout_s) as connection:
            if check.http_path is None:
                return Answer(True, "connected")
            return _get(connection, check.http_path, end)
    except TimeoutError:
        return Answer(False, f"no answer within {timeout_s:.3g} s")
    except (OSError, http.client.HTTPException) as error:
        return Answer(False, _line(getattr(error, "strerror", None) or str(error) or type(error).__name__))


def _get(connection: socket.socket, path: str, end: float) -> Answer:
    port = connection.getpeername()[1]
    lines = (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "User-Agent: cooperage", "Connection: close")
    connection.settimeout(netns.time_left_s(end))
    connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    response = http.client.HTTPResponse(cast(socket.socket, _Received(_head(connection, end))), method="GET")
    response.begin()
    return Answer(response.status in _HTTP_OK, _line(f"{response.status} {response.reason}"))


def _head(connection: socket.socket, end: float) -> bytes:
    """Receive the head of an answer, or what there is of one when the connection ends.

    A server that sends a byte now and then would never run into a time limit on each `recv`.
    """
    head = b""
    while len(head) < _MAX_HEAD_BYTES:
        connection.settimeout(netns.time_left_s(end))
        piece = connection.recv(_PIECE_BYTES)
        searched = max(0, len(head) - _HEAD_END_BYTES)
        head += piece
        while (found := _HEAD_END.search(head, searched)) and _INTERIM.match(head):
            head, searched = head[found.end() :], 0
        if found or not piece:
            return head
    raise OSError(f"more than {_MAX_HEAD_BYTES >> 10} KiB before the end of the HTTP headers")


class _Received:
    """What was received already, in the place of a socket."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        """A file to read it from."""
        return io.BytesIO(self._content)


def _run(test: tuple[str, ...], subject: Subject, timeout_s: float) -> Answer:
    try:
        result = subject.exec(list(test), timeout_s)
    except ToolFailed:
        return Answer(False, f"no end within {timeout_s:.3g} s")
    said = (result.stderr.strip() or result.stdout.strip()).splitlines()
    words = f"exit {result.returncode}" if result.returncode >= 0 else result.ended
    if result.returncode != 0 and said:
        words += f": {_line(said[-1])}"
    return Answer(result.returncode == 0, words)


def _line(words: str) -> str:
    """Words of a container as one line that is fit for a terminal."""
    return printable(" ".join(words[:_SAID_MAX].split()))
