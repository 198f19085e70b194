"""What a seccomp profile lets through that it should not: ways out, wide filters, others who decide.

Sources: seccomp(2), seccomp_unotify(2), libseccomp's seccomp_rule_add(3), moby profiles/seccomp, clone(2).
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.checks.seccomp_verdict import ESCAPES, PASSING, Verdict, passes, profile_of, verdict
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import SyscallArgument

_PATH = "linux.seccomp"
_OPEN = (Verdict.ALLOWED, Verdict.CONDITIONAL)
_DECIDED_ELSEWHERE = ("SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE")
# CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h).
_NEW_NAMESPACES = 0x7E020000
_INT = 0xFFFFFFFF
_FAMILIES = frozenset({1, 2, 10, 16})
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK."""


def clone3(subject: Subject) -> Findings:
    """clone3 says ENOSYS or works: glibc falls back to clone only on ENOSYS."""
    profile = profile_of(subject)
    if profile is None:
        return
    found = verdict(profile, "clone3")
    if found is Verdict.REFUSED:
        message = "clone3 is refused, not absent: where no runtime patches the filter, no thread can be made"
        mend = "add clone3 with SCMP_ACT_ERRNO and errnoRet 38 (ENOSYS)"
        yield Finding("seccomp-clone3", MEDIUM, message, _PATH, mend, "moby profiles; crun as measured")
    elif found in _OPEN and verdict(profile, "clone") is not Verdict.ALLOWED:
        message = "clone is filtered and clone3 is open: its flags lie behind a pointer no filter can read"
        yield Finding(
            "seccomp-clone3", HIGH, message, _PATH, "make clone3 ENOSYS (errnoRet 38)", "moby profiles"
        )


def escapes(subject: Subject) -> Findings:
    """Nothing is open that is known as a way out, whatever its arguments (rule 35)."""
    profile = profile_of(subject)
    if profile is None or profile.default_action in PASSING:
        return
    held = subject.granted & {"CAP_SYS_ADMIN"}
    open_calls = [name for name in ESCAPES if verdict(profile, name) in _OPEN]
    if open_calls and not held:
        message = f"known ways out are allowed: {', '.join(open_calls)}"
        yield Finding("seccomp-escape", HIGH, message, _PATH, "take them out", "moby profiles; CIS 5.22")


def clone_arguments(subject: Subject) -> Findings:
    """clone makes threads and processes and no namespaces: they are the way to most bugs of the kernel."""
    profile = profile_of(subject)
    if profile is None or profile.default_action in PASSING:
        return
    index = 1 if subject.host.architecture == "s390x" else 0
    unsafe = [way for way in passes(profile, "clone") if not any(_no_namespace(arg, index) for arg in way)]
    if unsafe and "CAP_SYS_ADMIN" not in subject.granted:
        message = "clone is open for flags that make new namespaces" + _but(unsafe)
        mend = "allow clone where argument 0 masked with 0x7e020000 is 0 (SCMP_CMP_MASKED_EQ)"
        yield Finding("seccomp-clone-flags", HIGH, message, _PATH, mend, "moby profiles; clone(2)")


def _no_namespace(arg: SyscallArgument, index: int) -> bool:
    masked = arg.index == index and arg.op == "SCMP_CMP_MASKED_EQ"
    return (
        masked
        and arg.value & _NEW_NAMESPACES == _NEW_NAMESPACES
        and not (arg.value_two or 0) & _NEW_NAMESPACES
    )


def socket_families(subject: Subject) -> Findings:
    """socket is open for the families of servers alone, and compared in the 32 bits that an int has."""
    profile = profile_of(subject)
    if profile is None or profile.default_action in PASSING:
        return
    ways = list(passes(profile, "socket"))
    unsafe = [way for way in ways if not any(_known_family(arg) for arg in way)]
    if unsafe:
        message = "socket is open for families like AF_ALG and AF_VSOCK" + _but(unsafe)
        mend = (
            "allow socket where argument 0 masked with 0xffffffff is AF_UNIX, AF_INET, AF_INET6 or AF_NETLINK"
        )
        yield Finding(
            "seccomp-socket-families", MEDIUM, message, _PATH, mend, "moby profiles; CVE-2026-31431"
        )
    elif any(arg.index == 0 and arg.op == "SCMP_CMP_EQ" for way in ways for arg in way):
        message = "socket's family is an int and compared in 64 bits: callers that leave high bits set fail"
        mend = "write SCMP_CMP_MASKED_EQ with the mask 0xffffffff"
        yield Finding("seccomp-wide-compare", LOW, message, _PATH, mend, "libseccomp#383, as measured")


def _known_family(arg: SyscallArgument) -> bool:
    if arg.index != 0:
        return False
    if arg.op == "SCMP_CMP_EQ":
        return arg.value in _FAMILIES
    # A mask that leaves out one of the 32 bits lets families through that differ in it.
    return arg.op == "SCMP_CMP_MASKED_EQ" and arg.value & _INT == _INT and (arg.value_two or 0) in _FAMILIES


def _but(unsafe: Iterable[tuple[SyscallArgument, ...]]) -> str:
    return ": the filter on its arguments does not keep them out" if all(unsafe) else ""


def decided_elsewhere(subject: Subject) -> Findings:
    """The filter itself decides: no tracer and no listener does, and no protection is switched off."""
    profile = profile_of(subject)
    if profile is None:
        return
    rules = [(f"{_PATH}.defaultAction", profile.default_action)]
    rules += [(f"{_PATH}.syscalls[{n}].action", rule.action) for n, rule in enumerate(profile.syscalls or ())]
    for path, action in rules:
        if action in _DECIDED_ELSEWHERE:
            message = f"{action} leaves the decision to another process, which can be fooled or absent"
            mend = "write SCMP_ACT_ERRNO or SCMP_ACT_ALLOW"
            yield Finding("seccomp-decided-elsewhere", HIGH, message, path, mend, "seccomp_unotify(2)")
    if profile.listener_path:
        message = "the filter is handed to a process of the host, which can let any call through"
        yield Finding(
            "seccomp-listener", HIGH, message, f"{_PATH}.listenerPath", "drop it", "seccomp_unotify(2)"
        )
    if "SECCOMP_FILTER_FLAG_SPEC_ALLOW" in (profile.flags or ()):
        message = "SPEC_ALLOW switches off the kernel's guard against reading memory by speculation"
        yield Finding("seccomp-spec-allow", MEDIUM, message, f"{_PATH}.flags", "drop it", "seccomp(2)")
