"""What a seccomp profile refuses that is needed, and allows that should not be.

Sources: seccomp(2), libseccomp's seccomp_rule_add(3), runc and crun as measured (see seccomp_floor).
"""

from __future__ import annotations

from enum import Enum

from pipeline.checks import seccomp_floor as floor
from pipeline.checks.program import Loader, interpreter_name, loader_of
from pipeline.checks.subject import CRITICAL, HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.errors import suggest
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import Seccomp

_PATH = "linux.seccomp"
_ENOSYS = 38
_NATIVE = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
_COMPATIBLE = {"amd64": {"SCMP_ARCH_X86", "SCMP_ARCH_X32"}, "arm64": {"SCMP_ARCH_ARM"}}
# Docker denies them without capabilities; each has been a way out of a container or into the kernel.
_ESCAPES = (
    *("bpf", "delete_module", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module"),
    *("io_uring_enter", "io_uring_register", "io_uring_setup", "kexec_file_load", "kexec_load", "keyctl"),
    *("add_key", "request_key", "mount", "mount_setattr", "move_mount", "open_by_handle_at", "open_tree"),
    *("perf_event_open", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "reboot", "setns"),
    *("swapon", "swapoff", "umount2", "unshare", "userfaultfd"),
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
    passes = [rule for rule in found if rule.action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")]
    if any(not rule.args for rule in passes):
        return Verdict.ALLOWED
    if passes:
        return Verdict.CONDITIONAL
    refusals = [rule for rule in found if not rule.args]
    if refusals:
        return Verdict.ABSENT if refusals[0].errno_ret == _ENOSYS else Verdict.REFUSED
    if profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        return Verdict.ALLOWED
    return Verdict.ABSENT if profile.default_errno_ret == _ENOSYS else Verdict.REFUSED


def refused(profile: Seccomp, names: frozenset[str]) -> list[str]:
    """Return the calls of a set that the profile never lets through."""
    return sorted(name for name in names if verdict(profile, name) in (Verdict.REFUSED, Verdict.ABSENT))


def confined(subject: Subject) -> Findings:
    """There is a profile, and what it does not name is refused (rule 33)."""
    profile = _profile(subject)
    if profile is None:
        message = "no seccomp profile: every call of the kernel is open to the program"
        mend = "drop `seccomp: unconfined`; the default profile fits most servers"
        yield Finding("seccomp-missing", CRITICAL, message, "linux", mend, "CIS 5.22; PSS seccompProfile")
    elif profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        message = f"the profile's default is {profile.default_action}: what it does not name is allowed"
        mend = "default SCMP_ACT_ERRNO, and name what is allowed"
        yield Finding("seccomp-default-allows", CRITICAL, message, f"{_PATH}.defaultAction", mend, "CIS 5.22")
    elif profile.default_action in ("SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"):
        message = "the default kills one thread; the others wait for it for ever"
        mend = "write SCMP_ACT_KILL_PROCESS or SCMP_ACT_ERRNO"
        yield Finding("seccomp-kills-thread", MEDIUM, message, f"{_PATH}.defaultAction", mend, "seccomp(2)")


def runtime_needs(subject: Subject) -> Findings:
    """The runtime itself can go on after it has loaded the filter."""
    profile = _profile(subject)
    if profile is None:
        return
    host, quiet = subject.host, bool(subject.process.no_new_privileges)
    needed = floor.runtime_floor(host.runtime, host.runtime_version, no_new_privileges=quiet)
    missing = refused(profile, floor.native(needed, host.architecture))
    if missing:
        calls = ", ".join(missing)
        message = f"{host.runtime} {host.runtime_version} itself needs {calls} before it starts the program"
        mend = f"allow {', '.join(missing)}"
        yield Finding(
            "seccomp-blocks-runtime", HIGH, message, _PATH, mend, "measured; see checks/seccomp_floor.py"
        )
    shaky = refused(profile, floor.GO_RUNTIME) if host.runtime == "runc" else []
    if shaky:
        message = f"runc is a Go program that now and then needs {', '.join(shaky)}: some starts would fail"
        yield Finding(
            "seccomp-blocks-runtime-sometimes",
            MEDIUM,
            message,
            _PATH,
            f"allow {', '.join(shaky)}",
            "measured",
        )


def program_needs(subject: Subject) -> Findings:
    """The loader, and node, can start (measured with glibc 2.36 and node 20)."""
    profile = _profile(subject)
    if profile is None:
        return
    architecture = subject.host.architecture
    loader = loader_of(subject)
    if loader is Loader.GLIBC:
        missing = refused(profile, floor.native(floor.GLIBC_LOADER, architecture))
        if missing:
            message = f"glibc's loader needs {', '.join(missing)} before the program's first line"
            mend = f"allow {', '.join(missing)}"
            yield Finding(
                "seccomp-blocks-loader", HIGH, message, _PATH, mend, "measured; see checks/seccomp_floor.py"
            )
    if interpreter_name(subject) == "node":
        yield from _node(profile, architecture)


def _node(profile: Seccomp, architecture: str) -> Findings:
    missing = refused(profile, floor.native(floor.NODE, architecture))
    if missing:
        message = f"node needs {', '.join(missing)} to start and to serve"
        yield Finding(
            "seccomp-blocks-program",
            HIGH,
            message,
            _PATH,
            f"allow {', '.join(missing)}",
            "measured with node 20",
        )
    work = refused(profile, floor.native(floor.NODE_WORK, architecture))
    if work:
        message = f"node uses {', '.join(work)} to write files and to start children: those would fail"
        yield Finding(
            "seccomp-blocks-work", MEDIUM, message, _PATH, f"allow {', '.join(work)}", "measured with node 20"
        )


def clone3(subject: Subject) -> Findings:
    """clone3 says ENOSYS or works: glibc falls back to clone only on ENOSYS."""
    profile = _profile(subject)
    if profile is None:
        return
    found = verdict(profile, "clone3")
    if found is Verdict.REFUSED:
        message = "clone3 is refused, not absent: where no runtime patches the filter, no thread can be made"
        mend = "add clone3 with SCMP_ACT_ERRNO and errnoRet 38 (ENOSYS)"
        yield Finding("seccomp-clone3", MEDIUM, message, _PATH, mend, "moby profiles; crun as measured")
    elif found is Verdict.ALLOWED and verdict(profile, "clone") is not Verdict.ALLOWED:
        message = "clone is filtered and clone3 is open: its flags lie behind a pointer no filter can read"
        yield Finding(
            "seccomp-clone3", HIGH, message, _PATH, "make clone3 ENOSYS (errnoRet 38)", "moby profiles"
        )


def escapes(subject: Subject) -> Findings:
    """Nothing is open that is known as a way out (rule 35)."""
    profile = _profile(subject)
    if profile is None or profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        return
    held = subject.granted & {"CAP_SYS_ADMIN"}
    open_calls = [name for name in _ESCAPES if verdict(profile, name) is Verdict.ALLOWED]
    if open_calls and not held:
        message = f"known ways out are allowed: {', '.join(open_calls)}"
        yield Finding("seccomp-escape", HIGH, message, _PATH, "take them out", "moby profiles; CIS 5.22")


def architectures(subject: Subject) -> Findings:
    """Only the native architecture is open: a second calling convention is a second way in (rule 34)."""
    profile = _profile(subject)
    native = _NATIVE.get(subject.host.architecture)
    if profile is None or native is None:
        return
    listed = set(profile.architectures or ())
    if listed and native not in listed and listed <= set(_NATIVE.values()):
        message = f"the profile is for {', '.join(sorted(listed))}, and this host is {native}"
        yield Finding(
            "seccomp-architecture", HIGH, message, f"{_PATH}.architectures", f"add {native}", "seccomp(2)"
        )
    extra = sorted(listed & _COMPATIBLE[subject.host.architecture])
    if extra:
        message = f"{', '.join(extra)} is open as well, where arguments are laid out differently"
        mend = f"list {native} alone"
        yield Finding(
            "seccomp-foreign-architecture", MEDIUM, message, f"{_PATH}.architectures", mend, "systemd, native"
        )


def wide_arguments(subject: Subject) -> Findings:
    """clone and socket are filtered by argument, in 32 bits (rules 36 and 37)."""
    profile = _profile(subject)
    if profile is None or profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        return
    if verdict(profile, "clone") is Verdict.ALLOWED and "CAP_SYS_ADMIN" not in subject.granted:
        message = "clone is open for every flag, new user namespaces included"
        mend = "allow clone where argument 0 masked with 0x7e020000 is 0"
        yield Finding("seccomp-clone-flags", MEDIUM, message, _PATH, mend, "moby profiles")
    if verdict(profile, "socket") is Verdict.ALLOWED:
        message = "socket is open for every family, AF_ALG and AF_VSOCK included"
        mend = "allow socket for AF_UNIX, AF_INET, AF_INET6, AF_NETLINK"
        yield Finding("seccomp-socket-families", LOW, message, _PATH, mend, "moby profiles; CVE-2026-31431")


def names(subject: Subject) -> Findings:
    """Every name is a call that libseccomp knows: runtimes skip others without a word."""
    profile = _profile(subject)
    if profile is None or subject.is_syscall is None:
        return
    for index, rule in enumerate(profile.syscalls or ()):
        for position, name in enumerate(rule.names):
            if not subject.is_syscall(name):
                close = suggest(name, (*_ESCAPES, *floor.NODE, *floor.GLIBC_LOADER))
                message = f"`{name}` is no call that libseccomp knows: the rule does nothing"
                mend = f"did you mean `{close}`?" if close else "remove it"
                path = f"{_PATH}.syscalls[{index}].names[{position}]"
                yield Finding(
                    "seccomp-unknown-call", MEDIUM, message, path, mend, "seccomp_syscall_resolve_name(3)"
                )


def _profile(subject: Subject) -> Seccomp | None:
    return subject.config.linux.seccomp if subject.config.linux else None
