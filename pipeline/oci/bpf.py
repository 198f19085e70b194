"""Classic BPF as seccomp(2) runs it: read a filter, refuse what the kernel refuses, and run it exactly.

Sources: linux/filter.h and linux/bpf_common.h (encoding), net/core/filter.c `bpf_check_classic` and
`bpf_convert_filter` (what is well formed, what division and shifts do), kernel/seccomp.c
`seccomp_check_filter` (what a filter of system calls may use). Jumps go forward only, so every run ends.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import PipelineError

# linux/bpf_common.h
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
K, X, A = 0x00, 0x08, 0x10
IMM, ABS, MEM, LEN = 0x00, 0x20, 0x60, 0x80
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, XOR = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xA0
JA, JEQ, JGT, JGE, JSET = 0x00, 0x10, 0x20, 0x30, 0x40
TAX, TXA = 0x00, 0x80

DATA_BYTES = 64
"""struct seccomp_data: nr, arch, instruction_pointer, six arguments (linux/seccomp.h)."""
DATA_WORDS = DATA_BYTES // 4
ARGUMENTS = 6
FIRST_ARGUMENT_WORD = 4
MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""
_MEMORY_WORDS = 16
_WORD = 0xFFFF_FFFF
_INSTRUCTION = {"little": struct.Struct("<HBBI"), "big": struct.Struct(">HBBI")}

Instruction = tuple[int, int, int, int]
"""struct sock_filter: code, jt, jf, k."""

ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    ADD: lambda a, b: (a + b) & _WORD,
    SUB: lambda a, b: (a - b) & _WORD,
    MUL: lambda a, b: (a * b) & _WORD,
    DIV: lambda a, b: a // b,
    OR: lambda a, b: a | b,
    AND: lambda a, b: a & b,
    # The kernel's 32-bit shifts by a register look at five bits of it.
    LSH: lambda a, b: (a << (b & 31)) & _WORD,
    RSH: lambda a, b: a >> (b & 31),
    NEG: lambda a, _: -a & _WORD,
    XOR: lambda a, b: a ^ b,
}
"""What each operation of ALU makes of two words; a division by zero is the caller's to see."""
COMPARE: dict[int, Callable[[int, int], bool]] = {
    JEQ: lambda a, b: a == b,
    JGT: lambda a, b: a > b,
    JGE: lambda a, b: a >= b,
    JSET: lambda a, b: bool(a & b),
}
# kernel/seccomp.c: BPF_MOD and the loads of packets are no part of a filter of system calls.
_ALLOWED = frozenset(
    {
        *(RET | K, RET | A, MISC | TAX, MISC | TXA, ALU | NEG, ST, STX, JMP | JA),
        *(LD | IMM, LD | MEM, LD | ABS, LD | LEN, LDX | IMM, LDX | MEM, LDX | LEN),
        *(ALU | what | source for what in ARITHMETIC if what != NEG for source in (K, X)),
        *(JMP | what | source for what in COMPARE for source in (K, X)),
    }
)


class BadFilter(PipelineError):
    """A filter that the kernel would refuse, or one that cannot be read."""

    def __init__(self, at: int | None, message: str) -> None:
        super().__init__("bad-bpf", message if at is None else f"instruction {at}: {message}")


@dataclass(frozen=True)
class State:
    """A filter between two instructions: `pc` is the next, `memory` the words that were stored."""

    pc: int = 0
    a: int = 0
    x: int = 0
    memory: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Filter:
    """A filter that the kernel would load."""

    code: tuple[Instruction, ...]

    @classmethod
    def read(cls, content: bytes, order: str = "little") -> Filter:
        """Return the filter in `content`, as seccomp_export_bpf(3) writes it.

        Raises BadFilter for what the kernel refuses with EINVAL.
        """
        form = _INSTRUCTION[order]
        if len(content) % form.size:
            raise BadFilter(None, f"{len(content)} bytes are no whole instructions of {form.size}")
        code = tuple(form.iter_unpack(content))
        check(code)
        return cls(code)

    def run(self, data: Sequence[int]) -> int:
        """Return what the filter answers to the sixteen words of a `struct seccomp_data`."""
        answer = self.resume(State(), data)
        if isinstance(answer, State):
            raise BadFilter(answer.pc, f"it reads word {self.code[answer.pc][3] // 4}, which is not given")
        return answer

    def resume(self, state: State, data: Sequence[int]) -> int | State:
        """Go on from `state` to the answer, or to the first load of a word that `data` does not reach.

        With the number and the architecture alone as `data`, an answer is the answer for all arguments.
        """
        code, pc, a, x, memory = self.code, state.pc, state.a, state.x, dict(state.memory)
        while True:
            op, jt, jf, k = code[pc]
            pc += 1
            if op == JMP | JEQ | K:
                pc += jt if a == k else jf
            elif op == LD | ABS:
                if k >> 2 >= len(data):
                    return State(pc - 1, a, x, memory)
                a = data[k >> 2]
            elif op == JMP | JA:
                pc += k
            elif op == RET | K:
                return k
            elif op == RET | A:
                return a
            elif op & 7 == JMP:
                pc += jt if COMPARE[op & 0xF0](a, x if op & X else k) else jf
            elif op & 7 == ALU:
                other = x if op & X else k
                if op == ALU | DIV | X and x == 0:
                    # bpf_convert_filter: a division by zero ends the filter with the answer 0.
                    return 0
                a = ARITHMETIC[op & 0xF0](a, other)
            elif op == LD | IMM:
                a = k
            elif op == LDX | IMM:
                x = k
            elif op == LD | MEM:
                a = memory[k]
            elif op == LDX | MEM:
                x = memory[k]
            elif op == ST:
                memory[k] = a
            elif op == STX:
                memory[k] = x
            elif op == MISC | TAX:
                x = a
            elif op == MISC | TXA:
                a = x
            elif op == LD | LEN:
                a = DATA_BYTES
            else:
                x = DATA_BYTES


def words(number: int, arch: int, arguments: Sequence[int] = (), pointer: int = 0) -> list[int]:
    """Return a little-endian `struct seccomp_data` as its sixteen words; arguments left out are 0."""
    found = [number & _WORD, arch]
    for value in (pointer, *arguments, *[0] * (ARGUMENTS - len(arguments))):
        found += [value & _WORD, value >> 32 & _WORD]
    return found


def check(code: Sequence[Instruction]) -> None:
    """Refuse what the kernel refuses to load. Raises BadFilter, which names the instruction."""
    if not 0 < len(code) <= MOST_INSTRUCTIONS:
        raise BadFilter(None, f"a filter has 1 to {MOST_INSTRUCTIONS} instructions, and this one {len(code)}")
    for at, instruction in enumerate(code):
        _check_form(at, instruction)
        for target in targets(at, instruction):
            if target >= len(code):
                raise BadFilter(at, f"it jumps to {target}, behind the last instruction")
    if code[-1][0] & 7 != RET:
        raise BadFilter(len(code) - 1, "the last instruction is no return")
    _check_memory(code)


def targets(at: int, instruction: Instruction) -> Iterator[int]:
    """Yield where an instruction can go on; nothing for a return."""
    op, jt, jf, k = instruction
    if op == JMP | JA:
        yield at + 1 + k
    elif op & 7 == JMP:
        yield at + 1 + jt
        yield at + 1 + jf
    elif op & 7 != RET:
        yield at + 1


def _check_form(at: int, instruction: Instruction) -> None:
    op, _, _, k = instruction
    if op not in _ALLOWED:
        raise BadFilter(at, f"{op:#06x} is no instruction of a seccomp filter")
    if op == LD | ABS and (k >= DATA_BYTES or k & 3):
        raise BadFilter(at, f"it loads from {k}: a word of seccomp_data begins at 0, 4, … {DATA_BYTES - 4}")
    if op == ALU | DIV | K and k == 0:
        raise BadFilter(at, "it divides by zero")
    if op in (ALU | LSH | K, ALU | RSH | K) and k >= 32:
        raise BadFilter(at, f"it shifts a word of 32 bits by {k}")
    if op in (LD | MEM, LDX | MEM, ST, STX) and k >= _MEMORY_WORDS:
        raise BadFilter(at, f"it uses M[{k}], and the last is M[{_MEMORY_WORDS - 1}]")


def _check_memory(code: Sequence[Instruction]) -> None:
    """Refuse a load of what was not stored on every way there (check_load_and_stores)."""
    everything = (1 << _MEMORY_WORDS) - 1
    stored = [0] + [everything] * (len(code) - 1)
    for at, instruction in enumerate(code):
        op, _, _, k = instruction
        now = stored[at]
        if op in (LD | MEM, LDX | MEM) and not now >> k & 1:
            raise BadFilter(at, f"it loads M[{k}], which was not stored on every way there")
        if op in (ST, STX):
            now |= 1 << k
        for target in targets(at, instruction):
            stored[target] &= now
