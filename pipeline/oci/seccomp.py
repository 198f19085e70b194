"""A seccomp profile: what it allows, as an OCI document and as a table for one architecture.

Pure: which names exist on an architecture comes in as a `SyscallTable`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from typing import Any

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform
from pipeline.oci.seccomp_tables import ARCHITECTURES, ESCAPES, NEWER_CALLS, NEWER_FORMS


@dataclass(frozen=True)
class SyscallTable:
    """What a version of libseccomp knows: number by name for each architecture (by its OCI name)."""

    version: str
    numbers: Mapping[str, Mapping[str, int]]
    is_known: Callable[[str], bool]


@dataclass(frozen=True)
class Comparison:
    """One comparison as config.json has it; for SCMP_CMP_MASKED_EQ `value` is the mask."""

    operator: str
    value: int
    value_two: int = 0


@dataclass(frozen=True)
class ArgumentTest:
    """What must hold of one argument: any one of the comparisons of an architecture (by its OCI name).

    `text` is how the source put it.
    """

    index: int
    text: str
    comparisons: Mapping[str, tuple[Comparison, ...]]

    @classmethod
    def masked(cls, index: int, mask: int, value: int, text: str) -> ArgumentTest:
        """The test that `argument & mask` is `value`, on every architecture."""
        found = (Comparison("SCMP_CMP_MASKED_EQ", mask, value),)
        return cls(index, text, dict.fromkeys(ARCHITECTURES.values(), found))


@dataclass(frozen=True)
class Only:
    """Where a rule applies: on these architectures (OCI names; none for all), with all these capabilities."""

    architectures: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()

    def holds(self, architecture: str, capabilities: Collection[str]) -> bool:
        """True when the rule applies there."""
        fits = not self.architectures or architecture in self.architectures
        return fits and self.capabilities <= set(capabilities)


@dataclass(frozen=True)
class Rule:
    """What happens to one syscall: allowed (`error` None) or failed with an errno's name.

    All of `tests` must hold; a name may have several rules, of which one must hold.
    """

    name: str
    group: str
    error: str | None = None
    tests: tuple[ArgumentTest, ...] = ()
    reason: str = ""
    only: Only = field(default_factory=Only)


@dataclass(frozen=True)
class Profile:
    """A profile as its source tells it, for every architecture and set of capabilities at once.

    `warnings` are what its source may well mean, and a reader should know.
    """

    description: str
    default_error: str
    groups: Mapping[str, str]
    rules: tuple[Rule, ...]
    warnings: tuple[PipelineError, ...] = ()

    @property
    def escapes(self) -> dict[str, str]:
        """The allowed calls that are known as ways out of a container, each with its reason."""
        return {r.name: r.reason for r in self.rules if r.error is None and r.name in ESCAPES}

    def calls_by_group(self) -> dict[str, dict[str, Any]]:
        """Each group's reason and the calls that it allows."""
        found: dict[str, dict[str, Any]] = {
            name: {"reason": reason, "calls": []} for name, reason in self.groups.items()
        }
        for rule in self.rules:
            if rule.error is None and rule.name not in found[rule.group]["calls"]:
                found[rule.group]["calls"].append(rule.name)
        return found

    def with_group(self, name: str, reason: str, calls: Iterable[str]) -> Profile:
        """Return the profile with one more group, of the calls that it does not allow outright yet."""
        outright = {r.name for r in self.rules if r.error is None and not r.tests and r.only == Only()}
        more = tuple(Rule(call, name, reason=reason) for call in sorted(set(calls) - outright))
        return replace(self, groups={**self.groups, name: reason}, rules=self.rules + more)


def architectures(platform: Platform) -> tuple[str, ...]:
    """Return the OCI names of the architectures whose calls a bundle for `platform` can make.

    Raises PipelineError `no-seccomp-architecture` where profiles cannot be resolved.
    """
    if platform.architecture not in ARCHITECTURES:
        raise PipelineError(
            "no-seccomp-architecture",
            f"no seccomp profile can be made for {platform}",
            hint=f"profiles are made for {', '.join(ARCHITECTURES)}; `seccomp: unconfined` goes without one",
        )
    return (ARCHITECTURES[platform.architecture],)


def in_force(profile: Profile, architecture: str, capabilities: Collection[str] = ()) -> list[Rule]:
    """Return the rules that decide on one architecture, for a process with these capabilities.

    What is allowed outright needs no conditions beside it, and no denial: libseccomp would let one of two
    such rules win without a word (seccomp_rule_add(3)).
    """
    here = [rule for rule in profile.rules if rule.only.holds(architecture, capabilities)]
    allowed = {rule.name for rule in here if rule.error is None}
    outright = {rule.name for rule in here if rule.error is None and not rule.tests}
    found: dict[object, Rule] = {}
    for rule in here:
        if rule.name in outright and (rule.tests or rule.error is not None):
            continue
        if rule.name in allowed and rule.error is not None and not rule.tests:
            continue
        found.setdefault(id(rule) if rule.tests else rule.name, rule)
    return list(found.values())


def oci_profile(
    profile: Profile, archs: Iterable[str], table: SyscallTable, capabilities: Collection[str] = ()
) -> dict[str, Any]:
    """Return `linux.seccomp` of config.json (runtime-spec config-linux.md, seccomp) for one architecture.

    `archs` has that one alone, as `architectures` returns it: constants and conditions depend on it. Holds
    only names that exist there; those that are newer than the library too, so that the document does not
    depend on its version: runtimes skip what theirs does not know.
    """
    (architecture,) = archs
    known = {*table.numbers[architecture], *NEWER_CALLS}
    rules = in_force(profile, architecture, capabilities)
    rules = [r for r in rules if r.name in known and r.error != profile.default_error]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno_number(profile.default_error),
        "architectures": [architecture],
        "syscalls": [*_plain(rules), *_conditional(rules, architecture)],
    }


def resolution(
    profile: Profile, architecture: str, table: SyscallTable, capabilities: Collection[str] = ()
) -> dict[str, Any]:
    """Return what the profile means on one architecture, and which of its names mean nothing there.

    `absent` exist on other architectures, `unknown` are newer than the library (name -> what knows them),
    `lacking` are absent ones whose newer form is not allowed (old -> new).
    """
    numbers = table.numbers[architecture]
    rules = in_force(profile, architecture, capabilities)
    here = [r for r in rules if r.name in numbers]
    absent = sorted({r.name for r in rules if r.name not in numbers and table.is_known(r.name)})
    allowed = {r.name for r in here if r.error is None}
    missed = {r.name for r in rules if r.error is None} & NEWER_FORMS.keys() & set(absent)
    return {
        "allowed": {r.name: numbers[r.name] for r in here if r.error is None and not r.tests},
        "conditional": _conditions(here),
        "errors": {r.name: r.error for r in here if r.error is not None and not r.tests},
        "absent": absent,
        "unknown": {r.name: _known_by(r.name) for r in rules if not table.is_known(r.name)},
        "lacking": {old: NEWER_FORMS[old] for old in sorted(missed) if NEWER_FORMS[old] not in allowed},
        "counts": {"allowed": len(allowed), "native": len(numbers)},
    }


def errno_names() -> frozenset[str]:
    """Return every name of an errno (errno(3))."""
    return frozenset(errno.errorcode.values())


def errno_number(name: str) -> int:
    """Return the number of an errno's name; those of x86_64 and aarch64 are equal (errno(3))."""
    return next(number for number, text in errno.errorcode.items() if text == name)


def _known_by(name: str) -> str:
    kernel, library = NEWER_CALLS.get(name, ("", ""))
    return f"Linux {kernel}, libseccomp {library}" if library else f"Linux {kernel}, no libseccomp yet"


def _plain(rules: Iterable[Rule]) -> Iterator[dict[str, Any]]:
    ordered = sorted((r for r in rules if not r.tests), key=lambda r: (r.error or "", r.name))
    for error, same in groupby(ordered, key=lambda r: r.error):
        yield {"names": [r.name for r in same], **_action(error)}


def _conditional(rules: Iterable[Rule], architecture: str) -> Iterator[dict[str, Any]]:
    # One OCI rule for each combination: two tests of one argument in one rule mean "or" to runc and an
    # error to libseccomp.
    for rule in sorted((r for r in rules if r.tests), key=lambda r: r.name):
        for chosen in product(*(test.comparisons[architecture] for test in rule.tests)):
            args = [_argument(t.index, found) for t, found in zip(rule.tests, chosen, strict=True)]
            yield {"names": [rule.name], "args": args, **_action(rule.error)}


def _argument(index: int, found: Comparison) -> dict[str, Any]:
    second = {"valueTwo": found.value_two} if found.operator == "SCMP_CMP_MASKED_EQ" else {}
    return {"index": index, "value": found.value, **second, "op": found.operator}


def _action(error: str | None) -> dict[str, Any]:
    if error is None:
        return {"action": "SCMP_ACT_ALLOW"}
    return {"action": "SCMP_ACT_ERRNO", "errnoRet": errno_number(error)}


def _conditions(rules: Iterable[Rule]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rule in rules:
        if rule.tests:
            text = " and ".join(t.text for t in rule.tests)
            found.setdefault(rule.name, []).append(text if rule.error is None else f"{text}: {rule.error}")
    return found
