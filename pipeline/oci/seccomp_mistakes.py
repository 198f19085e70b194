"""The known mistakes of seccomp profiles, each refused by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.errors import PipelineError, Place, suggest
from pipeline.oci.seccomp import Rule, SyscallTable
from pipeline.oci.seccomp_tables import ESCAPES, NAMESPACE_FLAGS, NEWER_CALLS

PlacedRules = Sequence[tuple[Rule, Place]]

_CLONE3 = (
    "its flags lie behind a pointer that no filter can read; after ENOSYS a libc uses `clone`:\n"
    "deny: [{errno: ENOSYS, reason: flags behind a pointer, names: [clone3]}]"
)


def mistakes(rules: PlacedRules, table: SyscallTable) -> Iterator[PipelineError]:
    """Yield every known mistake in a source's rules, each at its place."""
    yield from _unknown(rules, table)
    yield from _escapes(rules)
    yield from _repeated(rules)
    yield from _unfiltered_clone(rules)
    yield from _clone3(rules)


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
    first: dict[str, Rule] = {}
    for rule, place in rules:
        before = first.setdefault(rule.name, rule)
        if before is rule:
            continue
        if (before.error is None) != (rule.error is None):
            yield PipelineError(
                "allowed-and-denied",
                f"`{rule.name}` is both allowed and denied",
                place=place,
                hint=f"the other entry is in {_where(before)}; an allowed call is never denied: keep one",
            )
        elif before.group != rule.group or not (before.tests and rule.tests):
            yield PipelineError(
                "duplicate-syscall",
                f"`{rule.name}` is in {_where(before)} already",
                place=place,
                hint="keep one; two entries in one group are fine where both have `arguments`",
            )


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
        test.index == 0 and test.values == (0,) and test.mask & NAMESPACE_FLAGS == NAMESPACE_FLAGS
        for test in rule.tests
    )


def _clone3(rules: PlacedRules) -> Iterator[PipelineError]:
    clones = [place for rule, place in rules if rule.name == "clone" and rule.error is None]
    named = [(rule, place) for rule, place in rules if rule.name == "clone3"]
    for rule, place in named:
        if clones and rule.error != "ENOSYS":
            verdict = f"denied with {rule.error}" if rule.error else "too"
            message = f"`clone` is allowed and `clone3` is {verdict}"
            yield PipelineError("clone3-not-enosys", message, place=place, hint=_CLONE3)
    if clones and not named:
        message = "`clone` is allowed and `clone3` is not named"
        yield PipelineError("clone3-not-enosys", message, place=clones[0], hint=_CLONE3)


def _where(rule: Rule) -> str:
    return "`deny`" if rule.error else f"group `{rule.group}`"
