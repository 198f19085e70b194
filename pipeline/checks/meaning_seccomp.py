"""Meaning of a seccomp profile's own words: error numbers, listeners, conditions and rules that clash.

Sources: runtime-spec config-linux.md (seccomp), seccomp(2), seccomp_rule_add(3). What runc 1.1.5 and crun
1.8.1 do was measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import Seccomp, SyscallArgument

_PATH = "linux.seccomp"
_WITH_ERRNO = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_INT = 0xFFFFFFFF
_SPEC = "config-linux.md, seccomp"


def errors(subject: Subject) -> Findings:
    """Error numbers stand with actions that return them, and say that the call failed."""
    for path, action, errno in _errors(_profile(subject)):
        if errno is None:
            continue
        if action not in _WITH_ERRNO:
            message = f"{action} returns no error number: crun refuses the profile, runc passes over it"
            yield Finding("seccomp-errno-unused", HIGH, message, path, "drop it", f"{_SPEC}: MUST fail")
        elif errno == 0 and action == "SCMP_ACT_ERRNO":
            message = "the error number 0 tells the program that the call succeeded, though nothing was done"
            yield Finding("seccomp-errno-zero", HIGH, message, path, "write 1 (EPERM)", "seccomp(2)")


def _errors(profile: Seccomp | None) -> Iterator[tuple[str, str, int | None]]:
    if profile is None:
        return
    yield f"{_PATH}.defaultErrnoRet", profile.default_action, profile.default_errno_ret
    for index, rule in enumerate(profile.syscalls or ()):
        yield f"{_PATH}.syscalls[{index}].errnoRet", rule.action, rule.errno_ret


def listener(subject: Subject) -> Findings:
    """Who answers for SCMP_ACT_NOTIFY is named, and only then."""
    profile = _profile(subject)
    if profile is None:
        return
    actions = {profile.default_action, *(rule.action for rule in profile.syscalls or ())}
    asks = "SCMP_ACT_NOTIFY" in actions
    if profile.listener_metadata is not None and not profile.listener_path:
        message = "`listenerMetadata` without `listenerPath`: there is nobody to tell it to"
        path = f"{_PATH}.listenerMetadata"
        yield Finding("seccomp-metadata", HIGH, message, path, "drop it", f"{_SPEC}: MUST NOT")
    if asks and not profile.listener_path:
        message = (
            "SCMP_ACT_NOTIFY without `listenerPath`: nobody answers, and both runtimes refuse the profile"
        )
        yield Finding("seccomp-nobody-listens", HIGH, message, _PATH, "add `listenerPath`", _SPEC)
    if profile.listener_path and not profile.listener_path.startswith("/"):
        message = f"the socket `{profile.listener_path}` is relative, and to what is nowhere said"
        yield Finding("seccomp-listener-relative", HIGH, message, f"{_PATH}.listenerPath", "", _SPEC)
    if not asks and "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in (profile.flags or ()):
        message = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without SCMP_ACT_NOTIFY: the kernel refuses it"
        yield Finding("seccomp-flag", HIGH, message, f"{_PATH}.flags", "drop it", "seccomp(2)")


def conditions(subject: Subject) -> Findings:
    """Conditions on arguments can be met, and can be failed."""
    profile = _profile(subject)
    for number, rule in enumerate((profile.syscalls if profile else None) or ()):
        for index, condition in enumerate(rule.args or ()):
            path = f"{_PATH}.syscalls[{number}].args[{index}]"
            yield from _condition(condition, path)
        if any(a == b for n, a in enumerate(rule.args or ()) for b in (rule.args or ())[:n]):
            message = f"{rule.names[0]} has one condition twice"
            path = f"{_PATH}.syscalls[{number}].args"
            yield Finding("seccomp-condition-duplicate", LOW, message, path, "keep one", _SPEC)


def _condition(condition: SyscallArgument, path: str) -> Findings:
    second = condition.value_two or 0
    if condition.op != "SCMP_CMP_MASKED_EQ":
        if second:
            message = f"`valueTwo` is for SCMP_CMP_MASKED_EQ; {condition.op} passes over it"
            yield Finding("seccomp-second-value", MEDIUM, message, f"{path}.valueTwo", "drop it", _SPEC)
    elif second & ~condition.value:
        message = f"{second:#x} has bits that the mask {condition.value:#x} takes away: it is never met"
        mend = "`value` is the mask, `valueTwo` what is left"
        yield Finding("seccomp-never-met", HIGH, message, path, mend, "seccomp_rule_add(3)")
    elif condition.value == 0:
        message = "the mask is 0: the condition is always met"
        yield Finding("seccomp-always-met", HIGH, message, f"{path}.value", "", "seccomp_rule_add(3)")


def families(subject: Subject) -> Findings:
    """Families of sockets that are listed are ones, and hold for pairs of sockets too (socketpair(2))."""
    profile = _profile(subject)
    rules = [
        (number, rule)
        for number, rule in enumerate((profile.syscalls if profile else None) or ())
        if rule.action == "SCMP_ACT_ALLOW" and {"socket", "socketpair"} & set(rule.names)
    ]
    for number, rule in rules:
        for index, condition in enumerate(rule.args or ()):
            if condition.index == 0 and _is_equal(condition) and _wanted(condition) == 0:
                message = f"{rule.names[0]} is allowed for the family 0 alone, which is none: it always fails"
                path = f"{_PATH}.syscalls[{number}].args[{index}]"
                mend = "name a family, such as 1 (AF_UNIX)"
                yield Finding("seccomp-family-none", MEDIUM, message, path, mend, "socket(2), AF_UNSPEC")
    sockets = [rule for _, rule in rules if "socket" in rule.names]
    is_listed = bool(sockets) and all(any(map(_is_equal, rule.args or ())) for rule in sockets)
    for number, rule in rules:
        if is_listed and "socketpair" in rule.names and not rule.args:
            message = "socketpair is allowed for every family, though socket is for those that are listed"
            path = f"{_PATH}.syscalls[{number}]"
            mend = "allow it where its first argument is 1 (AF_UNIX)"
            # The kernel makes pairs for AF_UNIX and TIPC alone.
            yield Finding("seccomp-socketpair", LOW, message, path, mend, "socketpair(2)")


def _is_equal(condition: SyscallArgument) -> bool:
    """True for a condition on the family that one value alone meets."""
    if condition.index != 0:
        return False
    is_masked = condition.op == "SCMP_CMP_MASKED_EQ" and condition.value & _INT == _INT
    return is_masked or condition.op == "SCMP_CMP_EQ"


def _wanted(condition: SyscallArgument) -> int:
    second = condition.value_two or 0
    return second if condition.op == "SCMP_CMP_MASKED_EQ" else condition.value


def clashes(subject: Subject) -> Findings:
    """A call is decided once: of two rules without conditions, which one wins is the library's choice."""
    profile = _profile(subject)
    decided: dict[str, tuple[str, int | None]] = {}
    for number, rule in enumerate((profile.syscalls if profile else None) or ()):
        for index, name in enumerate(rule.names):
            if rule.args:
                continue
            verdict = (rule.action, rule.errno_ret)
            path = f"{_PATH}.syscalls[{number}].names[{index}]"
            if name in decided and decided[name] != verdict:
                message = f"{name} is decided twice: {decided[name][0]} and {rule.action}"
                yield Finding("seccomp-clash", HIGH, message, path, "keep one", "seccomp_rule_add(3)")
            elif name in decided:
                yield Finding("seccomp-duplicate", LOW, f"{name} is named twice", path, "keep one")
            decided[name] = verdict
    twice = [a for n, a in enumerate(_architectures(profile)) if a in _architectures(profile)[:n]]
    if twice:
        path = f"{_PATH}.architectures"
        yield Finding("seccomp-duplicate", LOW, f"{twice[0]} is there twice", path, "keep one")


def _architectures(profile: Seccomp | None) -> tuple[str, ...]:
    return (profile.architectures if profile else None) or ()


def _profile(subject: Subject) -> Seccomp | None:
    return subject.config.linux.seccomp if subject.config.linux else None
