"""Receipts: what a stage's output was made from, and whether it is still as it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import compact_json, sha256_bytes, sha256_file, sync_directory
from pipeline.paths import BundlePaths

Parts = dict[str, Any]
"""What a key is made of, by kind: spec, tools, code, upstream, pin, host."""

# A small output is read again at every start, so a flipped bit in config.json is seen at once; for a
# larger one and for trees `validate`, `smoke` and `doit verify` do it before anything is built upon them.
_REREAD_BYTES = 256 * 1024
_TREES = ("rootfs", "image")
_SHOWN_DIFFERENCES = 3


def read_receipt(path: Path) -> dict[str, Any] | None:
    """Return the receipt in a file, or None where there is none that can be read."""
    try:
        receipt = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(receipt, dict) and {"key", "parts", "digest", "outputs", "facts"} <= receipt.keys()
    return receipt if known else None


def mark(path: Path) -> str:
    """What a receipt remembers of an output: a file's digest; of a folder, one over its files.

    Large trees have records of their own, so of them it remembers only that they are there.
    """
    if not path.is_dir():
        return "sha256:" + sha256_file(path)
    if path.name in _TREES:
        return "tree"
    files = {name: sha256_file(path / name) for name in sorted(os.listdir(path))}
    return "files:" + sha256_bytes(compact_json(files))


def damage(paths: BundlePaths, outputs: Mapping[str, str]) -> str | None:
    """Say which output is not there or, for small files, not as it was written."""
    for place, expected in outputs.items():
        full = f"{paths.dir}/{place}"
        try:
            status = os.lstat(full)
        except OSError:
            return f"{place} is gone"
        if expected.startswith("files:"):
            changed = mark(Path(full)) != expected
        elif expected == "tree" or status.st_size > _REREAD_BYTES:
            changed = False
        else:
            with open(full, "rb") as stream:
                changed = "sha256:" + sha256_bytes(stream.read()) != expected
        if changed:
            return f"{place} was changed after it was made"
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
    said = []
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind), new.get(kind)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
            said += [_difference(f"{kind} {name}", before.get(name), after.get(name)) for name in names]
        else:
            said.append(_difference(kind, before, after))
    return said


def _difference(what: str, before: object, after: object) -> str:
    if what == "code":
        return "its code changed"
    return f"{what}: {_short(before)} -> {_short(after)}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    head, _, digits = text.rpartition(":")
    if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
        return f"{head}:{digits[:12]}".lstrip(":")
    return text if len(text) <= 60 else text[:57] + "..."
