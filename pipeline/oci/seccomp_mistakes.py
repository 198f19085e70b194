"""The known mistakes of seccomp profiles, each refused by its name, and what deserves a warning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from pipeline.errors import PipelineError, Place, suggest
from pipeline.oci.seccomp import Comparison, Rule, SyscallTable
from pipeline.oci.seccomp_operators import WHOLE, disjoint, span
from pipeline.oci.seccomp_tables import (
    ARCHITECTURE_NAMES,
    ESCAPES,
    MULTIPLEXED,
    NAMESPACE_FLAGS,
    NEWER_CALLS,
)

PlacedRules = Sequence[tuple[Rule, Place]]

_CLONE3 = (
    "its flags lie behind a pointer that no filter can read; after ENOSYS a libc uses `clone`:\n"
    "deny: [{errno: ENOSYS, reason: flags behind a pointer, names: [clone3]}]"
)


def mistakes(rules: PlacedRules, table: SyscallTable, default_error: str) -> Iterator[PipelineError]:
    """Yield every known mistake in a profile's rules, each at its place."""
    yield from _unknown(rules, table)
    yield from _multiplexed(rules)
    yield from _escapes(rules)
    yield from _repeated(rules)
    yield from _lost_errno(rules)
    yield from _cancelled(rules)
    yield from _unfiltered_clone(rules)
    yield from _clone3(rules, default_error)


def warnings(rules: PlacedRules, table: SyscallTable) -> Iterator[PipelineError]:
    """Yield what is no mistake but does not do all that a reader may think."""
    for rule, place in rules:
        if rule.name in NEWER_CALLS and not table.is_known(rule.name):
            kernel, library = NEWER_CALLS[rule.name]
            needs = f"Linux {kernel} and libseccomp {library or 'newer than 2.6.0'}"
            message = f"`{rule.name}` needs {needs}, and this is {table.version}: it stays refused here"
            yield PipelineError("newer-syscall", message, place=place)
        elif not any(rule.name in numbers for numbers in table.numbers.values()):
            message = f"`{rule.name}` exists neither on x86_64 nor on aarch64"
            if rule.name not in NEWER_CALLS:
                yield PipelineError("syscall-of-others", message, place=place)
        if rule.error is None and not rule.tests and rule.name in _WIDE:
            message = f"`{rule.name}` is open whatever its arguments: {_WIDE[rule.name]}"
            yield PipelineError(f"{rule.name}-unfiltered", message, place=place)


# socket(2); personality(2) with ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC.
_WIDE = {
    "socket": "AF_ALG, AF_VSOCK and whatever the kernel has",
    "personality": "it can switch off the randomised layout of memory",
}


def _unknown(rules: PlacedRules, table: SyscallTable) -> Iterator[PipelineError]:
    # Runtimes skip a name that they do not know, so a typo would deny without a word.
    known = {*NEWER_CALLS, *(name for numbers in table.numbers.values() for name in numbers)}
    for rule, place in rules:
        if rule.name not in NEWER_CALLS and not table.is_known(rule.name):
            meant = suggest(rule.name, known)
            yield PipelineError(
                "unknown-syscall",
                f"libseccomp {table.version} knows no syscall `{rule.name}`",
                place=place,
                hint=f"did you mean `{meant}`?" if meant else "syscalls(2) lists them",
            )


def _multiplexed(rules: PlacedRules) -> Iterator[PipelineError]:
    for rule, place in rules:
        if rule.name in MULTIPLEXED and rule.error is None:
            message = f"`{rule.name}` is {MULTIPLEXED[rule.name]} in one, and of 32-bit programs alone"
            yield PipelineError("multiplexed-call", message, place=place, hint="name the calls themselves")


def _escapes(rules: PlacedRules) -> Iterator[PipelineError]:
    for rule, place in rules:
        if rule.name in ESCAPES and rule.error is None and not rule.reason:
            yield PipelineError(
                "escape-without-reason",
                f"`{rule.name}` {ESCAPES[rule.name]}: a known way out of containers",
                place=place,
                hint=f"remove it, or say why on this entry: {{name: {rule.name}, reason: …}}",
            )


def _repeated(rules: PlacedRules) -> Iterator[PipelineError]:
    seen: dict[str, list[Rule]] = {}
    for rule, place in rules:
        others = seen.setdefault(rule.name, [])
        before = next((other for other in others if _meet(other, rule)), None)
        others.append(rule)
        if before is None or (before.tests and rule.tests and before.group == rule.group):
            continue
        if (before.error is None) != (rule.error is None):
            if not before.tests and not rule.tests:
                yield PipelineError(
                    "allowed-and-denied",
                    f"`{rule.name}` is both allowed and denied",
                    place=place,
                    hint=f"the other entry is in {_where(before)}; an allowed call is never denied: keep one",
                )
        else:
            yield PipelineError(
                "duplicate-syscall",
                f"`{rule.name}` is in {_where(before)} already",
                place=place,
                hint="keep one; two entries in one group are fine where both have `arguments`",
            )


def _lost_errno(rules: PlacedRules) -> Iterator[PipelineError]:
    """An errno for some arguments beside an allowance that covers them: libseccomp keeps one of the two."""
    for (one, first), (two, second) in combinations(rules, 2):
        if one.name != two.name or (one.error is None) == (two.error is None) or not _meet(one, two):
            continue
        if not (one.tests or two.tests) or _apart(one, two):
            continue
        denial, place = (one, first) if one.error else (two, second)
        yield PipelineError(
            "allow-beside-errno",
            f"`{one.name}` is allowed for some of the arguments for which this answers {denial.error}",
            place=place,
            hint="one of the two is lost without a word: let their `arguments` exclude each other",
        )


def _apart(one: Rule, two: Rule) -> bool:
    scope = one.only.architectures | two.only.architectures or set(ARCHITECTURE_NAMES.values())
    return any(
        a.index == b.index
        and all(
            disjoint(x, y)
            for arch in scope
            for x in a.comparisons.get(arch, ())
            for y in b.comparisons.get(arch, ())
        )
        for a in one.tests
        for b in two.tests
    )


def _cancelled(rules: PlacedRules) -> Iterator[PipelineError]:
    """Entries of one call are joined by "or": two `ne` of one argument let everything through."""
    spans: dict[tuple[str, int, str], list[tuple[int, int]]] = {}
    told: set[tuple[str, int]] = set()
    for rule, place in rules:
        if len(rule.tests) != 1 or rule.error is not None:
            continue
        (test,) = rule.tests
        for arch, found in test.comparisons.items():
            ranges = spans.setdefault((rule.name, test.index, arch), [])
            single = _covers(_spans(found))
            ranges += _spans(found)
            if (rule.name, test.index) not in told and _covers(ranges):
                told.add((rule.name, test.index))
                which = "this entry allows" if single else "the entries together allow"
                yield PipelineError(
                    "tests-cancel",
                    f"{which} `{rule.name}` for every value of argument {test.index}",
                    place=place,
                    hint="entries of one call are joined by “or”; list what is allowed with `in`",
                )


def _spans(found: Sequence[Comparison]) -> list[tuple[int, int]]:
    return [pair for comparison in found for pair in span(comparison) or ()]


def _covers(ranges: Sequence[tuple[int, int]]) -> bool:
    reached = -1
    for low, high in sorted(ranges):
        if low > reached + 1:
            return False
        reached = max(reached, high)
    return reached >= WHOLE


def _unfiltered_clone(rules: PlacedRules) -> Iterator[PipelineError]:
    for rule, place in rules:
        if rule.name == "clone" and rule.error is None and not rule.reason and not _no_namespaces(rule):
            yield PipelineError(
                "clone-unfiltered",
                "this `clone` may make namespaces, as `unshare` does",
                place=place,
                hint="test argument 0 `without` every CLONE_NEW… flag of clone(2), or give a `reason`",
            )


def _no_namespaces(rule: Rule) -> bool:
    return any(
        test.index == 0
        and all(
            found.value & NAMESPACE_FLAGS == NAMESPACE_FLAGS and not found.value_two & NAMESPACE_FLAGS
            for comparisons in test.comparisons.values()
            for found in comparisons
            if found.operator == "SCMP_CMP_MASKED_EQ"
        )
        for test in rule.tests
    )


def _clone3(rules: PlacedRules, default_error: str) -> Iterator[PipelineError]:
    clones = [place for rule, place in rules if rule.name == "clone" and rule.error is None]
    named = [(rule, place) for rule, place in rules if rule.name == "clone3"]
    for rule, place in named:
        if clones and rule.error != "ENOSYS":
            verdict = f"denied with {rule.error}" if rule.error else "too"
            message = f"`clone` is allowed and `clone3` is {verdict}"
            yield PipelineError("clone3-not-enosys", message, place=place, hint=_CLONE3)
    if clones and not named and default_error != "ENOSYS":
        message = "`clone` is allowed and `clone3` is not named"
        yield PipelineError("clone3-not-enosys", message, place=clones[0], hint=_CLONE3)


def _meet(one: Rule, two: Rule) -> bool:
    """True when both can apply at once, and neither is there to widen the other for a capability."""
    first, second = one.only, two.only
    apart = first.architectures and second.architectures and not first.architectures & second.architectures
    return not apart and first.capabilities == second.capabilities


def _where(rule: Rule) -> str:
    if rule.group == "probed":
        return "`default: probed`"
    return "`deny`" if rule.error else f"group `{rule.group}`"
