"""Receipts: what a stage's output was made from, and whether it is still as it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.files import compact_json, read_small, sha256_bytes, sha256_file, sync_directory
from pipeline.paths import BundlePaths

Parts = dict[str, Any]
"""What a key is made of, by kind: spec, tools, code, upstream, pin, host."""

# A small output is read again at every start, so a flipped bit in config.json is seen at once; for a
# larger one and for trees `validate`, `smoke` and `doit verify` do it before anything is built upon them.
_REREAD_BYTES = 256 * 1024
# In a folder of files, of which one is built upon and the others are for people, already from this on.
_REREAD_IN_FOLDER_BYTES = 16 * 1024
THERE = "there"
"""The mark of an output of which only the presence is looked at."""
_FILES = "files:"
_SHOWN_DIFFERENCES = 3


def read_receipt(path: str | Path) -> dict[str, Any] | None:
    """Return the receipt in a file, or None where there is none that can be read."""
    try:
        receipt = json.loads(read_small(path))
    except (OSError, ValueError):
        return None
    known = isinstance(receipt, dict) and {"key", "parts", "digest", "outputs", "facts"} <= receipt.keys()
    return receipt if known else None


def mark(path: str | Path) -> str:
    """What a receipt remembers of an output: enough to see cheaply whether it was changed.

    A file's digest; of a folder of files, one over its names, sizes and small files, and one over all of
    them; of an OCI layout, that of its index, from which all else in it is named by digest; of a rootfs,
    which has a record of its own, that it is there.
    """
    if not os.path.isdir(path):
        return "sha256:" + sha256_file(path)
    if os.path.basename(path) == "rootfs":
        return THERE
    return f"{_FILES}{_of_files(path, cheap=True)}:{_of_files(path, cheap=False)}"


def _of_files(folder: str | Path, *, cheap: bool) -> str:
    names = ["index.json"] if os.path.basename(folder) == "image" else sorted(os.listdir(folder))
    found: dict[str, str | int] = {}
    for name in names:
        path = os.path.join(folder, name)
        size = os.lstat(path).st_size if cheap else 0
        found[name] = size if size > _REREAD_IN_FOLDER_BYTES else sha256_file(path)
    return sha256_bytes(compact_json(found))


def _is_as_made(path: str, expected: str, *, cheap: bool) -> bool:
    if cheap and expected.startswith(_FILES):
        return _of_files(path, cheap=True) == expected.removeprefix(_FILES).partition(":")[0]
    return mark(path) == expected


def damage(paths: BundlePaths, outputs: Mapping[str, str], *, cheap: bool = True) -> str | None:
    """Say which output is not there or not as it was made; with `cheap`, of large files only the former."""
    folder = str(paths.dir)
    for place, expected in outputs.items():
        full = os.path.join(folder, place)
        try:
            status = os.lstat(full)
            unread = expected == THERE or (cheap and status.st_size > _REREAD_BYTES)
            if not unread and not _is_as_made(full, expected, cheap=cheap):
                return f"{place} was changed after it was made"
        except OSError:
            return f"{place} is gone"
    return None


def drop(path: Path) -> None:
    """Remove a receipt, durably."""
    if path.exists():
        path.unlink()
        sync_directory(path.parent)


def reason(old: Parts, new: Parts) -> str:
    """Say in one line why a key changed."""
    said = differences(old, new)
    more = f"; and {len(said) - _SHOWN_DIFFERENCES} more" if len(said) > _SHOWN_DIFFERENCES else ""
    return "; ".join(said[:_SHOWN_DIFFERENCES]) + more or "its key is computed in a new way"


def differences(old: Parts, new: Parts) -> list[str]:
    """Say in words what differs between two sets of key parts: `spec mem_limit: 1 -> 2`."""
    return ["its code changed" if what == "code" else what for what in _differences("", old, new)]


def _differences(name: str, before: object, after: object) -> Iterator[str]:
    if before == after:
        return
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield name if name == "code" else f"{name}: {_short(before)} -> {_short(after)}"
    elif name == "spec environment":
        # Values may be secrets, and what is said here ends in logs.
        names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
        yield f"{name}: {', '.join(names)}"
    else:
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(f"{name} {key}".strip(), before.get(key), after.get(key))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    head, _, digits = text.rpartition(":")
    if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
        return f"{head}:{digits[:12]}".lstrip(":")
    return text if len(text) <= 60 else text[:57] + "..."
