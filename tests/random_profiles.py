"""Random profiles for the tests that hold simulated verdicts against something else."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pipeline.oci.verdict_points import points

# Calls that are harmless with any arguments, allowed or not: they ignore them, or ask, or make a descriptor.
CALLS = (
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getppid", "sched_yield", "umask"),
    *("socket", "epoll_create1", "eventfd2", "inotify_init1", "timerfd_create", "dup"),
    *("getsid", "getpgid", "getpriority", "sched_getscheduler", "sched_get_priority_max", "ioprio_get"),
)
# No call fails with these: errno(3) ends at 133.
DEFAULT_ERROR, FIRST_ERROR, LAST_ERROR = 200, 201, 209
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")

_values = st.one_of(
    st.integers(0, 41),
    st.sampled_from([0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, (1 << 32) + 2, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)


@st.composite
def _arguments(draw: st.DrawFn) -> list[dict[str, Any]]:
    indices = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True))
    found = []
    for index in sorted(indices):
        operator, value = draw(st.sampled_from(OPERATORS)), draw(_values)
        argument = {"index": index, "op": f"SCMP_CMP_{operator}", "value": value}
        found.append({**argument, "valueTwo": draw(_values) & value} if operator == "MASKED_EQ" else argument)
    return found


@st.composite
def documents(draw: st.DrawFn, most_rules: int = 3, keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """A `linux.seccomp` whose rules are about some of CALLS; `keep` are allowed where nothing is by default.

    All rules of one call have one action, so that what they mean together is beyond doubt.
    """
    allows = draw(st.booleans())
    action: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}
    rules: list[dict[str, Any]] = []
    if not allows:
        action = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": DEFAULT_ERROR}
        rules = [{"names": list(keep), "action": "SCMP_ACT_ALLOW"}] if keep else []
    for name in draw(st.lists(st.sampled_from(CALLS), min_size=1, max_size=6, unique=True)):
        wants = {"action": "SCMP_ACT_ERRNO", "errnoRet": draw(st.integers(FIRST_ERROR, LAST_ERROR))}
        if not allows and draw(st.booleans()):
            wants = {"action": "SCMP_ACT_ALLOW"}
        tests = draw(st.lists(_arguments(), max_size=most_rules, unique_by=str))
        rules += [{"names": [name], **wants, "args": args} for args in tests or [[]]]
    return {**action, "syscalls": rules}


def questions(document: dict[str, Any], most: int = 40) -> list[tuple[str, tuple[int, ...]]]:
    """What to ask under a profile: each of CALLS with no arguments, and those tested with all around them."""
    asked: list[tuple[str, tuple[int, ...]]] = [(name, (0,) * 6) for name in CALLS]
    for name in CALLS:
        around = points(document, name)
        asked += [(name, point) for point in around[:: max(1, len(around) // most)]]
    return asked


def expected(document: dict[str, Any], name: str, arguments: tuple[int, ...]) -> int:
    """The errno that a profile means for a call, by the words of seccomp_rule_add(3); 0 for allowed."""
    for rule in document["syscalls"]:
        if name in rule["names"] and all(_holds(test, arguments) for test in rule.get("args", ())):
            return int(rule.get("errnoRet", 0))
    return int(document.get("defaultErrnoRet", 0))


def _holds(test: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    have, want = arguments[test["index"]], int(test["value"])
    passes: dict[str, bool] = {
        "SCMP_CMP_NE": have != want,
        "SCMP_CMP_LT": have < want,
        "SCMP_CMP_LE": have <= want,
        "SCMP_CMP_EQ": have == want,
        "SCMP_CMP_GE": have >= want,
        "SCMP_CMP_GT": have > want,
        "SCMP_CMP_MASKED_EQ": have & want == test.get("valueTwo"),
    }
    return passes[test["op"]]
