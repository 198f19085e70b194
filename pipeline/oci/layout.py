"""Reading and writing OCI image layouts (image-spec `image-layout.md`), checking all that they name."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.files import canonical_json, read_json, write_atomic
from pipeline.model.variants import canonical_platform
from pipeline.oci.manifest import MAX_MANIFEST_BYTES, Descriptor, Index, Manifest, parse

if TYPE_CHECKING:
    from pipeline.model.image import ImageConfig
    from pipeline.model.nouns import Platform

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "latest"
"""What the one image in out/NAME/image is called: `umoci … --image out/NAME/image:latest`."""


@dataclass(frozen=True)
class Image:
    """The image in a layout: its manifest, its config, and where its blobs lie."""

    root: Path
    manifest: Manifest
    config: ImageConfig

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers from the lowest up."""
        return self.manifest.layers

    def blob(self, digest: str) -> Path:
        """Return the file that holds a blob."""
        return blob_path(self.root / "blobs", digest)


def blob_path(blobs: Path, digest: str) -> Path:
    """Return where the blob `digest` lies below the folder `blobs`."""
    algorithm, _, digits = digest.partition(":")
    return blobs / algorithm / digits


def read_image(root: Path, platform: Platform | str | None = None, name: str = "") -> Image:
    """Read the image called `name`, or the only one, and check manifest and config (layers are not read).

    Raises PipelineError `bad-layout`, `bad-manifest`, `bad-digest`, `missing-platform`,
    `bad-image-config`.
    """
    manifest = find_manifest(root, platform, name)
    content = read_blob(root / "blobs", manifest.config)
    return Image(root, manifest, check_config(manifest, content, platform, str(root)))


def find_entry(root: Path, name: str = "") -> Descriptor:
    """Return what index.json says about the image `name`, or the only one. Raises `bad-layout`."""
    manifests = _index(root).manifests
    entries = [entry for entry in manifests if not name or entry.annotations.get(REF_NAME) == name]
    if len(entries) == 1:
        return entries[0]
    names = sorted({entry.annotations.get(REF_NAME, "(no name)") for entry in manifests})
    there = f"there: {', '.join(names)}" if names else "it is empty"
    if name:
        raise _bad(root, f"has {len(entries) or 'no'} image{'s' * bool(entries)} called `{name}`", there)
    raise _bad(root, f"has {len(entries)} images", f"name one of them: oci:PATH:NAME; {there}")


def find_manifest(root: Path, platform: Platform | str | None = None, name: str = "") -> Manifest:
    """Return the manifest of the image `name`; an index is resolved to `platform`."""
    entry = find_entry(root, name)
    for _ in range(3):
        where = f"{root} ({entry.digest})"
        found = parse(read_blob(root / "blobs", entry), where, entry.digest)
        if isinstance(found, Manifest):
            return found
        if platform is None:
            raise _bad(root, "holds an index where one manifest is wanted", None)
        entry = found.choose(platform, where)
    raise _bad(root, "has indexes within indexes within indexes", None)


def check_config(
    manifest: Manifest, content: bytes, platform: Platform | str | None, where: str
) -> ImageConfig:
    """Read the config blob, whose digest was checked, and check that it fits the manifest and the platform.

    Raises PipelineError `bad-manifest` when layers and diff_ids differ in number, `missing-platform`.
    """
    from pipeline.model.image import ImageConfig

    config = ImageConfig.parse(content, f"{where}: config {manifest.config.digest}")
    if len(config.diff_ids) != len(manifest.layers):
        raise PipelineError(
            "bad-manifest",
            f"{where} cannot be used: {len(manifest.layers)} layers, {len(config.diff_ids)} in its config",
            hint="the image is damaged or badly built: build it again",
        )
    actual = canonical_platform(config.platform)
    if platform is not None and actual != canonical_platform(platform):
        raise PipelineError(
            "missing-platform",
            f"{where} has no image for {canonical_platform(platform)}",
            hint=f"there: {actual}; set `platform:` in the spec to one of them",
        )
    return config


def read_blob(blobs: Path, blob: Descriptor) -> bytes:
    """Return a small blob's bytes, checked. Raises PipelineError `bad-blob`, or `bad-manifest` by size."""
    if blob.size_bytes > MAX_MANIFEST_BYTES:
        raise PipelineError("bad-manifest", f"{blob.digest} is {blob.size_bytes} bytes of JSON: too large")
    path = blob_path(blobs, blob.digest)
    wrong = blob_fault(path, blob)
    if wrong:
        raise bad_blob(path, wrong)
    return path.read_bytes()


def blob_fault(path: Path, blob: Descriptor) -> str | None:
    """Hash a blob's file; return what is wrong with it, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        return f"cannot be read: {fault.strerror}"
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file"
        if status.st_size != blob.size_bytes:
            return f"is {status.st_size} bytes long, not {blob.size_bytes}"
        with os.fdopen(fd, "rb", buffering=0, closefd=False) as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as fault:
        return f"cannot be read: {fault.strerror}"
    finally:
        os.close(fd)
    return None if f"sha256:{actual}" == blob.digest else f"has the content sha256:{actual}"


def verify_layout(root: Path) -> None:
    """Read every byte of the one image in a layout again. Raises as `read_image` does, `bad-blob`."""
    image = read_image(root)
    for digest, wrong in blob_faults(root / "blobs", [image.manifest.config, *image.layers]).items():
        raise bad_blob(image.blob(digest), wrong)


def blob_faults(blobs: Path, wanted: Iterable[Descriptor]) -> dict[str, str]:
    """Hash every blob, two at a time; return digest -> what is wrong, empty when all is well."""
    unique = list({blob.digest: blob for blob in wanted}.values())
    # hashlib lets go of the interpreter's lock, so two threads use two cores.
    with ThreadPoolExecutor(2) as pool:
        faults = pool.map(lambda blob: blob_fault(blob_path(blobs, blob.digest), blob), unique)
    return {blob.digest: fault for blob, fault in zip(unique, faults, strict=True) if fault}


def bad_blob(path: Path, wrong: str) -> PipelineError:
    """Return the error for a blob that is not what its name says."""
    return PipelineError(
        "bad-blob", f"blob {path} {wrong}", hint="a disk or a person changed it: make the image again"
    )


def write_index(root: Path, manifest: Manifest, name: str = IMAGE_NAME) -> None:
    """Write index.json and oci-layout for one manifest, in canonical bytes."""
    entry = {**_entry(manifest), "annotations": {REF_NAME: name}}
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')
    write_atomic(root / "index.json", canonical_json({"schemaVersion": 2, "manifests": [entry]}))


def _entry(manifest: Manifest) -> dict[str, object]:
    return Descriptor(manifest.media_type, manifest.digest, len(manifest.content)).document()


def _index(root: Path) -> Index:
    try:
        version = read_json(root / "oci-layout").get("imageLayoutVersion")
        found = parse((root / "index.json").read_bytes(), f"{root}/index.json")
    except FileNotFoundError as fault:
        missing = Path(fault.filename).name
        raise _bad(root, f"has no {missing}", "an OCI layout has index.json and oci-layout") from None
    except (OSError, AttributeError) as fault:
        raise _bad(root, f"cannot be read: {fault}", None) from None
    if version != "1.0.0":
        raise _bad(root, f"has the layout version {version!r}, not 1.0.0", None)
    if isinstance(found, Manifest):
        raise _bad(root, "has a manifest for an index", None)
    return found


def _bad(root: Path, reason: str, hint: str | None) -> PipelineError:
    return PipelineError("bad-layout", f"the image layout {root} {reason}", hint=hint)
