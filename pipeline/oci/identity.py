"""What a local image is now, found cheaply: the part of a stage's key that a pin is for remote ones."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes, sha256_file, write_atomic
from pipeline.model.reference import Reference
from pipeline.paths import Project

# A file changed this shortly before it was hashed may change again without a change of its times.
_SETTLED_NS = 2_000_000_000


def identity(reference: Reference, project: Project) -> str:
    """Return the digest that stands for what a local reference holds now.

    oci: what index.json names; archives: the file's hash, kept by its stat; dir: its manifest's hash;
    demo: the host's busybox and the code that makes the image. Raises PipelineError `image-missing`,
    `bad-layout`, or what the demo image lacks.
    """
    if reference.transport == "demo":
        from pipeline.tools.umoci_demo import demo_identity

        return demo_identity(lambda path: file_digest(path, project.cache))
    path = reference.path(project.root)
    try:
        return _local_identity(reference, path, project)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as fault:
        raise _missing(reference, path, fault) from None


def file_digest(path: Path, cache: Path) -> str:
    """Return `sha256:…` of a file; a large file whose stat is as before is not read again."""
    status = path.stat()
    seen = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    record = cache / f"file-{sha256_bytes(os.fsencode(path.resolve()))[:32]}.json"
    try:
        stored = json.loads(record.read_bytes())
        if stored["seen"] == seen:
            return str(stored["digest"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    digest = f"sha256:{sha256_file(path)}"
    if cache.is_dir() and time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
        # A cache that cannot be written (another's checkout, a full disk) is none.
        with suppress(OSError):
            write_atomic(record, json.dumps({"seen": seen, "digest": digest}).encode())
    return digest


def _local_identity(reference: Reference, path: Path, project: Project) -> str:
    if reference.transport == "oci":
        if not path.is_dir():
            raise FileNotFoundError(path)
        from pipeline.oci.layout import find_entry

        return find_entry(path, reference.tag).digest
    if reference.transport == "dir":
        return f"sha256:{sha256_file(path / 'manifest.json')}"
    # The name within counts: one archive may hold several images.
    return f"sha256:{sha256_bytes(f'{file_digest(path, project.cache)} {reference.tag}'.encode())}"


def _missing(reference: Reference, path: Path, fault: OSError) -> PipelineError:
    wanted = "file" if reference.transport.endswith("archive") else "folder"
    return PipelineError(
        "image-missing",
        f"`image: {reference}`: {wanted} {path} cannot be read ({fault.strerror or 'not there'})",
        hint="relative paths start at the project folder; put the image there or correct `image:`",
    )
