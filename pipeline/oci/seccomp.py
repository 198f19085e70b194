"""A seccomp profile: what it allows, as an OCI document and as a table for one architecture.

Pure: which names exist on an architecture comes in as a `SyscallTable`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform
from pipeline.oci.seccomp_tables import ARCHITECTURES, ESCAPES


@dataclass(frozen=True)
class SyscallTable:
    """What a version of libseccomp knows: number by name for each architecture (by its OCI name)."""

    version: str
    numbers: Mapping[str, Mapping[str, int]]
    is_known: Callable[[str], bool]


@dataclass(frozen=True)
class ArgumentTest:
    """True when `argument & mask` is one of `values`; `text` is how the source put it."""

    index: int
    mask: int
    values: tuple[int, ...]
    text: str


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


@dataclass(frozen=True)
class Profile:
    """A profile as its source tells it, for every architecture at once."""

    description: str
    default_error: str
    groups: Mapping[str, str]
    rules: tuple[Rule, ...]

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


def oci_profile(profile: Profile, archs: Iterable[str], table: SyscallTable) -> dict[str, Any]:
    """Return `linux.seccomp` of config.json (runtime-spec config-linux.md, seccomp).

    Holds only names that exist on one of the architectures: runtimes skip others without a word.
    """
    known = set().union(*(table.numbers[arch] for arch in archs))
    rules = [r for r in profile.rules if r.name in known and r.error != profile.default_error]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno_number(profile.default_error),
        "architectures": list(archs),
        "syscalls": [*_plain(rules), *_conditional(rules)],
    }


def resolution(profile: Profile, arch: str, table: SyscallTable) -> dict[str, Any]:
    """Return what the profile means on one architecture, and which of its names mean nothing there."""
    numbers = table.numbers[arch]
    here = [r for r in profile.rules if r.name in numbers]
    allowed = {r.name: numbers[r.name] for r in here if r.error is None and not r.tests}
    names = {r.name for r in profile.rules}
    return {
        "allowed": allowed,
        "conditional": _conditions(here),
        "errors": {r.name: r.error for r in here if r.error is not None},
        "absent": sorted(n for n in names if n not in numbers and table.is_known(n)),
        "unknown": sorted(n for n in names if not table.is_known(n)),
        "counts": {
            "allowed": len({r.name for r in here if r.error is None}),
            "native": len(numbers),
        },
    }


def errno_names() -> frozenset[str]:
    """Return every name of an errno (errno(3))."""
    return frozenset(errno.errorcode.values())


def errno_number(name: str) -> int:
    """Return the number of an errno's name; those of x86_64 and aarch64 are equal (errno(3))."""
    return next(number for number, text in errno.errorcode.items() if text == name)


def _plain(rules: Iterable[Rule]) -> Iterator[dict[str, Any]]:
    ordered = sorted((r for r in rules if not r.tests), key=lambda r: (r.error or "", r.name))
    for error, same in groupby(ordered, key=lambda r: r.error):
        yield {"names": [r.name for r in same], **_action(error)}


def _conditional(rules: Iterable[Rule]) -> Iterator[dict[str, Any]]:
    # One OCI rule for each combination: two tests of one argument in one rule mean "or" to runc and an
    # error to libseccomp.
    for rule in sorted((r for r in rules if r.tests), key=lambda r: r.name):
        for values in product(*(test.values for test in rule.tests)):
            args = [
                {"index": t.index, "value": t.mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
                for t, value in zip(rule.tests, values, strict=True)
            ]
            yield {"names": [rule.name], "args": args, **_action(rule.error)}


def _action(error: str | None) -> dict[str, Any]:
    if error is None:
        return {"action": "SCMP_ACT_ALLOW"}
    return {"action": "SCMP_ACT_ERRNO", "errnoRet": errno_number(error)}


def _conditions(rules: Iterable[Rule]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rule in rules:
        if rule.tests:
            found.setdefault(rule.name, []).append(" and ".join(t.text for t in rule.tests))
    return found
