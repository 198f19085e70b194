"""From an image's layers to a rootfs: verify and inflate, scan, let umoci lay it out, fill it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import remove_tree
from pipeline.model.nouns import IdMap
from pipeline.oci.fill import Filled, fill
from pipeline.oci.inflate import Layer, inflate
from pipeline.oci.layout import Image
from pipeline.oci.limits import Limits
from pipeline.oci.rootfs import realpath
from pipeline.oci.skeleton import TAG, write_skeleton
from pipeline.oci.tarscan import Scan, display
from pipeline.tools import umoci

Progress = Callable[[int, int, str], None]
_SHOWN = 1000


@dataclass(frozen=True)
class Unpacked:
    """What came out of the layers: what was scanned, what was filled, which kept files were not found."""

    scan: Scan
    filled: Filled
    not_found: tuple[str, ...]

    def to_facts(self) -> dict[str, Any]:
        """What the receipt keeps; lists end after 1,000 names, counts do not."""
        privileged = [asdict(file) for file in self.filled.privileged]
        devices = sorted(self.scan.devices.items())
        return {
            "entries": self.scan.entries,
            "bytes": self.filled.content_bytes,
            "files": self.filled.files,
            "privileged_files": privileged[:_SHOWN],
            "dropped_devices": {display(path): kind for path, kind in devices[:_SHOWN]},
            "dropped_xattrs": self.scan.dropped_xattrs,
            "fifos": [display(path) for path in sorted(self.scan.fifos)[:_SHOWN]],
            "keep_not_found": list(self.not_found),
        }


def layers_of(image: Image) -> list[Layer]:
    """Return the layers of an image with their diffIDs, the lowest first.

    Raises PipelineError `bad-layer` when the config does not name one diffID for each layer.
    """
    described, diff_ids = image.layers, image.config.diff_ids
    if len(described) != len(diff_ids):
        raise PipelineError(
            "bad-layer",
            f"the image has {len(described)} layers and {len(diff_ids)} diff_ids",
            hint="the image is damaged or was built wrongly: build it again",
        )
    return [
        Layer(layer.digest, layer.size_bytes, layer.media_type, diff_id, image.blob(layer.digest))
        for layer, diff_id in zip(described, diff_ids, strict=True)
    ]


def unpack_layers(
    layers: Sequence[Layer],
    folder: Path,
    mapping: IdMap,
    keep: Sequence[str],
    limits: Limits,
    log: Path,
    progress: Progress = lambda done, total, what: None,
) -> Unpacked:
    """Make `folder/rootfs` of an image's layers; `folder` is empty, private and left with nothing else.

    `keep` names files (paths of the container) that keep set-id bits and capabilities. Raises
    PipelineError `bad-layer`, `unsafe-image`, `unmapped-id`, `limit-…`, `no-space`, `umoci-failed`.
    """
    tars = folder / "tars"
    tars.mkdir()
    scan, plain = _read_layers(layers, tars, mapping, limits, progress)
    write_skeleton(folder / TAG, scan.items)
    umoci.raw_unpack(folder, TAG, TAG, "rootfs", mapping, timeout_s=limits.seconds, log=log)
    rootfs = folder / "rootfs"
    kept, not_found = _resolve_kept(rootfs, keep)
    filled = fill(rootfs, scan, plain, kept)
    # Gone before the stage is made durable, so that their pages are never written to the disk.
    remove_tree(tars)
    remove_tree(folder / TAG)
    return Unpacked(scan, filled, not_found)


def _read_layers(
    layers: Sequence[Layer], tars: Path, mapping: IdMap, limits: Limits, progress: Progress
) -> tuple[Scan, list[Path]]:
    total, done, room = sum(layer.size_bytes for layer in layers), 0, limits.total_bytes
    scan, plain = Scan(mapping, limits), []

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total, "verifying layers")

    for number, layer in enumerate(layers):
        tar = tars / f"{number}.tar"
        room -= inflate(layer, tar, limits, room, report)
        scan.add(layer.digest, tar)
        plain.append(tar)
    scan.check_ids()
    return scan, plain


def _resolve_kept(rootfs: Path, keep: Sequence[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    kept, missing = set(), []
    for path in keep:
        try:
            kept.add(realpath(rootfs, path))
        except OSError:
            missing.append(path)
    return frozenset(kept), tuple(missing)
