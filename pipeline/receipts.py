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
THERE = "there"
"""The mark of an output of which only the presence is looked at."""
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

    A file's digest; of a folder of files, one over them; of an OCI layout, that of its index, from which
    all else in it is named by digest; of a rootfs, which has a record of its own, that it is there.
    """
    if not os.path.isdir(path):
        return "sha256:" + sha256_file(path)
    kind = os.path.basename(path)
    if kind == "rootfs":
        return THERE
    names = ["index.json"] if kind == "image" else sorted(os.listdir(path))
    found = {name: sha256_file(os.path.join(path, name)) for name in names}
    return "files:" + sha256_bytes(compact_json(found))


def damage(paths: BundlePaths, outputs: Mapping[str, str], *, cheap: bool = True) -> str | None:
    """Say which output is not there or not as it was made; with `cheap`, of large files only the former."""
    folder = str(paths.dir)
    for place, expected in outputs.items():
        full = os.path.join(folder, place)
        try:
            status = os.lstat(full)
            unread = expected == THERE or (cheap and status.st_size > _REREAD_BYTES)
            if not unread and mark(full) != expected:
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
