"""A maker of OCI layouts, honest or malicious: raw tar entries in, a layout folder out."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Blob:
    """Bytes with the digest and size that the layout claims for them."""

    content: bytes
    media_type: str
    digest: str = ""
    size: int = -1
    diff_id: str = ""

    @property
    def descriptor(self) -> dict[str, Any]:
        """The descriptor as the manifest states it, true or not."""
        digest = self.digest or sha256(self.content)
        size = len(self.content) if self.size < 0 else self.size
        return {"mediaType": self.media_type, "digest": digest, "size": size}


def sha256(content: bytes) -> str:
    """The digest of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Tar:
    """A tar archive written entry by entry, with whatever lies the test wants."""

    out: io.BytesIO = field(default_factory=io.BytesIO)

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> Tar:
        """Add one entry; `fields` are those of TarInfo, `pax` its pax records."""
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(content)
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        info.pax_headers = fields.pop("pax", {})
        for key, value in fields.items():
            setattr(info, key, value)
        if info.pax_headers:
            self.out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        else:
            self.out.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        return self.raw(content + b"\0" * (-len(content) % 512))

    def raw(self, content: bytes) -> Tar:
        """Add bytes as they are."""
        self.out.write(content)
        return self

    def dir(self, name: str, mode: int = 0o755, **fields: Any) -> Tar:
        """Add a folder."""
        return self.add(name, tarfile.DIRTYPE, mode=mode, **fields)

    def link(self, name: str, target: str, **fields: Any) -> Tar:
        """Add a symbolic link."""
        return self.add(name, tarfile.SYMTYPE, linkname=target, **fields)

    def hard(self, name: str, target: str, **fields: Any) -> Tar:
        """Add a hard link."""
        return self.add(name, tarfile.LNKTYPE, linkname=target, **fields)

    def end(self) -> bytes:
        """Return the archive with its end marker."""
        return self.out.getvalue() + b"\0" * 1024


def layer(content: bytes | Tar, media_type: str = GZIP, **lies: Any) -> Blob:
    """Return the layer blob of a plain tar; `lies` replace digest, size or diff_id."""
    plain = content.end() if isinstance(content, Tar) else content
    return Blob(_packed(plain, media_type), media_type, **{"diff_id": sha256(plain), **lies})


def write_layout(
    folder: Path,
    layers: Sequence[Blob],
    config: dict[str, Any] | None = None,
    *,
    diff_ids: Iterable[str] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda manifest: None,
    tag: str = "latest",
) -> Path:
    """Write an OCI layout whose manifest names `layers`; return its folder."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    ids = [blob.diff_id for blob in layers] if diff_ids is None else list(diff_ids)
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": ids},
    }
    described = _store(blobs, Blob(json.dumps(image).encode(), CONFIG))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described,
        "layers": [_store(blobs, blob) for blob in layers],
    }
    change(manifest)
    top = _store(blobs, Blob(json.dumps(manifest).encode(), MANIFEST))
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    top["platform"] = {"os": "linux", "architecture": "amd64"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return folder


def _store(blobs: Path, blob: Blob) -> dict[str, Any]:
    described = blob.descriptor
    (blobs / described["digest"].removeprefix("sha256:")).write_bytes(blob.content)
    return described


def _packed(plain: bytes, media_type: str) -> bytes:
    if media_type == GZIP:
        return gzip.compress(plain, 6, mtime=0)
    if media_type == ZSTD:
        import zstandard

        return zstandard.ZstdCompressor().compress(plain)
    return plain


Layers = Callable[[str], Sequence[Blob]]


@dataclass(frozen=True)
class Case:
    """One image. `layers(outside)` gets the folder that must stay untouched.

    `code` and `text` are the refusal; with no code the image unpacks. `there` and `gone` are paths below
    the rootfs afterwards.
    """

    layers: Layers
    code: str = ""
    text: str = ""
    there: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)

    def write(self, folder: Path, outside: Path) -> Path:
        """Write the image's layout."""
        return write_layout(folder, self.layers(str(outside)), **self.options)


def one(make: Callable[[Tar, str], object], media_type: str = GZIP, **lies: Any) -> Layers:
    """One layer, whose tar `make` fills."""

    def layers(outside: str) -> list[Blob]:
        tar = Tar()
        make(tar, outside)
        return [layer(tar, media_type, **lies)]

    return layers


def two(low: Callable[[Tar, str], object], high: Callable[[Tar, str], object]) -> Layers:
    """Two layers."""
    return lambda outside: [*one(low)(outside), *one(high)(outside)]


def blob(content: bytes, media_type: str = GZIP, diff_id: str = "", **lies: Any) -> Layers:
    """One layer of these very bytes."""
    return lambda _: [Blob(content, media_type, diff_id=diff_id or sha256(content), **lies)]
