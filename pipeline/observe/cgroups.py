"""What the kernel shows of a container's limits: the files of its cgroups against config.json."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.observe.fact import Config, Fact, equal, words

Cgroups = Mapping[str, Path]
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# config-linux.md, Default Devices, and the ptys; crun adds the console, runc 1.1 adds tun.
_DEFAULT_DEVICES = frozenset({"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "136:*", "10:200"})


def limit_facts(config: Config, cgroups: Cgroups) -> Iterator[Fact]:
    """Yield every limit of `linux.resources` as it is in force; `cgroups` is proc.cgroup_directories."""
    resources = config["linux"].get("resources", {})
    yield from _memory(resources.get("memory") or {}, cgroups)
    yield from _cpu(resources.get("cpu") or {}, cgroups)
    pids = (resources.get("pids") or {}).get("limit", 0)
    if pids > 0:
        yield _limit("pids limit", pids, cgroups, "pids", "pids.max", "pids.max")
    if resources.get("devices"):
        yield from _devices(config, cgroups)
    for name, value in (resources.get("unified") or {}).items():
        yield equal(f"cgroup {name}", value, _read(cgroups, "unified", name), name)


def oom_kills(cgroups: Cgroups) -> int:
    """Return how many processes the kernel killed for want of memory."""
    for controller, name in (("memory", "memory.oom_control"), ("unified", "memory.events")):
        for line in _read(cgroups, controller, name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def _memory(memory: Config, cgroups: Cgroups) -> Iterator[Fact]:
    limit, both = memory.get("limit", 0), memory.get("swap", 0)
    if limit > 0:
        wanted = limit - limit % _PAGE_BYTES
        yield _limit("memory limit", wanted, cgroups, "memory", "memory.limit_in_bytes", "memory.max")
    if both > 0 and "memory" in cgroups:
        wanted = both - both % _PAGE_BYTES
        yield _limit("memory and swap limit", wanted, cgroups, "memory", "memory.memsw.limit_in_bytes", "")
    elif both > 0:
        # runtime-spec counts memory and swap together, cgroup v2 counts swap alone.
        yield _limit("swap limit", both - limit, cgroups, "", "", "memory.swap.max")
    if memory.get("reservation", 0) > 0:
        name = "memory reservation"
        yield _limit(
            name, memory["reservation"], cgroups, "memory", "memory.soft_limit_in_bytes", "memory.low"
        )


def _cpu(cpu: Config, cgroups: Cgroups) -> Iterator[Fact]:
    quota, period = cpu.get("quota", 0), cpu.get("period", 100_000)
    if quota > 0 and "cpu" in cgroups:
        yield _limit("cpu quota", quota, cgroups, "cpu", "cpu.cfs_quota_us", "")
        yield _limit("cpu period", period, cgroups, "cpu", "cpu.cfs_period_us", "")
    elif quota > 0:
        yield _limit("cpu quota", f"{quota} {period}", cgroups, "", "", "cpu.max")
    if cpu.get("shares", 0) > 0 and "cpu" in cgroups:
        yield _limit("cpu shares", cpu["shares"], cgroups, "cpu", "cpu.shares", "")
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield _limit(f"cpuset {key}", cpu[key], cgroups, "cpuset", f"cpuset.{key}", f"cpuset.{key}")


def _limit(name: str, wanted: object, cgroups: Cgroups, controller: str, old: str, new: str) -> Fact:
    """Compare with the file `old` of a v1 controller where there is one, else with the file `new` of v2."""
    if controller in cgroups and old:
        return equal(name, wanted, _read(cgroups, controller, old), old)
    return equal(name, wanted, _read(cgroups, "unified", new), new)


def _read(cgroups: Cgroups, controller: str, name: str) -> str:
    with suppress(OSError, KeyError):
        return (cgroups[controller] / name).read_text().strip()
    return "no such limit"


def _devices(config: Config, cgroups: Cgroups) -> Iterator[Fact]:
    if "devices" not in cgroups:
        yield _device_program(cgroups)
        return
    rules = config["linux"]["resources"]["devices"]
    if not _denies_all(rules[0]):
        return
    allowed = _DEFAULT_DEVICES | {_number(rule) for rule in rules if rule["allow"]}
    listed = _read(cgroups, "devices", "devices.list").splitlines()
    extra = [line for line in listed if not _fits(line, allowed)]
    expected = "only the default ones and the spec's"
    yield Fact("devices", expected, words(extra) if extra else expected, not extra, "devices.list")


def _denies_all(rule: Config) -> bool:
    return not rule["allow"] and "major" not in rule and rule.get("type", "a") == "a"


def _number(rule: Config) -> str:
    return f"{rule.get('major', '*')}:{rule.get('minor', '*')}"


def _fits(line: str, allowed: frozenset[str]) -> bool:
    """Is one line of devices.list, `c 1:3 rwm`, within what is allowed? Making any node but using none is."""
    kind, number, access = line.split()
    return kind != "a" and (access == "m" or number in allowed)


def _device_program(cgroups: Cgroups) -> Fact:
    from pipeline.observe.bpf import attached_device_programs

    count = attached_device_programs(cgroups.get("unified", Path("/")))
    return Fact("devices", "a device filter", f"{count} device filters", count > 0, "bpf(2) BPF_PROG_QUERY")
