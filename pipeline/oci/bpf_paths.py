"""Every way through a filter for one system call, and what its arguments must be for each.

The tests that a filter makes of its arguments compare 32-bit words, so a way is a list of tests of single
words, and an example of it is found word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from pipeline.oci.bpf import (
    ABS,
    ALU,
    AND,
    ARGUMENTS,
    ARITHMETIC,
    COMPARE,
    DIV,
    FIRST_ARGUMENT_WORD,
    IMM,
    JA,
    JEQ,
    JGT,
    JMP,
    JSET,
    LD,
    LDX,
    MEM,
    MISC,
    RET,
    ST,
    STX,
    TAX,
    TXA,
    BadFilter,
    Filter,
    K,
    State,
    X,
)

_WORD = 0xFFFF_FFFF
_MOST_WAYS = 4096
_TEXT = re.compile(r"argument ([0-5])( high)?(?: & (0x[0-9a-f]+))? (==|!=|>=|<) (0x[0-9a-f]+)")


@dataclass(frozen=True)
class Word:
    """A word of seccomp_data under a mask, as it stands in a register."""

    index: int
    mask: int = _WORD


@dataclass(frozen=True)
class Comparison:
    """`word & mask` equals `value` (or, `least`, is not below it); the contrary where it does not `hold`."""

    word: int
    mask: int
    value: int
    least: bool = False
    holds: bool = True

    def of(self, value: int) -> bool:
        """True when the word `value` passes."""
        masked = value & self.mask
        return (masked >= self.value if self.least else masked == self.value) is self.holds

    @property
    def contrary(self) -> Comparison:
        """The test that passes what this one does not."""
        return replace(self, holds=not self.holds)

    def __str__(self) -> str:
        """It in words, by argument; `high` are the upper 32 of its 64 bits (little-endian)."""
        argument, high = divmod(self.word - FIRST_ARGUMENT_WORD, 2)
        sign = {(False, True): "==", (False, False): "!=", (True, True): ">=", (True, False): "<"}
        mask = "" if self.mask == _WORD else f" & {self.mask:#x}"
        how = sign[self.least, self.holds]
        return f"argument {argument}{' high' if high else ''}{mask} {how} {self.value:#x}"


Tests = tuple[Comparison, ...]


@dataclass(frozen=True)
class Way:
    """A way through a filter: it is taken when all `tests` pass, and the answer is `answer`."""

    tests: Tests
    answer: int

    def __str__(self) -> str:
        return in_words(self.tests)


def in_words(tests: Tests) -> str:
    """Return what must hold, in the order of the arguments; `anything` without tests."""
    return " and ".join(map(str, sorted(tests, key=lambda t: (t.word, t.mask, t.value)))) or "anything"


def from_words(text: str) -> Tests:
    """Return the tests of `in_words`. Raises ValueError for what it would not write."""
    return () if text == "anything" else tuple(map(_test, text.split(" and ")))


def _test(text: str) -> Comparison:
    found = _TEXT.fullmatch(text)
    if not found:
        raise ValueError(f"`{text}` is no test of an argument")
    argument, high, mask, sign, value = found.groups()
    word = FIRST_ARGUMENT_WORD + 2 * int(argument) + bool(high)
    least, holds = sign in (">=", "<"), sign in ("==", ">=")
    return Comparison(word, int(mask, 16) if mask else _WORD, int(value, 16), least, holds)


def ways(program: Filter, state: State, known: Sequence[int]) -> list[Way]:
    """Return every way from `state` to an answer; those that contradict themselves are left out.

    `known` are the first words of seccomp_data: the number and the architecture.

    Raises BadFilter for a filter that computes with its arguments more than masks and comparisons:
    libseccomp makes none.
    """
    found: list[Way] = []
    open_ends: list[tuple[_Step, Tests]] = [(_Step(state.pc, state.a, state.x, state.memory), ())]
    while open_ends:
        step, tests = open_ends.pop()
        for after, new in step.on(program, known):
            path = (*tests, *new)
            # Only the word that is tested now can have become impossible.
            if new and example(t for t in path if t.word == new[0].word) is None:
                continue
            if isinstance(after, int):
                found.append(Way(_plainer(path), after))
            else:
                open_ends.append((after, path))
        if len(found) + len(open_ends) > _MOST_WAYS:
            raise BadFilter(state.pc, f"more than {_MOST_WAYS} ways lead on from here")
    return found


@dataclass(frozen=True)
class _Step:
    """A place in a filter where registers hold numbers, or words that are not known."""

    pc: int
    a: int | Word
    x: int | Word
    memory: Mapping[int, int | Word]

    def on(self, program: Filter, known: Sequence[int]) -> Iterator[tuple[_Step | int, Tests]]:
        """Yield where it goes on, or the answer, and under which tests."""
        op, jt, jf, k = program.code[self.pc]
        if op & 7 == RET:
            answer = k if op == RET | K else self.a
            if isinstance(answer, Word):
                raise BadFilter(self.pc, "it answers with an argument, which no table can show")
            yield answer, ()
        elif op == JMP | JA:
            yield replace(self, pc=self.pc + 1 + k), ()
        elif op & 7 == JMP and isinstance(self.a, int):
            jump = jt if COMPARE[op & 0xF0](self.a, self._other(op, k)) else jf
            yield replace(self, pc=self.pc + 1 + jump), ()
        elif op & 7 == JMP and isinstance(self.a, Word):
            test = _test_of(op & 0xF0, self.a, self._other(op, k))
            yield replace(self, pc=self.pc + 1 + jt), (test,)
            yield replace(self, pc=self.pc + 1 + jf), (test.contrary,)
        else:
            yield self._plain(op, k, known), ()

    def _plain(self, op: int, k: int, known: Sequence[int]) -> _Step:
        then = replace(self, pc=self.pc + 1)
        if op == LD | ABS:
            return replace(then, a=known[k >> 2] if k >> 2 < len(known) else Word(k >> 2))
        if op & 7 == ALU:
            return replace(then, a=self._computed(op, k))
        if op == LD | MEM:
            return replace(then, a=self.memory[k])
        if op == LDX | MEM:
            return replace(then, x=self.memory[k])
        if op in (ST, STX):
            return replace(then, memory={**self.memory, k: self.a if op == ST else self.x})
        if op in (LD | IMM, LDX | IMM):
            return replace(then, a=k) if op == LD | IMM else replace(then, x=k)
        if op in (MISC | TAX, MISC | TXA):
            return replace(then, x=self.a) if op == MISC | TAX else replace(then, a=self.x)
        raise BadFilter(self.pc, "it computes in a way that no table can show")

    def _computed(self, op: int, k: int) -> int | Word:
        other = self._other(op, k)
        if isinstance(self.a, int) and not (op & 0xF0 == DIV and other == 0):
            return ARITHMETIC[op & 0xF0](self.a, other)
        if isinstance(self.a, Word) and op & 0xF0 == AND:
            return Word(self.a.index, self.a.mask & other)
        raise BadFilter(self.pc, "it computes with an argument, which no table can show")

    def _other(self, op: int, k: int) -> int:
        if not op & X:
            return k
        if isinstance(self.x, Word):
            raise BadFilter(self.pc, "it compares two arguments, which no table can show")
        return self.x


def _test_of(what: int, word: Word, other: int) -> Comparison:
    if what == JSET:
        # Some bit is set: the contrary of "all of them are 0".
        return Comparison(word.index, word.mask & other, 0, holds=False)
    if what == JEQ:
        return Comparison(word.index, word.mask, other)
    if what == JGT and other == _WORD:
        # Nothing is greater than the greatest word.
        return Comparison(word.index, 0, 1)
    return Comparison(word.index, word.mask, other + (what == JGT), least=True)


def _plainer(tests: Tests) -> Tests:
    """Leave out what follows from another test of the same word."""
    equal = {(t.word, t.mask) for t in tests if t.holds and not t.least}
    kept = [t for t in tests if (t.word, t.mask) not in equal or (t.holds and not t.least)]
    return tuple(t for t in dict.fromkeys(kept) if t.mask or not t.of(0))


def example(tests: Iterable[Comparison]) -> dict[int, int] | None:
    """Return a value for each tested word that passes all tests, or None when there is none."""
    by_word: dict[int, list[Comparison]] = {}
    for test in tests:
        by_word.setdefault(test.word, []).append(test)
    found = {}
    for word, own in by_word.items():
        value = next((v for v in _candidates(own) if all(test.of(v) for test in own)), None)
        if value is None:
            return None
        found[word] = value
    return found


def _candidates(tests: Sequence[Comparison]) -> Iterator[int]:
    """Yield the values at which a word's tests can begin or cease to pass, the plain ones first."""
    fixed = base = 0
    for test in tests:
        if test.holds and not test.least:
            fixed, base = fixed | test.mask, base | test.value
    free = ~fixed & _WORD
    edges = {0, free, *(t.value + d for t in tests for d in (-1, 0, 1))}
    for test in tests:
        edges |= {test.value | ~test.mask & _WORD, ~test.value & test.mask, (test.value + 1) | ~test.mask}
    yield from (base | value & free for value in sorted(value & _WORD for value in edges))
    bits = [1 << n for n in range(32) if free >> n & 1]
    yield from (base | bit for bit in bits)
    yield from (base | one | other for one, other in combinations(bits, 2))


def beyond(new: Iterable[Tests], old: Sequence[Tests]) -> dict[int, int] | None:
    """Return an example (value by word) that passes one of `new` and none of `old`, or None."""
    return next((found for tests in new if (found := _outside(tests, old)) is not None), None)


def _outside(tests: Tests, old: Sequence[Tests]) -> dict[int, int] | None:
    found = example(tests)
    if found is None:
        return None
    # The first of `old` that the example passes is the one to step out of.
    through = next((way for way in old if all(test.of(found.get(test.word, 0)) for test in way)), None)
    if through is None:
        return found
    rest = [way for way in old if way is not through]
    steps = (_outside((*tests, test.contrary), rest) for test in through)
    return next((found for found in steps if found is not None), None)


def arguments(values: Mapping[int, int]) -> list[int]:
    """Return six arguments of 64 bits from their words; words left out are 0."""
    low = [values.get(FIRST_ARGUMENT_WORD + 2 * n, 0) for n in range(ARGUMENTS)]
    high = [values.get(FIRST_ARGUMENT_WORD + 2 * n + 1, 0) for n in range(ARGUMENTS)]
    return [h << 32 | w for h, w in zip(high, low, strict=True)]
