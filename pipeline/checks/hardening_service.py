"""Hardening of the smaller settings: what is odd for a service, or shares more of the machine than it needs.

Sources: runtime-spec config.md and config-linux.md; CIS Docker Benchmark 5.2 and 5.3; personality(2).
"""

from __future__ import annotations

from pipeline.checks.subject import INFO, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding

_UNCONFINED = "unconfined"
_WORLD_WRITE = 0o002


def security_module(subject: Subject) -> Findings:
    """A security module is a second layer below seccomp and capabilities; nowhere is it switched off."""
    process = subject.process
    if "apparmor" in subject.host.lsm and not process.apparmor_profile:
        message = "this host runs AppArmor and the container has no profile"
        yield Finding("no-lsm-profile", LOW, message, "process", "`process.apparmorProfile`", "CIS 5.2")
    elif "selinux" in subject.host.lsm and not process.selinux_label:
        message = "this host runs SELinux and the container has no label"
        yield Finding("no-lsm-profile", LOW, message, "process", "`process.selinuxLabel`", "CIS 5.3")
    elif not process.apparmor_profile and not process.selinux_label:
        message = "no security module confines the program: neither is one named, nor does this host run one"
        mend = "on a host with AppArmor or SELinux: `process.apparmorProfile` or `process.selinuxLabel`"
        yield Finding("no-lsm-profile", INFO, message, "process", mend, "CIS 5.2, 5.3")
    if process.apparmor_profile == _UNCONFINED:
        message = "AppArmor is switched off for the program"
        path = "process.apparmorProfile"
        yield Finding(
            "lsm-unconfined", MEDIUM, message, path, "name a profile", "CIS 5.2; PSS appArmorProfile"
        )
    if ":spc_t:" in f"{process.selinux_label or ''}:" or "unconfined_t" in (process.selinux_label or ""):
        message = "SELinux does not confine the program"
        yield Finding("lsm-unconfined", MEDIUM, message, "process.selinuxLabel", "container_t", "CIS 5.3")


def terminal(subject: Subject) -> Findings:
    """A service has no terminal: runtimes then wait for someone who takes it (config.md, process)."""
    if subject.process.terminal:
        message = "a terminal is asked for: a service has nobody at it, and `create` needs a console socket"
        yield Finding("terminal", LOW, message, "process.terminal", "write false", "config.md, process")


def umask(subject: Subject) -> Findings:
    """New files are not open for everyone to write (umask(2))."""
    found = subject.process.user.umask
    if found is not None and not found & _WORLD_WRITE:
        message = f"umask {found:04o}: every user may write the files that the program makes"
        yield Finding("umask-open", LOW, message, "process.user.umask", "write 18 (0022)", "umask(2)")


def personality(subject: Subject) -> Findings:
    """The program has the kernel's usual face: another weakens its address space layout (personality(2))."""
    found = subject.config.linux.personality if subject.config.linux else None
    if found and (found.domain != "LINUX" or found.flags):
        message = f"the personality is {', '.join((found.domain, *(found.flags or ())))}"
        yield Finding("personality", MEDIUM, message, "linux.personality", "drop it", "personality(2)")


def cache_allocation(subject: Subject) -> Findings:
    """The share of the processor's caches is the runtime's own group (config-linux.md, intelRdt)."""
    if subject.config.linux and subject.config.linux.intel_rdt:
        message = "`intelRdt` gives the program a class of the processor's cache, maybe together with others"
        yield Finding("intel-rdt", LOW, message, "linux.intelRdt", "drop it", "config-linux.md, intelRdt")
