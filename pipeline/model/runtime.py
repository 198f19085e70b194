"""config.json of the OCI runtime specification, 1.0.2 to 1.2, for Linux, as frozen closed types.

Source: runtime-spec, config.md and config-linux.md. Sections of other platforms (windows, solaris, vm, zos)
are left out on purpose: in a bundle that Linux runs, they are unknown keys.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

UINT64_MAX = 2**64 - 1

Uint16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# msgspec compares within int64, so the true upper bound travels in the JSON Schema keyword.
Uint64 = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": UINT64_MAX})]
Text = Annotated[str, Meta(min_length=1)]

NamespaceType = Literal["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]
Propagation = Literal[
    "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"
]
SeccompAction = Literal[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
]
SeccompOperator = Literal[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
]
SeccompArchitecture = Literal[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
]
SeccompFlag = Literal[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]
SchedulerPolicy = Literal[
    "SCHED_BATCH",
    "SCHED_DEADLINE",
    "SCHED_FIFO",
    "SCHED_IDLE",
    "SCHED_ISO",
    "SCHED_OTHER",
    "SCHED_RR",
]
SchedulerFlag = Literal[
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
]


class Part(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """One object of config.json: frozen, camelCase, closed; what is None is not written."""


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
    nice: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
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
    nanosecs: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None


class Device(Part, frozen=True):
    type: Literal["a", "b", "c", "p", "u"]
    path: Text
    major: Int64 | None = None
    minor: Int64 | None = None
    file_mode: Annotated[int, Meta(ge=0, le=0o7777)] | None = None
    uid: Uint32 | None = None
    gid: Uint32 | None = None


class DeviceRule(Part, frozen=True):
    allow: bool
    type: Literal["a", "b", "c"] | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: Annotated[str, Meta(pattern="^[rwm]+$")] | None = None


class Memory(Part, frozen=True):
    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = field(default=None, name="kernelTCP")
    swappiness: Annotated[int, Meta(ge=0, le=100)] | None = None
    disable_oom_killer: bool | None = field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(Part, frozen=True):
    shares: Uint64 | None = None
    quota: Int64 | None = None
    burst: Uint64 | None = None
    period: Uint64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: Uint64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Literal[0, 1] | None = None


class Pids(Part, frozen=True):
    limit: Int64


class WeightDevice(Part, frozen=True):
    major: Int64
    minor: Int64
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None


class ThrottleDevice(Part, frozen=True):
    major: Int64
    minor: Int64
    rate: Uint64


class BlockIo(Part, frozen=True):
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None
    weight_device: tuple[WeightDevice, ...] | None = None
    throttle_read_bps_device: tuple[ThrottleDevice, ...] | None = None
    throttle_write_bps_device: tuple[ThrottleDevice, ...] | None = None
    throttle_read_iops_device: tuple[ThrottleDevice, ...] | None = field(
        default=None, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: tuple[ThrottleDevice, ...] | None = field(
        default=None, name="throttleWriteIOPSDevice"
    )


class HugepageLimit(Part, frozen=True):
    page_size: Annotated[str, Meta(pattern="^[1-9][0-9]*[KMG]B$")]
    limit: Uint64


class InterfacePriority(Part, frozen=True):
    name: Text
    priority: Uint32


class NetworkResources(Part, frozen=True):
    class_id: Uint32 | None = field(default=None, name="classID")
    priorities: tuple[InterfacePriority, ...] | None = None


class Rdma(Part, frozen=True):
    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


class Resources(Part, frozen=True):
    devices: tuple[DeviceRule, ...] | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = field(default=None, name="blockIO")
    hugepage_limits: tuple[HugepageLimit, ...] | None = None
    network: NetworkResources | None = None
    rdma: dict[str, Rdma] | None = None
    unified: dict[str, str] | None = None


class SyscallArgument(Part, frozen=True):
    index: Annotated[int, Meta(ge=0, le=5)]
    value: Uint64
    op: SeccompOperator
    value_two: Uint64 | None = None


class Syscall(Part, frozen=True):
    names: Annotated[tuple[Text, ...], Meta(min_length=1)]
    action: SeccompAction
    errno_ret: Annotated[int, Meta(ge=0, le=4095)] | None = None
    args: tuple[SyscallArgument, ...] | None = None


class Seccomp(Part, frozen=True):
    default_action: SeccompAction
    default_errno_ret: Annotated[int, Meta(ge=0, le=4095)] | None = None
    architectures: tuple[SeccompArchitecture, ...] | None = None
    flags: tuple[SeccompFlag, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[Syscall, ...] | None = None


class IntelRdt(Part, frozen=True):
    clos_id: str | None = field(default=None, name="closID")
    l3_cache_schema: str | None = field(default=None, name="l3CacheSchema")
    mem_bw_schema: str | None = None
    enable_cmt: bool | None = field(default=None, name="enableCMT")
    enable_mbm: bool | None = field(default=None, name="enableMBM")


class Personality(Part, frozen=True):
    domain: Literal["LINUX", "LINUX32"]
    flags: tuple[str, ...] | None = None


class Linux(Part, frozen=True):
    namespaces: tuple[Namespace, ...] | None = None
    uid_mappings: tuple[IdMapping, ...] | None = None
    gid_mappings: tuple[IdMapping, ...] | None = None
    time_offsets: dict[Literal["boottime", "monotonic"], TimeOffset] | None = None
    devices: tuple[Device, ...] | None = None
    cgroups_path: str | None = None
    resources: Resources | None = None
    intel_rdt: IntelRdt | None = None
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
    """Return the typed config of a JSON value that the form check has passed; raises msgspec.ValidationError."""
    return msgspec.convert(value, RuntimeConfig)


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def child_path(path: str, key: str | int) -> str:
    """Return the JSON path of a member or item: `process.args[0]`, `annotations["org.example.a"]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key
