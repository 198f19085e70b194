"""Meaning of how the program is scheduled: policy, I/O priority, processors and memory nodes, clocks.

Sources: runtime-spec config.md (process), config-linux.md (cpu, memory policy, time offsets); sched(7),
sched_setattr(2), set_mempolicy(2), time_namespaces(7); runc's checks scheduler, ioPriority, memoryPolicy.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checks.number_lists import numbers
from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Scheduler

_REAL_TIME = frozenset({"SCHED_FIFO", "SCHED_RR"})
_NICE = range(-20, 20)
_PRIORITIES = range(1, 100)
# sched_setattr(2): the kernel refuses a runtime below 1024 nanoseconds.
_LEAST_RUNTIME_NS = 1024
_NANOSECONDS = 10**9
_LARGEST_CONSOLE = 0xFFFF
_NO_NODES = frozenset({"MPOL_DEFAULT", "MPOL_LOCAL"})
_WITH_NODES = frozenset({"MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"})


def policy(subject: Subject) -> Findings:
    """The numbers of the scheduler belong to its policy and lie in the kernel's ranges."""
    found = subject.process.scheduler
    if found is None:
        return
    path = "process.scheduler"
    if found.policy == "SCHED_ISO":
        message = "SCHED_ISO is a reserved name that no kernel implements"
        yield Finding("scheduler-policy", HIGH, message, f"{path}.policy", "write SCHED_OTHER", "sched(7)")
    if found.nice is not None and found.nice not in _NICE:
        message = f"the nice value {found.nice} is outside -20 to 19"
        yield Finding("scheduler-nice", HIGH, message, f"{path}.nice", "", "sched(7); runc, scheduler")
    yield from _priority(found, path)
    yield from _deadline(found, path)


def _priority(found: Scheduler, path: str) -> Findings:
    priority = found.priority or 0
    source = "sched(7); runc, scheduler"
    if found.policy in _REAL_TIME and priority not in _PRIORITIES:
        message = f"{found.policy} with the priority {priority}: it needs one of 1 to 99"
        yield Finding("scheduler-priority", HIGH, message, f"{path}.priority", "write 1", source)
    elif found.policy not in _REAL_TIME and priority:
        message = f"the priority {priority} is for SCHED_FIFO and SCHED_RR, not for {found.policy}"
        yield Finding("scheduler-priority", HIGH, message, f"{path}.priority", "write `nice`", source)


def _deadline(found: Scheduler, path: str) -> Findings:
    runtime, deadline, period = found.runtime or 0, found.deadline or 0, found.period or 0
    source = "sched_setattr(2); runc, scheduler"
    if found.policy != "SCHED_DEADLINE":
        if runtime or deadline or period:
            message = f"runtime, deadline and period are for SCHED_DEADLINE, not for {found.policy}"
            yield Finding("scheduler-deadline", HIGH, message, path, "drop them", source)
    elif not _LEAST_RUNTIME_NS <= runtime <= deadline <= (period or deadline):
        message = f"not {_LEAST_RUNTIME_NS} <= runtime {runtime} <= deadline {deadline} <= period {period}"
        yield Finding("scheduler-deadline", HIGH, message, path, "", source)


def io_priority(subject: Subject) -> Findings:
    """A class of I/O has its level (config.md, process: priority is REQUIRED; the schema forgets it)."""
    found = subject.process.io_priority
    if found and found.priority is None and found.class_ != "IOPRIO_CLASS_IDLE":
        message = f"{found.class_} without a priority: runtimes take 0, the highest"
        path = "process.ioPriority"
        yield Finding("io-priority-unset", LOW, message, path, "add `priority`, 0 to 7", "config.md, process")


def lists(subject: Subject) -> Findings:
    """Lists of processors and memory nodes can be read by the kernel (config-linux.md, cpu)."""
    for path, text in _lists(subject):
        if numbers(text) is None:
            message = f"`{text[:80]}` is no list of numbers: the kernel refuses it"
            yield Finding("number-list", HIGH, message, path, "write it as 0-3,7", "config-linux.md, cpu")


def _lists(subject: Subject) -> Iterator[tuple[str, str]]:
    linux, affinity = subject.config.linux, subject.process.exec_cpu_affinity
    cpu = linux.resources.cpu if linux and linux.resources else None
    policy = linux.memory_policy if linux else None
    found = (
        ("linux.resources.cpu.cpus", cpu.cpus if cpu else None),
        ("linux.resources.cpu.mems", cpu.mems if cpu else None),
        ("linux.memoryPolicy.nodes", policy.nodes if policy else None),
        ("process.execCPUAffinity.initial", affinity.initial if affinity else None),
        ("process.execCPUAffinity.final", affinity.final if affinity else None),
    )
    for path, text in found:
        if text is not None:
            yield path, text


def memory_policy(subject: Subject) -> Findings:
    """A memory policy has nodes if and only if its mode takes some (set_mempolicy(2))."""
    found = subject.config.linux.memory_policy if subject.config.linux else None
    if found is None:
        return
    path, source = "linux.memoryPolicy", "set_mempolicy(2)"
    if found.mode in _NO_NODES and found.nodes:
        message = f"{found.mode} takes no nodes: the kernel refuses it"
        yield Finding("memory-policy", HIGH, message, f"{path}.nodes", "drop `nodes`", source)
    if found.mode in _WITH_NODES and not found.nodes:
        message = f"{found.mode} needs nodes: the kernel refuses it"
        yield Finding("memory-policy", HIGH, message, path, "add `nodes`", source)
    flags = set(found.flags or ())
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= flags:
        message = "nodes cannot be static and relative at once"
        yield Finding("memory-policy", HIGH, message, f"{path}.flags", "keep one", source)
    if "MPOL_F_NUMA_BALANCING" in flags and found.mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        message = f"MPOL_F_NUMA_BALANCING does not go with {found.mode}"
        yield Finding("memory-policy", HIGH, message, f"{path}.flags", "write MPOL_BIND", source)


def clocks(subject: Subject) -> Findings:
    """Offsets of clocks have a time namespace of the container's own, and nanoseconds below a second."""
    linux = subject.config.linux
    if linux is None or not linux.time_offsets:
        return
    if "time" not in subject.namespaces:
        message = "`timeOffsets` without a time namespace of the container's own: they are passed over"
        mend = 'add {"type": "time"} to linux.namespaces'
        path = "linux.timeOffsets"
        yield Finding("time-offset-without-namespace", HIGH, message, path, mend, "time_namespaces(7); runc")
    for clock, offset in linux.time_offsets.items():
        if (offset.nanosecs or 0) >= _NANOSECONDS:
            message = f"{offset.nanosecs} nanoseconds are a second or more: the kernel refuses them"
            path = f"linux.timeOffsets.{clock}.nanosecs"
            yield Finding("time-offset-range", HIGH, message, path, "", "time_namespaces(7)")


def console(subject: Subject) -> Findings:
    """A console has a size only where there is one (config.md: runtimes MUST ignore it otherwise)."""
    found = subject.process.console_size
    if found and not subject.process.terminal:
        message = "`consoleSize` without `terminal` is ignored"
        yield Finding("console-size", LOW, message, "process.consoleSize", "drop it", "config.md, process")
    elif found and (found.height > _LARGEST_CONSOLE or found.width > _LARGEST_CONSOLE):
        message = (
            f"a console of {found.height} by {found.width}: a terminal has at most {_LARGEST_CONSOLE} each"
        )
        yield Finding("console-size", MEDIUM, message, "process.consoleSize", "", "ioctl_tty(2), winsize")
