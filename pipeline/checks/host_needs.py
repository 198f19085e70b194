"""What config.json names on the host, and whether it is there: devices, hooks, interfaces, huge pages.

A bundle may be meant for another host, so what only this one lacks weighs medium.

Sources: runtime-spec config.md and config-linux.md; runc's code for devices in a user namespace, and its
check of cgroups. What runc 1.1.5 and crun 1.8.1 do was measured.
"""

from __future__ import annotations

import os
import stat

from pipeline.checks.meaning_linux import hooks, resources
from pipeline.checks.subject import MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Device

_KIB = {"K": 1, "M": 1 << 10, "G": 1 << 20}
_EXECUTE = 0o111


def devices(subject: Subject) -> Findings:
    """In a user namespace no node can be made: the host's of the same path serves, so it must be the same."""
    linux = subject.config.linux
    for index, device in enumerate((linux.devices if linux else None) or ()):
        status = subject.host_view.stat(device.path)
        path = f"linux.devices[{index}]"
        if status is None and "user" in subject.namespaces:
            message = f"the host has no `{device.path}` to bind, and in a user namespace none can be made"
            yield Finding("device-not-on-host", MEDIUM, message, path, "", "runc, bindMountDeviceNode")
        elif status is not None and not _is_same(device, status):
            message = f"`{device.path}` of the host is another device than the one described"
            yield Finding("device-differs", MEDIUM, message, path, "", "config-linux.md, devices")


def _is_same(device: Device, status: os.stat_result) -> bool:
    kinds = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "p": stat.S_IFIFO, "u": stat.S_IFCHR}
    if stat.S_IFMT(status.st_mode) != kinds.get(device.type):
        return False
    number = status.st_rdev or 0
    return device.type == "p" or (os.major(number), os.minor(number)) == (device.major, device.minor)


def hook_programs(subject: Subject) -> Findings:
    """The program of each hook is there and may be run; `startContainer` looks inside the container."""
    for path, hook in hooks(subject.config.hooks):
        if not hook.path.startswith("/"):
            continue
        status = (
            _inside(subject, hook.path) if "startContainer" in path else subject.host_view.stat(hook.path)
        )
        if status is None or not stat.S_ISREG(status.st_mode):
            message = f"there is no hook `{hook.path}`: the container does not start"
            yield Finding("hook-missing", MEDIUM, message, f"{path}.path", "", "config.md, hooks")
        elif not status.st_mode & _EXECUTE:
            message = f"the hook `{hook.path}` is not executable"
            yield Finding("hook-missing", MEDIUM, message, f"{path}.path", "chmod +x", "config.md, hooks")


def _inside(subject: Subject, path: str) -> os.stat_result | None:
    try:
        return subject.rootfs.stat(path)
    except OSError:
        return None


def interfaces(subject: Subject) -> Findings:
    """The interfaces that are named are there (oci-runtime-tool asks this too)."""
    linux = subject.config.linux
    network = resources(subject).network
    named = [
        (f"linux.resources.network.priorities[{index}].name", entry.name)
        for index, entry in enumerate((network.priorities if network else None) or ())
    ]
    named += [(f'linux.netDevices["{name}"]', name) for name in (linux.net_devices if linux else None) or {}]
    for path, name in named:
        if subject.host_view.stat(f"/sys/class/net/{name}") is None:
            message = f"this host has no interface `{name[:40]}`"
            yield Finding("interface-missing", MEDIUM, message, path, "", "config-linux.md, network")


def huge_pages(subject: Subject) -> Findings:
    """The sizes of huge pages that are limited are sizes of this kernel."""
    for index, entry in enumerate(resources(subject).hugepage_limits or ()):
        size = int(entry.page_size[:-2]) * _KIB[entry.page_size[-2]]
        if subject.host_view.stat(f"/sys/kernel/mm/hugepages/hugepages-{size}kB") is None:
            message = f"this kernel has no huge pages of {entry.page_size}: the limit cannot be set"
            path = f"linux.resources.hugepageLimits[{index}].pageSize"
            yield Finding(
                "hugepage-size", MEDIUM, message, path, "", "config-linux.md, huge page limits: MUST"
            )


def unified(subject: Subject) -> Findings:
    """`unified` is for cgroup v2: on another host runc refuses it."""
    if resources(subject).unified and subject.host_view.stat("/sys/fs/cgroup/cgroup.controllers") is None:
        message = "`unified` needs cgroup v2 alone, which this host has not: runc refuses it"
        path = "linux.resources.unified"
        yield Finding(
            "unified-without-v2", MEDIUM, message, path, "use the fields beside it", "runc, cgroups"
        )
