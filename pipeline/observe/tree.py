"""What lies in a rootfs that gives rights: from the record that `unpack` wrote, or from one bounded walk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.checks.subject import TreeFacts
from pipeline.files import Entry

MOST_ENTRIES = 250_000
_SET_ID = stat.S_ISUID | stat.S_ISGID
_CAPABILITY = "security.capability"
_DEVICES = ("char", "block")


def recorded_facts(entries: Iterable[Entry], root_id: int) -> TreeFacts:
    """Return the facts of a tree that is as recorded; `root_id` is the host's id of the container's root."""
    set_id, capable, devices, open_to_all = [], [], [], []
    for entry in entries:
        path = "/" + entry.path if entry.path != "." else "/"
        if entry.kind == "file" and entry.mode & _SET_ID:
            set_id.append(path)
        if _CAPABILITY in entry.xattrs:
            capable.append(path)
        if entry.kind in _DEVICES:
            devices.append(path)
        if entry.uid == root_id and _is_open(entry.mode) and entry.kind in ("file", "dir"):
            open_to_all.append(path)
    return TreeFacts(tuple(set_id), tuple(capable), tuple(devices), tuple(open_to_all))


def walked_facts(root: Path, root_id: int, most_entries: int = MOST_ENTRIES) -> TreeFacts:
    """Return the same of a tree without a record. No link is followed; what cannot be read is in `unread`."""
    set_id, capable, devices, open_to_all = [], [], [], []
    unread: list[str] = []
    for path, entry in _walk(root, most_entries, unread):
        mode = entry.st_mode
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFREG and mode & _SET_ID:
            set_id.append(path)
        if kind == stat.S_IFREG and mode & 0o111 and _has_capability(f"{root}{path}"):
            capable.append(path)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            devices.append(path)
        if entry.st_uid == root_id and kind in (stat.S_IFREG, stat.S_IFDIR) and _is_open(mode):
            open_to_all.append(path)
    found = (set_id, capable, devices, open_to_all, unread)
    return TreeFacts(*(tuple(sorted(names)) for names in found))


def _walk(root: Path, most: int, unread: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        yield "/", os.lstat(root)
    except OSError:
        return
    # A list of its own, since a tree can be deeper than Python's stack.
    waiting, count = [""], 0
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(f"{root}{folder}/") as entries:
                for entry in entries:
                    count += 1
                    path = f"{folder}/{entry.name}"
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(path)
                    yield path, status
        except OSError:
            unread.append(folder or "/")
        if count > most:
            unread += waiting
            return


def _has_capability(path: str) -> bool:
    try:
        return _CAPABILITY in os.listxattr(path, follow_symlinks=False)
    except OSError:
        return False


def _is_open(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
