"""Where a bundle uses what runtimes treat in different ways: process, namespaces and limits.

Each function answers with the JSON paths of config.json where the feature is used; see model/truths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.meaning_linux import resources
from pipeline.checks.subject import Subject
from pipeline.model.runtime import Linux
from pipeline.model.truths.nouns import version_numbers

Paths = Iterator[str]


def always(_subject: Subject) -> Paths:
    """Every bundle."""
    yield ""


def oci_version_above_1_1(subject: Subject) -> Paths:
    """An ociVersion above 1.1.x."""
    if version_numbers(subject.config.oci_version)[:2] > (1, 1):
        yield "ociVersion"


def oci_version_2(subject: Subject) -> Paths:
    """An ociVersion of 2 or above."""
    if version_numbers(subject.config.oci_version)[:1] > (1,):
        yield "ociVersion"


def domainname(subject: Subject) -> Paths:
    """An NIS domain name (1.1)."""
    if subject.config.domainname:
        yield "domainname"


def scheduler(subject: Subject) -> Paths:
    """A scheduling policy (1.1)."""
    if subject.process.scheduler:
        yield "process.scheduler"


def io_priority(subject: Subject) -> Paths:
    """An I/O priority (1.1)."""
    if subject.process.io_priority:
        yield "process.ioPriority"


def umask(subject: Subject) -> Paths:
    """A umask."""
    if subject.process.user.umask is not None:
        yield "process.user.umask"


def apparmor(subject: Subject) -> Paths:
    """An AppArmor profile."""
    if subject.process.apparmor_profile:
        yield "process.apparmorProfile"


def selinux(subject: Subject) -> Paths:
    """An SELinux label."""
    if subject.process.selinux_label:
        yield "process.selinuxLabel"


def no_new_privileges(subject: Subject) -> Paths:
    """No new privileges."""
    if subject.process.no_new_privileges:
        yield "process.noNewPrivileges"


def _namespace(subject: Subject, kind: str, *, joined: bool = False) -> Paths:
    for index, entry in enumerate(_linux(subject).namespaces or ()):
        if entry.type == kind and bool(entry.path) == joined:
            yield f"linux.namespaces[{index}]"


def user_namespace(subject: Subject) -> Paths:
    """A user namespace of its own."""
    yield from _namespace(subject, "user")


def private_network(subject: Subject) -> Paths:
    """A network namespace of its own."""
    yield from _namespace(subject, "network")


def joined_network(subject: Subject) -> Paths:
    """A network namespace that is there already."""
    yield from _namespace(subject, "network", joined=True)


def host_network(subject: Subject) -> Paths:
    """The host's network."""
    if not any(entry.type == "network" for entry in _linux(subject).namespaces or ()):
        yield "linux.namespaces"


def time_namespace(subject: Subject) -> Paths:
    """A time namespace (1.1)."""
    yield from _namespace(subject, "time")


def time_offsets(subject: Subject) -> Paths:
    """Offsets of the clocks in a time namespace."""
    offsets = (_linux(subject).time_offsets or {}).values()
    if any(offset.secs or offset.nanosecs for offset in offsets):
        yield "linux.timeOffsets"


def time_offsets_under_userns(subject: Subject) -> Paths:
    """The same, under a user namespace."""
    if "user" in subject.namespaces:
        yield from time_offsets(subject)


def personality(subject: Subject) -> Paths:
    """An execution domain."""
    if _linux(subject).personality:
        yield "linux.personality"


def sysctl(subject: Subject) -> Paths:
    """Parameters of the kernel."""
    if _linux(subject).sysctl:
        yield "linux.sysctl"


def hybrid_cgroup(subject: Subject) -> Paths:
    """Any container on a host where cgroup2 lies beside v1 controllers."""
    if subject.host.cgroups == "hybrid":
        yield ""


def unified_on_v1(subject: Subject) -> Paths:
    """Limits for cgroup v2 on a host whose controllers are those of v1."""
    if resources(subject).unified and subject.host.cgroups in ("v1", "hybrid"):
        yield "linux.resources.unified"


def _pids(subject: Subject, least: int, below: int) -> Paths:
    pids = resources(subject).pids
    if pids and least <= pids.limit < below:
        yield "linux.resources.pids.limit"


def pids_limit_zero(subject: Subject) -> Paths:
    """A pids limit of 0."""
    yield from _pids(subject, 0, 1)


def pids_limit_below_32(subject: Subject) -> Paths:
    """A pids limit below 32."""
    yield from _pids(subject, 1, 32)


def pids_limit_below_512(subject: Subject) -> Paths:
    """A pids limit of 32 to 511."""
    yield from _pids(subject, 32, 512)


def _linux(subject: Subject) -> Linux:
    return subject.config.linux or Linux()


USES: dict[str, Callable[[Subject], Paths]] = {
    "always": always,
    "oci-version-above-1.1": oci_version_above_1_1,
    "oci-version-2": oci_version_2,
    "domainname": domainname,
    "scheduler": scheduler,
    "io-priority": io_priority,
    "umask": umask,
    "apparmor": apparmor,
    "selinux": selinux,
    "no-new-privileges": no_new_privileges,
    "user-namespace": user_namespace,
    "private-network": private_network,
    "joined-network": joined_network,
    "host-network": host_network,
    "time-namespace": time_namespace,
    "time-offsets": time_offsets,
    "time-offsets-under-userns": time_offsets_under_userns,
    "personality": personality,
    "sysctl": sysctl,
    "hybrid-cgroup": hybrid_cgroup,
    "unified-on-v1": unified_on_v1,
    "pids-limit-zero": pids_limit_zero,
    "pids-limit-below-32": pids_limit_below_32,
    "pids-limit-below-512": pids_limit_below_512,
}
