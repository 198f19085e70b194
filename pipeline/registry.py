"""What an image reference means: the manifest for a platform, and the digests to pin."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import remove_tree, sha256_bytes
from pipeline.lock import Pin
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.model.variants import canonical_platform
from pipeline.oci import layout
from pipeline.oci.manifest import Index, Manifest, parse
from pipeline.paths import Project
from pipeline.tools import skopeo
from pipeline.tools.skopeo import Source
from pipeline.tools.transfer import Patience

_MAX_DEPTH = 3


def resolve(
    reference: Reference,
    project: Project,
    *,
    patience: Patience | None = None,
    log: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Pin:
    """Ask what a remote reference stands for now: its index, if it is one, and a manifest per platform.

    Raises PipelineError `copy-KIND` when it cannot be asked, `bad-manifest` when it is no image.
    """
    with _scratch(project) as folder:
        source = Source(reference, project.root, folder, patience or Patience.from_environment(), log, say)
        found = parse(skopeo.raw_manifest(source, None), source.name, reference.digest)
        if isinstance(found, Index):
            return Pin(found.digest, found.platforms)
        # By digest: the tag may have moved since.
        config = config_of(source, found, found.digest)
        platform = layout.check_config(found, config, None, source.name).platform
        return Pin(None, {canonical_platform(platform): found.digest})


def manifest_of(source: Source, digest: str | None, platform: Platform) -> Manifest:
    """Return the manifest of one image, checked against `digest`; an index is resolved to the platform.

    Raises PipelineError `bad-digest`, `bad-manifest`, `missing-platform`, `copy-KIND`.
    """
    reference = source.reference
    if reference.transport == "oci":
        return layout.find_manifest(reference.path(source.root), platform, reference.tag)
    for _ in range(_MAX_DEPTH):
        content = _raw(source, digest)
        found = parse(content, f"{source.name}{f' ({digest})' if digest else ''}", digest)
        if isinstance(found, Manifest):
            return found
        digest = found.choose(platform, source.name).digest
    raise PipelineError("bad-manifest", f"{source.name} cannot be used: its indexes are nested too deep")


def config_of(source: Source, manifest: Manifest, digest: str | None) -> bytes:
    """Return the config blob that a manifest names, with its digest checked.

    `digest` is the manifest's where the transport can look it up by that. Raises PipelineError
    `bad-digest` or `bad-blob`.
    """
    reference = source.reference
    if reference.transport == "oci":
        return layout.read_blob(reference.path(source.root) / "blobs", manifest.config)
    if reference.transport == "dir":
        path = reference.path(source.root) / manifest.config.digest.partition(":")[2]
        wrong = layout.blob_fault(path, manifest.config)
        if wrong:
            raise layout.bad_blob(path, wrong)
        return path.read_bytes()
    content = skopeo.raw_config(source, digest)
    actual = f"sha256:{sha256_bytes(content)}"
    if actual != manifest.config.digest:
        raise PipelineError(
            "bad-digest",
            f"{source.name}: the config has the digest {actual}, not {manifest.config.digest}",
            hint="nothing of it is used: ask who runs the registry",
        )
    return content


def _raw(source: Source, digest: str | None) -> bytes:
    reference = source.reference
    if reference.transport == "dir":
        # dir: keeps the images of an index beside it under their digests.
        name = f"{digest.partition(':')[2]}.manifest.json" if digest else "manifest.json"
        return (reference.path(source.root) / name).read_bytes()
    return skopeo.raw_manifest(source, digest if reference.remote else None)


@contextmanager
def _scratch(project: Project) -> Iterator[Path]:
    folder = project.tmp / f"ask.{uuid.uuid4().hex}"
    project.locks.mkdir(parents=True, exist_ok=True)
    with (project.locks / "ask").open("ab") as lock:
        # Whoever sweeps project.tmp leaves alone what somebody holds the lock of.
        fcntl.flock(lock, fcntl.LOCK_SH)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            remove_tree(folder)
