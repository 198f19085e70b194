"""The bundle on this host: bind sources, the way to the rootfs, limits, other users' ids.

Sources: user_namespaces(7), path_resolution(7), setrlimit(2), subuid(5); runc and crun as measured.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator

from pipeline.checks.access import EXECUTE, READ, WRITE, Credentials, process_credentials, root_credentials
from pipeline.checks.meaning_linux import resources
from pipeline.checks.subject import HIGH, INFO, LOW, MEDIUM, Findings, Subject, is_bind, normal, options
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

_UNLIMITED = 2**64 - 1
_ANY = "0.0.0.0"  # noqa: S104 (compared, not bound: every address, as specs and /proc/net/tcp have it)


def bind_sources(subject: Subject) -> Findings:
    """Each bind source is there, and the process may use it under the mapping."""
    credentials = process_credentials(subject)
    for path, mount in subject.mounts:
        if not is_bind(mount) or not mount.source:
            continue
        source = posixpath.join(subject.folder, mount.source)
        status = subject.host_view.stat(source)
        if status is None:
            yield _source_missing(subject, path, mount, source)
        elif credentials:
            yield from _usable(subject, path, mount, source, status, credentials)


def _source_missing(subject: Subject, path: str, mount: Mount, source: str) -> Finding:
    owner = _owner(subject)
    mend = f"install -d -m 0750 {owner} {source}"
    message = f"the bind source `{source}` (for `{mount.destination}`) is not there"
    return Finding("bind-source-missing", HIGH, message, f"{path}.source", mend, "mount(2), ENOENT")


def _usable(
    subject: Subject, path: str, mount: Mount, source: str, status: os.stat_result, credentials: Credentials
) -> Findings:
    is_folder = stat.S_ISDIR(status.st_mode)
    wanted = READ + (EXECUTE if is_folder else 0) + (0 if "ro" in options(mount) else WRITE)
    if stat.S_ISCHR(status.st_mode) or credentials.may(status, wanted):
        return
    verb = "read" if "ro" in options(mount) else "write"
    user = subject.process.user
    message = (
        f"the process cannot {verb} the bind source `{source}`: it runs as {credentials.uid}:"
        f"{subject.to_host(user.gid, 'gid')} on the host (container {user.uid}:{user.gid}), and that is "
        f"{status.st_uid}:{status.st_gid} mode {_mode(status)}"
    )
    mend = f"chown {credentials.uid}:{subject.to_host(user.gid, 'gid')} {source}"
    severity = HIGH if verb == "write" or is_folder else MEDIUM
    yield Finding("bind-source-closed", severity, message, f"{path}.source", mend, "path_resolution(7)")


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def _owner(subject: Subject) -> str:
    user = subject.process.user
    return f"-o {subject.to_host(user.uid)} -g {subject.to_host(user.gid, 'gid')}"


def way_to_rootfs(subject: Subject) -> Findings:
    """The mapped root can pass every folder down to the rootfs (ACLs are not looked at)."""
    credentials = root_credentials(subject)
    if credentials is None:
        return
    inside = posixpath.join(subject.folder, subject.config.root.path)
    for folder in _ancestors(normal(inside)):
        status = subject.host_view.stat(folder)
        if status is not None and not credentials.may(status, EXECUTE):
            message = (
                f"the container's root is user {credentials.uid} of the host and cannot pass `{folder}` "
                f"(owner {status.st_uid}:{status.st_gid}, mode {_mode(status)}; ACLs not looked at)"
            )
            mend = f"chmod o+x {folder}"
            if folder == subject.folder:
                mend = f"chgrp {min(credentials.gids)} {folder} && chmod 0710 {folder}"
            yield Finding(
                "way-closed", HIGH, message, "root.path", mend, "user_namespaces(7); runc and crun: EACCES"
            )


def bundle_open(subject: Subject) -> Findings:
    """Other users of the host cannot reach the rootfs, with its set-id files (CVE-2021-41103)."""
    status = subject.host_view.stat(subject.folder)
    if status is not None and status.st_mode & stat.S_IXOTH:
        message = f"every user of the host can walk into `{subject.folder}` (mode {_mode(status)})"
        credentials = root_credentials(subject)
        group = min(credentials.gids) if credentials else 0
        mend = f"chgrp {group} {subject.folder} && chmod 0710 {subject.folder}"
        yield Finding("bundle-open", MEDIUM, message, "", mend, "CVE-2021-41103, CVE-2024-25621")


def _ancestors(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) or "/" for count in range(1, len(parts) + 1)]


def rlimits(subject: Subject) -> Findings:
    """No hard limit above this host's own: without CAP_SYS_RESOURCE the runtime cannot raise it (EPERM)."""
    if "CAP_SYS_RESOURCE" in subject.host.capabilities:
        return
    for index, limit in enumerate(subject.process.rlimits or ()):
        own = subject.host.hard_limits.get(limit.type.removeprefix("RLIMIT_"), _UNLIMITED)
        if limit.hard > own:
            name = limit.type.removeprefix("RLIMIT_").lower()
            message = (
                f"{limit.type} {limit.hard} is above this host's hard limit {own}, which cannot be raised"
            )
            mend = f"`ulimits: {{{name}: {own}}}`, or raise the host's limit (systemd: Limit{name.upper()}=)"
            yield Finding(
                "rlimit-above-host", HIGH, message, f"process.rlimits[{index}].hard", mend, "setrlimit(2)"
            )


def oom_score(subject: Subject) -> Findings:
    """A lower OOM score needs CAP_SYS_RESOURCE on the host (proc(5), oom_score_adj)."""
    score = subject.process.oom_score_adj
    if score is not None and score < 0 and "CAP_SYS_RESOURCE" not in subject.host.capabilities:
        message = f"oomScoreAdj {score} needs CAP_SYS_RESOURCE, which this host has not got"
        yield Finding(
            "oom-score-below-host", HIGH, message, "process.oomScoreAdj", "write 0 or above", "proc(5)"
        )


def host_capabilities(subject: Subject) -> Findings:
    """Each capability asked for is one that the host itself has (capabilities(7), bounding set)."""
    missing = sorted(subject.granted - subject.host.capabilities)
    known = [name for name in missing if name.startswith("CAP_")]
    if known and "user" not in subject.namespaces:
        message = f"this host has not got {', '.join(known)}: the runtime cannot give it"
        yield Finding(
            "capability-not-held", HIGH, message, "process.capabilities", "drop it", "capabilities(7)"
        )


def sizes(subject: Subject) -> Findings:
    """Memory and CPUs asked for are there."""
    found = resources(subject)
    limit = found.memory.limit if found.memory else None
    if limit and limit > subject.host.memory_bytes:
        there = subject.host.memory_bytes >> 20
        message = f"the memory limit {limit >> 20} MiB is more than this host has ({there} MiB)"
        mend = f"`mem_limit: {there // 2}m` would be half of it"
        yield Finding("memory-above-host", LOW, message, "linux.resources.memory.limit", mend)
    if found.cpu and found.cpu.quota and found.cpu.period and found.cpu.quota > 0:
        cpus = found.cpu.quota / found.cpu.period
        if cpus > subject.host.cpus:
            message = f"{cpus:g} CPUs are allowed and this host has {subject.host.cpus}"
            yield Finding("cpus-above-host", INFO, message, "linux.resources.cpu.quota")


def cpu_numbers(subject: Subject) -> Findings:
    """The CPUs named by number are there (cpuset(7): else the kernel refuses the list)."""
    found = resources(subject).cpu
    highest = max((int(number) for number in re.findall(r"[0-9]+", (found and found.cpus) or "")), default=-1)
    if highest >= subject.host.cpus:
        message = f"CPU {highest} is asked for, and the last one of this host is {subject.host.cpus - 1}"
        mend = "name CPUs that are there, or leave it to `cpus:`"
        path = "linux.resources.cpu.cpus"
        yield Finding("cpuset-above-host", HIGH, message, path, mend, "cpuset(7), EINVAL")


def ports_taken(subject: Subject) -> Findings:
    """Nobody listens on the ports of the host that shall be the container's: at this moment, that is."""
    for address, number, protocol in _wanted_ports(subject):
        if any(_meets(address, number, protocol, other) for other in subject.host.listening):
            message = f"somebody listens on port {number}/{protocol} of {address} already"
            mend = f"`ss -lnp 'sport = :{number}'` says who; nothing to mend where it is this very container"
            yield Finding("port-taken", LOW, message, "", mend, "bind(2), EADDRINUSE")


def _wanted_ports(subject: Subject) -> Iterator[tuple[str, int, str]]:
    for port in subject.intent.ports:
        yield port.host_ip, port.host_port, port.protocol
    # On the host's own network, the program takes the ports that its image speaks of.
    for text in subject.image.exposed_ports if subject.image and "network" not in subject.namespaces else ():
        number, _, protocol = text.partition("/")
        if number.isdecimal():
            yield _ANY, int(number), protocol or "tcp"


def _meets(address: str, number: int, protocol: str, other: tuple[str, str, int]) -> bool:
    taken_protocol, taken_address, taken_number = other
    if (protocol, number) != (taken_protocol, taken_number):
        return False
    return address == taken_address or bool({address, taken_address} & {_ANY, "::"})


def swap_accounting(subject: Subject) -> Findings:
    """A swap limit needs swap accounting in the kernel: else runc finds no file to write it to."""
    found = resources(subject).memory
    if found and found.swap and found.swap > 0 and not subject.host.has_swap_accounting:
        message = "memory.swap is limited and this kernel does not account swap"
        mend = "boot with swapaccount=1; a host without swap needs no limit"
        yield Finding(
            "swap-not-accounted", HIGH, message, "linux.resources.memory.swap", mend, "kernel-parameters"
        )


def subordinate_ids(subject: Subject) -> Findings:
    """No login user's subordinate ids are the container's: its containers would share ids with this one."""
    linux = subject.config.linux
    for name, listed in (
        ("uid", (linux.uid_mappings if linux else None) or ()),
        ("gid", (linux.gid_mappings if linux else None) or ()),
    ):
        for index, entry in enumerate(listed):
            for kind, user, start, count in subject.host.subordinate_ids:
                if kind == name and entry.host_id < start + count and start < entry.host_id + entry.size:
                    path = f"linux.{name}Mappings[{index}].hostID"
                    last = entry.host_id + entry.size - 1
                    message = (
                        f"the mapped {name}s {entry.host_id} to {last} meet those of user `{user}` in "
                        f"/etc/sub{name} ({start}, {count} ids): its containers could signal and read "
                        "this one"
                    )
                    mend = "take a range of its own: `userns: private` has 2000000000:65536"
                    yield Finding("subordinate-ids-shared", MEDIUM, message, path, mend, "subuid(5)")


def host_network_sysfs(subject: Subject) -> Findings:
    """No sysfs of its own on the host's network under a user namespace: the kernel refuses it (EPERM)."""
    if "user" not in subject.namespaces or "network" in subject.namespaces:
        return
    for path, mount in subject.mounts:
        if mount.type == "sysfs":
            message = "sysfs cannot be mounted in a user namespace that does not own the network namespace"
            yield Finding(
                "sysfs-host-network",
                HIGH,
                message,
                path,
                "drop the mount on /sys",
                "sysfs(5); EPERM, measured",
            )


def platform(subject: Subject) -> Findings:
    """The image was made for this machine."""
    if subject.image and subject.image.platform:
        architecture = subject.image.platform.split("/")[1]
        if architecture != subject.host.architecture:
            message = (
                f"the image is for {subject.image.platform}, and this host is {subject.host.architecture}"
            )
            mend = f"`platform: linux/{subject.host.architecture}`, then `doit update`"
            yield Finding("platform-foreign", HIGH, message, "", mend, "image-spec, config.md")
