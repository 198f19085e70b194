"""Where a bundle uses what runtimes treat in different ways: keys that parsers read differently.

Each function answers with the JSON paths of config.json where the feature is used; see model/truths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, reduce

from pipeline.checks.rawjson import Node
from pipeline.checks.subject import Subject
from pipeline.model.runtime import child_path
from pipeline.model.runtime_base import Part

Paths = Iterator[str]
Trail = tuple[str | int, ...]
# Members of these are named by whoever writes them.
_FREE_KEYS = frozenset({"annotations", "sysctl", "unified", "rdma"})


def duplicate_keys(subject: Subject) -> Paths:
    """A key that is there twice in one object."""
    for trail, node in _all_objects(subject):
        keys = [key for key, _, _ in node.members or ()]
        if len(set(keys)) < len(keys):
            yield from (_path((*trail, key)) for key in sorted({k for k in keys if keys.count(k) > 1}))


def key_case(subject: Subject) -> Paths:
    """A key that is right but for capitals."""
    known = _known_keys()
    for trail, node in _all_objects(subject):
        if not _FREE_KEYS.intersection(trail):
            for key, _, _ in node.members or ():
                if known.get(key.casefold(), key) != key:
                    yield _path((*trail, key))


def _all_objects(subject: Subject) -> list[tuple[Trail, Node]]:
    made = subject.cache.get("objects")
    if not isinstance(made, list):
        made = subject.cache["objects"] = list(_objects(subject.document.root, ()))
    return made


def _objects(node: Node, trail: Trail) -> Iterator[tuple[Trail, Node]]:
    """Every object with the keys and indices that lead to it."""
    if node.members is not None:
        yield trail, node
        for key, _, child in node.members:
            if child.members or child.items:
                yield from _objects(child, (*trail, key))
    # The items of a list are of one kind, and a list of words is the most frequent one.
    elif node.items and (node.items[0].members is not None or any(i.members for i in node.items)):
        for index, child in enumerate(node.items):
            yield from _objects(child, (*trail, index))


def _path(trail: Trail) -> str:
    return reduce(child_path, trail, "")


@cache
def _known_keys() -> dict[str, str]:
    """Every key of the specification by its spelling in small letters."""
    found: dict[str, str] = {}
    waiting: list[type[Part]] = [Part]
    while waiting:
        part = waiting.pop()
        waiting += part.__subclasses__()
        found |= {name.casefold(): name for name in part.__struct_encode_fields__}
    return found


USES: dict[str, Callable[[Subject], Paths]] = {
    "duplicate-keys": duplicate_keys,
    "key-case": key_case,
}
