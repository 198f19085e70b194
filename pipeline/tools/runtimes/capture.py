"""What a call to a runtime prints, of which the last words are kept: printing without end costs no memory."""

from __future__ import annotations

import os
import select
import time
from typing import Self

KEPT_BYTES = 16 << 10
"""How much is kept of each of the two streams."""

_PIECE_BYTES = 1 << 16
# What may still be in a pipe when its writer has ended (pipe(7): 64 KiB), and as much again.
_REST_PIECES = 2
_LONGEST_POLL_S = 24 * 3600.0


class Stream:
    """A pipe, drained as fast as it fills; all but its end is dropped."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.tail = b""

    def read(self) -> bool:
        """Take one piece out; False when there is none, now or ever."""
        try:
            piece = os.read(self.reader, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self.tail = (self.tail + piece)[-KEPT_BYTES:]
        return bool(piece)

    def close_writer(self) -> None:
        """Leave the pipe to those who have inherited it."""
        fd, self.writer = self.writer, -1
        if fd >= 0:
            os.close(fd)

    @property
    def text(self) -> str:
        """The last words."""
        return self.tail.decode(errors="replace")


class Capture:
    """stdout and stderr of one process, each a `Stream`; closed with the `with` block."""

    def __init__(self) -> None:
        self.out = Stream()
        self.err = Stream()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.out, self.err):
            stream.close_writer()
            os.close(stream.reader)

    def follow(self, pid: int, timeout_s: float) -> None:
        """Drain both until the process ends, a child of ours, or time is up.

        The end of the process counts and not that of the pipes: what it started may hold them for ever.
        """
        for stream in (self.out, self.err):
            stream.close_writer()
        pidfd = os.pidfd_open(pid)
        try:
            self._drain(pidfd, time.monotonic() + timeout_s)
        finally:
            os.close(pidfd)

    def _drain(self, pidfd: int, end: float) -> None:
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        streams = {stream.reader: stream for stream in (self.out, self.err)}
        for reader in streams:
            watch.register(reader, select.POLLIN)
        ended = False
        while not ended and (left_s := end - time.monotonic()) > 0:
            ready = {fd for fd, _ in watch.poll(min(left_s, _LONGEST_POLL_S) * 1000)}
            ended = pidfd in ready
            for reader in ready & streams.keys():
                if not streams[reader].read():
                    watch.unregister(streams.pop(reader).reader)
        for stream in streams.values():
            for _ in range(_REST_PIECES):
                stream.read()
