"""What a compiled filter answers to every system call: the table, simulated from its BPF.

Nothing here reads an answer out of a profile; profiles only say which arguments are worth trying.
Sources: seccomp(2) (the answers), linux/audit.h (architectures), linux/errno.h by `errno`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.files import sha256_bytes
from pipeline.oci.bpf import Filter, State, words
from pipeline.oci.bpf_paths import Way, arguments, example, ways
from pipeline.oci.verdict_points import points

# linux/audit.h: what a thread of this architecture has in seccomp_data.arch, and one of its 32-bit kin.
AUDIT = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_AARCH64": 0xC00000B7}
_OTHER = {"SCMP_ARCH_X86_64": 0x40000003, "SCMP_ARCH_AARCH64": 0x40000028}
# asm/unistd.h: __X32_SYSCALL_BIT.
_X32_BIT = 0x4000_0000
# A number that no architecture has given to a call, and the one by which a tracer skips a call.
_NO_CALLS = (1000, 0xFFFF_FFFF)

# seccomp(2): the upper 16 bits are the action, the lower 16 its data.
_ACTIONS = {
    0x8000_0000: "kill process",
    0x0000_0000: "kill thread",
    0x0003_0000: "trap",
    0x7FC0_0000: "notify",
    0x7FF0_0000: "trace",
    0x7FFC_0000: "log",
    0x7FFF_0000: "allow",
}
_ERRNO = 0x0005_0000
# linux/err.h: MAX_ERRNO, which kernel/seccomp.c holds the data to.
_MOST_ERRNO = 4095
OPEN = frozenset({"allow", "log", "notify", "trace"})
"""The verdicts by which a call can reach the kernel; who listens or traces may let it through."""


@dataclass(frozen=True)
class Call:
    """What a filter does with one call: one verdict, or one for each way its arguments can be."""

    verdict: str
    ways: tuple[Way, ...] = ()

    @property
    def open(self) -> tuple[Way, ...]:
        """The ways by which it reaches the kernel."""
        return tuple(way for way in self.ways if verdict(way.answer) in OPEN)


def table(
    documents: Mapping[str, Mapping[str, Any]],
    filters: Mapping[str, bytes],
    numbers: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Return the verdict of each architecture's filter on each of its calls.

    All three are keyed by the OCI name of the architecture: `linux.seccomp` of config.json, which says what
    arguments are worth trying; the exported BPF; and the numbers by name. Raises BadFilter.
    """
    made = {arch: _architecture(arch, documents[arch], filters[arch], numbers[arch]) for arch in filters}
    return {"version": 1, "architectures": made}


def verdict(answer: int) -> str:
    """Return a filter's answer in words: `allow`, `EPERM`, `kill process`, …

    An action that the kernel does not know kills the process (seccomp(2)).
    """
    action = answer & 0xFFFF_0000
    if action == _ERRNO:
        number = min(answer & 0xFFFF, _MOST_ERRNO)
        return errno.errorcode.get(number, f"errno {number}")
    return _ACTIONS.get(action, "kill process")


def call(program: Filter, arch: str, number: int, audit: int | None = None) -> Call:
    """Return what the filter does with a call, for all arguments at once."""
    known = (number, AUDIT[arch] if audit is None else audit)
    answer = program.resume(State(), known)
    if isinstance(answer, int):
        return Call(verdict(answer))
    found = ways(program, answer, known)
    verdicts = {verdict(way.answer) for way in found}
    if len(verdicts) == 1:
        return Call(verdicts.pop())
    return Call(verdict(program.run(words(*known))), tuple(found))


def beside(program: Filter, arch: str, numbers: Iterable[int]) -> dict[str, str]:
    """Return the verdicts on what is no call of the architecture.

    `other architecture` are the calls of its 32-bit kin, `x32` those with bit 30 set, `unknown` numbers
    that no call has. Several verdicts are joined by ` or `, the open ones first.
    """
    everything = sorted(numbers)
    found = {
        "other architecture": {_text(call(program, arch, n, _OTHER[arch])) for n in everything},
        "unknown": {_text(call(program, arch, n)) for n in _NO_CALLS},
    }
    if arch == "SCMP_ARCH_X86_64":
        found["x32"] = {_text(call(program, arch, n | _X32_BIT)) for n in everything}
    return {name: " or ".join(sorted(texts, key=_open_first)) for name, texts in found.items()}


def _text(found: Call) -> str:
    return " or ".join(sorted({verdict(w.answer) for w in found.ways} or {found.verdict}, key=_open_first))


def _open_first(text: str) -> tuple[bool, str]:
    return text not in OPEN, text


def _architecture(
    arch: str, document: Mapping[str, Any], content: bytes, numbers: Mapping[str, int]
) -> dict[str, Any]:
    program = Filter.read(content)
    calls = {name: call(program, arch, number) for name, number in numbers.items()}
    return {
        "calls": {name: _rows(program, arch, numbers[name], c, document, name) for name, c in calls.items()},
        "conditions": {name: _conditions(c) for name, c in calls.items() if c.ways},
        "beside": beside(program, arch, numbers.values()),
        "filter": {"instructions": len(program.code), "sha256": sha256_bytes(content)},
    }


def _rows(
    program: Filter, arch: str, number: int, found: Call, document: Mapping[str, Any], name: str
) -> str | list[dict[str, Any]]:
    if not found.ways:
        return found.verdict
    tried = [[0] * 6, *points(document, name), *map(_example, found.ways)]
    unique = dict.fromkeys(map(tuple, tried))
    return [
        {"args": _shown(args), "verdict": verdict(program.run(words(number, AUDIT[arch], args)))}
        for args in unique
    ]


def _example(way: Way) -> list[int]:
    return arguments(example(way.tests) or {})


def _shown(args: Sequence[int]) -> dict[str, str]:
    """The arguments that are not 0, in hexadecimal: numbers of 64 bits are no numbers to every reader."""
    return {str(index): hex(value) for index, value in enumerate(args) if value}


def _conditions(found: Call) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for way in found.ways:
        told.setdefault(verdict(way.answer), []).append(str(way))
    return {name: sorted(texts) for name, texts in told.items()}
