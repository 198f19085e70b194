"""Sockets that live in a container's network namespace while we do not."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

Setns = Callable[[int, int], int]

_CHILD_TIMEOUT_S = 5.0
_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def connect(pid: int, port: int, timeout_s: float) -> socket.socket:
    """Connect to a TCP port of the loopback that process `pid` sees, IPv4 or else IPv6. Raises OSError.

    Both together take `timeout_s` at most, apart from the moment that making a socket takes.
    """
    failure: OSError | None = None
    end = time.monotonic() + timeout_s
    for family, address in _LOOPBACK:
        try:
            return _connect(pid, family, (address, port), end)
        except OSError as error:
            # What IPv4 said is the news; that IPv6 is absent as well is not.
            failure = failure or error
    raise failure or AssertionError("unreachable")


def _connect(pid: int, family: int, address: tuple[str, int], end: float) -> socket.socket:
    made = open_socket(pid, family)
    try:
        made.settimeout(time_left_s(end))
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def time_left_s(end: float) -> float:
    """Return the seconds until `end` on the monotonic clock. Raises TimeoutError when there are none."""
    left_s = end - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def open_socket(pid: int, family: int) -> socket.socket:
    """Return a TCP socket of the network namespace that process `pid` is in. Raises OSError.

    A socket stays in the namespace where it was made (network_namespaces(7)), so a child joins that
    namespace, makes it, and hands it over; no thread of ours ever leaves the host's.
    """
    namespaces = _open_namespaces(pid)
    ours, theirs = socket.socketpair()
    setns = ctypes.CDLL(None, use_errno=True).setns
    with ours:
        # An interrupt that met the child before it is on its way would unwind it through our own `finally`s.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            child = _fork()
            if child == 0:
                _make_and_send(namespaces, setns, theirs, family)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        for fd in namespaces:
            os.close(fd)
        try:
            ours.settimeout(_CHILD_TIMEOUT_S)
            _, received, _, _ = socket.recv_fds(ours, 1, 1)
        finally:
            _reap(child)
    if not received:
        raise OSError(f"could not enter the network namespace of process {pid}")
    return socket.socket(fileno=received[0])


def _open_namespaces(pid: int) -> list[int]:
    """The namespaces to join, in order: an ordinary user must own the user namespace first."""
    names = ["net"] if os.geteuid() == 0 else ["user", "net"]
    opened: list[int] = []
    try:
        for name in names:
            opened.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    return opened


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of fork beside threads; the child below takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _make_and_send(namespaces: list[int], setns: Setns, way: socket.socket, family: int) -> None:
    """The child's whole life: nothing here may import, log or return."""
    try:
        if any(setns(fd, 0) != 0 for fd in namespaces):
            os._exit(1)
        made = socket.socket(family, socket.SOCK_STREAM)
        socket.send_fds(way, [b"s"], [made.fileno()])
        os._exit(0)
    finally:
        os._exit(1)


def _reap(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
