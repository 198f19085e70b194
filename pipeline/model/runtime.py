"""config.json of the OCI runtime specification, 1.0.0 to 1.3.0, for Linux, as frozen closed types.

Source: runtime-spec, config.md and config-linux.md. Which release brought a field is told by
`checks.versions`. Sections of other platforms (windows, solaris, vm, zos, freebsd) are left out on purpose:
in a bundle that Linux runs, they do nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from pipeline.model.runtime_base import (
    Int32,
    Int64,
    MemoryPolicyFlag,
    MemoryPolicyMode,
    NamespaceType,
    Part,
    Propagation,
    SchedulerFlag,
    SchedulerPolicy,
    Text,
    Uint32,
    Uint64,
)
from pipeline.model.runtime_resources import Resources, Seccomp


class Root(Part, frozen=True):
    path: Text
    readonly: bool | None = None


class IdMapping(Part, frozen=True):
    container_id: Uint32 = field(name="containerID")
    host_id: Uint32 = field(name="hostID")
    size: Uint32


class Mount(Part, frozen=True):
    destination: Text
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] | None = None
    uid_mappings: tuple[IdMapping, ...] | None = None
    gid_mappings: tuple[IdMapping, ...] | None = None


class ConsoleSize(Part, frozen=True):
    height: Uint64
    width: Uint64


class User(Part, frozen=True):
    uid: Uint32
    gid: Uint32
    umask: Uint32 | None = None
    additional_gids: tuple[Uint32, ...] | None = None


class Capabilities(Part, frozen=True):
    bounding: tuple[str, ...] | None = None
    effective: tuple[str, ...] | None = None
    inheritable: tuple[str, ...] | None = None
    permitted: tuple[str, ...] | None = None
    ambient: tuple[str, ...] | None = None


class Rlimit(Part, frozen=True):
    type: Annotated[str, Meta(pattern="^RLIMIT_[A-Z]+$")]
    soft: Uint64
    hard: Uint64


class Scheduler(Part, frozen=True):
    policy: SchedulerPolicy
    nice: Int32 | None = None
    priority: Int32 | None = None
    flags: tuple[SchedulerFlag, ...] | None = None
    runtime: Uint64 | None = None
    deadline: Uint64 | None = None
    period: Uint64 | None = None


class IoPriority(Part, frozen=True):
    class_: Literal["IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE", "IOPRIO_CLASS_RT"] = field(name="class")
    priority: Annotated[int, Meta(ge=0, le=7)] | None = None


class ExecCpuAffinity(Part, frozen=True):
    initial: str | None = None
    final: str | None = None


class Process(Part, frozen=True):
    cwd: Text
    user: User
    args: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    terminal: bool | None = None
    console_size: ConsoleSize | None = None
    rlimits: tuple[Rlimit, ...] | None = None
    capabilities: Capabilities | None = None
    no_new_privileges: bool | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: ExecCpuAffinity | None = field(default=None, name="execCPUAffinity")


class Hook(Part, frozen=True):
    path: Text
    args: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    timeout: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


class Hooks(Part, frozen=True):
    prestart: tuple[Hook, ...] | None = None
    create_runtime: tuple[Hook, ...] | None = None
    create_container: tuple[Hook, ...] | None = None
    start_container: tuple[Hook, ...] | None = None
    poststart: tuple[Hook, ...] | None = None
    poststop: tuple[Hook, ...] | None = None


class Namespace(Part, frozen=True):
    type: NamespaceType
    path: str | None = None


class TimeOffset(Part, frozen=True):
    secs: Int64 | None = None
    nanosecs: Uint32 | None = None


class Device(Part, frozen=True):
    type: Literal["a", "b", "c", "p", "u"]
    path: Text
    major: Int64 | None = None
    minor: Int64 | None = None
    # The permission bits alone (schema of 1.3.0; set-id bits mean nothing on a device).
    file_mode: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    uid: Uint32 | None = None
    gid: Uint32 | None = None


class NetDevice(Part, frozen=True):
    name: str | None = None


class IntelRdt(Part, frozen=True):
    clos_id: str | None = field(default=None, name="closID")
    schemata: tuple[str, ...] | None = None
    l3_cache_schema: str | None = field(default=None, name="l3CacheSchema")
    mem_bw_schema: Annotated[str, Meta(pattern=r"^MB:[^\n]*$")] | None = None
    enable_monitoring: bool | None = None
    # 1.1.0 to 1.2.1 only.
    enable_cmt: bool | None = field(default=None, name="enableCMT")
    enable_mbm: bool | None = field(default=None, name="enableMBM")


class MemoryPolicy(Part, frozen=True):
    mode: MemoryPolicyMode
    nodes: str | None = None
    flags: tuple[MemoryPolicyFlag, ...] | None = None


class Personality(Part, frozen=True):
    domain: Literal["LINUX", "LINUX32"]
    flags: tuple[str, ...] | None = None


class Linux(Part, frozen=True):
    namespaces: tuple[Namespace, ...] | None = None
    uid_mappings: tuple[IdMapping, ...] | None = None
    gid_mappings: tuple[IdMapping, ...] | None = None
    time_offsets: dict[Literal["boottime", "monotonic"], TimeOffset] | None = None
    devices: tuple[Device, ...] | None = None
    net_devices: dict[Text, NetDevice] | None = None
    cgroups_path: str | None = None
    resources: Resources | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    sysctl: dict[str, str] | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: Propagation | None = None
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    mount_label: str | None = None
    personality: Personality | None = None


class RuntimeConfig(Part, frozen=True):
    """The whole of config.json."""

    oci_version: Annotated[
        str, Meta(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$")
    ]
    root: Root
    process: Process | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] | None = None
    hooks: Hooks | None = None
    annotations: dict[Text, str] | None = None
    linux: Linux | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON value, without the fields that are None."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


def read_config(value: object) -> RuntimeConfig:
    """Return the typed config of a JSON value. Raises msgspec.ValidationError."""
    return msgspec.convert(value, RuntimeConfig)


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def child_path(path: str, key: str | int) -> str:
    """Return the JSON path of a member or item: `process.args[0]`, `annotations["org.example.a"]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key
