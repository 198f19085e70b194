"""Meaning of limits: numbers that the kernel or a runtime refuses, and limits that contradict each other.

Sources: runtime-spec config-linux.md (control groups); kernel, admin-guide/cgroup-v1 and cgroup-v2,
scheduler/sched-bwc; runc's cgroup code. What runc 1.1.5 and crun 1.8.1 do was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pipeline.checks.meaning_linux import resources
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.errors import suggest
from pipeline.model.nouns import Finding
from pipeline.model.runtime_resources import BlockIo, ThrottleDevice, WeightDevice

_MEMORY = "linux.resources.memory"
_CPU = "linux.resources.cpu"
_IO = "linux.resources.blockIO"
_SHARES = range(2, 262145)
_WEIGHTS = range(10, 1001)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# The controllers of cgroup v2 (kernel, cgroup-v2), and the files that every cgroup has.
_CONTROLLERS = ("cgroup", "cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma", "dmem", "irq")

# Files of a cgroup that are orders and not limits.
_ACTS = frozenset(f"cgroup.{name}" for name in ("procs", "threads", "kill", "freeze", "type"))


def memory_numbers(subject: Subject) -> Findings:
    """A limit of memory is a number of bytes, or -1 for none (config-linux.md, memory)."""
    found = resources(subject).memory
    if found is None:
        return
    for name in ("limit", "reservation", "swap", "kernel"):
        value = getattr(found, name)
        if value is not None and value < -1:
            message = f"memory.{name} is {value}: below zero, only -1 has a meaning, which is no limit"
            yield Finding(
                "memory-negative", HIGH, message, f"{_MEMORY}.{name}", "", "config-linux.md, memory"
            )
    if (found.swap or 0) > 0 and (found.limit or 0) <= 0:
        message = (
            "memory.swap counts memory and swap together, and there is no memory.limit: both runtimes fail"
        )
        mend = "add `limit`"
        yield Finding("swap-without-limit", HIGH, message, f"{_MEMORY}.swap", mend, "config-linux.md, memory")
    if found.kernel is not None or found.kernel_tcp is not None:
        message = "limits of the kernel's own memory are gone since Linux 5.16, and ignored or refused"
        path = f"{_MEMORY}.{'kernel' if found.kernel is not None else 'kernelTCP'}"
        yield Finding("memory-kernel", LOW, message, path, "drop it", "config-linux.md, memory")


def cpu_numbers(subject: Subject) -> Findings:
    """Quota, burst, shares and real time lie in the kernel's ranges, and fit each other."""
    found = resources(subject).cpu
    if found is None:
        return
    if found.quota is not None and found.quota < -1:
        message = f"cpu.quota is {found.quota}: below zero, only -1 has a meaning, which is no limit"
        yield Finding("cpu-quota", HIGH, message, f"{_CPU}.quota", "", "kernel, sched-bwc")
    if found.burst and found.quota is not None and 0 < found.quota < found.burst:
        message = f"cpu.burst {found.burst} is above cpu.quota {found.quota}"
        yield Finding("cpu-burst", HIGH, message, f"{_CPU}.burst", "", "config-linux.md, cpu")
    if found.shares and found.shares not in _SHARES:
        message = f"cpu.shares {found.shares} is outside 2 to 262144: runc refuses it, crun takes the nearest"
        yield Finding("cpu-shares", HIGH, message, f"{_CPU}.shares", "write 1024", "kernel, cgroup-v1 cpu")
    runtime, period = found.realtime_runtime, found.realtime_period
    if runtime is not None and (runtime < -1 or (period is not None and runtime > period)):
        message = f"cpu.realtimeRuntime {runtime} does not fit in cpu.realtimePeriod {period}"
        path = f"{_CPU}.realtimeRuntime"
        yield Finding("cpu-realtime", HIGH, message, path, "", "kernel, sched-rt-group")
    elif runtime:
        message = f"cpu.realtimeRuntime {runtime}: few kernels have real time by group, and no cgroup v2 has"
        path = f"{_CPU}.realtimeRuntime"
        yield Finding("cpu-realtime", LOW, message, path, "drop it", "kernel, cgroup-v2, cpu")


def block_io(subject: Subject) -> Findings:
    """Weights are 10 to 1000; each device is there once, with something to set (config-linux.md)."""
    found = resources(subject).block_io
    if found is None:
        return
    for path, weight in _weights(found):
        if weight and weight not in _WEIGHTS:
            message = f"the weight {weight} is outside 10 to 1000"
            yield Finding("io-weight", HIGH, message, path, "write 500", "kernel, cgroup-v1 blkio-controller")
    for index, entry in enumerate(found.weight_device or ()):
        if entry.weight is None and entry.leaf_weight is None:
            message = f"device {entry.major}:{entry.minor} has neither `weight` nor `leafWeight`"
            path = f"{_IO}.weightDevice[{index}]"
            yield Finding("io-weight-missing", HIGH, message, path, "", "config-linux.md, block IO: MUST")
    for name, listed in _device_lists(found):
        seen = Counter((entry.major, entry.minor) for entry in listed)
        for (major, minor), times in seen.items():
            if times > 1:
                message = f"device {major}:{minor} is there {times} times: the last counts"
                yield Finding("io-duplicate", MEDIUM, message, f"{_IO}.{name}", "keep one")


def _weights(found: BlockIo) -> Iterator[tuple[str, int | None]]:
    yield f"{_IO}.weight", found.weight
    yield f"{_IO}.leafWeight", found.leaf_weight
    for index, entry in enumerate(found.weight_device or ()):
        yield f"{_IO}.weightDevice[{index}].weight", entry.weight
        yield f"{_IO}.weightDevice[{index}].leafWeight", entry.leaf_weight


def _device_lists(found: BlockIo) -> Iterable[tuple[str, tuple[ThrottleDevice | WeightDevice, ...]]]:
    return (
        ("weightDevice", found.weight_device or ()),
        ("throttleReadBpsDevice", found.throttle_read_bps_device or ()),
        ("throttleWriteBpsDevice", found.throttle_write_bps_device or ()),
        ("throttleReadIOPSDevice", found.throttle_read_iops_device or ()),
        ("throttleWriteIOPSDevice", found.throttle_write_iops_device or ()),
    )


def huge_pages(subject: Subject) -> Findings:
    """Each size of huge page is limited once, to whole pages (kernel, cgroup-v1 hugetlb)."""
    seen: set[str] = set()
    for index, entry in enumerate(resources(subject).hugepage_limits or ()):
        path = f"linux.resources.hugepageLimits[{index}]"
        if entry.page_size in seen:
            message = f"huge pages of {entry.page_size} are limited twice: the last counts"
            yield Finding("hugepage-duplicate", MEDIUM, message, path, "keep one", "config-linux.md")
        seen.add(entry.page_size)
        size = int(entry.page_size[:-2]) * _UNITS[entry.page_size[-2]]
        if entry.limit % size:
            message = f"{entry.limit} bytes are no whole number of pages of {entry.page_size}"
            mend = f"write {entry.limit // size * size}"
            yield Finding("hugepage-part", LOW, message, f"{path}.limit", mend, "kernel, cgroup-v1 hugetlb")


def rdma(subject: Subject) -> Findings:
    """Each RDMA device has something limited (config-linux.md: at least one of two MUST be given)."""
    for name, entry in (resources(subject).rdma or {}).items():
        if entry.hca_handles is None and entry.hca_objects is None:
            message = f"nothing of the RDMA device `{name}` is limited"
            mend = "add `hcaHandles` or `hcaObjects`"
            path = f'linux.resources.rdma["{name}"]'
            yield Finding("rdma-empty", HIGH, message, path, mend, "config-linux.md, RDMA: MUST")


def unified_keys(subject: Subject) -> Findings:
    """Each key of `unified` names a file of the container's own cgroup (config-linux.md, unified)."""
    for key in resources(subject).unified or {}:
        path = f'linux.resources.unified["{key}"]'
        controller, dot, rest = key.partition(".")
        if "/" in key or not dot or not rest:
            message = f"`{key}` is no file of a cgroup"
            yield Finding("unified-key", HIGH, message, path, "as in memory.high", "config-linux.md, unified")
        elif key in _ACTS:
            message = f"`{key}` is no limit: writing it moves, stops or ends processes"
            yield Finding("unified-key", HIGH, message, path, "drop it", "kernel, cgroup-v2, core files")
        elif controller not in _CONTROLLERS:
            close = suggest(controller, _CONTROLLERS)
            message = f"`{controller}` in `{key}` is no controller of cgroup v2"
            mend = f"did you mean `{close}.{rest}`?" if close else "kernel, cgroup-v2, lists them"
            yield Finding("unified-key", HIGH, message, path, mend, "config-linux.md, unified")
