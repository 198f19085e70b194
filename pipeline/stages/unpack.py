"""`unpack`: layers -> rootfs with mapped owners, no privileges, mount points made; and its tree record."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import (
    Entry,
    changed_entries,
    entry_of,
    read_record,
    scan_tree,
    tree_digest,
    write_record,
)
from pipeline.model.nouns import IdMap
from pipeline.oci.fill import Privileged
from pipeline.oci.idmap import id_map
from pipeline.oci.layout import read_image
from pipeline.oci.limits import Limits
from pipeline.oci.mountpoints import Prepared, prepare, undo
from pipeline.oci.mounts import WORKDIR, MountPoint, mount_points
from pipeline.oci.tarscan import display
from pipeline.oci.unpacking import Unpacked, layers_of, unpack_layers
from pipeline.paths import BundlePaths
from pipeline.work import Output, Work

_BUNDLE_MODE = 0o710
_NOTED = 5


def build(work: Work) -> Output:
    """Make work/rootfs and work/tree.json; see `unpack_layers` and `prepare` for what they raise."""
    mapping = id_map(work.spec.userns)
    image = read_image(work.paths.image)
    points = mount_points(work.spec, image.config, lambda source: (work.project.root / source).is_file())
    reused = _reuse(work, points, mapping)
    if reused is None:
        unpacked = unpack_layers(
            layers_of(image),
            work.work,
            mapping,
            work.spec.keep_privileged_files,
            Limits.from_environment(),
            work.log,
            work.progress,
        )
        prepared = prepare(work.work / "rootfs", points, mapping)
        entries = scan_tree(work.work / "rootfs")
        facts = {**unpacked.to_facts(), "layers": len(image.layers)}
        _say(work, unpacked)
    else:
        facts, prepared, entries = reused
    _say_points(work, prepared)
    write_record(work.work / "tree.json", entries)
    prepare_bundle_dir(work.paths, mapping)
    facts |= {
        "mapping": {"host_id": mapping.host_id, "size": mapping.size},
        "mount_points": [point.to_facts() for point in prepared],
    }
    return Output(facts, tree_digest(entries))


def prepare_bundle_dir(paths: BundlePaths, mapping: IdMap) -> None:
    """Make the bundle's folder 0710, owned by root and the container's root group, whatever it was.

    Others of the host cannot reach what lies below; the mapped root can (0700 makes runtimes fail).
    Raises PipelineError `bad-bundle-folder` where it is a link or a file.
    """
    paths.bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(paths.bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as fault:
        raise PipelineError(
            "bad-bundle-folder",
            f"{paths.bundle} is no folder: {fault.strerror}",
            hint="remove it and run again",
        ) from None
    try:
        os.fchown(fd, os.geteuid(), 0 if mapping.is_identity else mapping.host_id)
        os.fchmod(fd, _BUNDLE_MODE)
    finally:
        os.close(fd)


def _reuse(
    work: Work, points: Sequence[MountPoint], mapping: IdMap
) -> tuple[dict[str, Any], list[Prepared], list[Entry]] | None:
    """The last rootfs with other mount points, where nothing else is asked for and it is intact."""
    if work.previous is None or not _same_tree(work, work.previous["parts"]):
        return None
    # A container that runs may write to a root that is not read-only, and so could race with us here.
    if not (work.spec.read_only and work.previous["parts"]["spec"].get("read_only") is True):
        return None
    if not (work.paths.rootfs.is_dir() and work.paths.tree_record.exists()):
        return None
    if changed_entries(work.paths.rootfs, work.paths.tree_record):
        work.say("the rootfs is not as it was unpacked: unpacking it again")
        return None
    recorded = {entry.path: entry for entry in read_record(work.paths.tree_record)}
    rootfs = work.take_previous("rootfs")
    if rootfs is None:
        return None
    facts = dict(work.previous["facts"])
    old = [Prepared.from_facts(point) for point in facts["mount_points"]]
    undo(rootfs, old)
    prepared = prepare(rootfs, points, mapping)
    return facts, prepared, _updated(rootfs, recorded, old, prepared)


def _same_tree(work: Work, parts: dict[str, Any]) -> bool:
    """True when the last run had the same layers, owners, kept files, tools and code."""
    spec, spec_now = parts["spec"], work.parts["spec"]
    return all(parts[name] == work.parts[name] for name in ("code", "tools", "upstream")) and all(
        spec.get(key) == spec_now[key] for key in ("userns", "keep_privileged_files")
    )


def _updated(
    rootfs: Path, recorded: dict[str, Entry], old: Sequence[Prepared], new: Sequence[Prepared]
) -> list[Entry]:
    """The record with what `undo` and `prepare` changed, in the order of `scan_tree`."""
    points = (*old, *new)
    for path in {path for point in points for path in point.made}:
        recorded.pop(path[1:], None)
        if os.path.lexists(rootfs / path[1:]):
            recorded[path[1:]] = entry_of(rootfs, path[1:])
    for name in {point.place[1:] for point in points if point.mode_was is not None} & recorded.keys():
        mode = stat.S_IMODE((rootfs / name).lstat().st_mode)
        recorded[name] = replace(recorded[name], mode=mode)
    return sorted(recorded.values(), key=_scan_order)


def _scan_order(entry: Entry) -> tuple[tuple[str, ...], str]:
    """`scan_tree` lists a folder's children together, then goes into each."""
    if entry.path == ".":
        return (), ""
    *folders, name = entry.path.split("/")
    return tuple(folders), name


def _say(work: Work, unpacked: Unpacked) -> None:
    for what, kept in (("took set-id bits or capabilities from", False), ("kept them on", True)):
        _say_names(work, what, [_shown(file) for file in unpacked.filled.privileged if file.kept is kept])
    _say_names(work, "left out the device", [display(path) for path in sorted(unpacked.scan.devices)])
    _say_names(work, "not in the image, though `keep_privileged_files` names it:", list(unpacked.not_found))


def _shown(file: Privileged) -> str:
    return f"{file.path} ({file.mode}{', capabilities' if file.capabilities else ''})"


def _say_points(work: Work, prepared: Sequence[Prepared]) -> None:
    mounted = [point for point in prepared if point.reason != WORKDIR]
    made = [point.path for point in prepared if point.reason == WORKDIR and point.made]
    _say_names(work, "no layer has the working directory: made", made)
    moved = [f"{point.path} -> {point.place}" for point in mounted if point.place != point.path]
    _say_names(work, "mount point behind a link:", moved)
    hiding = [f"{point.path} ({point.hides}; {point.reason})" for point in mounted if point.hides]
    _say_names(work, "a mount will hide what the image has in", hiding)


def _say_names(work: Work, what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _NOTED} more" if len(names) > _NOTED else ""
        work.say(f"{what} {', '.join(names[:_NOTED])}{more}")
