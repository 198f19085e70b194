"""What a seccomp profile refuses that is needed, and whether it is for this machine.

Sources: seccomp(2), libseccomp's seccomp_rule_add(3), and what was measured (see seccomp_floor).
"""

from __future__ import annotations

from pipeline.checks import seccomp_floor as floor
from pipeline.checks.program import Loader, interpreter_name, loader_of
from pipeline.checks.seccomp_verdict import ESCAPES, PASSING, profile_of, refused
from pipeline.checks.subject import CRITICAL, HIGH, INFO, LOW, MEDIUM, Findings, RuntimeFloor, Subject
from pipeline.errors import suggest
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import Seccomp

_PATH = "linux.seccomp"
_NATIVE = {
    "386": "SCMP_ARCH_X86",
    "amd64": "SCMP_ARCH_X86_64",
    "arm": "SCMP_ARCH_ARM",
    "arm64": "SCMP_ARCH_AARCH64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "riscv64": "SCMP_ARCH_RISCV64",
    "s390x": "SCMP_ARCH_S390X",
}
_COMPATIBLE = {
    "amd64": {"SCMP_ARCH_X86", "SCMP_ARCH_X32"},
    "arm64": {"SCMP_ARCH_ARM"},
    "s390x": {"SCMP_ARCH_S390"},
}

# Calls that libseccomp 2.5.4 (Debian 12) does not know, and what does.
_NEWER = {
    name: since
    for since, names in {
        "Linux 6.5 and libseccomp 2.5.5": "cachestat",
        "Linux 6.6 and libseccomp 2.5.5": "fchmodat2 map_shadow_stack",
        "Linux 6.7 and libseccomp 2.5.5": "futex_requeue futex_wait futex_wake",
        "Linux 6.8 and libseccomp 2.5.6": "listmount lsm_get_self_attr lsm_list_modules lsm_set_self_attr "
        "statmount",
        "Linux 6.10 and libseccomp 2.5.6": "mseal",
        "Linux 6.11 and libseccomp 2.5.6": "uretprobe",
        "Linux 6.13 and libseccomp 2.5.6": "getxattrat listxattrat removexattrat setxattrat",
        "Linux 6.15 and a libseccomp after 2.6.0": "open_tree_attr",
        "Linux 6.17 and a libseccomp after 2.6.0": "file_getattr file_setattr",
    }.items()
    for name in names.split()
}


def confined(subject: Subject) -> Findings:
    """There is a profile, and what it does not name is refused (rule 33)."""
    profile = profile_of(subject)
    if profile is None:
        message = "no seccomp profile: every call of the kernel is open to the program"
        mend = "drop `seccomp: unconfined`; the default profile fits most servers"
        yield Finding("seccomp-missing", CRITICAL, message, "linux", mend, "CIS 5.22; PSS seccompProfile")
    elif profile.default_action in PASSING:
        message = f"the profile's default is {profile.default_action}: what it does not name is allowed"
        mend = "default SCMP_ACT_ERRNO, and name what is allowed"
        yield Finding("seccomp-default-allows", CRITICAL, message, f"{_PATH}.defaultAction", mend, "CIS 5.22")
    elif profile.default_action in ("SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"):
        message = "the default kills one thread; the others wait for it for ever"
        mend = "write SCMP_ACT_KILL_PROCESS or SCMP_ACT_ERRNO"
        yield Finding("seccomp-kills-thread", MEDIUM, message, f"{_PATH}.defaultAction", mend, "seccomp(2)")


def runtime_needs(subject: Subject) -> Findings:
    """The runtime itself can go on after it has loaded the filter, by the floor measured of it."""
    profile, known = profile_of(subject), subject.host.floor
    if profile is None or known is None:
        return
    host, quiet = subject.host, bool(subject.process.no_new_privileges)
    if not known.exact:
        yield _unmeasured(known, f"{host.runtime} {host.runtime_version}", host.runtime)
    source = f"measured with {known.of}"
    missing = refused(profile, known.needed.get(quiet, frozenset()))
    if missing:
        calls = ", ".join(missing)
        message = f"{host.runtime} {host.runtime_version} itself needs {calls} before it starts the program"
        yield Finding("seccomp-blocks-runtime", HIGH, message, _PATH, f"allow {calls}", source)
    shaky = refused(profile, known.sometimes.get(quiet, frozenset()))
    if shaky:
        calls = ", ".join(shaky)
        message = f"{host.runtime} now and then needs {calls}: some starts would fail"
        yield Finding("seccomp-blocks-runtime-sometimes", MEDIUM, message, _PATH, f"allow {calls}", source)


def _unmeasured(known: RuntimeFloor, here: str, runtime: str) -> Finding:
    instead = f"judged by that of {known.of}" if known.of else "nothing is judged by it"
    message = f"what this {here} itself needs under a filter was not measured; {instead}"
    mend = f"doit floor {runtime}"
    return Finding("floor-unmeasured", INFO, message, _PATH, mend, "runtimes differ by version and build")


def program_needs(subject: Subject) -> Findings:
    """The loader, and node, can start (measured with glibc 2.36 and node 20)."""
    profile = profile_of(subject)
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


def architectures(subject: Subject) -> Findings:
    """Only the native architecture is open: a second calling convention is a second way in (rule 34)."""
    profile = profile_of(subject)
    native = _NATIVE.get(subject.host.architecture)
    if profile is None or native is None:
        return
    listed = set(profile.architectures or ())
    if listed and native not in listed:
        message = f"the profile is for {', '.join(sorted(listed))}, and this host is {native}"
        yield Finding(
            "seccomp-architecture", HIGH, message, f"{_PATH}.architectures", f"add {native}", "seccomp(2)"
        )
    extra = sorted(listed & _COMPATIBLE.get(subject.host.architecture, set()))
    if extra:
        message = f"{', '.join(extra)} is open as well, where arguments are laid out differently"
        mend = f"list {native} alone"
        yield Finding(
            "seccomp-foreign-architecture", MEDIUM, message, f"{_PATH}.architectures", mend, "systemd, native"
        )


def names(subject: Subject) -> Findings:
    """Every name is a call that libseccomp knows: runtimes skip others without a word."""
    profile = profile_of(subject)
    if profile is None or subject.is_syscall is None:
        return
    for index, rule in enumerate(profile.syscalls or ()):
        for position, name in enumerate(rule.names):
            if not subject.is_syscall(name) and name in _NEWER:
                path = f"{_PATH}.syscalls[{index}].names[{position}]"
                message = (
                    f"`{name}` needs {_NEWER[name]}: the runtime skips the rule where its library is older"
                )
                mend = "let the default answer, or update libseccomp"
                yield Finding("seccomp-newer-call", LOW, message, path, mend, "libseccomp, CHANGELOG")
            elif not subject.is_syscall(name):
                close = suggest(name, (*ESCAPES, *floor.NODE, *floor.GLIBC_LOADER))
                message = f"`{name}` is no call that libseccomp knows: the rule does nothing"
                mend = f"did you mean `{close}`?" if close else "remove it"
                path = f"{_PATH}.syscalls[{index}].names[{position}]"
                yield Finding(
                    "seccomp-unknown-call", MEDIUM, message, path, mend, "seccomp_syscall_resolve_name(3)"
                )
