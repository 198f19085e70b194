"""Hardening of devices and of the container's place among the cgroups.

Sources: runtime-spec config-linux.md (devices, cgroups path, unified), CIS Docker Benchmark 5.18 and 5.24;
runc's own rules for default devices.
"""

from __future__ import annotations

import os
import posixpath
import stat

from pipeline.checks.meaning_linux import resources
from pipeline.checks.mount_kinds import size_bytes
from pipeline.checks.sources import source_of
from pipeline.checks.subject import CRITICAL, HIGH, Findings, Subject, is_bind
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import DeviceRule, Resources

_Numbers = tuple[str, int, int | None]
# null, zero, full, random, urandom, tty, console, ptmx and every pty (config-linux.md, default devices).
_DEFAULTS: frozenset[_Numbers] = frozenset(
    {
        *(("c", 1, minor) for minor in (3, 5, 7, 8, 9)),
        *(("c", 5, minor) for minor in (0, 1, 2)),
        ("c", 136, None),
    }
)

# Memory and ports of the machine (mem(4)): as much as a disk.
_MEMORY = frozenset({("c", 1, 1), ("c", 1, 2), ("c", 1, 4), ("u", 1, 1), ("u", 1, 2), ("u", 1, 4)})


def devices(subject: Subject) -> Findings:
    """No device of the host but those that every container has."""
    linux = subject.config.linux
    listed = [
        (f"linux.devices[{n}]", d.path, "b" if (d.type, d.major, d.minor) in _MEMORY else d.type)
        for n, d in enumerate((linux.devices if linux else None) or ())
    ]
    blocks = {(r.major, r.minor) for r in resources(subject).devices or () if r.allow and r.type == "b"}
    for path, mount in subject.mounts:
        source = source_of(subject, mount) if is_bind(mount) and mount.source else None
        if source and source.is_device:
            is_block = source.status is not None and stat.S_ISBLK(source.status.st_mode)
            listed.append((path, source.path, "b" if is_block or blocks else "c"))
    for path, name, kind in listed:
        severity = CRITICAL if kind == "b" else HIGH
        message = f"the program is given the device `{name}`"
        yield Finding("device-added", severity, message, path, "take it out of `devices`", "CIS 5.18")


def devices_denied(subject: Subject) -> Findings:
    """Everything is denied first, and nothing opens it again."""
    rules = resources(subject).devices or ()
    path = "linux.resources.devices"
    if not rules or not _is_denial(rules[0]):
        message = "the first device rule does not deny everything: what is not named is up to the runtime"
        mend = 'begin with {"allow": false, "access": "rwm"}'
        source = "systemd.resource-control(5), DevicePolicy"
        yield Finding("devices-not-denied", HIGH, message, path, mend, source)
    for index, rule in enumerate(rules):
        if rule.allow and _is_open(rule):
            message = "every device is allowed" + (f" of type {rule.type}" if rule.type in ("b", "c") else "")
            where = f"{path}[{index}]"
            yield Finding("devices-open", CRITICAL, message, where, "name the devices", "CIS 5.18")


def devices_there(subject: Subject) -> Findings:
    """Only those devices are allowed that are there: a node can be made, or come in later."""
    there = _there(subject)
    for index, rule in enumerate(resources(subject).devices or ()):
        is_named = not (_is_wild(rule.major) or rule.type in (None, "a"))
        if rule.allow and is_named and not _covers(there, rule):
            minor = "*" if _is_wild(rule.minor) else rule.minor
            message = f"the device {rule.type} {rule.major}:{minor} is allowed and not in the container"
            mend = "remove the rule, or add the device to linux.devices so that readers see it"
            where = f"linux.resources.devices[{index}]"
            yield Finding("device-rule-without-device", HIGH, message, where, mend, "CIS 5.18")


def _is_open(rule: DeviceRule) -> bool:
    if not (_is_wild(rule.major) or rule.type in (None, "a")):
        return False
    # To make nodes of any number without opening them is what runc allows everyone.
    return not (rule.type in ("b", "c") and rule.access == "m")


def _is_wild(number: int | None) -> bool:
    return number is None or number < 0


def _is_denial(rule: DeviceRule) -> bool:
    everything = rule.type in (None, "a") and _is_wild(rule.major) and _is_wild(rule.minor)
    return not rule.allow and everything and set(rule.access or "rwm") == set("rwm")


def _there(subject: Subject) -> frozenset[_Numbers]:
    linux = subject.config.linux
    found: set[_Numbers] = set(_DEFAULTS)
    for device in (linux.devices if linux else None) or ():
        if device.major is not None and device.minor is not None:
            found.add(("c" if device.type == "u" else device.type, device.major, device.minor))
    for _, mount in subject.mounts:
        source = source_of(subject, mount) if is_bind(mount) and mount.source else None
        if source and source.status is not None and source.is_device:
            number = source.status.st_rdev or 0
            kind = "b" if stat.S_ISBLK(source.status.st_mode) else "c"
            found.add((kind, os.major(number), os.minor(number)))
    return frozenset(found)


def _covers(there: frozenset[_Numbers], rule: DeviceRule) -> bool:
    kind, major = rule.type or "a", rule.major or 0
    minor = None if _is_wild(rule.minor) else rule.minor
    return bool({(kind, major, minor), (kind, major, None)} & there)


def cgroups_path(subject: Subject) -> Findings:
    """The container has a cgroup below the root one, reached without going up (CIS 5.24)."""
    found = subject.config.linux.cgroups_path if subject.config.linux else None
    if not found:
        return
    path, mend = "linux.cgroupsPath", "drop it: the container's id then names its cgroup"
    if ".." in found.replace(":", "/").split("/"):
        message = f"`cgroupsPath` {found} goes up, out of where containers belong"
        yield Finding("cgroups-path", HIGH, message, path, mend, "config-linux.md, cgroups path")
    elif posixpath.normpath("/" + found.lstrip("/")) == "/":
        message = "`cgroupsPath` is the root of all cgroups: limits would be the host's, or nobody's"
        yield Finding("cgroups-path", HIGH, message, path, mend, "config-linux.md, cgroups path")
    elif found.startswith("/") and found.rstrip("/").endswith(".service"):
        message = f"`cgroupsPath` {found} is a service's own: limits and stops would be meant for both"
        yield Finding("cgroups-path", HIGH, message, path, mend, "systemd.service(5)")


def unified(subject: Subject) -> Findings:
    """What `unified` writes, after all the rest, does not lift a limit that stands beside it."""
    found = resources(subject)
    for key, most in _limits(found).items():
        value = (found.unified or {}).get(key)
        if value is not None and not _within(key, value, most):
            message = f"`unified` sets {key} to `{value}`, above the limit that the rest of config.json gives"
            path = f'linux.resources.unified["{key}"]'
            yield Finding("unified-contradicts", HIGH, message, path, "drop it", "config-linux.md, unified")


def _limits(found: Resources) -> dict[str, float]:
    limits: dict[str, float] = {}
    memory, pids, cpu = found.memory, found.pids, found.cpu
    if memory and memory.limit and memory.limit > 0:
        limits["memory.max"] = memory.limit
        if memory.swap is not None and memory.swap >= memory.limit:
            limits["memory.swap.max"] = memory.swap - memory.limit
    if pids and pids.limit > 0:
        limits["pids.max"] = pids.limit
    if cpu and cpu.quota and cpu.quota > 0:
        limits["cpu.max"] = cpu.quota / (cpu.period or 100_000)
    return limits


def _within(key: str, value: str, most: float) -> bool:
    if key == "cpu.max":
        quota, _, period = value.strip().partition(" ")
        is_read = quota.isdecimal() and (not period or (period.isdecimal() and int(period) > 0))
        return is_read and int(quota) / int(period or 100_000) <= most
    amount = size_bytes(value.strip())
    return amount is not None and amount <= most
