"""copy: a pinned image becomes an OCI layout, every blob hashed here, each blob once on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import compact_json, remove_tree
from pipeline.model.image import ImageConfig
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.oci import archive, layout, store
from pipeline.oci.identity import identity
from pipeline.oci.limits import Limits
from pipeline.oci.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, parse
from pipeline.paths import Project
from pipeline.registry import config_of, manifest_of
from pipeline.tools import skopeo
from pipeline.tools.skopeo import Source
from pipeline.tools.umoci_demo import make_demo
from pipeline.work import Output, Work

_MAGIC = ((b"\x1f\x8b", "+gzip"), (b"\x28\xb5\x2f\xfd", "+zstd"))
_ATTEMPTS = 2


@dataclass(frozen=True)
class Copied:
    """What came: the source's manifest, and the one that the layout holds (see `_as_oci`)."""

    source: Manifest
    manifest: Manifest
    platform: Platform


def build(work: Work) -> Output:
    """Copy the image of a bundle into work/image. Raises PipelineError; see `copy_image`."""
    reference, folder = Reference.parse(work.spec.image), work.work / "skopeo"
    store.sweep_store(work.project)
    copied = copy_image(
        Source(reference, work.project.root, folder, log=work.log, say=work.say),
        Platform.parse(str(work.spec.platform)),
        work.pin,
        work.project,
        work.work / "image",
        lambda done, total: work.progress(done, total, "copying"),
    )
    return Output(facts=_facts(copied), digest=copied.manifest.digest)


def copy_image(
    source: Source,
    platform: Platform,
    pin: str,
    project: Project,
    image: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Copied:
    """Copy one image into the new layout `image`; its blobs are hard links into the project's store.

    `pin` is the digest of a remote image, or the `identity` of a local one. Raises PipelineError
    `image-changed`, `bad-blob`, and what `manifest_of` and `skopeo.copy` raise.
    """
    source.folder.mkdir(parents=True, exist_ok=True)
    local = not source.reference.remote
    if local:
        # Says what is missing in better words than a tool.
        identity(source.reference, project)
    elif not pin.startswith("sha256:"):
        raise PipelineError("not-pinned", f"{source.name} is not pinned", hint="`doit update` pins it")
    opened = _opened(source)
    manifest = manifest_of(opened, None if local else pin, platform)
    config = config_of(opened, manifest, None if local else manifest.digest)
    layout.check_config(manifest, config, platform, source.name)
    with store.using(project) as blobs:
        came = _settled(opened, manifest, config, platform, blobs, image, progress)
    if local and identity(source.reference, project) != pin:
        raise PipelineError(
            "image-changed", f"{source.name} changed while it was copied", hint="run it again"
        )
    return Copied(manifest, came, platform)


def _facts(copied: Copied) -> dict[str, object]:
    return {
        "manifest": copied.manifest.digest,
        "source_manifest": copied.source.digest,
        "config": copied.manifest.config.digest,
        "layers": len(copied.manifest.layers),
        "size_bytes": copied.manifest.total_bytes,
        "platform": str(copied.platform),
    }


def _opened(source: Source) -> Source:
    """Return the source as skopeo shall see it: demo images and archives become layouts first."""
    reference, made = source.reference, source.folder / "source"
    if reference.transport == "demo":
        make_demo(made)
    elif reference.transport == "oci-archive":
        # skopeo would unpack it as well, and into the same filesystem; done here it is read once.
        archive.extract(reference.path(source.root), made, Limits.from_environment())
    else:
        return source
    tag = reference.tag if reference.transport == "oci-archive" else ""
    return replace(source, reference=Reference("oci", str(made), tag), asked=reference)


def _settled(
    source: Source,
    manifest: Manifest,
    config: bytes,
    platform: Platform,
    blobs: Path,
    image: Path,
    progress: Callable[[int, int], None],
) -> Manifest:
    """Copy, verify and link; what turns out to be damaged is thrown away and fetched once more."""
    with store.Intake(blobs, source.folder / "blobs") as intake:
        for digest, fault in intake.reuse([manifest.config, *manifest.layers]).items():
            source.say(f"blob {digest} in the store {fault}: removed, copying it again")
        for attempt in range(1, _ATTEMPTS + 1):
            written = _fetch(source, manifest, platform, intake, progress)
            came = _as_oci(manifest, written, config, intake)
            wanted = [came.config, *came.layers]
            faults = intake.finish(wanted)
            if not faults:
                break
            digest, fault = next(iter(faults.items()))
            if attempt == _ATTEMPTS:
                raise layout.bad_blob(intake.path(digest), fault)
            source.say(f"blob {digest} {fault} after it was copied: removed, copying it again")
        intake.link_into(image, wanted)
    (image / "blobs" / "sha256" / came.digest.partition(":")[2]).write_bytes(came.content)
    layout.write_index(image, came)
    return came


def _fetch(
    source: Source,
    manifest: Manifest,
    platform: Platform,
    intake: store.Intake,
    progress: Callable[[int, int], None],
) -> Manifest:
    """Let skopeo copy; return the manifest that it wrote."""
    target, wanted = source.folder / "layout", [manifest.config, *manifest.layers]
    remove_tree(target)
    _check_space(source, manifest, intake.look(wanted))

    def moved() -> int:
        came = intake.look(wanted) + store.stored_bytes(target) + store.stored_bytes(source.folder / "tmp")
        progress(min(came, manifest.total_bytes), manifest.total_bytes)
        return came

    pointed, source_blobs = _pointed(source, manifest)
    try:
        skopeo.copy(
            pointed,
            manifest.digest if source.reference.remote else None,
            platform,
            target,
            source.folder / "blobs",
            moved,
            source_blobs,
        )
    except PipelineError:
        _blame_source(source_blobs, wanted)
        raise
    progress(manifest.total_bytes, manifest.total_bytes)
    digest = layout.find_entry(target).digest
    return _parsed(intake.path(digest).read_bytes(), source.name, digest)


def _pointed(source: Source, manifest: Manifest) -> tuple[Source, Path | None]:
    """Return an oci: source as a layout of our own that names the one manifest, over the source's blobs.

    skopeo cannot be told a digest within a layout, and its choice from an index is not ours.
    """
    reference = source.reference
    if reference.transport != "oci":
        return source, None
    pointer = source.folder / "pointer"
    layout.write_index(pointer, manifest)
    pointed = Reference("oci", str(pointer), layout.IMAGE_NAME)
    asked, blobs = source.asked or reference, reference.path(source.root) / "blobs"
    return replace(source, reference=pointed, asked=asked), blobs


def _blame_source(source_blobs: Path | None, wanted: list[Descriptor]) -> None:
    """Raise `bad-blob` with the name of the first damaged blob of a layout that could not be copied."""
    if source_blobs is None:
        return
    for digest, fault in layout.blob_faults(source_blobs, wanted).items():
        raise layout.bad_blob(layout.blob_path(source_blobs, digest), fault)


def _check_space(source: Source, manifest: Manifest, present_bytes: int) -> None:
    missing = manifest.total_bytes - present_bytes
    free = shutil.disk_usage(source.folder).free
    if missing > free:
        raise PipelineError(
            "copy-no-space",
            f"{source.name}: {missing} bytes are to come and the disk has {free} left",
            hint="make room below out/ (`doit clean`), then run it again",
        )


def _as_oci(source: Manifest, written: Manifest, config: bytes, intake: store.Intake) -> Manifest:
    """Return the OCI manifest for what came, after checking that it is what the source's manifest names.

    An OCI manifest comes as it is. Where skopeo had to convert (docker's media types, archives,
    containers-storage) its manifest is dropped for one of ours: it rewrites the config without
    HEALTHCHECK, and calls plain layers gzip. Ours has the source's config byte for byte, so the pin, which
    is the source manifest's digest, vouches for the config and, through it, for each layer: a layer is
    the one that the manifest names, or is plain and has the diff_id that the config names.
    """
    if written.digest == source.digest:
        return source
    diff_ids = ImageConfig.parse(config).diff_ids
    for named, came, diff_id in zip(source.layers, written.layers, diff_ids, strict=True):
        if came.digest not in (named.digest, diff_id):
            raise PipelineError(
                "bad-digest", f"layer {named.digest} came as {came.digest}: nothing names that"
            )
    layers = [replace(layer, media_type=_layer_type(intake.path(layer.digest))) for layer in written.layers]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": intake.add(config, OCI_CONFIG).document(),
        "layers": [layer.document() for layer in layers],
        **({"annotations": source.annotations} if source.annotations else {}),
    }
    return _parsed(compact_json(document), "the converted image")


def _parsed(content: bytes, where: str, digest: str | None = None) -> Manifest:
    found = parse(content, where, digest)
    if not isinstance(found, Manifest):
        raise PipelineError("bad-manifest", f"{where} is an index where one image is wanted")
    return found


def _layer_type(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)
    return OCI_LAYER + next((packing for magic, packing in _MAGIC if head.startswith(magic)), "")
