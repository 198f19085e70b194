"""What a container prints: drained from a pipe into a file of bounded size, with the last lines at hand."""

from __future__ import annotations

import os
import threading
from pathlib import Path

MAX_LOG_BYTES = 10 << 20
_TAIL_BYTES = 16 << 10
_PIECE_BYTES = 1 << 16


class Output:
    """A pipe for a container's stdout and stderr, and the thread that empties it.

    A pipe, since runtimes change owner and position of a regular file. One for both, to keep their order.
    The container never blocks on a full log: what is over the limit is read and counted.
    """

    def __init__(self, log: Path | None) -> None:
        self._reader, self.write_fd = os.pipe()
        self._log = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._tail = b""
        self._written = self._dropped = 0
        self._thread = threading.Thread(target=self._drain, name="container-output", daemon=True)
        self._thread.start()

    def close_writer(self) -> None:
        """Close our end for writing, so that the pipe ends when the container's last process does."""
        # In one step, since an interrupt may bring two threads here.
        fd, self.write_fd = self.write_fd, -1
        if fd >= 0:
            os.close(fd)

    def finish(self, timeout_s: float) -> bool:
        """Wait until everything is read; False when something still holds the pipe open."""
        self.close_writer()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines printed so far, those that say something."""
        text = self._tail.decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]

    @property
    def dropped_bytes(self) -> int:
        """How much was printed beyond the log's limit."""
        return self._dropped

    def _write(self, content: bytes) -> int:
        # A full disk must not stop the container, which would wait for us to read on.
        try:
            return os.write(self._log, content)
        except OSError:
            return 0

    def _drain(self) -> None:
        try:
            while piece := os.read(self._reader, _PIECE_BYTES):
                self._tail = (self._tail + piece)[-_TAIL_BYTES:]
                kept = piece[: MAX_LOG_BYTES - self._written]
                written = self._write(kept)
                self._written += written
                self._dropped += len(piece) - written
            if self._dropped:
                self._write(f"\n… cut: {self._dropped} more bytes after {self._written}\n".encode())
        finally:
            os.close(self._reader)
            os.close(self._log)
