"""What the program sees: `mounts` of config.json, and what becomes of the image's VOLUMEs.

A VOLUME is a bind, a tmpfs or an error, never silently a tmpfs: data that its author asked to keep would be
lost at each stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.errors import PipelineError
from pipeline.model.bundle import Bundle, Tmpfs, Volume, VolumeType
from pipeline.model.runtime import Mount
from pipeline.oci import baseline
from pipeline.oci.inputs import Inputs
from pipeline.oci.mounts import INIT_PATH, clean
from pipeline.oci.provenance import Provenance


def mounts(inputs: Inputs, sources: Provenance) -> tuple[Mount, ...]:
    """Return every mount, parents before what lies in them; what the spec mounts replaces the baseline's."""
    own_network = inputs.bundle.network_mode != "host"
    standing = (
        *baseline.mounts(inputs.bundle.shm_size, own_network),
        *([] if own_network else _host_names()),
    )
    found: dict[str, tuple[Mount, str]] = {mount.destination: (mount, "") for mount in standing}
    found.update({mount.destination: (mount, key) for mount, key in _asked(inputs)})
    # The sort is stable: of equal depth the baseline's come first.
    ordered = sorted(
        found.values(), key=lambda item: (len(PurePosixPath(item[0].destination).parts), bool(item[1]))
    )
    for index, (mount, key) in enumerate(ordered):
        path = f"mounts[{index}]"
        sources.spec(path, key) if key else sources.baseline(path, mount.destination)
        if mount.destination == "/dev/shm" and not key:
            sources.chosen(f"{path}.options[4]", inputs.bundle, "shm_size")
    return tuple(mount for mount, _ in ordered)


def uncovered_volumes(bundle: Bundle, declared: tuple[str, ...]) -> list[PipelineError]:
    """Return one error `uncovered-volume` for each VOLUME of the image that no volume or tmpfs covers."""
    covered = [PurePosixPath(item.target) for item in _items(bundle)]
    return [
        _uncovered(path)
        for path in sorted(declared)
        if not any(PurePosixPath(clean(path)).is_relative_to(target) for target in covered)
    ]


def volume_fates(bundle: Bundle, declared: tuple[str, ...]) -> dict[str, str]:
    """Return for each covered VOLUME what it became: `bind SOURCE`, `volume NAME` or `tmpfs`."""
    fates = {}
    for path in sorted(declared):
        inside = PurePosixPath(clean(path))
        over = [item for item in _items(bundle) if inside.is_relative_to(item.target)]
        if over:
            nearest = max(over, key=lambda item: len(PurePosixPath(item.target).parts))
            fates[path] = f"{nearest.type.value} {nearest.source}" if isinstance(nearest, Volume) else "tmpfs"
    return fates


def _items(bundle: Bundle) -> tuple[Volume | Tmpfs, ...]:
    return (*bundle.volumes, *bundle.tmpfs)


def bind(source: str, target: str, *, read_only: bool, executable: bool, device: bool = False) -> Mount:
    """Return a bind mount: no set-id, no programs and no devices unless asked for, no mounts propagated."""
    flags = [
        "bind",
        "rprivate",
        "nosuid",
        *([] if device else ["nodev"]),
        *([] if executable else ["noexec"]),
    ]
    return Mount(
        destination=target, type="bind", source=source, options=(*flags, "ro" if read_only else "rw")
    )


def _host_names() -> Iterator[Mount]:
    # On the host's network, the host's names and resolvers are the right ones.
    for path in baseline.NETWORK_FILES:
        yield bind(path, path, read_only=True, executable=False)


def _asked(inputs: Inputs) -> Iterator[tuple[Mount, str]]:
    bundle = inputs.bundle
    for index, volume in enumerate(bundle.volumes):
        source = (inputs.volume_path if volume.type is VolumeType.VOLUME else inputs.bind_path)(volume.source)
        mount = bind(source, volume.target, read_only=volume.read_only, executable=volume.exec)
        yield mount, f"volumes[{index}]"
    for index, tmpfs in enumerate(bundle.tmpfs):
        yield _tmpfs(tmpfs, inputs), f"tmpfs[{index}]"
    if bundle.init:
        yield bind(inputs.init_path, INIT_PATH, read_only=True, executable=True), "init"
    if not inputs.id_map.is_identity:
        yield from _device_binds(inputs)


def _device_binds(inputs: Inputs) -> Iterator[tuple[Mount, str]]:
    # mknod(2) is refused inside a user namespace, and runc then binds the host's node of the *container's*
    # name, so a renamed device must be bound here.
    for index, device in enumerate(inputs.bundle.devices):
        read_only = "w" not in device.permissions
        mount = bind(device.host, device.container, read_only=read_only, executable=False, device=True)
        yield mount, f"devices[{index}]"


def _tmpfs(tmpfs: Tmpfs, inputs: Inputs) -> Mount:
    uid = inputs.user.uid if tmpfs.uid is None else tmpfs.uid
    gid = inputs.user.gid if tmpfs.gid is None else tmpfs.gid
    options = [
        "nosuid",
        "nodev",
        *([] if tmpfs.exec else ["noexec"]),
        *(["ro"] if tmpfs.read_only else []),
        f"mode={tmpfs.mode:04o}",
        f"size={tmpfs.size_bytes}",
        f"uid={uid}",
        f"gid={gid}",
    ]
    return Mount(destination=tmpfs.target, type="tmpfs", source="tmpfs", options=tuple(options))


def _uncovered(path: str) -> PipelineError:
    name = PurePosixPath(path).name.lstrip(".") or "data"
    keep = f'volumes: ["{name}:{path}"]'
    lose = f'tmpfs: ["{path}"]'
    width = max(len(keep), len(lose))
    hint = (
        f"write one of\n{keep:{width}}   # kept, in the volume `{name}` of this host\n"
        f"{lose:{width}}   # lost at each stop"
    )
    return PipelineError(
        "uncovered-volume",
        f"the image keeps data in `{path}` (VOLUME) and the spec does not say where",
        hint=hint,
    )
