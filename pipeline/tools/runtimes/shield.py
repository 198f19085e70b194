"""Hold interrupts back while something must be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def shielded() -> Iterator[None]:
    """Let no interrupt break the block; what arrives meanwhile is delivered after it.

    Python runs signal handlers in the main thread alone, so any other thread is safe already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before: dict[int, Any] = {}

    def remember(number: int, _: FrameType | None) -> None:
        arrived.append(number)

    try:
        for number in _HELD_BACK:
            before[number] = signal.signal(number, remember)
        yield
    finally:
        for restored, action in before.items():
            signal.signal(restored, action)
        for pending in dict.fromkeys(arrived):
            signal.raise_signal(pending)
