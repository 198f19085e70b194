"""Where a bundle uses what runtimes treat in different ways: keys that parsers read differently.

Each function answers with the JSON paths of config.json where the feature is used; see model/truths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from pipeline.checks.rawjson import Node
from pipeline.checks.subject import Subject
from pipeline.model.runtime import child_path

Paths = Iterator[str]
# Members of these are named by whoever writes them.
_FREE_KEYS = ("annotations", "sysctl", "unified", "rdma")


def duplicate_keys(subject: Subject) -> Paths:
    """A key that is there twice in one object."""
    for path, keys, _ in _objects(subject.document.root, ""):
        for key in sorted({key for key in keys if keys.count(key) > 1}):
            yield child_path(path, key)


def key_case(subject: Subject) -> Paths:
    """A key that is right but for capitals."""
    known = _known_keys()
    for path, keys, free in _objects(subject.document.root, ""):
        for key in keys if not free else ():
            if known.get(key.casefold()) not in (None, key):
                yield child_path(path, key)


def _objects(node: Node, path: str, *, free: bool = False) -> Iterator[tuple[str, list[str], bool]]:
    """Every object with its path, its keys as written, and whether these are whatever its author likes."""
    if node.members is not None:
        yield path, [key for key, _, _ in node.members], free
        for key, _, child in node.members:
            yield from _objects(child, child_path(path, key), free=free or key in _FREE_KEYS)
    for index, child in enumerate(node.items or ()):
        yield from _objects(child, child_path(path, index), free=free)


@cache
def _known_keys() -> dict[str, str]:
    """Every key of the specification by its spelling in small letters."""
    import msgspec.inspect as types

    from pipeline.model.runtime import RuntimeConfig

    found: dict[str, str] = {}
    waiting: list[types.Type] = [types.type_info(RuntimeConfig)]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, types.StructType):
            for field in kind.fields:
                found[field.encode_name.casefold()] = field.encode_name
                waiting.append(field.type)
        elif isinstance(kind, types.UnionType):
            waiting += kind.types
        elif isinstance(kind, types.VarTupleType):
            waiting.append(kind.item_type)
        elif isinstance(kind, types.DictType):
            waiting.append(kind.value_type)
        elif isinstance(kind, types.Metadata):
            waiting.append(kind.type)
    return found


USES: dict[str, Callable[[Subject], Paths]] = {
    "duplicate-keys": duplicate_keys,
    "key-case": key_case,
}
