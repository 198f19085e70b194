"""What this host has, for the judge: limits, capabilities, sizes, and the ids of its other users."""

from __future__ import annotations

import os
import re
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import proc
from pipeline.checks.subject import HostFacts
from pipeline.model.nouns import Platform
from pipeline.model.truths.nouns import FoundRuntime

# In the order of their numbers (linux/capability.h).
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()
_UNLIMITED = 2**64 - 1
_CGROUP = Path("/sys/fs/cgroup")
_PID_MAX = Path("/proc/sys/kernel/pid_max")
_V1_CONTROLLERS = frozenset(
    {"blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids", "rdma"}
)
_CPUS = Path("/sys/devices/system/cpu")


def host_facts(runtime: str, runtime_version: str, runtimes: tuple[FoundRuntime, ...] = ()) -> HostFacts:
    """Look at this host; `runtime` and its version are those that the bundle shall run under.

    `runtimes` are all that were found here.
    """
    return HostFacts(
        cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        hard_limits=hard_limits(),
        capabilities=held_capabilities(),
        has_swap_accounting=has_swap_accounting(),
        architecture=Platform.host().architecture,
        subordinate_ids=(*_subordinate("uid"), *_subordinate("gid")),
        thermal_cpus=len(list(_CPUS.glob("cpu[0-9]*/thermal_throttle"))),
        pid_max=int(_PID_MAX.read_text()),
        lsm=_security_modules(),
        runtime=runtime,
        runtime_version=runtime_version,
        runtimes=runtimes,
        cgroups=_cgroups(),
        namespaces=_namespaces(),
        seccomp_actions=_seccomp_actions(),
        controllers=_controllers(),
        filesystems=_filesystems(),
        kernel=tuple(int(part) for part in re.findall(r"[0-9]+", os.uname().release)[:2]),
        apparmor_profiles=_apparmor_profiles(),
        listening=frozenset(_listening()),
    )


def hard_limits() -> dict[str, int]:
    """Return this process's hard limits by name, as `NOFILE` (getrlimit(2))."""
    names = [name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"]
    found = {name.removeprefix("RLIMIT_"): resource.getrlimit(getattr(resource, name))[1] for name in names}
    return {name: _UNLIMITED if hard == resource.RLIM_INFINITY else hard for name, hard in found.items()}


def held_capabilities() -> frozenset[str]:
    """Return the capabilities that this process could give away (capabilities(7), bounding set)."""
    mask = int(proc.status("self")["CapBnd"], 16)
    return frozenset(f"CAP_{name}" for number, name in enumerate(_CAPABILITIES) if mask >> number & 1)


def has_swap_accounting() -> bool:
    """True when a limit on swap can be written (kernel, cgroup-v1/memory.rst and cgroup-v2.rst)."""
    if (_CGROUP / "memory").is_dir():
        return (_CGROUP / "memory/memory.memsw.limit_in_bytes").exists()
    folders = [entry for entry in _CGROUP.iterdir() if entry.is_dir()] if _CGROUP.is_dir() else []
    return not folders or any((folder / "memory.swap.max").exists() for folder in folders)


def _cgroups() -> str:
    """Which hierarchies this host has (cgroups(7)): v1, v2, or v1 with cgroup2 beside it."""
    kinds = {mount.fstype for mount in proc.cgroup_roots()}
    if "cgroup" not in kinds:
        return "v2" if "cgroup2" in kinds else ""
    return "hybrid" if proc.is_hybrid() else "v1"


def _subordinate(kind: str) -> Iterator[tuple[str, str, int, int]]:
    try:
        lines = Path(f"/etc/sub{kind}").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        user, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if start.isdecimal() and count.strip().isdecimal():
            yield kind, user, int(start), int(count)


def _security_modules() -> frozenset[str]:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    found = {"apparmor"} if enabled.exists() and enabled.read_text().startswith("Y") else set()
    return frozenset(found | ({"selinux"} if Path("/sys/fs/selinux/enforce").exists() else set()))


def _namespaces() -> frozenset[str]:
    """The namespaces of this kernel, in the words of config.json (namespaces(7), /proc/self/ns)."""
    words = {"mnt": "mount", "net": "network"}
    names = (name for name in os.listdir("/proc/self/ns") if not name.endswith("_for_children"))
    return frozenset(words.get(name, name) for name in names)


def _seccomp_actions() -> frozenset[str] | None:
    """The actions of this kernel (seccomp(2)); none without seccomp, None where it does not list them."""
    try:
        return frozenset(Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split())
    except OSError:
        return None if "Seccomp" in proc.status("self") else frozenset()


def _controllers() -> frozenset[str] | None:
    """The cgroup controllers in use, of v1 and v2 together (cgroups(7)); None where they cannot be seen."""
    found: set[str] = set()
    try:
        found |= {part for name in os.listdir(_CGROUP) for part in name.split(",")} & _V1_CONTROLLERS
    except OSError:
        return None
    for listed in (_CGROUP / "cgroup.controllers", _CGROUP / "unified/cgroup.controllers"):
        if listed.exists():
            found |= set(listed.read_text().split())
    return frozenset(found) or None


def _filesystems() -> frozenset[str]:
    """The file systems that this kernel has loaded (proc(5), /proc/filesystems)."""
    try:
        lines = Path("/proc/filesystems").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split("\t")[-1] for line in lines)


def _apparmor_profiles() -> frozenset[str] | None:
    """The names of the loaded profiles (apparmor(7)); None where they cannot be read."""
    try:
        lines = Path("/sys/kernel/security/apparmor/profiles").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return frozenset(line.rpartition(" (")[0] for line in lines)


def _listening() -> Iterator[tuple[str, str, int]]:
    """Protocol, address and port of every TCP socket that listens and UDP socket that is bound (proc(5))."""
    for protocol, state in (("tcp", "0A"), ("udp", "07")):
        for family in ("", "6"):
            try:
                lines = Path(f"/proc/net/{protocol}{family}").read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                local, _, found = line.split()[1:4]
                if found == state:
                    address, _, port = local.partition(":")
                    yield protocol, _address(address), int(port, 16)


def _address(text: str) -> str:
    """Read an address as /proc/net/tcp writes it: 32-bit words in the order of this machine's bytes."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"{'<' if sys.byteorder == 'little' else '>'}{len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)
