"""The image that umoci gets to unpack: every entry of the real one, rewritten by us, without the content.

umoci decides what a layered file system comes to: order, whiteouts, links, owners, modes. It is slow at
moving bytes (it hashes each layer twice in Go), so in place of its content a regular file carries a token
that names where in our verified tar the content lies; `fill` puts it there. And umoci reads only headers
that we wrote, so there are no two readings of one tar, no set-id bit ever exists on disk, and no entry
can be large.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.files import canonical_json
from pipeline.oci.tarheaders import BLOCK, REGULAR, Header
from pipeline.oci.tarscan import Item

TAG = "skeleton"
_TOKEN = struct.Struct(">8sIIQ")
_MAGIC = b"\x00cooper\x00"
TOKEN_BYTES = _TOKEN.size
_PLAIN_MODE = 0o1777
_PLAIN_TAR = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CHECKSUM_FIELD = slice(148, 156)


def write_skeleton(folder: Path, layers: Sequence[Sequence[Item]]) -> None:
    """Write an OCI layout, tagged `skeleton`, of plain tar layers whose files hold tokens."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    tars = [_store(blobs, tar_of(items), _PLAIN_TAR) for items in layers]
    rootfs = {"type": "layers", "diff_ids": [tar["digest"] for tar in tars]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    described = _store(blobs, [canonical_json(config)], _CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": tars}
    top = _store(blobs, [canonical_json(manifest)], _MANIFEST)
    top["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": [top]}))


def tar_of(items: Iterable[Item]) -> Iterator[bytes]:
    """Yield the tar of some entries, each regular file that has content holding its token."""
    for number, item in enumerate(items):
        yield _entry(item, _token(item.layer, number, item.header.size))
    yield bytes(2 * BLOCK)


def read_token(content: bytes) -> tuple[int, int, int] | None:
    """Return the layer, the item's number in it and the size that a token names; None if it is no token."""
    if len(content) != TOKEN_BYTES:
        return None
    magic, layer, number, size = _TOKEN.unpack(content)
    return (layer, number, size) if magic == _MAGIC else None


def _token(layer: int, number: int, size: int) -> bytes:
    return _TOKEN.pack(_MAGIC, layer, number, size)


def _entry(item: Item, token: bytes) -> bytes:
    header = item.header
    content = token if header.kind == REGULAR and header.size else b""
    records = {b"mtime": header.mtime} if b"." in header.mtime or header.mtime.startswith(b"-") else {}
    name = item.path or b"./"
    if len(name) > 100 or not name.isascii():
        records[b"path"] = name
    if len(header.link) > 100 or not header.link.isascii():
        records[b"linkpath"] = header.link
    for key, number in ((b"uid", header.uid), (b"gid", header.gid)):
        if number > 0o7777777:
            records[key] = b"%d" % number
    kept = [(key, value) for key, value in header.xattrs.items() if key.startswith(b"user.")]
    records |= {b"SCHILY.xattr." + key: value for key, value in kept}
    block = _block(name, header.kind, _mode(header), header, len(content), header.link)
    return _pax(records) + block + content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")


def _mode(header: Header) -> int:
    # On a folder, set-group-id means inheritance of the group, which is no privilege.
    return header.mode & _PLAIN_MODE if header.kind == REGULAR else header.mode


def _pax(records: dict[bytes, bytes]) -> bytes:
    """A pax extended header (pax(1)), or nothing."""
    if not records:
        return b""
    content = b"".join(_record(key, records[key]) for key in sorted(records))
    nobody = Header(b"", b"x", 0o644, 0, 0, b"0", 0, 0, b"", (0, 0), {})
    block = _block(b"pax", b"x", 0o644, nobody, len(content), b"")
    return block + content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    # The length counts its own digits.
    length = len(rest) + len(str(length))
    return b"%d" % length + rest


def _block(name: bytes, kind: bytes, mode: int, header: Header, size: int, link: bytes) -> bytes:
    seconds = max(0, int(header.mtime.partition(b".")[0]))
    block = bytearray(BLOCK)
    block[0:100] = name[:100].ljust(100, b"\0")
    block[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        mode,
        min(header.uid, 0o7777777),
        min(header.gid, 0o7777777),
        size,
        min(seconds, 0o77777777777),
    )
    block[_CHECKSUM_FIELD] = b" " * 8
    block[156:157] = kind
    block[157:257] = link[:100].ljust(100, b"\0")
    block[257:265] = b"ustar\x0000"
    block[_CHECKSUM_FIELD] = b"%06o\0 " % sum(block)
    return bytes(block)


def _store(blobs: Path, pieces: Iterable[bytes], media_type: str) -> dict[str, object]:
    digest, size, unnamed = hashlib.sha256(), 0, blobs / "unnamed"
    with unnamed.open("wb") as stream:
        for piece in pieces:
            digest.update(piece)
            size += stream.write(piece)
    unnamed.rename(blobs / digest.hexdigest())
    return {"mediaType": media_type, "digest": f"sha256:{digest.hexdigest()}", "size": size}
