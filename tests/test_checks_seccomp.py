"""Each known mistake of a seccomp profile from elsewhere: what trips its rule, and what nearly does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.judged import Case, findings, rules
from tests.test_checks_rules import MASK, Change, add, both, extra, nothing, put

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def rule(names: str, *args: dict[str, Any], action: str = ALLOW, **more: Any) -> Change:
    """One more rule of the profile."""
    return add(
        "linux.seccomp.syscalls", {"names": names.split(), "action": action, "args": list(args), **more}
    )


def compare(index: int, op: str, value: int, second: int | None = None) -> dict[str, Any]:
    """A comparison."""
    found = {"index": index, "op": f"SCMP_CMP_{op}", "value": value}
    return found if second is None else {**found, "valueTwo": second}


def masked(index: int, value: int) -> dict[str, Any]:
    """Equality in the 32 bits that are read."""
    return compare(index, "MASKED_EQ", MASK, value)


def architectures(*names: str) -> Change:
    """The architectures that the profile lists."""
    return put("linux.seccomp.architectures", [f"SCMP_ARCH_{name}" for name in names])


DEFAULT = "linux.seccomp.defaultErrnoRet"
TABLE: list[tuple[str, Change, Change]] = [
    # Docker's own rule against AF_ALG and AF_VSOCK, which a high bit passes.
    (
        "seccomp-walked-around",
        both(rule("socket", compare(0, "LT", 38)), rule("socket", compare(0, "GT", 40))),
        both(rule("socket", masked(0, 1)), rule("socket", masked(0, 2))),
    ),
    *(
        ("seccomp-walked-around", rule(name, compare(index, op, 5)), rule("write", compare(2, op, 5)))
        for name, index, op in (("prctl", 0, "NE"), ("ioctl", 1, "LE"), ("setsockopt", 2, "GE"))
    ),
    (
        "seccomp-walked-around",
        rule("ioctl", compare(1, "NE", 0x5412)),
        rule("ioctl", compare(1, "NE", 0x5412), action=ERRNO, errnoRet=25),
    ),
    ("seccomp-wide-integer", rule("fcntl prctl", compare(1, "EQ", 1)), rule("fcntl", masked(1, 1))),
    ("seccomp-wide-integer", rule("personality", compare(0, "EQ", 0)), rule("lseek", compare(1, "EQ", 0))),
    (
        "seccomp-two-ne",
        both(rule("read", compare(2, "NE", 5)), rule("read", compare(2, "NE", 7))),
        both(rule("read", compare(2, "NE", 5)), rule("pread64", compare(2, "NE", 7))),
    ),
    # One rule that runc and crun make into two.
    (
        "seccomp-two-ne",
        rule("read", compare(2, "NE", 5), compare(2, "NE", 7)),
        rule("read", compare(0, "NE", 5), compare(2, "NE", 7)),
    ),
    (
        "seccomp-two-ne",
        both(rule("read", compare(2, "NE", 5)), rule("read", compare(2, "NE", 7))),
        both(rule("read", compare(2, "NE", 5)), rule("read", compare(2, "NE", 5), compare(0, "EQ", 1))),
    ),
    (
        "seccomp-shadowed",
        both(rule("ioctl"), rule("ioctl", masked(1, 0x5412), action=ERRNO, errnoRet=25)),
        both(rule("ioctl", masked(1, 1)), rule("ioctl", masked(1, 2), action=ERRNO, errnoRet=25)),
    ),
    (
        "seccomp-shadowed",
        rule("write", action="SCMP_ACT_KILL_PROCESS"),
        rule("writev", action="SCMP_ACT_KILL_PROCESS"),
    ),
    ("seccomp-errno-zero", put(DEFAULT, 0), put(DEFAULT, 1)),
    ("seccomp-errno-zero", rule("sync", action=ERRNO, errnoRet=0), rule("sync", action=ERRNO)),
    (
        "seccomp-errno-zero",
        both(put(DEFAULT, 0), nothing),
        both(put(DEFAULT, 0), put("linux.seccomp.defaultAction", "SCMP_ACT_KILL_PROCESS")),
    ),
    ("seccomp-log-allows", rule("sync", action="SCMP_ACT_LOG"), rule("sync")),
    (
        "seccomp-rule-kills-thread",
        rule("sync", action="SCMP_ACT_KILL_THREAD"),
        rule("sync", action="SCMP_ACT_KILL_PROCESS"),
    ),
    (
        "seccomp-multiplexed",
        both(architectures("X86_64", "X86"), rule("socketcall ipc")),
        both(architectures("X86_64"), rule("socketcall ipc")),
    ),
    (
        "seccomp-multiplexed",
        both(architectures("X86_64", "X86"), rule("socketcall")),
        both(architectures("X86_64", "X86"), rule("socketcall", action=ERRNO)),
    ),
    ("seccomp-foreign-architecture", architectures("X86_64", "X32"), architectures("X86_64")),
    ("seccomp-personality", rule("personality"), rule("personality", masked(0, 0))),
    (
        "seccomp-newer-call",
        both(rule("mseal"), extra(is_syscall="mseal".__ne__)),
        both(rule("mseal"), extra(is_syscall=lambda _: True)),
    ),
    (
        "seccomp-unknown-call",
        both(rule("msael"), extra(is_syscall="msael".__ne__)),
        both(rule("mseal"), extra(is_syscall="mseal".__ne__)),
    ),
]


@pytest.mark.parametrize(
    ("name", "trip", "miss"), TABLE, ids=[f"{n}-{row[0]}" for n, row in enumerate(TABLE)]
)
def test_each_mistake_trips_and_the_near_miss_passes(name: str, trip: Change, miss: Change) -> None:
    tripped, missed = Case(), Case()
    trip(tripped)
    miss(missed)
    assert name in rules(tripped)
    assert name not in rules(missed)


def test_a_profile_that_allows_by_default_is_told_that_alone() -> None:
    case = Case()
    both(put("linux.seccomp.defaultAction", ALLOW), rule("sync", action="SCMP_ACT_KILL_THREAD"))(case)
    assert rules(case) & {"seccomp-default-allows", "seccomp-rule-kills-thread"} == {"seccomp-default-allows"}


def test_what_is_said_names_call_argument_and_mend() -> None:
    case = Case()
    rule("socket", compare(0, "NE", 38))(case)
    (found,) = [f for f in findings(case) if f.rule == "seccomp-walked-around"]
    assert found.path == "linux.seccomp.syscalls[3].args[0]"
    assert found.message == (
        "SCMP_CMP_NE compares 64 bits, and the kernel reads 32 of argument 0 of socket: "
        "a high bit passes any value"
    )
    assert found.mend == "list what is allowed by SCMP_CMP_MASKED_EQ with the mask 0xffffffff"
    case = Case()
    both(rule("read", compare(2, "NE", 5)), rule("read", compare(2, "NE", 7)))(case)
    (found,) = [f for f in findings(case) if f.rule == "seccomp-two-ne"]
    assert found.message == (
        "`read` passes unless argument 2 is 5, or unless it is 7: any value does one of the two"
    )
