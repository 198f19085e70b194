"""Broken images: blobs that are not what their descriptors say, tars that readers read differently."""

from __future__ import annotations

import gzip
import struct
import tarfile
from collections.abc import Callable

from tests.evil_images import PLAIN, ZSTD, Blob, Case, Tar, blob, layer, one, sha256, two


def plain_tar() -> bytes:
    """A tar of one small file."""
    return Tar().add("etc/hello", content=b"hello\n").end()


def changed_header(raw: bytes, at: int, new: bytes) -> bytes:
    """A tar whose first header holds `new` at an offset, with its checksum right again."""
    block = bytearray(raw[:512])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + raw[512:]


def with_pax(records: dict[str, str]) -> Callable[[Tar, str], object]:
    """One file with pax records."""
    return lambda tar, _: tar.add("plain", content=b"x", pax=records)


def _global(records: bytes) -> Callable[[Tar, str], object]:
    return lambda tar, _: tar.add("pax_global_header", tarfile.XGLTYPE, records).add("after")


_DIGEST = "sha256:" + "0" * 64
DAMAGE = {
    "digest": Case(one(lambda t, _: t.add("f"), digest=_DIGEST), "bad-layer", "has other content"),
    "size": Case(one(lambda t, _: t.add("f"), size=12), "bad-layer", "the manifest says 12"),
    "diff-id": Case(one(lambda t, _: t.add("f"), diff_id=_DIGEST), "bad-layer", f"diff_ids say {_DIGEST}"),
    "fewer-diff-ids": Case(
        two(lambda t, _: t.add("f"), lambda t, _: t.add("g")),
        "bad-manifest",
        "0 in its config",
        options={"diff_ids": ()},
    ),
    "cut-blob": Case(
        blob(gzip.compress(plain_tar())[:-9], diff_id=sha256(plain_tar())), "bad-layer", "is cut short"
    ),
    "flipped-bit": Case(
        blob(
            gzip.compress(plain_tar())[:40] + b"\xff" + gzip.compress(plain_tar())[41:],
            diff_id=sha256(plain_tar()),
        ),
        "bad-layer",
        "layer sha256:",
    ),
    "junk-after-gzip": Case(
        blob(gzip.compress(plain_tar()) + b"junk", diff_id=sha256(plain_tar())),
        "bad-layer",
        "has bytes after its gzip data",
    ),
    "junk-after-zstd": Case(
        lambda _: [Blob(layer(plain_tar(), ZSTD).content + b"junk", ZSTD, diff_id=sha256(plain_tar()))],
        "bad-layer",
        "is not zstd, or damaged",
    ),
    "not-gzip": Case(blob(plain_tar()), "bad-layer", "is not gzip"),
    "type-unknown": Case(blob(plain_tar(), "text/plain"), "bad-manifest", "has the media type `text/plain`"),
    "no-tar": Case(lambda _: [layer(b"x" * 2048)], "bad-layer", "is no tar, or damaged"),
    "cut-tar": Case(
        lambda _: [layer(Tar().add("f", content=bytes(4096)).end()[:2048])], "bad-layer", "cut short"
    ),
    "cut-header": Case(lambda _: [layer(plain_tar()[:1100])], "bad-layer", "is cut short"),
    "junk-after-tar": Case(
        lambda _: [layer(plain_tar() + b"junk" * 128)], "bad-layer", "has bytes after its end"
    ),
    "hole-in-tar": Case(lambda _: [layer(bytes(512) + plain_tar())], "bad-layer", "zeros between entries"),
}

FORMS = {
    "negative-size": Case(
        lambda _: [layer(changed_header(plain_tar(), 124, b"\xff" * 12))], "bad-layer", "has a negative size"
    ),
    "negative-uid": Case(
        lambda _: [layer(changed_header(plain_tar(), 108, b"\xff" * 8))], "bad-layer", "has a negative uid"
    ),
    "odd-number": Case(
        lambda _: [layer(changed_header(plain_tar(), 100, b"0o7_7 "))], "bad-layer", "mode that is no number"
    ),
    "pax-negative-size": Case(one(with_pax({"size": "-1"})), "bad-layer", "has a negative size"),
    "pax-huge-uid": Case(one(with_pax({"uid": "70000"})), "unmapped-id", "uid 70000 (plain)"),
    "unmapped": Case(
        one(lambda t, _: t.add("a", uid=70000).add("b", gid=65536)),
        "unmapped-id",
        "gid 65536 (b), uid 70000 (a)",
    ),
    "checksum": Case(lambda _: [layer(b"x" + plain_tar()[1:])], "bad-layer", "checksum is wrong"),
    "sparse-gnu": Case(one(lambda t, _: t.add("f", tarfile.GNUTYPE_SPARSE)), "bad-layer", "is a sparse file"),
    "sparse-pax": Case(one(with_pax({"GNU.sparse.major": "1"})), "bad-layer", "has a sparse file"),
    "global-path": Case(one(_global(b"12 path=abc\n")), "bad-layer", "more than a comment"),
    "global-comment": Case(one(_global(b"15 comment=abc\n")), there=("after",)),
    "pax-twice": Case(
        one(
            lambda t, _: (
                t.add("x", tarfile.XHDTYPE, b"6 a=b\n").add("y", tarfile.XHDTYPE, b"6 a=b\n").add("z")
            )
        ),
        "bad-layer",
        "two pax headers",
    ),
    "pax-malformed": Case(
        one(lambda t, _: t.add("x", tarfile.XHDTYPE, b"99 a=b\n").add("z")),
        "bad-layer",
        "malformed pax header",
    ),
    "pax-at-the-end": Case(
        lambda _: [layer(Tar().add("x", tarfile.XHDTYPE, b"6 a=b\n").out.getvalue())],
        "bad-layer",
        "ends after an extended header",
    ),
    "nul-in-name": Case(
        one(lambda t, _: t.add("x", tarfile.XHDTYPE, b"15 path=ab\0cde\n").add("z")),
        "bad-layer",
        "has a NUL byte",
    ),
    "unknown-type": Case(one(lambda t, _: t.add("f", b"Z")), "bad-layer", "of the unknown type b'Z'"),
    "empty-link": Case(one(lambda t, _: t.link("l", "")), "unsafe-image", "is a link of 0 bytes"),
    "fifo": Case(one(lambda t, _: t.add("pipe", tarfile.FIFOTYPE)), there=("pipe",)),
    "duplicates": Case(
        one(lambda t, _: t.add("f", content=b"first").add("f", content=b"last!")), there=("f",)
    ),
    "newline": Case(one(lambda t, _: t.add("a\nb", content=b"x").dir("\x1b[2J")), there=("a\nb", "\x1b[2J")),
    "not-utf-8": Case(one(lambda t, _: t.add("\udcff\udcfe", content=b"x")), there=("\udcff\udcfe",)),
    "zstd": Case(one(lambda t, _: t.add("f", content=b"x" * 5000), ZSTD), there=("f",)),
    "plain": Case(one(lambda t, _: t.add("f", content=b"x" * 5000), PLAIN), there=("f",)),
    "two-members": Case(
        blob(
            gzip.compress(plain_tar()[:700]) + gzip.compress(plain_tar()[700:]), diff_id=sha256(plain_tar())
        ),
        there=("etc/hello",),
    ),
    "no-end-marker": Case(lambda _: [layer(plain_tar()[:1024])], there=("etc/hello",)),
    "star-prefix": Case(
        lambda _: [layer(changed_header(plain_tar(), 500, struct.pack("8x4s", b"tar\0")))],
        there=("etc/hello",),
    ),
}
