"""What a filter leaves open on one architecture, small enough to check in, and what two of them differ in.

Both sides of a comparison are answers of filters, as conditions on arguments: what one opens and the other
does not is found exactly, with an example, and not by trying arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.oci.bpf import FIRST_ARGUMENT_WORD, Filter
from pipeline.oci.bpf_paths import Tests, arguments, beyond, from_words, in_words
from pipeline.oci.verdicts import OPEN, Call, beside, call

_ALWAYS: Tests = ()
_MOST_SHOWN = 3
# Calls whose first argument is a family of addresses (socket(2)), and the families to name first.
_OF_FAMILIES = ("socket", "socketpair")
_NOTABLE = ("AF_ALG", "AF_VSOCK", "AF_PACKET", "AF_NETLINK", "AF_UNIX", "AF_INET", "AF_INET6")
_MOST_FAMILIES = 6
# The arguments of which the kernel reads 32 bits (SYSCALL_DEFINEn; clone by `lower_32_bits()` in fork.c).
_INTS = {"clone": (0,), "fcntl": (0, 1), "ioctl": (0, 1), "personality": (0,), "prctl": (0,)}
_INTS |= dict.fromkeys(_OF_FAMILIES, (0, 1, 2))


@dataclass(frozen=True)
class Summary:
    """The open calls, each with the ways of its arguments by which it is; the verdict on each other one."""

    open: Mapping[str, tuple[Tests, ...]]
    refused: Mapping[str, str]
    beside: Mapping[str, str]

    @classmethod
    def of_filter(cls, content: bytes, arch: str, numbers: Mapping[str, int]) -> Summary:
        """Return what a filter leaves open. Raises BadFilter."""
        program = Filter.read(content)
        calls = {name: call(program, arch, number) for name, number in numbers.items()}
        opened = {name: _open(found) for name, found in calls.items()}
        return cls(
            {name: ways for name, ways in opened.items() if ways},
            {name: calls[name].verdict for name, ways in opened.items() if not ways},
            beside(program, arch, numbers.values()),
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Summary:
        """Return what `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        opened: dict[str, tuple[Tests, ...]] = dict.fromkeys(value["allowed"], (_ALWAYS,))
        for name, texts in value["conditional"].items():
            opened[name] = tuple(map(from_words, texts))
        return cls(opened, {}, dict(value["beside"]))

    def to_json(self) -> dict[str, Any]:
        """Return it for a pin: names of open calls, and conditions in words for those with any."""
        return {
            "allowed": sorted(name for name, ways in self.open.items() if _ALWAYS in ways),
            "conditional": {
                name: sorted(map(in_words, ways)) for name, ways in self.open.items() if _ALWAYS not in ways
            },
            "beside": dict(self.beside),
        }


@dataclass(frozen=True, order=True)
class Change:
    """One call that two filters judge otherwise: `gained`, `lost`, or refused in another way (`changed`)."""

    kind: str
    call: str
    what: str

    def __str__(self) -> str:
        sign = {"gained": "+", "lost": "−", "changed": "~"}[self.kind]
        return f"{sign} {self.call}" + (f": {self.what}" if self.what else "")

    def to_json(self) -> dict[str, str]:
        """Return it as JSON."""
        return {"call": self.call, "what": self.what}


def changes(old: Summary, new: Summary) -> list[Change]:
    """Return what `new` opens and `old` does not, the other way round, and what is refused otherwise."""
    found: list[Change] = []
    for name in sorted({*old.open, *new.open}):
        before, after = old.open.get(name, ()), new.open.get(name, ())
        found += _differences("gained", name, _seen(name, before), _seen(name, after))
        found += _differences("lost", name, _seen(name, after), _seen(name, before))
        if before != after and not (found and found[-1].call == name) and _differ(before, after):
            found.append(Change("changed", name, "in upper 32 bits alone, which the kernel does not read"))
    for name in sorted(old.refused.keys() & new.refused.keys()):
        if old.refused[name] != new.refused[name]:
            found.append(Change("changed", name, f"{old.refused[name]} -> {new.refused[name]}"))
    return [*found, *_beside(old.beside, new.beside)]


def count(found: Iterable[Change]) -> str:
    """Return `+2 −241`: the calls of which something was gained and of which something was lost."""
    kinds = [change.kind for change in found]
    return f"+{kinds.count('gained')} −{kinds.count('lost')}"


def _open(found: Call) -> tuple[Tests, ...]:
    if found.ways:
        return tuple(way.tests for way in found.open)
    return (_ALWAYS,) if found.verdict in OPEN else ()


def _seen(name: str, ways: tuple[Tests, ...]) -> tuple[Tests, ...]:
    """The ways as the kernel sees them: what a filter asks of bits that are not read is no condition.

    Or a filter that lets AF_ALG pass with a high bit set would seem to refuse it.
    """
    unread = {FIRST_ARGUMENT_WORD + 2 * index + 1 for index in _INTS.get(name, ())}
    return tuple(dict.fromkeys(tuple(test for test in way if test.word not in unread) for way in ways))


def _differ(one: tuple[Tests, ...], other: tuple[Tests, ...]) -> bool:
    return beyond(one, other) is not None or beyond(other, one) is not None


def _differences(kind: str, name: str, less: tuple[Tests, ...], more: tuple[Tests, ...]) -> Iterator[Change]:
    example = beyond(more, less)
    if example is None:
        return
    if not less and _ALWAYS in more:
        yield Change(kind, name, "")
        return
    state = "allowed" if kind == "gained" else "refused"
    families = sorted(_families(name, less, more), key=_notable_first)
    if families:
        more_of_them = len(families) - _MOST_FAMILIES
        rest = f" and {more_of_them} others" if more_of_them > 0 else ""
        yield Change(kind, name, f"{', '.join(families[:_MOST_FAMILIES])}{rest} now {state}")
        return
    ways = [in_words(way) for way in more if beyond([way], less) is not None]
    shown = " or ".join(ways[:_MOST_SHOWN])
    rest = f" or {len(ways) - _MOST_SHOWN} other ways" if len(ways) > _MOST_SHOWN else ""
    where = f" when {shown}{rest}" if ways != ["anything"] else " for other arguments"
    yield Change(kind, name, f"now {state}{where}, as {_shown(name, example)}")


def _families(name: str, less: tuple[Tests, ...], more: tuple[Tests, ...]) -> Iterator[str]:
    """The families by name that `more` opens and `less` does not, the other arguments being 0."""
    if name not in _OF_FAMILIES:
        return
    from socket import AddressFamily

    for family in AddressFamily:
        if _passes(more, int(family)) and not _passes(less, int(family)):
            yield family.name


def _notable_first(family: str) -> int:
    return _NOTABLE.index(family) if family in _NOTABLE else len(_NOTABLE)


def _passes(ways: tuple[Tests, ...], first: int) -> bool:
    words = {FIRST_ARGUMENT_WORD: first}
    return any(all(test.of(words.get(test.word, 0)) for test in way) for way in ways)


def _shown(name: str, example: Mapping[int, int]) -> str:
    values = arguments(example)
    last = max((index for index, value in enumerate(values) if value), default=0)
    return f"{name}({', '.join(map(hex, values[: last + 1]))})"


def _beside(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for what in sorted(old.keys() & new.keys()):
        if old[what] != new[what]:
            before, after = (any(word in OPEN for word in side[what].split(" or ")) for side in (old, new))
            kind = "gained" if after and not before else "lost" if before and not after else "changed"
            yield Change(kind, f"({what})", f"{old[what]} -> {new[what]}")
