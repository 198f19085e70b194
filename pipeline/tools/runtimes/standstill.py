"""When the process is about to end, one thread removes the containers and all others stand still.

A thread that went on would make what has just been removed, or report as a failure that it was.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_starting = threading.Lock()
_closers: list[int] = []


def begin() -> None:
    """From now on every other thread stops where it would begin something or has removed a container."""
    with _starting:
        _closers.append(threading.get_ident())


def halt() -> None:
    """Stand still, unless nothing ends or this thread is the one that ends it."""
    if _closers and threading.get_ident() not in _closers:
        # Nobody joins such a thread: who calls `begin` leaves by os._exit, or is the last one.
        threading.Event().wait()


@contextmanager
def room(*, always: bool = False) -> Iterator[None]:
    """Begin something in the block that `begin` must know to be done or never done.

    `always` is for a removal under way, which whoever ends the process waits for.
    """
    while True:
        with _starting:
            if always or not _closers or threading.get_ident() in _closers:
                yield
                return
        halt()
