"""The entries of a seccomp source: names, their conditions, and the tests of their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.errors import Place
from pipeline.oci.seccomp import ArgumentTest, Only, Rule
from pipeline.oci.seccomp_arguments import Kind, kinds
from pipeline.oci.seccomp_operators import OPERATORS, Unfit, check_operator, comparisons
from pipeline.oci.seccomp_reader import Reader
from pipeline.oci.seccomp_tables import ARCHITECTURE_NAMES
from pipeline.yamlnodes import Steps

Placed = tuple[Rule, Place]
_ENTRY = ("name", "reason", "arguments", "only")
_LAST_ARGUMENT = 5
_LISTS = ("in", "without")


def allowed(reader: Reader, group: str, steps: Steps, only: Only) -> Iterator[Placed]:
    """Yield the rule of one entry of a group's `allow`: a name, or a mapping with conditions."""
    yield from _entry(reader, Rule("", group, only=only), steps)


def denied(reader: Reader, steps: Steps) -> Iterator[Placed]:
    """Yield the rules of one entry of `deny`."""
    required = ("errno", "reason", "names")
    keys = reader.keys(steps, "an entry of `deny`", (*required, "only"), required=required)
    error = (reader.errno((*steps, "errno")) if "errno" in keys else None) or "EPERM"
    reason = reader.line((*steps, "reason")) if "reason" in keys else ""
    only = reader.only((*steps, "only")) if "only" in keys else Only()
    for item in reader.items((*steps, "names")) if "names" in keys else ():
        yield from _entry(reader, Rule("", "deny", error, (), reason, only), item)


def _entry(reader: Reader, rule: Rule, steps: Steps) -> Iterator[Placed]:
    entry = reader.at(steps)
    if not isinstance(entry, dict):
        name = reader.word(steps)
        if name:
            yield Rule(name, rule.group, rule.error, (), rule.reason, rule.only), reader.place(steps)
        return
    before = len(reader.errors)
    keys = reader.keys(steps, "an entry", _ENTRY, required=("name",))
    name = reader.word((*steps, "name")) if "name" in keys else ""
    reason = reader.line((*steps, "reason")) if "reason" in keys else rule.reason
    only = _both(reader, rule.only, steps) if "only" in keys else rule.only
    scope = sorted(only.architectures or ARCHITECTURE_NAMES.values())
    tests = tuple(_tests(reader, name, (*steps, "arguments"), scope)) if "arguments" in keys else ()
    # An entry that is wrong would only be judged for what it does not say.
    if len(reader.errors) == before:
        yield Rule(name, rule.group, rule.error, tests, reason, only), reader.place((*steps, "name"))


def _both(reader: Reader, outer: Only, steps: Steps) -> Only:
    inner = reader.only((*steps, "only"))
    both = outer.architectures & inner.architectures
    if outer.architectures and inner.architectures and not both:
        message = "its group is for other architectures: this entry never applies"
        reader.fault("never-holds", message, (*steps, "only"), "move it to another group")
    architectures = both or outer.architectures or inner.architectures
    return Only(architectures, outer.capabilities | inner.capabilities)


def _tests(reader: Reader, syscall: str, steps: Steps, scope: Sequence[str]) -> Iterator[ArgumentTest]:
    seen: set[int] = set()
    for item in reader.items(steps):
        keys = reader.keys(item, "an argument rule", ("argument", *OPERATORS), required=("argument",))
        index = _index(reader, (*item, "argument")) if "argument" in keys else None
        operators = [operator for operator in OPERATORS if operator in keys]
        if len(operators) != 1:
            message = f"an argument rule needs one of {', '.join(OPERATORS)}"
            reader.fault("bad-argument", message if not operators else f"{message}, not several", item)
        elif index in seen:
            hint = "one entry holds for all of its tests; `in` lists several values"
            reader.fault("bad-argument", f"argument {index} is tested twice in one entry", item, hint)
        elif index is not None:
            seen.add(index)
            yield from _test(reader, syscall, item, index, operators[0], scope)


def _test(
    reader: Reader, syscall: str, item: Steps, index: int, operator: str, scope: Sequence[str]
) -> Iterator[ArgumentTest]:
    try:
        kind = check_operator(syscall, index, kinds(syscall), operator)
    except Unfit as fault:
        reader.fault(fault.code, fault.message, (*item, operator), fault.hint, key=True)
        return
    places = _operands(reader, (*item, operator), operator)
    values = [reader.number(steps, scope) for steps in places]
    if not values or None in values:
        return
    numbers = [[value[arch] for value in values if value is not None] for arch in scope]
    if not all(_fits(reader, kind, steps, column) for steps, *column in zip(places, *numbers, strict=True)):
        return
    try:
        found = {arch: comparisons(kind, operator, row) for arch, row in zip(scope, numbers, strict=True)}
    except Unfit as fault:
        reader.fault(fault.code, fault.message, (*item, operator), fault.hint)
        return
    words = [reader.shown(steps) for steps in places]
    yield ArgumentTest(index, _said(index, operator, words), found)


def _fits(reader: Reader, kind: Kind, steps: Steps, numbers: Sequence[int]) -> bool:
    try:
        for number in numbers:
            comparisons(kind, "eq", [number])
    except Unfit as fault:
        reader.fault(fault.code, fault.message, steps, fault.hint)
        return False
    return True


def _operands(reader: Reader, steps: Steps, operator: str) -> list[Steps]:
    if operator in _LISTS:
        return reader.items(steps)
    if operator != "masked_eq":
        return [steps]
    keys = reader.keys(steps, "`masked_eq`", ("mask", "value"), required=("mask", "value"))
    return [(*steps, "mask"), (*steps, "value")] if len(keys) == 2 else []


def _said(index: int, operator: str, words: Sequence[str]) -> str:
    if operator == "masked_eq":
        return f"argument {index} masked {words[0]} eq {words[1]}"
    return f"argument {index} {operator} {', '.join(words)}"


def _index(reader: Reader, steps: Steps) -> int | None:
    value = reader.at(steps)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_ARGUMENT:
        return int(value)
    reader.fault("bad-argument", f"`argument` is a number from 0 to {_LAST_ARGUMENT}", steps)
    return None
