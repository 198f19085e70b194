"""Where a bundle uses what runtimes treat in different ways: the seccomp profile.

Each function answers with the JSON paths of config.json where the feature is used; see model/truths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.seccomp_verdict import profile_of
from pipeline.checks.subject import Subject

Paths = Iterator[str]
_SECCOMP = "linux.seccomp"
_EPERM, _ENOSYS = 1, 38
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
_UNCOMMON_ACTIONS = ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY")


def seccomp(subject: Subject) -> Paths:
    """A seccomp profile."""
    if profile_of(subject):
        yield _SECCOMP


def seccomp_flags(subject: Subject) -> Paths:
    """A seccomp profile with flags."""
    profile = profile_of(subject)
    if profile and profile.flags:
        yield f"{_SECCOMP}.flags"


def seccomp_wait_killable(subject: Subject) -> Paths:
    """A seccomp profile with one certain flag (Linux 5.19)."""
    profile = profile_of(subject)
    if profile and _WAIT_KILLABLE in (profile.flags or ()):
        yield f"{_SECCOMP}.flags"


def seccomp_errno(subject: Subject) -> Paths:
    """A refusal with another errno than EPERM, the default (config-linux.md, seccomp)."""
    profile = profile_of(subject)
    if profile is None:
        return
    if profile.default_action == "SCMP_ACT_ERRNO" and profile.default_errno_ret not in (None, _EPERM):
        yield f"{_SECCOMP}.defaultErrnoRet"
    for index, rule in enumerate(profile.syscalls or ()):
        if rule.action == "SCMP_ACT_ERRNO" and rule.errno_ret not in (None, _EPERM):
            yield f"{_SECCOMP}.syscalls[{index}].errnoRet"


def seccomp_uncommon_actions(subject: Subject) -> Paths:
    """An action that came to seccomp later than the first ones."""
    profile = profile_of(subject)
    if profile is None:
        return
    if profile.default_action in _UNCOMMON_ACTIONS:
        yield f"{_SECCOMP}.defaultAction"
    for index, rule in enumerate(profile.syscalls or ()):
        if rule.action in _UNCOMMON_ACTIONS:
            yield f"{_SECCOMP}.syscalls[{index}].action"


def clone3_unlisted(subject: Subject) -> Paths:
    """A profile that does not name clone3 and refuses what it does not name with anything but ENOSYS."""
    profile = profile_of(subject)
    if profile is None or profile.default_action != "SCMP_ACT_ERRNO" or profile.default_errno_ret == _ENOSYS:
        return
    if not any("clone3" in rule.names for rule in profile.syscalls or ()):
        yield _SECCOMP


USES: dict[str, Callable[[Subject], Paths]] = {
    "seccomp": seccomp,
    "seccomp-flags": seccomp_flags,
    "seccomp-wait-killable": seccomp_wait_killable,
    "seccomp-errno": seccomp_errno,
    "seccomp-uncommon-actions": seccomp_uncommon_actions,
    "clone3-unlisted": clone3_unlisted,
}
