"""What to say of a key that config.json does not know: the most useful of what may have been meant."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple

import msgspec.inspect as types

from pipeline.checks.versions import MOVED, pattern_of
from pipeline.errors import suggest
from pipeline.model.runtime import RuntimeConfig, child_path

# Sections and fields of other platforms (config.md, Platform-specific configuration, Windows process).
_FOREIGN = {
    **{name: name for name in ("freebsd", "solaris", "vm", "windows", "zos")},
    "process.commandLine": "windows",
    "process.user.username": "windows",
}


class Hint(NamedTuple):
    """The rule that a key breaks, what it means, and what to write instead."""

    rule: str
    message: str
    mend: str


def unknown_key(path: str, key: str, known: Collection[str]) -> Hint:
    """Return what to say of `key` in the object at `path`, which knows the keys `known`."""
    inner = child_path(path, key)
    pattern = pattern_of(inner)
    if inner in _FOREIGN:
        message = f"`{inner}` is for {_FOREIGN[inner]}: a runtime of Linux ignores it"
        return Hint("foreign-platform", message, "remove it")
    exact = next((name for name in known if name.casefold() == key.casefold()), None)
    if exact:
        message = f"`{inner}` is spelt `{exact}`: runc takes it, crun ignores it"
        return Hint("key-case", message, f"write `{exact}`")
    message = f"unknown key `{inner}`: every runtime ignores it"
    if pattern in MOVED:
        return Hint("moved-key", message, f"since 1.0.0 it is `{MOVED[pattern]}`")
    close = suggest(key, known)
    elsewhere = _homes().get(key, ())
    if len(elsewhere) == 1 and (close is None or close.casefold() != key.casefold()):
        return Hint("unknown-key", message, f"its place is `{elsewhere[0]}`")
    mend = f"did you mean `{close}`?" if close else "remove it; notes for people go to `annotations`"
    return Hint("unknown-key", message, mend)


@cache
def _homes() -> dict[str, tuple[str, ...]]:
    """Return every key of the model with the patterns of its places."""
    found: dict[str, tuple[str, ...]] = {}
    for pattern in _patterns(types.type_info(RuntimeConfig), ""):
        name = pattern.rsplit(".", 1)[-1]
        found[name] = (*found.get(name, ()), pattern)
    return found


def _patterns(kind: types.Type, path: str) -> Iterator[str]:
    if isinstance(kind, types.Metadata):
        yield from _patterns(kind.type, path)
    elif isinstance(kind, types.UnionType):
        for member in kind.types:
            yield from _patterns(member, path)
    elif isinstance(kind, types.VarTupleType):
        yield from _patterns(kind.item_type, f"{path}[]")
    elif isinstance(kind, types.DictType):
        yield from _patterns(kind.value_type, f"{path}{{}}")
    elif isinstance(kind, types.StructType):
        for entry in kind.fields:
            inner = child_path(path, entry.encode_name)
            yield inner
            yield from _patterns(entry.type, inner)
