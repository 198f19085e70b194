"""The interpreter: each form of instruction, each refusal, and what a half-known call tells.

`tests/real/test_seccomp_live.py` holds it against the kernel of this machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.oci import bpf
from pipeline.oci.bpf import (
    ABS,
    ADD,
    ALU,
    AND,
    DIV,
    IMM,
    JA,
    JEQ,
    JGE,
    JGT,
    JMP,
    JSET,
    LD,
    LDX,
    LEN,
    LSH,
    MEM,
    MISC,
    MUL,
    NEG,
    OR,
    RET,
    RSH,
    ST,
    STX,
    SUB,
    TAX,
    TXA,
    XOR,
    A,
    BadFilter,
    Filter,
    Instruction,
    K,
    State,
    X,
)

RETURN_A: Instruction = (RET | A, 0, 0, 0)
BIG = 0xFFFF_FFFF


def assembled(*code: Sequence[int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def answer(*code: Sequence[int], data: Sequence[int] = (0,) * 16) -> int:
    return Filter.read(assembled(*code)).run(data)


@pytest.mark.parametrize(
    ("what", "a", "other", "result"),
    [
        (ADD, BIG, 2, 1),
        (ADD, 40, 2, 42),
        (SUB, 1, 2, BIG),
        (MUL, 0x1_0001, 0x1_0001, 0x2_0001),
        (DIV, BIG, 2, 0x7FFF_FFFF),
        (AND, 0xF0F0, 0xFF00, 0xF000),
        (OR, 0xF0F0, 0x0F00, 0xFFF0),
        (XOR, BIG, 0xFFFF, 0xFFFF_0000),
        (LSH, 0x8000_0001, 1, 2),
        (LSH, 1, 31, 0x8000_0000),
        (RSH, 0x8000_0001, 1, 0x4000_0000),
    ],
)
def test_arithmetic_is_of_32_bits_with_constants_and_with_x(
    what: int, a: int, other: int, result: int
) -> None:
    assert answer((LD | IMM, 0, 0, a), (ALU | what | K, 0, 0, other), RETURN_A) == result
    by_x = [(LDX | IMM, 0, 0, other), (LD | IMM, 0, 0, a), (ALU | what | X, 0, 0, 0), RETURN_A]
    assert answer(*by_x) == result


@pytest.mark.parametrize(("a", "result"), [(0, 0), (1, BIG), (0x8000_0000, 0x8000_0000)])
def test_negation(a: int, result: int) -> None:
    assert answer((LD | IMM, 0, 0, a), (ALU | NEG, 0, 0, 0), RETURN_A) == result


def test_dividing_by_an_x_of_zero_ends_the_filter_with_0() -> None:
    assert answer((LD | IMM, 0, 0, 7), (ALU | DIV | X, 0, 0, 0), (RET | K, 0, 0, 9)) == 0


@pytest.mark.parametrize(("what", "result"), [(LSH, 2), (RSH, 0)])
def test_shifting_by_x_looks_at_five_bits(what: int, result: int) -> None:
    shift = [(LDX | IMM, 0, 0, 33), (LD | IMM, 0, 0, 1), (ALU | what | X, 0, 0, 0), RETURN_A]
    assert answer(*shift) == result


@pytest.mark.parametrize(
    ("what", "a", "other", "taken"),
    [
        (JEQ, 5, 5, True),
        (JEQ, 5, 6, False),
        (JGT, BIG, 1, True),
        (JGT, 5, 5, False),
        (JGE, 5, 5, True),
        (JGE, 4, 5, False),
        (JGE, 0x8000_0000, 0x7FFF_FFFF, True),
        (JSET, 0b110, 0b011, True),
        (JSET, 0b100, 0b011, False),
    ],
)
def test_jumps_compare_unsigned_with_constants_and_with_x(what: int, a: int, other: int, taken: bool) -> None:
    ends = [(RET | K, 0, 0, 0), (RET | K, 0, 0, 1)]
    assert answer((LD | IMM, 0, 0, a), (JMP | what | K, 1, 0, other), *ends) == taken
    by_x = [(LDX | IMM, 0, 0, other), (LD | IMM, 0, 0, a), (JMP | what | X, 1, 0, 0), *ends]
    assert answer(*by_x) == taken


def test_a_jump_always_skips_its_distance() -> None:
    assert answer((JMP | JA, 0, 0, 2), *[(RET | K, 0, 0, n) for n in range(4)]) == 2


def test_loads_stores_and_moves() -> None:
    assert answer((LD | ABS, 0, 0, 60), RETURN_A, data=range(16)) == 15
    assert answer((LD | LEN, 0, 0, 0), RETURN_A) == 64
    assert answer((LDX | LEN, 0, 0, 0), (MISC | TXA, 0, 0, 0), RETURN_A) == 64
    through_memory = [
        (LD | IMM, 0, 0, 7),
        (ST, 0, 0, 15),
        (LDX | MEM, 0, 0, 15),
        (STX, 0, 0, 0),
        (LD | IMM, 0, 0, 1),
        (LD | MEM, 0, 0, 0),
        RETURN_A,
    ]
    assert answer(*through_memory) == 7
    assert answer((LD | IMM, 0, 0, 3), (MISC | TAX, 0, 0, 0), (ALU | MUL | X, 0, 0, 0), RETURN_A) == 9
    assert answer(RETURN_A) == 0


END = (RET | K, 0, 0, 0)
# The kernel of a real test gives the same answers to the same table.
REFUSED: dict[str, tuple[list[Instruction], str]] = {
    "empty": ([], "a filter has 1 to 4096 instructions, and this one 0"),
    "too long": ([END] * 4097, "a filter has 1 to 4096 instructions, and this one 4097"),
    "no return": ([(LD | IMM, 0, 0, 1)], "instruction 0: it jumps to 1, behind the last instruction"),
    "ends in a jump": ([END, (JMP | JA, 0, 0, 0)], "instruction 1: it jumps to 2, behind the last"),
    "jump out": (
        [(JMP | JEQ | K, 0, 1, 0), END],
        "instruction 0: it jumps to 2, behind the last instruction",
    ),
    "far jump": ([(JMP | JA, 0, 0, BIG), END], "instruction 0: it jumps to 4294967296, behind the last"),
    "remainder": ([(ALU | 0x90 | K, 0, 0, 3), END], "instruction 0: 0x0094 is no instruction of a seccomp"),
    "load of a byte": ([(LD | ABS | 0x10, 0, 0, 0), END], "instruction 0: 0x0030 is no instruction"),
    "load by x": ([(LD | 0x40, 0, 0, 0), END], "instruction 0: 0x0040 is no instruction of a seccomp filter"),
    "return x": ([(RET | X, 0, 0, 0)], "instruction 0: 0x000e is no instruction of a seccomp filter"),
    "unknown code": ([(0xFFFF, 0, 0, 0), END], "instruction 0: 0xffff is no instruction of a seccomp filter"),
    "load outside": ([(LD | ABS, 0, 0, 64), END], "instruction 0: it loads from 64: a word of seccomp_data"),
    "load between": ([(LD | ABS, 0, 0, 6), END], "instruction 0: it loads from 6: a word of seccomp_data"),
    "division by 0": ([(ALU | DIV | K, 0, 0, 0), END], "instruction 0: it divides by zero"),
    "long shift": ([(ALU | LSH | K, 0, 0, 32), END], "instruction 0: it shifts a word of 32 bits by 32"),
    "no such memory": ([(ST, 0, 0, 16), END], "instruction 0: it uses M[16], and the last is M[15]"),
    "never stored": ([(LD | MEM, 0, 0, 3), END], "instruction 0: it loads M[3], which was not stored"),
    "stored on one way": (
        [(JMP | JEQ | K, 0, 1, 0), (ST, 0, 0, 3), (LDX | MEM, 0, 0, 3), END],
        "instruction 2: it loads M[3], which was not stored on every way there",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernel_refuses_is_refused_by_its_place(name: str) -> None:
    code, message = REFUSED[name]
    with pytest.raises(BadFilter) as caught:
        Filter.read(assembled(*code))
    assert str(caught.value).startswith(f"error[bad-bpf]: {message}")


def test_half_an_instruction_is_no_filter() -> None:
    with pytest.raises(BadFilter, match="9 bytes are no whole instructions of 8"):
        Filter.read(assembled(END) + b"\0")


def test_what_is_stored_on_both_ways_may_be_loaded() -> None:
    code = [(JMP | JEQ | K, 0, 2, 0), (ST, 0, 0, 3), (JMP | JA, 0, 0, 1), (ST, 0, 0, 3), (LD | MEM, 0, 0, 3)]
    assert answer(*code, RETURN_A) == 0


def test_a_filter_of_a_big_endian_architecture() -> None:
    content = struct.pack(">HBBI", RET | K, 0, 0, 0x7FFF_0000)
    assert Filter.read(content, "big").run([0] * 16) == 0x7FFF_0000
    with pytest.raises(BadFilter):
        Filter.read(content)


def test_words_of_a_call() -> None:
    data = bpf.words(0x1_0000_0007, 62, [1, 0xFFFF_FFFF_0000_0002], pointer=3)
    assert data == [7, 62, 3, 0, 1, 0, 2, BIG, *[0] * 8]


def test_a_run_stops_where_it_would_read_what_is_not_known() -> None:
    code = [(LD | ABS, 0, 0, 0), (JMP | JEQ | K, 0, 3, 5), (ST, 0, 0, 2), (LD | ABS, 0, 0, 16), RETURN_A, END]
    program = Filter.read(assembled(*code))
    assert program.resume(State(), [6, 0]) == 0
    state = program.resume(State(), [5, 0])
    assert state == State(pc=3, a=5, x=0, memory={2: 5})
    assert isinstance(state, State)
    assert program.resume(state, bpf.words(5, 0, [77])) == 77
    with pytest.raises(BadFilter, match="instruction 3: it reads word 4, which is not given"):
        program.run([5, 0])


@given(st.binary(max_size=64))
def test_any_bytes_are_a_filter_or_refused(content: bytes) -> None:
    try:
        program = Filter.read(content)
    except BadFilter:
        return
    assert 0 <= program.run([0] * 16) <= BIG
