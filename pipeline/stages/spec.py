"""`spec`: image config + hardened baseline + spec + seccomp profile -> config.json, with provenance."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.files import canonical_json, read_json
from pipeline.model.bundle import VolumeType
from pipeline.model.values import shortest
from pipeline.oci.convert import Converted, convert, stop_signal
from pipeline.oci.convert_mounts import volume_fates
from pipeline.oci.idmap import id_map
from pipeline.oci.inputs import DeviceNode, Inputs
from pipeline.oci.layout import Image, read_image
from pipeline.oci.users import resolve_user
from pipeline.oci.volumes import ensure_volume
from pipeline.run import require
from pipeline.work import Output

if TYPE_CHECKING:
    from pipeline.work import Work

_INIT_NAME = "tini-static"


def build(work: Work) -> Output:
    """Write config.json and provenance.json, then make the named volumes that are absent.

    Raises PipelineErrors `uncovered-volume` and `bad-signal`, PipelineError `no-program`, `unknown-user`,
    `missing-tool`.
    """
    image = read_image(work.paths.image)
    inputs = gather(work, image)
    try:
        converted = convert(inputs)
    except PipelineErrors as faults:
        raise PipelineErrors(_placed(fault, work) for fault in faults.errors) from None
    # The engine makes them durable when it commits them.
    (work.work / "config.json").write_bytes(canonical_json(converted.config.to_json()))
    (work.work / "provenance.json").write_bytes(canonical_json(converted.provenance))
    fates = volume_fates(work.spec, inputs.image.volumes)
    _say(work, converted, fates)
    return Output(_facts(inputs, fates, converted), places=_make_volumes(work, inputs))


def gather(work: Work, image: Image) -> Inputs:
    """Look up what the conversion needs: accounts, devices, the profile, the init program."""
    bundle = work.spec
    user = bundle.user if bundle.user is not None else image.config.user
    return Inputs(
        name=work.name,
        bundle=bundle,
        image=image.config,
        digest=image.manifest.digest,
        id_map=id_map(bundle.userns),
        user=resolve_user(work.paths.rootfs, user, bundle.group_add),
        volume_path=lambda name: str(work.paths.volume(name)),
        bind_path=lambda source: shortest(str(work.project.root / source)),
        seccomp=_seccomp(work.paths.seccomp / "profile.json"),
        devices={device.host: _device(device.host) for device in bundle.devices},
        init_path=str(require(_INIT_NAME, "run `init: true`")) if bundle.init else "",
    )


def _seccomp(profile: Path) -> dict[str, Any] | None:
    # The seccomp stage leaves no profile for `seccomp: unconfined`.
    if not profile.exists():
        return None
    found: dict[str, Any] = read_json(profile)
    return found


def _device(path: str) -> DeviceNode:
    try:
        status = os.stat(path)
    except OSError as fault:
        hint = f"ls -l {os.path.dirname(path)}   # shows what there is"
        raise PipelineError("missing-device", f"the device {path}: {fault.strerror}", hint=hint) from None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise PipelineError(
            "missing-device", f"{path} is no device", hint="bind files and folders with `volumes:`"
        )
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
    return DeviceNode(kind, os.major(status.st_rdev), os.minor(status.st_rdev), stat.S_IMODE(status.st_mode))


def _make_volumes(work: Work, inputs: Inputs) -> tuple[str, ...]:
    """Make the named volumes that are not there yet, and return where all of them are."""
    owner = inputs.id_map.to_host(inputs.user.uid), inputs.id_map.to_host(inputs.user.gid)
    named = [volume.source for volume in work.spec.volumes if volume.type is VolumeType.VOLUME]
    volumes = [ensure_volume(work.paths.volume(name), *owner) for name in named]
    for made in volumes:
        if made.is_new:
            work.say(f"made the volume {made.path}, owner {owner[0]}:{owner[1]}")
    return tuple(str(made.path) for made in volumes)


def _say(work: Work, converted: Converted, fates: dict[str, str]) -> None:
    for path, fate in fates.items():
        work.say(f"VOLUME {path}: {fate}")
    if converted.dropped:
        names = ", ".join(converted.dropped)
        work.say(f"left out labels of the image that runtimes obey, or that only Cooperage sets: {names}")


def _facts(inputs: Inputs, fates: dict[str, str], converted: Converted) -> dict[str, Any]:
    """What later stages need of the image, so that they need not read it again."""
    check = inputs.image.healthcheck
    # docker's default for SHELL, which CMD-SHELL is run with.
    shell = list(inputs.image.shell) or ["/bin/sh", "-c"]
    return {
        "volumes": fates,
        "dropped_annotations": list(converted.dropped),
        "stop_signal": stop_signal(inputs)[0],
        "image": {
            "entrypoint": list(inputs.image.entrypoint),
            "command": list(inputs.image.command),
            "environment": list(inputs.image.environment),
            "working_dir": inputs.image.working_dir,
            "user": inputs.image.user,
            "stop_signal": inputs.image.stop_signal,
            "volumes": list(inputs.image.volumes),
            "exposed_ports": list(inputs.image.exposed_ports),
            "platform": str(inputs.image.platform),
            "shell": shell,
            "healthcheck": None
            if check is None
            else {
                "test": list(check.test),
                "shell": shell,
                "interval_s": check.interval_s,
                "timeout_s": check.timeout_s,
                "start_period_s": check.start_period_s,
                "retries": check.retries,
            },
        },
    }


def _placed(fault: PipelineError, work: Work) -> PipelineError:
    place = Place(str((work.project.specs / f"{work.name}.yaml").relative_to(work.project.root)))
    return PipelineError(fault.code, fault.message, place=place, hint=fault.hint)
