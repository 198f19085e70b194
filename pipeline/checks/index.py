"""The policy: every check by name, in the order in which a reader would ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from pipeline.checks import (
    environment,
    hardening,
    hardening_devices,
    hardening_mounts,
    hardening_service,
    host,
    meaning_linux,
    meaning_process,
    mount_kinds,
    program,
    rootfs,
    seccomp,
    seccomp_mistakes,
    seccomp_open,
    seccomp_pin,
    sources,
    unpacked,
)
from pipeline.checks.subject import Findings, Subject
from pipeline.checks.text import cleaned
from pipeline.model.nouns import Finding


class Layer(Enum):
    """What a check looks at. Form, the first layer, is judged while config.json is read (`form`)."""

    MEANING = "meaning"
    BUNDLE = "bundle"
    HOST = "host"
    HARDENING = "hardening"


@dataclass(frozen=True)
class Check:
    """One named question and the function that answers it."""

    name: str
    layer: Layer
    run: Callable[[Subject], Findings]


def _layer(layer: Layer, checks: dict[str, Callable[[Subject], Findings]]) -> tuple[Check, ...]:
    return tuple(Check(name, layer, run) for name, run in checks.items())


CHECKS: tuple[Check, ...] = (
    *_layer(
        Layer.MEANING,
        {
            "version": meaning_process.version,
            "arguments": meaning_process.arguments,
            "working directory": meaning_process.working_directory,
            "environment": meaning_process.environment,
            "capabilities": meaning_process.capabilities,
            "resource limits": meaning_process.rlimits,
            "namespaces": meaning_process.namespaces,
            "id mappings": meaning_process.mappings,
            "host name": meaning_process.host_name,
            "sysctls": meaning_process.sysctls,
            "first process": meaning_process.first_process,
            "root path": meaning_linux.root_path,
            "mount targets": meaning_linux.mount_targets,
            "mount order": meaning_linux.mount_order,
            "mount options": meaning_linux.mount_options,
            "mount sources": meaning_linux.mount_sources,
            "protected paths": meaning_linux.protected_paths,
            "memory": meaning_linux.memory,
            "temporary files": meaning_linux.temporary_files,
            "cpu": meaning_linux.cpu,
            "devices": meaning_linux.devices,
            "hook paths": meaning_linux.hook_paths,
            "annotations": meaning_linux.annotation_names,
            "seccomp names": seccomp.names,
        },
    ),
    *_layer(
        Layer.BUNDLE,
        {
            "rootfs present": rootfs.present,
            "rootfs intact": rootfs.intact,
            "program starts": program.starts,
            "arguments that are files": rootfs.readable_config,
            "ids mapped": rootfs.ids,
            "working directory there": rootfs.working_directory,
            "home there": rootfs.home,
            "mount points": rootfs.mount_points,
            "health check": rootfs.healthcheck,
            "as the image says": rootfs.image_drift,
            "seccomp and the program": seccomp.program_needs,
        },
    ),
    *_layer(
        Layer.HOST,
        {
            "platform": host.platform,
            "bind sources": host.bind_sources,
            "way to the rootfs": host.way_to_rootfs,
            "bundle closed": host.bundle_open,
            "resource limits of the host": host.rlimits,
            "out-of-memory score": host.oom_score,
            "capabilities of the host": host.host_capabilities,
            "sizes": host.sizes,
            "swap accounting": host.swap_accounting,
            "subordinate ids": host.subordinate_ids,
            "sysfs": host.host_network_sysfs,
            "seccomp and the runtime": seccomp.runtime_needs,
            "seccomp architectures": seccomp.architectures,
        },
    ),
    *_layer(
        Layer.HARDENING,
        {
            "user": hardening.user,
            "own namespaces": hardening.namespaces,
            "host ids": hardening.host_ids,
            "no new privileges": hardening.no_new_privileges,
            "capability sets": hardening.capability_sets,
            "no capabilities": hardening.capabilities,
            "no inherited capabilities": hardening.inherited_capabilities,
            "read-only root": hardening.root_filesystem,
            "no privileged files": unpacked.privileged_files,
            "no devices from the image": unpacked.devices,
            "no attributes from the image": unpacked.attributes,
            "no hooks": hardening.hook_programs,
            "clean environment": environment.variables,
            "libraries out of reach": environment.libraries,
            "no orders to runtimes": environment.obeyed_annotations,
            "memory limited": hardening.memory,
            "processes limited": hardening.processes,
            "cpu limited": hardening.cpu,
            "files and cores limited": hardening.rlimits,
            "security module": hardening_service.security_module,
            "no terminal": hardening_service.terminal,
            "umask": hardening_service.umask,
            "usual personality": hardening_service.personality,
            "caches not shared": hardening_service.cache_allocation,
            "masked paths": hardening_mounts.masked,
            "read-only paths": hardening_mounts.readonly,
            "known file systems": mount_kinds.types,
            "one /proc and /sys": mount_kinds.places,
            "tmpfs sizes": mount_kinds.tmpfs_sizes,
            "ids of mounts": mount_kinds.id_mapped,
            "no sensitive binds": sources.binds,
            "nothing over the system": sources.bind_targets,
            "bind flags": hardening_mounts.bind_flags,
            "tmpfs flags": hardening_mounts.tmpfs_flags,
            "pseudo file systems": hardening_mounts.pseudo_flags,
            "own limits visible": hardening_mounts.own_limits_visible,
            "no propagation": hardening_mounts.propagation,
            "no devices": hardening_devices.devices,
            "devices denied": hardening_devices.device_rules,
            "own cgroup": hardening_devices.cgroups_path,
            "limits not lifted": hardening_devices.unified,
            "seccomp confines": seccomp.confined,
            "seccomp escapes": seccomp_open.escapes,
            "seccomp clone3": seccomp_open.clone3,
            "seccomp arguments": seccomp_open.wide_arguments,
            "seccomp alone decides": seccomp_open.decided_elsewhere,
            "seccomp compares what is read": seccomp_mistakes.argument_tests,
            "seccomp rules are not joined into all": seccomp_mistakes.joined_by_or,
            "seccomp rules are not lost": seccomp_mistakes.lost_rules,
            "seccomp actions refuse": seccomp_mistakes.actions,
            "seccomp calls hold no others": seccomp_mistakes.multiplexed,
            "seccomp personality": seccomp_mistakes.personality,
            "seccomp as pinned": seccomp_pin.as_pinned,
        },
    ),
)


def judge(subject: Subject) -> list[Finding]:
    """Return what every check has to say, each finding with its place in config.json, worst first."""
    return ordered(_placed(finding, subject) for check in CHECKS for finding in check.run(subject))


def ordered(findings: Iterator[Finding] | list[Finding]) -> list[Finding]:
    """Return findings worst first, then by place and rule."""
    return sorted(
        findings, key=lambda f: (f.waived is not None, f.severity.rank, f.place is None, f.place, f.rule)
    )


def _placed(finding: Finding, subject: Subject) -> Finding:
    if finding.place is not None:
        return cleaned(finding)
    is_json_path = not finding.path.startswith("/")
    place = subject.document.place(finding.path if is_json_path else "")
    return cleaned(replace(finding, place=place))
