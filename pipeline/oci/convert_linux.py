"""What the kernel enforces: `linux` of config.json, with namespaces, mapping, limits, masks and seccomp."""

from __future__ import annotations

import msgspec

from pipeline.model import baselines
from pipeline.model.bundle import Bundle
from pipeline.model.nouns import IdMap
from pipeline.model.runtime import Device, IdMapping, Linux, Namespace
from pipeline.model.runtime_resources import Cpu, DeviceRule, Memory, Pids, Resources, Seccomp
from pipeline.oci import baseline
from pipeline.oci.inputs import Inputs
from pipeline.oci.provenance import Provenance


def linux(inputs: Inputs, sources: Provenance) -> Linux:
    """Return `linux` of config.json."""
    bundle = inputs.bundle
    own_network = bundle.network_mode != "host"
    sources.baseline("linux")
    sources.chosen("linux.uidMappings", bundle, "userns")
    sources.chosen("linux.gidMappings", bundle, "userns")
    sources.chosen("linux.seccomp", bundle, "seccomp")
    sources.spec("linux.sysctl", "sysctls")
    return Linux(
        namespaces=_namespaces(own_network, inputs.id_map),
        uid_mappings=_mappings(inputs.id_map),
        gid_mappings=_mappings(inputs.id_map),
        devices=_devices(inputs, sources),
        resources=resources(inputs, sources),
        sysctl=dict(bundle.sysctls) or None,
        seccomp=msgspec.convert(inputs.seccomp, Seccomp) if inputs.seccomp is not None else None,
        rootfs_propagation="private",
        masked_paths=baselines.masked_paths(bundle.hardening.baseline),
        readonly_paths=baselines.readonly_paths(bundle.hardening.baseline),
    )


def resources(inputs: Inputs, sources: Provenance) -> Resources:
    """Return `linux.resources`: devices denied, then memory, CPU time and processes limited."""
    bundle = inputs.bundle
    sources.chosen("linux.resources.memory.limit", bundle, "mem_limit")
    # Left out, `memswap_limit` is `mem_limit`.
    follows = bundle.memswap_limit == bundle.mem_limit
    sources.chosen("linux.resources.memory.swap", bundle, "mem_limit" if follows else "memswap_limit")
    sources.chosen("linux.resources.cpu", bundle, "cpus")
    sources.chosen("linux.resources.pids", bundle, "pids_limit")
    return Resources(
        devices=(*baseline.DEVICE_RULES, *_device_rules(inputs, sources)),
        memory=_memory(bundle),
        cpu=_cpu(bundle.cpus),
        pids=Pids(limit=bundle.pids_limit) if bundle.pids_limit > 0 else None,
    )


def _namespaces(own_network: bool, id_map: IdMap) -> tuple[Namespace, ...]:
    left_out = {*([] if own_network else ["network"]), *(["user"] if id_map.is_identity else [])}
    return tuple(Namespace(type=name) for name in baseline.NAMESPACES if name not in left_out)


def _mappings(id_map: IdMap) -> tuple[IdMapping, ...] | None:
    if id_map.is_identity:
        return None
    return (IdMapping(container_id=0, host_id=id_map.host_id, size=id_map.size),)


def _memory(bundle: Bundle) -> Memory | None:
    """The limit, with swap equal to it: config-linux.md counts memory and swap together."""
    if bundle.mem_limit <= 0:
        return None
    return Memory(limit=bundle.mem_limit, swap=bundle.memswap_limit or bundle.mem_limit)


def _cpu(cpus: float) -> Cpu | None:
    if cpus <= 0:
        return None
    return Cpu(quota=round(cpus * baseline.CPU_PERIOD_US), period=baseline.CPU_PERIOD_US)


def _devices(inputs: Inputs, sources: Provenance) -> tuple[Device, ...] | None:
    if not inputs.id_map.is_identity:
        return None
    found = []
    for index, device in enumerate(inputs.bundle.devices):
        node = inputs.devices[device.host]
        sources.spec(f"linux.devices[{index}]", f"devices[{index}]")
        found.append(
            Device(
                type="b" if node.kind == "b" else "c",
                path=device.container,
                major=node.major,
                minor=node.minor,
                file_mode=node.mode,
                uid=inputs.user.uid,
                gid=inputs.user.gid,
            )
        )
    return tuple(found) or None


def _device_rules(inputs: Inputs, sources: Provenance) -> list[DeviceRule]:
    rules = []
    for index, device in enumerate(inputs.bundle.devices):
        node = inputs.devices[device.host]
        place = len(baseline.DEVICE_RULES) + index
        sources.spec(f"linux.resources.devices[{place}]", f"devices[{index}]")
        kind = DeviceRule(
            allow=True,
            type="b" if node.kind == "b" else "c",
            major=node.major,
            minor=node.minor,
            access=device.permissions,
        )
        rules.append(kind)
    return rules
