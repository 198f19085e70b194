"""Image manifests and indexes: what their bytes must be before anything else looks at them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes
from pipeline.model.nouns import Platform, parse_digest
from pipeline.model.variants import canonical_platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER = "application/vnd.docker."
DOCKER_LIST = f"{_DOCKER}distribution.manifest.list.v2+json"
DOCKER_MANIFEST = f"{_DOCKER}distribution.manifest.v2+json"
DOCKER_CONFIG = f"{_DOCKER}container.image.v1+json"
_DOCKER_LAYER = f"{_DOCKER}image.rootfs.diff.tar"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
LAYER_TYPES = frozenset(
    {f"{OCI_LAYER}{packing}" for packing in ("", "+gzip", "+zstd")}
    | {f"{_DOCKER_LAYER}{packing}" for packing in ("", ".gzip", ".zstd")}
)
MAX_MANIFEST_BYTES = 4 << 20
"""Registries need not take more (distribution-spec, "Pushing Manifests"), and skopeo reads no more."""
MAX_LAYERS = 500
"""overlayfs stacks no more (OVL_MAX_STACK in the kernel's fs/overlayfs/params.h)."""
_KEYS = ("schemaVersion", "mediaType", "manifests", "config", "layers", "fsLayers", "annotations")


@dataclass(frozen=True)
class Descriptor:
    """Content named by its digest (image-spec `descriptor.md`)."""

    media_type: str
    digest: str
    size_bytes: int
    platform: str = ""
    annotations: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it, without what only an index needs."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


@dataclass(frozen=True)
class Index:
    """Manifests of several platforms under one name."""

    digest: str
    manifests: tuple[Descriptor, ...]

    @property
    def platforms(self) -> dict[str, str]:
        """Canonical platform -> digest of its manifest; the first entry of a platform counts."""
        found: dict[str, str] = {}
        for entry in self.manifests:
            if entry.platform and not entry.platform.startswith("unknown/"):
                found.setdefault(entry.platform, entry.digest)
        return found

    def choose(self, platform: Platform | str, where: str) -> Descriptor:
        """Return the manifest of `platform`. Raises PipelineError `missing-platform`, listing those there."""
        wanted = canonical_platform(platform)
        for entry in self.manifests:
            if entry.platform == wanted:
                return entry
        if len(self.manifests) == 1 and not self.manifests[0].platform:
            return self.manifests[0]
        there = ", ".join(sorted(self.platforms)) or "none that is named"
        raise PipelineError(
            "missing-platform",
            f"{where} has no image for {wanted}",
            hint=f"there: {there}; set `platform:` in the spec to one of them",
        )


@dataclass(frozen=True)
class Manifest:
    """One image: its config, and its layers from the lowest up."""

    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]
    content: bytes

    @property
    def total_bytes(self) -> int:
        """What the blobs weigh; a layer that is there twice counts once."""
        return sum({blob.digest: blob.size_bytes for blob in (self.config, *self.layers)}.values())


def parse(content: bytes, where: str, digest: str | None = None) -> Manifest | Index:
    """Read a manifest or an index whose bytes must have `digest`, if given; `where` names it in errors.

    Raises PipelineError `bad-digest` when the bytes are others, `bad-manifest` for what is no v2 image
    or can be read in two ways (CVE-2021-41190).
    """
    actual = f"sha256:{sha256_bytes(content)}"
    if digest is not None and actual != digest:
        raise PipelineError(
            "bad-digest",
            f"{where}: the manifest has the digest {actual}, not {digest}",
            hint="someone changed it, or a disk did: fetch the image again from where it was built",
        )
    if len(content) > MAX_MANIFEST_BYTES:
        _bad(where, f"it is larger than {MAX_MANIFEST_BYTES} bytes")
    document = _document(content, where)
    if "manifests" in document:
        return Index(actual, tuple(_descriptors(document["manifests"], f"{where}: manifests")))
    return _manifest(document, actual, content, where)


def _document(content: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as fault:
        _bad(where, f"it is not JSON: {fault}")
    if not isinstance(document, dict):
        _bad(where, "it is not a JSON object")
    known = {key.casefold(): key for key in _KEYS}
    for key in document:
        if known.get(key.casefold(), key) != key:
            _bad(where, f"it spells `{known[key.casefold()]}` as `{key}`, which readers take differently")
    _check_kind(document, where)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is there twice")
    return document


def _check_kind(document: dict[str, Any], where: str) -> None:
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        _bad(
            where, "it is a schema 1 manifest, which names no config", "push it again with a client of today"
        )
    if document.get("schemaVersion") != 2:
        _bad(where, f"its schemaVersion is {document.get('schemaVersion')!r}, not 2")
    if "manifests" in document and ("layers" in document or "config" in document):
        _bad(where, "it has both `manifests` and `layers` or `config` (CVE-2021-41190)")
    media_type = document.get("mediaType", "")
    allowed = INDEX_TYPES if "manifests" in document else MANIFEST_TYPES
    if media_type and media_type not in allowed:
        _bad(where, f"its media type is `{media_type}`, its content is another")


def _manifest(document: dict[str, Any], digest: str, content: bytes, where: str) -> Manifest:
    (config,) = _descriptors([document.get("config")], f"{where}: config")
    layers = tuple(_descriptors(document.get("layers"), f"{where}: layers"))
    if config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        _bad(where, f"it is no container image: its config is `{config.media_type}`")
    if len(layers) > MAX_LAYERS:
        _bad(where, f"it has {len(layers)} layers, more than {MAX_LAYERS}", "squash the image")
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            _bad(where, f"layer {layer.digest} has the media type `{layer.media_type}`", _foreign(layer))
    implied = OCI_MANIFEST if config.media_type == OCI_CONFIG else DOCKER_MANIFEST
    return Manifest(
        digest=digest,
        media_type=document.get("mediaType") or implied,
        config=config,
        layers=layers,
        annotations=_texts(document.get("annotations"), where),
        content=content,
    )


def _foreign(layer: Descriptor) -> str | None:
    if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        return "foreign layers are fetched from elsewhere; build the image without them"
    return None


def _descriptors(values: Any, where: str) -> Iterable[Descriptor]:
    if not isinstance(values, list):
        _bad(where, "it is not a list")
    return [_descriptor(value, where) for value in values]


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        _bad(where, "an entry is not an object")
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(value.get("digest"), str):
        _bad(where, "an entry has no mediaType or no digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        _bad(where, f"the size of {value['digest']} is {size!r}")
    if value.get("urls"):
        _bad(where, f"{value['digest']} is to be fetched from other addresses (`urls`)")
    try:
        digest = parse_digest(value["digest"])
    except PipelineError as fault:
        _bad(where, fault.message)
    annotations = _texts(value.get("annotations"), where)
    return Descriptor(media_type, digest, size, _platform(value, where), annotations)


def _platform(value: dict[str, Any], where: str) -> str:
    platform = value.get("platform")
    if platform is None:
        return ""
    if not isinstance(platform, dict):
        _bad(where, f"the platform of {value['digest']} is not an object")
    words = [platform.get(key) for key in ("os", "architecture", "variant")]
    try:
        return canonical_platform("/".join(str(word) for word in words if word))
    except PipelineError:
        # Some index of Windows images or of attestations; it is never ours.
        return "unknown/unknown"


def _texts(value: Any, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        _bad(where, "its annotations are not texts")
    return dict(value)


def _bad(where: str, reason: str, hint: str | None = None) -> NoReturn:
    raise PipelineError("bad-manifest", f"{where} cannot be used: {reason}", hint=hint)
