"""Rules of a seccomp profile that do not do what they say: lost, joined by "or", or walked around.

Sources: seccomp_rule_add(3), seccomp(2), libseccomp#383; each was demonstrated with libseccomp 2.5.4 under
runc 1.1 and crun 1.8.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checks.seccomp_verdict import PASSING, profile_of
from pipeline.checks.subject import LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import Seccomp, Syscall, SyscallArgument

_PATH = "linux.seccomp"
_ORDERED = ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE")
_KILLS_THREAD = ("SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD")
_INT = 0xFFFFFFFF
# The arguments that section 2 of the manual declares as int or unsigned int (clone: lower_32_bits() in
# kernel/fork.c), of the calls that profiles filter by them.
_INTEGERS = {
    "accept4": (0, 3),
    "bpf": (0,),
    "clone": (0,),
    "close": (0,),
    "epoll_ctl": (0, 1, 2),
    "fcntl": (0, 1),
    "futex": (1,),
    "getsockopt": (0, 1, 2),
    "ioctl": (0, 1),
    "keyctl": (0,),
    "kill": (0, 1),
    "madvise": (2,),
    "memfd_create": (1,),
    "open": (1,),
    "openat": (0, 2),
    "perf_event_open": (1, 2, 3),
    "personality": (0,),
    "pipe2": (1,),
    "prctl": (0,),
    "prlimit64": (0, 1),
    "quotactl": (0,),
    "sched_setscheduler": (0, 1),
    "seccomp": (0, 1),
    "setns": (0, 1),
    "setsockopt": (0, 1, 2),
    "shutdown": (0, 1),
    "socket": (0, 1, 2),
    "socketpair": (0, 1, 2),
    "tgkill": (0, 1, 2),
    "tkill": (0, 1),
    "userfaultfd": (0,),
    "wait4": (0, 2),
}
# Calls of 32-bit conventions that hold others, and where they exist (socketcall(2), ipc(2)).
_MULTIPLEXED = frozenset({"socketcall", "ipc"})
_WITH_MULTIPLEXED = frozenset(
    {"SCMP_ARCH_X86", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64LE"}
)


def argument_tests(subject: Subject) -> Findings:
    """What the kernel reads in 32 bits is compared under a mask."""
    for path, rule in _rules(subject):
        for position, arg in enumerate(rule.args or ()):
            names = [name for name in rule.names if arg.index in _INTEGERS.get(name, ())]
            if names and rule.action in PASSING:
                yield from _compared(names, arg, f"{path}.args[{position}]")


def _compared(names: list[str], arg: SyscallArgument, path: str) -> Findings:
    what = f"argument {arg.index} of {', '.join(names)}"
    mend = f"list what is allowed by SCMP_CMP_MASKED_EQ with the mask {_INT:#x}"
    if arg.op in _ORDERED:
        message = f"{arg.op} compares 64 bits, and the kernel reads 32 of {what}: a high bit passes any value"
        yield Finding("seccomp-walked-around", MEDIUM, message, path, mend, "libseccomp#383, as measured")
    elif arg.op == "SCMP_CMP_EQ" and names != ["socket"]:
        message = f"{what} is an int and compared in 64 bits: callers that leave high bits set fail"
        yield Finding("seccomp-wide-integer", LOW, message, path, mend, "libseccomp#383, as measured")


def joined_by_or(subject: Subject) -> Findings:
    """No two "not this value" of one argument: rules are joined by "or", so both values pass."""
    seen: dict[tuple[str, int], int] = {}
    for path, rule in _rules(subject):
        args = rule.args or ()
        # runtimes make a rule that tests one argument twice into as many rules.
        single = len(args) == 1 or len({arg.index for arg in args}) < len(args)
        unequal = [arg for arg in args if arg.op == "SCMP_CMP_NE"]
        if rule.action not in PASSING or not single:
            continue
        for name in rule.names:
            for arg in unequal:
                first = seen.setdefault((name, arg.index), arg.value)
                if first != arg.value:
                    message = (
                        f"`{name}` passes unless argument {arg.index} is {first}, or unless it is "
                        f"{arg.value}: any value does one of the two"
                    )
                    mend = "list what is allowed by SCMP_CMP_MASKED_EQ"
                    yield Finding("seccomp-two-ne", MEDIUM, message, path, mend, "seccomp_rule_add(3)")


def lost_rules(subject: Subject) -> Findings:
    """No denial stands beside an allowance that swallows it."""
    outright = {
        name for _, rule in _rules(subject) if rule.action in PASSING and not rule.args for name in rule.names
    }
    for path, rule in _rules(subject):
        lost = [name for name in rule.names if name in outright]
        if lost and rule.action not in PASSING:
            message = f"{', '.join(lost)} is allowed outright as well: this {rule.action} never happens"
            mend = "drop one of the two rules"
            yield Finding("seccomp-shadowed", MEDIUM, message, path, mend, "seccomp_rule_add(3), as measured")


def actions(subject: Subject) -> Findings:
    """Each action refuses what it seems to refuse."""
    profile = profile_of(subject)
    if profile is None:
        return
    if profile.default_action == "SCMP_ACT_ERRNO" and profile.default_errno_ret == 0:
        yield _errno_zero(f"{_PATH}.defaultErrnoRet")
    for path, rule in _rules(subject):
        if rule.action == "SCMP_ACT_ERRNO" and rule.errno_ret == 0:
            yield _errno_zero(f"{path}.errnoRet")
        elif rule.action == "SCMP_ACT_LOG" and profile.default_action not in PASSING:
            message = f"SCMP_ACT_LOG lets {_some(rule)} through, and only notes it"
            mend = "write SCMP_ACT_ALLOW if that is meant, or drop the rule"
            yield Finding("seccomp-log-allows", MEDIUM, message, f"{path}.action", mend, "seccomp(2)")
        elif rule.action in _KILLS_THREAD:
            message = f"{_some(rule)} kills one thread; the others wait for it for ever"
            mend = "write SCMP_ACT_KILL_PROCESS or SCMP_ACT_ERRNO"
            yield Finding("seccomp-rule-kills-thread", MEDIUM, message, f"{path}.action", mend, "seccomp(2)")


def multiplexed(subject: Subject) -> Findings:
    """No call is open that holds all others of its kind behind a pointer."""
    profile = profile_of(subject)
    listed = set(profile.architectures or ()) if profile else set()
    for path, rule in _rules(subject):
        found = [name for name in rule.names if name in _MULTIPLEXED]
        if found and rule.action in PASSING and listed & _WITH_MULTIPLEXED:
            where = ", ".join(sorted(listed & _WITH_MULTIPLEXED))
            message = f"{', '.join(found)} is open for {where}: what it does lies behind a pointer"
            mend = "list the native architecture alone, or drop the name"
            yield Finding("seccomp-multiplexed", MEDIUM, message, path, mend, "socketcall(2); CVE-2026-31431")


def personality(subject: Subject) -> Findings:
    """personality(2) cannot switch protections of memory off."""
    for path, rule in _rules(subject):
        if "personality" in rule.names and rule.action in PASSING and not rule.args:
            message = "personality is open for all: ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC"
            mend = "allow argument 0, masked with 0xffffffff, for 0 (PER_LINUX) and 0xffffffff (to ask)"
            yield Finding("seccomp-personality", LOW, message, path, mend, "personality(2); moby profiles")


def _errno_zero(path: str) -> Finding:
    message = "errno 0 tells the program that the call succeeded, though nothing was done"
    return Finding(
        "seccomp-errno-zero", MEDIUM, message, path, "write 1 (EPERM) or 38 (ENOSYS)", "seccomp(2)"
    )


def _rules(subject: Subject) -> Iterator[tuple[str, Syscall]]:
    """Each rule and its place in config.json; none where everything passes anyway."""
    profile: Seccomp | None = profile_of(subject)
    if profile is not None and profile.default_action not in PASSING:
        for index, rule in enumerate(profile.syscalls or ()):
            yield f"{_PATH}.syscalls[{index}]", rule


def _some(rule: Syscall) -> str:
    return rule.names[0] if len(rule.names) == 1 else f"{rule.names[0]} and {len(rule.names) - 1} more"
