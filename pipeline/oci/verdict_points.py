"""The arguments at which a profile's rules can change their mind: each tested value and what is around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

_LONG = 0xFFFF_FFFF_FFFF_FFFF
_HIGH = 0xFFFF_FFFF_0000_0000
_MOST_POINTS = 512
"""More combinations than that are not tried; each argument alone still is."""
_ARGUMENTS = 6

Point = tuple[int, ...]


def points(document: Mapping[str, Any], name: str) -> list[Point]:
    """Return argument lists around everything that a profile's rules test of a call, in order.

    `document` is `linux.seccomp` of config.json. All combinations where they are few; else each argument
    in turn, with the others as each rule wants them and at 0.
    """
    rules = [
        rule.get("args") or () for rule in document.get("syscalls") or () if name in rule.get("names", ())
    ]
    edges: dict[int, set[int]] = {}
    for argument in (argument for rule in rules for argument in rule):
        edges.setdefault(argument["index"], {0, 0xFFFF_FFFF, _LONG}).update(_edges(argument))
    if not edges:
        return []
    indices = sorted(edges)
    values = [sorted(edges[index]) for index in indices]
    total = 1
    for own in values:
        total *= len(own)
    if total <= _MOST_POINTS:
        found = [dict(zip(indices, chosen, strict=True)) for chosen in product(*values)]
    else:
        found = list(_one_by_one(rules, edges))
    return list(dict.fromkeys(tuple(f.get(n, 0) for n in range(_ARGUMENTS)) for f in found))


def _edges(argument: Mapping[str, Any]) -> Iterator[int]:
    """The tested value, its neighbours, and it with one and all of the upper 32 bits set."""
    value = argument["value"]
    if argument["op"] == "SCMP_CMP_MASKED_EQ":
        mask, value = value, argument.get("valueTwo", 0)
        around = (mask, ~mask, value | ~mask, value ^ (mask & -mask), value ^ _highest(mask))
        yield from (found & _LONG for found in around)
    for near in (value - 1, value, value + 1, value | 1 << 32, value | _HIGH):
        yield near & _LONG


def _highest(mask: int) -> int:
    return 1 << mask.bit_length() - 1 if mask else 0


def _one_by_one(
    rules: Sequence[Sequence[Mapping[str, Any]]], edges: Mapping[int, set[int]]
) -> Iterator[dict[int, int]]:
    wishes = [{a["index"]: _wish(a) for a in rule} for rule in rules]
    for wish in ({}, *wishes):
        for index, values in sorted(edges.items()):
            for value in sorted(values):
                yield {**wish, index: value}


def _wish(argument: Mapping[str, Any]) -> int:
    """A value that passes the test."""
    value: int = argument["value"]
    passing: dict[str, int] = {
        "SCMP_CMP_NE": value + 1,
        "SCMP_CMP_LT": value - 1,
        "SCMP_CMP_GT": value + 1,
        "SCMP_CMP_MASKED_EQ": argument.get("valueTwo", 0),
    }
    return passing.get(argument["op"], value) & _LONG
