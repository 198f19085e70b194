"""What is known of a bundle that was built here, beside the bundle itself: what the judge is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checks.subject import (
    ImageFacts,
    Intent,
    PrivilegedFile,
    ProfileDrift,
    PublishedPort,
    UnpackFacts,
)
from pipeline.files import Entry, changed_from, read_json, read_record, sha256_file
from pipeline.paths import BundlePaths, Project

if TYPE_CHECKING:
    from pipeline.model.bundle import Bundle

Facts = Mapping[str, Any]


def known(
    paths: BundlePaths,
    bundle: Bundle,
    spec: Facts,
    unpack: Facts,
    entries: list[Entry],
    changed: Iterable[str],
    drift: ProfileDrift | None,
) -> dict[str, Any]:
    """Return what `examine` takes: image, intent, what unpacking took away, and what was changed since.

    `spec` and `unpack` are the facts in the receipts of those stages; `entries` is the record of the rootfs,
    and `changed` what is not as recorded; `drift` is how its seccomp profile differs from the pin.
    """
    return {
        "image": _image(spec["image"]),
        "intent": _intent(bundle, spec["image"]["healthcheck"]),
        "unpacked": _unpacked(unpack),
        "recorded": entries,
        "changed": tuple(changed),
        "is_changed_config": _is_changed(paths.config, paths.receipt("spec")),
        "profile_drift": drift,
    }


def known_now(project: Project, name: str, bundle: Bundle, spec: Facts, unpack: Facts) -> dict[str, Any]:
    """Return the same, with rootfs and profile compared with record and pin now."""
    from pipeline.model.bundle import UNCONFINED
    from pipeline.seccomppins import drift

    paths = project.bundle(name)
    entries = read_record(paths.tree_record)
    changed = changed_from(paths.rootfs, entries)
    drifted = None if bundle.seccomp == UNCONFINED else drift(project, bundle.seccomp)
    return known(paths, bundle, spec, unpack, entries, changed, drifted)


def _image(image: Facts) -> ImageFacts:
    return ImageFacts(
        entrypoint=tuple(image["entrypoint"]),
        environment=tuple(image["environment"]),
        volumes=tuple(image["volumes"]),
        platform=image["platform"],
        healthcheck=tuple(image["healthcheck"]["test"]) if image["healthcheck"] else (),
        command=tuple(image["command"]),
        user=image["user"],
        working_dir=image["working_dir"],
        exposed_ports=tuple(image["exposed_ports"]),
        stop_signal=image["stop_signal"],
    )


def _intent(bundle: Bundle, image: Facts | None) -> Intent:
    own = bundle.healthcheck
    test: tuple[str, ...] = tuple(image["test"]) if image else ()
    probed = False
    if own is not None:
        probed = own.http is not None or own.tcp is not None
        test = () if own.disable or probed else own.test or test
    ports = tuple(
        PublishedPort(port.host_ip, port.host_port, port.container_port, port.protocol)
        for port in bundle.ports
    )
    return Intent(healthcheck=test, has_probe=probed, ports=ports)


def _unpacked(facts: Facts) -> UnpackFacts:
    return UnpackFacts(
        privileged=tuple(
            PrivilegedFile(file["path"], file["mode"], file["capabilities"], file["kept"])
            for file in facts["privileged_files"]
        ),
        devices=tuple(f"{path} ({kind})" for path, kind in sorted(facts["dropped_devices"].items())),
        keep_not_found=tuple(facts["keep_not_found"]),
        xattrs=tuple(f"{name} ({count})" for name, count in sorted(facts["dropped_xattrs"].items())),
    )


def _is_changed(config: Path, receipt: Path) -> bool:
    written = read_json(receipt)["outputs"]["bundle/config.json"]
    return bool(written != f"sha256:{sha256_file(config)}")
