"""The judge's index: every check by name, in the order in which a reader would ask, with what it can find."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cache

from pipeline.checks import (
    bind_sources,
    host,
    image,
    kernel,
    meaning,
    meaning_linux,
    meaning_process,
    policy,
    portability,
    program,
    rootfs,
    seccomp,
    tree,
)
from pipeline.checks.layers import Check, Layer
from pipeline.checks.subject import Findings, Subject
from pipeline.checks.text import cleaned, ordered
from pipeline.model.nouns import Finding

__all__ = ["CHECKS", "Check", "Layer", "judge", "judge_one", "known_rules", "ordered"]

FORM = (
    "bad-value control-character duplicate-key empty-array foreign-platform gone-from-version key-case "
    "missing-key moved-key newer-than-version not-json number-out-of-range unknown-key unknown-word "
    "wrong-type"
)
"""What `form` can find."""
STAGE = "rootfs-not-judged rootfs-unreadable runtime-left-something runtime-refused waiver-unused"
"""What is found around the judge: of what it cannot see, by the runtime's dry run, and of waivers."""


def _layer(layer: Layer, checks: dict[str, tuple[Callable[[Subject], Findings], str]]) -> tuple[Check, ...]:
    return tuple(Check(name, layer, run, tuple(rules.split())) for name, (run, rules) in checks.items())


CHECKS: tuple[Check, ...] = (
    *_layer(
        Layer.MEANING,
        {
            "version": (meaning_process.version, "oci-version-unknown"),
            "arguments": (meaning_process.arguments, "no-program program-relative"),
            "working directory": (meaning_process.working_directory, "cwd-relative"),
            "environment": (meaning_process.environment, "env-duplicate env-malformed"),
            "capabilities": (
                meaning_process.capabilities,
                "capability-duplicate capability-inconsistent capability-lost capability-unknown",
            ),
            "resource limits": (
                meaning_process.rlimits,
                "rlimit-duplicate rlimit-soft-above-hard rlimit-too-small rlimit-unknown",
            ),
            "namespaces": (meaning_process.namespaces, "namespace-duplicate namespace-path-relative"),
            "id mappings": (
                meaning_process.mappings,
                "mapping-empty mapping-overlap mapping-without-userns userns-without-mapping",
            ),
            "host name": (meaning_process.host_name, "hostname-bad hostname-without-uts"),
            "sysctls": (
                meaning_process.sysctls,
                "sysctl-duplicate sysctl-hostname sysctl-of-host sysctl-without-namespace",
            ),
            "first process": (meaning_process.first_process, "no-init"),
            "root path": (meaning_linux.root_path, "root-path"),
            "mount targets": (meaning_linux.mount_targets, "mount-duplicate mount-target-relative"),
            "mount order": (meaning_linux.mount_order, "mount-order"),
            "mount options": (meaning_linux.mount_options, "mount-option-unknown"),
            "mount sources": (
                meaning_linux.mount_sources,
                "bind-source-relative bind-without-source mount-without-type",
            ),
            "protected paths": (meaning_linux.protected_paths, "path-not-absolute"),
            "memory": (meaning_linux.memory, "memory-too-small reservation-above-limit swap-below-limit"),
            "temporary files": (meaning_linux.temporary_files, "tmpfs-above-memory"),
            "cpu": (meaning_linux.cpu, "cpu-period cpu-quota"),
            "devices": (meaning_linux.devices, "device-duplicate device-numbers device-path"),
            "hook paths": (meaning_linux.hook_paths, "hook-path"),
            "annotations": (meaning_linux.annotation_names, "annotation-name"),
            "seccomp names": (seccomp.names, "seccomp-newer-call seccomp-unknown-call"),
        },
    ),
    *meaning.checks(),
    *_layer(
        Layer.BUNDLE,
        {
            "rootfs present": (rootfs.present, "rootfs-link rootfs-missing"),
            "rootfs intact": (rootfs.intact, "config-changed rootfs-changed"),
            "program starts": (
                program.starts,
                "library-missing program-architecture program-format program-interpreter program-line-cut "
                "program-loader program-missing program-not-executable program-set-id",
            ),
            "arguments that are files": (rootfs.readable_config, "argument-missing argument-unreadable"),
            "ids mapped": (rootfs.ids, "id-unmapped"),
            "working directory there": (rootfs.working_directory, "cwd-closed cwd-missing"),
            "home there": (rootfs.home, "home-missing home-readonly"),
            "mount points": (rootfs.mount_points, "mount-point-kind mount-point-missing"),
            "health check": (
                rootfs.healthcheck,
                "healthcheck-no-program healthcheck-no-shell healthcheck-vacuous",
            ),
            "user has a name": (rootfs.user_name, "user-unnamed"),
            "the image's program": (image.program, "image-program"),
            "the image's user": (image.user, "image-user"),
            "the image's working directory": (image.working_directory, "image-cwd"),
            "the image's variables": (image.environment, "env-lost env-shorter"),
            "the image's volumes": (image.volumes, "volume-uncovered"),
            "the image's life": (
                image.lifecycle,
                "healthcheck-dropped port-unpublished stop-signal-lost",
            ),
            "no set-id files": (tree.set_id, "rootfs-set-id"),
            "no file capabilities": (tree.capabilities, "rootfs-file-capability"),
            "no device nodes": (tree.devices, "rootfs-device"),
            "nothing open to all": (tree.open_to_all, "rootfs-world-writable"),
            "all of it looked at": (tree.complete, "rootfs-unread"),
            "seccomp and the program": (
                seccomp.program_needs,
                "seccomp-blocks-loader seccomp-blocks-program seccomp-blocks-work",
            ),
        },
    ),
    *_layer(
        Layer.HOST,
        {
            "platform": (host.platform, "platform-foreign"),
            "bind sources": (host.bind_sources, "bind-source-closed bind-source-missing"),
            "bind sources without links": (bind_sources.links, "bind-source-link"),
            "file systems of bind sources": (
                bind_sources.file_systems,
                "bind-source-noexec bind-source-readonly",
            ),
            "bind sources outside": (bind_sources.inside_bundle, "bind-source-in-bundle"),
            "owners of bind sources": (bind_sources.foreign_owners, "bind-source-foreign"),
            "way to the rootfs": (host.way_to_rootfs, "way-closed"),
            "bundle closed": (host.bundle_open, "bundle-open"),
            "resource limits of the host": (host.rlimits, "rlimit-above-host"),
            "out-of-memory score": (host.oom_score, "oom-score-below-host"),
            "capabilities of the host": (host.host_capabilities, "capability-not-held"),
            "sizes": (host.sizes, "cpus-above-host memory-above-host"),
            "CPUs by number": (host.cpu_numbers, "cpuset-above-host"),
            "ports free": (host.ports_taken, "port-taken"),
            "namespaces of the kernel": (kernel.namespaces, "kernel-namespace"),
            "seccomp of the kernel": (kernel.seccomp_actions, "kernel-seccomp"),
            "cgroup controllers": (kernel.controllers, "kernel-controller"),
            "file systems of the kernel": (kernel.file_systems, "kernel-filesystem"),
            "id-mapped mounts": (kernel.id_mapped_mounts, "kernel-idmap"),
            "security modules": (kernel.security_modules, "lsm-absent lsm-profile-missing"),
            "swap accounting": (host.swap_accounting, "swap-not-accounted"),
            "subordinate ids": (host.subordinate_ids, "subordinate-ids-shared"),
            "sysfs": (host.host_network_sysfs, "sysfs-host-network"),
            "seccomp and the runtime": (
                seccomp.runtime_needs,
                "floor-unmeasured seccomp-blocks-runtime seccomp-blocks-runtime-sometimes",
            ),
        },
    ),
    *policy.checks(),
    *_layer(
        Layer.PORTABILITY,
        {
            "no protection dropped": (portability.drops, " ".join(portability.DROPS)),
            "not refused": (portability.refusals, " ".join(portability.REFUSALS)),
            "nothing passed over": (portability.losses, " ".join(portability.LOSSES)),
        },
    ),
)


@cache
def known_rules() -> frozenset[str]:
    """Return the id of every rule there is, which a waiver can name."""
    return frozenset([*FORM.split(), *STAGE.split(), *(rule for check in CHECKS for rule in check.rules)])


def judge(subject: Subject, layers: Collection[Layer] = tuple(Layer)) -> list[Finding]:
    """Return what every check of these layers has to say, each with its place in config.json, worst first."""
    return ordered(
        finding for check in CHECKS if check.layer in layers for finding in judge_one(check, subject)
    )


def judge_one(check: Check, subject: Subject) -> Iterator[Finding]:
    """Return what one check has to say, each finding with its place in config.json."""
    return (_placed(finding, subject, check.layer) for finding in check.run(subject))


def _placed(finding: Finding, subject: Subject, layer: Layer) -> Finding:
    finding = replace(finding, layer=layer.value)
    if finding.place is not None:
        return cleaned(finding)
    is_json_path = not finding.path.startswith("/")
    place = subject.document.place(finding.path if is_json_path else "")
    return cleaned(replace(finding, place=place))
