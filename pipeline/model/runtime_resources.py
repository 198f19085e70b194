"""`linux.resources` and `linux.seccomp` of config.json (runtime-spec, config-linux.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from pipeline.model.runtime_base import (
    Int64,
    Part,
    SeccompAction,
    SeccompArchitecture,
    SeccompFlag,
    SeccompOperator,
    Text,
    Uint16,
    Uint32,
    Uint64,
)


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
