"""Meaning of what ties a container to its surroundings: devices, interfaces, hooks, labels, annotations.

Sources: runtime-spec config.md (hooks, annotations), config-linux.md (devices, network devices, intelRdt);
image-spec, annotations.md and conversion.md; mknod(2), netdevice(7); runc's checks netdevices and intelrdt.
"""

from __future__ import annotations

import re
import signal

from pipeline.checks.meaning_linux import hooks
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, normal
from pipeline.errors import suggest
from pipeline.model.nouns import Finding

_LARGEST_MAJOR = 0xFFF
_LARGEST_MINOR = 0xFFFFF
_INTERFACE = re.compile(r"[^/\s:]{1,15}")
_RESERVED = "org.opencontainers."
# What the runtime and image specifications define (config.md, annotations; conversion.md; annotations.md).
_DEFINED = frozenset(
    f"org.opencontainers.image.{name}"
    for name in (
        "architecture author authors base.digest base.name created description documentation exposedPorts "
        "licenses os os.features os.version ref.name revision source stopSignal title url variant vendor "
        "version"
    ).split()
)
_STOP_SIGNAL = "org.opencontainers.image.stopSignal"
_SIGNALS = frozenset(s.name for s in signal.Signals)
_REAL_TIME = re.compile(r"SIGRTMIN(\+[0-9]{1,2})?|SIGRTMAX(-[0-9]{1,2})?|[1-9]|[1-5][0-9]|6[0-4]")
_SELINUX = re.compile(r"[A-Za-z0-9_.]+:[A-Za-z0-9_.]+:[A-Za-z0-9_.]+(:s[0-9][A-Za-z0-9.,:-]*)?")
_APPARMOR = re.compile(r"[^\s\0]{1,255}")


def device_numbers(subject: Subject) -> Findings:
    """Device numbers fit in the kernel's fields, each node has its own, and lies below /dev."""
    linux = subject.config.linux
    seen: dict[tuple[str, int | None, int | None], str] = {}
    for index, device in enumerate((linux.devices if linux else None) or ()):
        path = f"linux.devices[{index}]"
        for name, number, most in (
            ("major", device.major, _LARGEST_MAJOR),
            ("minor", device.minor, _LARGEST_MINOR),
        ):
            if number is not None and device.type != "p" and not 0 <= number <= most:
                message = f"{name} {number} of `{device.path}` is outside 0 to {most}"
                yield Finding("device-number-range", HIGH, message, f"{path}.{name}", "", "makedev(3)")
        same = seen.setdefault((device.type, device.major, device.minor), device.path)
        if same != device.path and device.type != "p":
            message = f"`{device.path}` is the same device as `{same}`"
            yield Finding("device-same", MEDIUM, message, path, "keep one", "config-linux.md: SHOULD NOT")
        if device.path.startswith("/") and not normal(device.path).startswith("/dev/"):
            message = f"the device `{device.path}` is not below /dev, where readers look for devices"
            yield Finding("device-elsewhere", LOW, message, f"{path}.path", "", "config-linux.md, devices")


def net_devices(subject: Subject) -> Findings:
    """An interface that moves in has a network namespace to move to, and a name of its own."""
    linux = subject.config.linux
    moved = (linux.net_devices if linux else None) or {}
    path, source = "linux.netDevices", "config-linux.md, network devices"
    if moved and "network" not in {ns.type for ns in (linux.namespaces if linux else None) or ()}:
        message = "interfaces are to move, and there is no network namespace to move them to: runc refuses it"
        mend = 'add {"type": "network"}'
        yield Finding("net-device-without-namespace", HIGH, message, path, mend, "runc, netdevices")
    inside: set[str] = set()
    for outer, device in moved.items():
        name = device.name or outer
        where = f'{path}["{outer}"]'
        for word in {outer, name}:
            if word in (".", "..") or not _INTERFACE.fullmatch(word):
                message = f"`{word}` is no name of an interface: 1 to 15 characters, no blank, `/` or `:`"
                yield Finding("net-device-name", HIGH, message, where, "", "netdevice(7); runc, netdevices")
        if name in inside and "%d" not in name:
            message = f"two interfaces are to be `{name}` inside"
            yield Finding("net-device-duplicate", HIGH, message, where, "rename one", source)
        inside.add(name)


def cache_classes(subject: Subject) -> Findings:
    """A class of the processor's cache has a name, and lines that the kernel reads (intelRdt)."""
    found = subject.config.linux.intel_rdt if subject.config.linux else None
    if found is None:
        return
    path, source = "linux.intelRdt", "config-linux.md, intelRdt; runc, intelrdt"
    name = found.clos_id
    if name is not None and (name in (".", "..") or ("/" in name and name != "/") or not name):
        message = f"`{name}` cannot be a folder of resctrl"
        yield Finding("rdt-class", HIGH, message, f"{path}.closID", "letters, digits, - and _", source)
    if found.l3_cache_schema is not None and not re.fullmatch(r"L3:[^\n]*", found.l3_cache_schema):
        message = "`l3CacheSchema` does not begin with `L3:`, or has more than one line"
        yield Finding("rdt-schema", MEDIUM, message, f"{path}.l3CacheSchema", "as in L3:0=7f0;1=1f", source)
    for index, line in enumerate(found.schemata or ()):
        if "\n" in line or ":" not in line:
            message = f"`{line[:80]}` is no line of schemata"
            yield Finding("rdt-schema", HIGH, message, f"{path}.schemata[{index}]", "as in L3:0=7f0", source)


def hook_order(subject: Subject) -> Findings:
    """Hooks end by themselves, have variables that are ones, and no deprecated name."""
    listed = subject.config.hooks
    if listed and listed.prestart:
        message = "`prestart` is deprecated: what it may rely on was never said"
        mend = "write `createRuntime` or `createContainer`"
        yield Finding("hook-deprecated", LOW, message, "hooks.prestart", mend, "config.md, hooks")
    for path, hook in hooks(listed):
        if hook.timeout is None:
            message = (
                f"the hook `{hook.path}` has no timeout: one that hangs hangs the container's start or end"
            )
            yield Finding("hook-timeout", LOW, message, path, "add `timeout`, in seconds", "config.md, hooks")
        for index, entry in enumerate(hook.env or ()):
            if "=" not in entry.lstrip("="):
                message = f"`{entry[:40]}` is not NAME=VALUE"
                yield Finding("hook-env", MEDIUM, message, f"{path}.env[{index}]", "", "environ(7)")


def labels(subject: Subject) -> Findings:
    """Labels of security modules have the form of one."""
    process, linux = subject.process, subject.config.linux
    for path, label in (
        ("process.selinuxLabel", process.selinux_label),
        ("linux.mountLabel", linux.mount_label if linux else None),
    ):
        if label and not _SELINUX.fullmatch(label):
            message = f"`{label[:80]}` is no SELinux label: user:role:type:level"
            mend = "as in system_u:system_r:container_t:s0"
            yield Finding("selinux-label", HIGH, message, path, mend, "selinux(8), context")
    profile = process.apparmor_profile
    if profile and not _APPARMOR.fullmatch(profile):
        message = f"`{profile[:80]}` is no name of an AppArmor profile"
        yield Finding("apparmor-name", HIGH, message, "process.apparmorProfile", "", "apparmor.d(5)")


def reserved_annotations(subject: Subject) -> Findings:
    """Keys of the specification's own namespace are the defined ones, with values that mean something."""
    listed = subject.config.annotations or {}
    for key in listed:
        if key.startswith(_RESERVED) and key not in _DEFINED:
            close = suggest(key, _DEFINED)
            message = f"`{key}` is in the reserved `org.opencontainers`, and no specification defines it"
            mend = f"did you mean `{close}`?" if close else "use a domain of your own"
            path = f'annotations["{key}"]'
            yield Finding("annotation-reserved", MEDIUM, message, path, mend, "config.md, annotations: MUST")
    stop = listed.get(_STOP_SIGNAL, "")
    if stop and stop not in _SIGNALS and not _REAL_TIME.fullmatch(stop):
        close = suggest(stop, _SIGNALS)
        message = f"`{stop[:40]}` is no signal: the container would be stopped by SIGKILL"
        mend = f"did you mean `{close}`?" if close else "signal(7) lists them"
        path = f'annotations["{_STOP_SIGNAL}"]'
        yield Finding("stop-signal", MEDIUM, message, path, mend, "image-spec, config, StopSignal")
    system = listed.get("org.opencontainers.image.os", "linux")
    if system != "linux":
        message = f"the image is said to be for `{system[:40]}`: nothing of it runs on Linux"
        path = 'annotations["org.opencontainers.image.os"]'
        yield Finding("annotation-os", MEDIUM, message, path, "write linux", "image-spec, config, os")
