"""A rootfs and a host as the judge looks at them: read, never followed out of, never waited for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.oci import rootfs

_FLAGS = {"ro": os.ST_RDONLY, "nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}


class RootfsLook:
    """Look-ups inside one rootfs; see `checks.subject.RootfsView`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """Return the status of what is there. Raises OSError."""
        return rootfs.stat(self._root, path, follow=follow)

    def realpath(self, path: str) -> str:
        """Return the path without links. Raises OSError."""
        return rootfs.realpath(self._root, path)

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a regular file. Raises OSError, for other kinds too."""
        with rootfs.opened(self._root, path) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(f"{path} is not a regular file")
            with open(f"/proc/self/fd/{fd}", "rb") as stream:
                yield stream

    def names(self, path: str) -> list[str]:
        """Return the names in a directory. Raises OSError."""
        with rootfs.opened(self._root, path, os.O_DIRECTORY) as fd:
            return os.listdir(f"/proc/self/fd/{fd}")


class HostLook:
    """Look-ups on the host; see `checks.subject.HostView`."""

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """Return the status of what is there, or None."""
        try:
            return os.stat(path, follow_symlinks=follow)
        except (OSError, ValueError):
            # A NUL or half a surrogate pair names nothing.
            return None

    def realpath(self, path: str) -> str:
        """Return the absolute path without links, as far as it is there."""
        try:
            return os.path.realpath(path)
        except (OSError, ValueError):
            return path

    def flags(self, path: str) -> frozenset[str]:
        """Return the flags of the mount at a path (statvfs(3)); none where there is nothing."""
        try:
            found = os.statvfs(path).f_flag
        except (OSError, ValueError):
            return frozenset()
        return frozenset(name for name, bit in _FLAGS.items() if found & bit)
