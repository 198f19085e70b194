"""The checks of meaning that go beyond what every runtime asks: one row a question."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.checks import (
    heaps,
    host_needs,
    meaning_filesystems,
    meaning_identity,
    meaning_mounts,
    meaning_process,
    meaning_resources,
    meaning_schedule,
    meaning_seccomp,
    meaning_world,
)
from pipeline.checks.layers import Check, Layer
from pipeline.checks.subject import Findings, Subject

_Rows = dict[str, tuple[Callable[[Subject], Findings], str]]

_MEANING: _Rows = {
    "search path": (
        meaning_process.search_path,
        "env-no-path",
    ),
    "user and group ids": (
        meaning_identity.ids,
        "id-too-large",
    ),
    "ranges of ids": (
        meaning_identity.ranges,
        "mapping-overflow mapping-too-many",
    ),
    "working directory in the container": (
        meaning_identity.working_directory,
        "cwd-proc",
    ),
    "secrets among the arguments": (
        meaning_identity.secrets,
        "args-secret",
    ),
    "umask of the owner": (
        meaning_identity.umask,
        "umask-odd",
    ),
    "binds by option": (
        meaning_filesystems.binds_by_option,
        "bind-option-missing",
    ),
    "modes of tmpfs": (
        meaning_filesystems.tmpfs_modes,
        "tmpfs-closed tmpfs-open",
    ),
    "terminals": (
        meaning_filesystems.terminals,
        "devpts-closed",
    ),
    "wide masks": (
        meaning_filesystems.wide_masks,
        "masked-path-too-wide",
    ),
    "scheduler": (
        meaning_schedule.policy,
        "scheduler-deadline scheduler-nice scheduler-policy scheduler-priority",
    ),
    "i/o priority": (
        meaning_schedule.io_priority,
        "io-priority-unset",
    ),
    "lists of processors and nodes": (
        meaning_schedule.lists,
        "number-list",
    ),
    "memory policy": (
        meaning_schedule.memory_policy,
        "memory-policy",
    ),
    "clocks": (
        meaning_schedule.clocks,
        "time-offset-range time-offset-without-namespace",
    ),
    "console": (
        meaning_schedule.console,
        "console-size",
    ),
    "options by file system": (
        meaning_mounts.known_options,
        "mount-option-type",
    ),
    "values of options": (
        meaning_mounts.option_values,
        "mount-option-value",
    ),
    "contradicting options": (
        meaning_mounts.contradictions,
        "mount-flags-contradict mount-option-duplicate",
    ),
    "ids of mounts as asked": (
        meaning_mounts.id_maps,
        "idmap-incomplete idmap-not-bind idmap-unsaid idmap-without-mapping mapping-empty mapping-overlap",
    ),
    "paths protected once": (
        meaning_mounts.protected_twice,
        "path-duplicate paths-without-mount-namespace",
    ),
    "memory numbers": (
        meaning_resources.memory_numbers,
        "memory-kernel memory-negative swap-without-limit",
    ),
    "heaps": (
        heaps.heaps,
        "heap-above-memory heap-fills-memory",
    ),
    "java and its limits": (
        heaps.java_limits,
        "heap-by-host heap-fills-memory",
    ),
    "cpu numbers": (
        meaning_resources.cpu_numbers,
        "cpu-burst cpu-quota cpu-realtime cpu-shares",
    ),
    "block i/o": (
        meaning_resources.block_io,
        "io-duplicate io-weight io-weight-missing",
    ),
    "huge pages": (
        meaning_resources.huge_pages,
        "hugepage-duplicate hugepage-part",
    ),
    "rdma": (
        meaning_resources.rdma,
        "rdma-empty",
    ),
    "files of the cgroup": (
        meaning_resources.unified_keys,
        "unified-key",
    ),
    "device numbers": (
        meaning_world.device_numbers,
        "device-elsewhere device-number-range device-same",
    ),
    "interfaces that move in": (
        meaning_world.net_devices,
        "net-device-duplicate net-device-name net-device-without-namespace",
    ),
    "cache classes": (
        meaning_world.cache_classes,
        "rdt-class rdt-schema",
    ),
    "hooks end": (
        meaning_world.hook_order,
        "hook-deprecated hook-env hook-timeout",
    ),
    "labels": (
        meaning_world.labels,
        "apparmor-name selinux-label",
    ),
    "reserved annotations": (
        meaning_world.reserved_annotations,
        "annotation-os annotation-reserved stop-signal",
    ),
    "seccomp errors": (
        meaning_seccomp.errors,
        "seccomp-errno-unused seccomp-errno-zero",
    ),
    "seccomp listener": (
        meaning_seccomp.listener,
        "seccomp-flag seccomp-listener-relative seccomp-metadata seccomp-nobody-listens",
    ),
    "seccomp conditions": (
        meaning_seccomp.conditions,
        "seccomp-always-met seccomp-condition-duplicate seccomp-never-met seccomp-second-value",
    ),
    "seccomp families": (
        meaning_seccomp.families,
        "seccomp-family-none seccomp-socketpair",
    ),
    "seccomp clashes": (
        meaning_seccomp.clashes,
        "seccomp-clash seccomp-duplicate",
    ),
}
_HOST: _Rows = {
    "devices of the host": (
        host_needs.devices,
        "device-differs device-not-on-host",
    ),
    "hooks there": (
        host_needs.hook_programs,
        "hook-missing",
    ),
    "interfaces there": (
        host_needs.interfaces,
        "interface-missing",
    ),
    "huge pages there": (
        host_needs.huge_pages,
        "hugepage-size",
    ),
    "cgroup v2 there": (
        host_needs.unified,
        "unified-without-v2",
    ),
}


def checks() -> tuple[Check, ...]:
    """Return every row as a check of its layer."""
    return (*_layer(Layer.MEANING, _MEANING), *_layer(Layer.HOST, _HOST))


def _layer(layer: Layer, rows: _Rows) -> tuple[Check, ...]:
    return tuple(Check(name, layer, run, tuple(rules.split())) for name, (run, rules) in rows.items())
