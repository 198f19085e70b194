"""What a seccomp profile does with a call, and the calls that should not be open.

Sources: seccomp(2); moby profiles/seccomp, what Docker denies without capabilities; config-linux.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from pipeline.checks.subject import Subject
from pipeline.model.runtime_resources import Seccomp, Syscall, SyscallArgument

PASSING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
_ENOSYS = 38
# Docker denies them without capabilities; each has been a way out of a container or into the kernel.
ESCAPES = (
    *("bpf", "delete_module", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module"),
    *("io_uring_enter", "io_uring_register", "io_uring_setup", "kexec_file_load", "kexec_load", "keyctl"),
    *("add_key", "request_key", "mount", "mount_setattr", "move_mount", "open_by_handle_at", "open_tree"),
    *("perf_event_open", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "reboot", "setns"),
    *("swapon", "swapoff", "umount", "umount2", "unshare", "userfaultfd", "acct", "chroot", "clock_settime"),
    *("fanotify_init", "ioperm", "iopl", "kcmp", "lookup_dcookie", "name_to_handle_at", "pidfd_getfd"),
    *("process_madvise", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "settimeofday", "stime"),
    *("syslog", "open_tree_attr", "vhangup", "uselib", "create_module", "query_module", "get_kernel_syms"),
    *("nfsservctl", "_sysctl"),
)


class Verdict(Enum):
    """What a profile does with a call; ABSENT is a refusal with ENOSYS, on which libraries fall back."""

    ALLOWED = "allowed"
    CONDITIONAL = "conditional"
    REFUSED = "refused"
    ABSENT = "absent"


def verdict(profile: Seccomp, name: str) -> Verdict:
    """Return what the profile does with a call, whatever the architecture."""
    found = [rule for rule in profile.syscalls or () if name in rule.names]
    passing = [rule for rule in found if rule.action in PASSING]
    if any(not rule.args for rule in passing):
        return Verdict.ALLOWED
    if passing:
        return Verdict.CONDITIONAL
    refusals = [rule for rule in found if not rule.args]
    if refusals:
        return Verdict.ABSENT if refusals[0].errno_ret == _ENOSYS else Verdict.REFUSED
    if profile.default_action in PASSING:
        return Verdict.ALLOWED
    return Verdict.ABSENT if profile.default_errno_ret == _ENOSYS else Verdict.REFUSED


def refused(profile: Seccomp, names: frozenset[str]) -> list[str]:
    """Return the calls of a set that the profile never lets through."""
    return sorted(name for name in names if verdict(profile, name) in (Verdict.REFUSED, Verdict.ABSENT))


def profile_of(subject: Subject) -> Seccomp | None:
    """Return the subject's profile."""
    return subject.config.linux.seccomp if subject.config.linux else None


def passes(profile: Seccomp, name: str) -> Iterator[tuple[SyscallArgument, ...]]:
    """Yield each way through the filter for a call: what its arguments must fulfil at once.

    A rule that names one argument twice is as many rules, any of which will do (runc, crun).
    """
    for rule in profile.syscalls or ():
        if name in rule.names and rule.action in PASSING:
            yield from _alternatives(rule)


def _alternatives(rule: Syscall) -> Iterator[tuple[SyscallArgument, ...]]:
    args = rule.args or ()
    if len({arg.index for arg in args}) < len(args):
        yield from ((arg,) for arg in args)
    else:
        yield args
