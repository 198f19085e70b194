"""Tests of a call's arguments: from an operator and its values to comparisons that cannot be walked around.

A filter compares 64 bits, whatever the kernel reads; only SCMP_CMP_MASKED_EQ can leave some out
(seccomp_rule_add(3)). So what the kernel reads in 32 bits is compared under a mask, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.oci.seccomp import Comparison
from pipeline.oci.seccomp_arguments import Kind

OPERATORS = ("eq", "in", "masked_eq", "without", "ne", "lt", "le", "gt", "ge")
"""In the order in which they should be tried: the first four can be masked."""
WHOLE = 0xFFFF_FFFF_FFFF_FFFF
_MASKED = "SCMP_CMP_MASKED_EQ"


class Unfit(Exception):
    """A test that cannot be made of this argument; the caller knows the place."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def check_operator(syscall: str, index: int, kinds: Sequence[Kind] | None, operator: str) -> Kind:
    """Return what the argument is, when the operator can say something of it. Raises Unfit."""
    if kinds is None:
        hint = "allow the call as a whole, or leave it out"
        raise Unfit("bad-argument", f"the arguments of `{syscall}` are not known", hint)
    if index >= len(kinds):
        counted = f"{len(kinds)} argument{'' if len(kinds) == 1 else 's'}"
        hint = f"syscalls(2): they are counted from 0 to {len(kinds) - 1}" if kinds else "drop the test"
        raise Unfit("bad-argument", f"`{syscall}` has {counted}, so there is no argument {index}", hint)
    kind = kinds[index]
    where = f"argument {index} of `{syscall}`"
    if kind is Kind.POINTER:
        hint = "a filter sees the address and not what lies there"
        raise Unfit("pointer-argument", f"{where} is a pointer: comparing it tells nothing", hint)
    if operator in ("eq", "in", "masked_eq", "without") or kind is Kind.LONG:
        return kind
    hint = f"list what may be, under a mask: {{argument: {index}, in: […]}}"
    if kind is Kind.WORD:
        message = f"{where} is an unsigned long of which the kernel may read only a part: `{operator}`"
        raise Unfit("wide-compare", f"{message} would look at all of it", hint)
    bits = kind.mask.bit_length()
    message = f"`{operator}` compares 64 bits, and the kernel reads {bits} of {where}"
    raise Unfit("wide-compare", f"{message}: with a high bit set, any value passes", hint)


def comparisons(kind: Kind, operator: str, values: Sequence[int]) -> tuple[Comparison, ...]:
    """Return the comparisons of which one must hold; for `masked_eq` the values are mask and value.

    Raises Unfit for a test that never holds, and for a value that the kernel cannot read.
    """
    fitted = [_fitted(kind, value) for value in values]
    if operator == "without":
        mask = 0
        for value in fitted:
            mask |= value
        # Only the named bits are looked at, so no other bit can change the answer.
        return (_masked(mask, 0, "`without` needs at least one flag that is not 0"),)
    if operator == "masked_eq":
        mask, value = fitted
        return (_masked(mask, value, "`masked_eq` needs a mask that is not 0"),)
    if operator not in ("eq", "in"):
        return (_ordered(operator, fitted[0]),)
    different = sorted(set(fitted))
    if kind.mask == WHOLE:
        return tuple(Comparison("SCMP_CMP_EQ", value) for value in different)
    return tuple(Comparison(_MASKED, kind.mask, value) for value in different)


def span(found: Comparison) -> list[tuple[int, int]] | None:
    """Return the ranges of 64-bit values for which a comparison holds; None for a mask."""
    value = found.value
    ranges = {
        "SCMP_CMP_EQ": [(value, value)],
        "SCMP_CMP_NE": [(0, value - 1), (value + 1, WHOLE)],
        "SCMP_CMP_LT": [(0, value - 1)],
        "SCMP_CMP_LE": [(0, value)],
        "SCMP_CMP_GT": [(value + 1, WHOLE)],
        "SCMP_CMP_GE": [(value, WHOLE)],
    }.get(found.operator)
    return None if ranges is None else [(low, high) for low, high in ranges if low <= high]


def disjoint(one: Comparison, other: Comparison) -> bool:
    """True when no value of an argument fulfils both."""
    if one.operator == other.operator == _MASKED:
        return bool((one.value_two ^ other.value_two) & one.value & other.value)
    first, second = span(one), span(other)
    if first is None or second is None:
        return False
    return not any(a <= d and c <= b for a, b in first for c, d in second)


def _fitted(kind: Kind, value: int) -> int:
    """A value as the kernel reads it: -1 of an int is 0xffffffff."""
    bits = kind.mask.bit_length()
    if -(1 << (bits - 1)) <= value <= kind.mask:
        return value & kind.mask
    hint = f"at most {kind.mask:#x}"
    raise Unfit("bad-argument", f"{value:#x} does not fit the {bits} bits that the kernel reads", hint)


def _masked(mask: int, value: int, empty: str) -> Comparison:
    if not mask:
        raise Unfit("bad-argument", empty, "name at least one bit")
    if value & ~mask:
        message = f"{value:#x} has bits that the mask {mask:#x} leaves out: it never holds"
        raise Unfit("never-holds", message, "take them out of the value, or into the mask")
    return Comparison(_MASKED, mask, value)


def _ordered(operator: str, value: int) -> Comparison:
    found = Comparison(f"SCMP_CMP_{operator.upper()}", value)
    if not span(found):
        hint = "a filter compares without a sign, from 0 to 2**64 - 1"
        raise Unfit("never-holds", f"`{operator}: {value:#x}` never holds", hint)
    return found
