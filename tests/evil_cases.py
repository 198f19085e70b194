"""A catalogue of hostile and broken images: what each is made of, and how it must be met.

Groups as in the suites of containerd (TestBreakouts), moby/go-archive and umoci (hardening.bats).
"""

from __future__ import annotations

import gzip
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.evil_images import GZIP, PLAIN, ZSTD, Blob, Tar, layer, sha256, write_layout

Layers = Callable[[str], Sequence[Blob]]
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""security.capability of `cap_net_bind_service=ep`, version 2 (linux/capability.h)."""


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


def _plain() -> bytes:
    return Tar().add("etc/hello", content=b"hello\n").end()


def _changed(raw: bytes, at: int, new: bytes) -> bytes:
    """A tar whose first header holds `new` at an offset, with its checksum right again."""
    block = bytearray(raw[:512])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + raw[512:]


def _pax(records: dict[str, str]) -> Callable[[Tar, str], object]:
    return lambda tar, _: tar.add("plain", content=b"x", pax=records)


def _global(records: bytes) -> Callable[[Tar, str], object]:
    return lambda tar, _: tar.add("pax_global_header", tarfile.XGLTYPE, records).add("after")


_CAP_PAX = {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}

ESCAPES = {
    "dotdot": Case(one(lambda t, _: t.add("../canary", content=b"evil")), "unsafe-image", "climbs with `..`"),
    "dotdot-inside": Case(one(lambda t, _: t.add("a/../../canary")), "unsafe-image", "a/../../canary"),
    "dotdot-folder": Case(one(lambda t, _: t.dir("..")), "unsafe-image", "climbs"),
    "absolute": Case(one(lambda t, o: t.add(f"{o}/canary", content=b"evil"))),
    "link-then-file": Case(one(lambda t, o: t.link("out", o).add("out/canary", content=b"evil"))),
    "link-next-layer": Case(
        two(lambda t, o: t.link("out", o), lambda t, _: t.add("out/canary", content=b"evil"))
    ),
    "link-chain": Case(
        two(
            lambda t, o: t.link("a", "b").link("b", "../" * 40 + o).link("c", "a/."),
            lambda t, _: t.add("c/canary", content=b"evil"),
        )
    ),
    "link-overwritten": Case(
        one(lambda t, o: t.link("f", f"{o}/canary").add("f", content=b"evil", mode=0o666)), there=("f",)
    ),
    "folder-over-link": Case(
        one(lambda t, o: t.link("d", o).dir("d", 0o777).add("d/canary", content=b"evil"))
    ),
    "link-over-folder": Case(one(lambda t, o: t.dir("d").link("d", o).add("d/canary", content=b"evil"))),
    "link-over-full-folder": Case(
        two(lambda t, _: t.dir("d").add("d/x"), lambda t, o: t.link("d", o).dir("d/canary", 0o777))
    ),
    "root-is-link": Case(
        one(lambda t, o: t.link("./", o).add("canary")), "unsafe-image", "replaces the rootfs"
    ),
    "root-is-file": Case(one(lambda t, _: t.add("/")), "unsafe-image", "replaces the rootfs itself"),
    "hard-dotdot": Case(
        one(lambda t, _: t.hard("h", "../canary")), "unsafe-image", "hard link h to ../canary"
    ),
    "hard-absolute": Case(one(lambda t, o: t.hard("h", f"{o}/canary")), "umoci-failed", "no such file"),
    "hard-through-link": Case(one(lambda t, o: t.link("d", o).hard("h", "d/canary")), "umoci-failed", "h"),
    "hard-to-link": Case(
        one(lambda t, o: t.link("l", f"{o}/canary").hard("h", "l").add("h", content=b"evil", mode=0o777))
    ),
    "hard-to-nothing": Case(one(lambda t, _: t.hard("h", "./")), "unsafe-image", "leads to no file"),
    "below-a-file": Case(
        one(lambda t, _: t.add("f", content=b"x").add("f/x")), "umoci-failed", "umoci exited 1"
    ),
}

WHITEOUTS = {
    "wh-nothing": Case(one(lambda t, _: t.add(".wh.")), "unsafe-image", "whiteout of nothing"),
    "wh-dot": Case(one(lambda t, _: t.add(".wh..")), "unsafe-image", "whiteout of nothing"),
    "wh-dotdot": Case(one(lambda t, _: t.add("a/.wh...")), "unsafe-image", "a/.wh..."),
    "wh-folder": Case(one(lambda t, _: t.add(".wh.a/b")), "unsafe-image", "whiteout of nothing"),
    "wh-through-link": Case(two(lambda t, o: t.link("d", o), lambda t, _: t.add("d/.wh.canary"))),
    "wh-opaque-link": Case(two(lambda t, o: t.link("d", o), lambda t, _: t.add("d/.wh..wh..opq"))),
    "wh-works": Case(
        two(lambda t, _: t.add("a/x", content=b"1").add("a/y"), lambda t, _: t.add("a/.wh.x")),
        there=("a/y",),
        gone=("a/x",),
    ),
    "wh-opaque-works": Case(
        two(lambda t, _: t.dir("a").add("a/x"), lambda t, _: t.dir("a").add("a/.wh..wh..opq").add("a/z")),
        there=("a/z",),
        gone=("a/x",),
    ),
}

DEVICES = {
    "char-device": Case(
        one(lambda t, _: t.add("mem", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=1).add("x")),
        there=("x",),
        gone=("mem",),
    ),
    "block-device": Case(
        one(lambda t, _: t.add("dev/sda", tarfile.BLKTYPE, mode=0o666, devmajor=8)), gone=("dev/sda",)
    ),
    "link-to-device": Case(
        one(lambda t, _: t.add("mem", tarfile.CHRTYPE, devmajor=1, devminor=1).hard("m2", "mem")),
        gone=("mem", "m2"),
    ),
    "device-over-file": Case(
        two(lambda t, _: t.add("f", content=b"x"), lambda t, _: t.add("f", tarfile.CHRTYPE, devmajor=1)),
        gone=("f",),
    ),
}

PRIVILEGES = {
    "set-id": Case(
        one(lambda t, _: t.add("su", content=b"x", mode=0o6755).add("e", mode=0o4755).hard("su2", "su")),
        there=("su", "su2", "e"),
    ),
    "set-id-in-name": Case(one(lambda t, _: t.add("s\nu", content=b"x", mode=0o4755)), there=("s\nu",)),
    "capabilities": Case(
        one(lambda t, _: t.add("ping", content=b"x", mode=0o755, pax=_CAP_PAX)), there=("ping",)
    ),
    "xattrs": Case(
        one(
            lambda t, _: t.add(
                "f",
                content=b"x",
                pax={
                    "SCHILY.xattr.user.mine": "kept",
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                    "SCHILY.xattr.security.selinux": "evil_t",
                    "SCHILY.xattr.system.posix_acl_access": "junk",
                },
            )
        ),
        there=("f",),
    ),
}

_ZEROS = bytes(96 << 20)
BOMBS = {
    "gzip-bomb": Case(
        lambda _: [layer(Tar().add("zeros", content=_ZEROS))],
        "limit-ratio",
        "this looks like a decompression bomb",
    ),
    "zstd-bomb": Case(
        lambda _: [layer(Tar().add("zeros", content=_ZEROS), ZSTD)], "limit-ratio", "to 1 is believed"
    ),
    "total": Case(
        lambda _: [layer(Tar().add(f"f{n}", content=bytes(1 << 20)), PLAIN) for n in range(3)],
        "limit-total",
        "may be a decompression bomb",
        limits={"total_bytes": 2 << 20},
    ),
    "large-file": Case(
        one(lambda t, _: t.add("f", content=bytes(4096)), PLAIN),
        "limit-file",
        "f has 4096 bytes; at most 1024 a file",
        limits={"file_bytes": 1024},
    ),
    "entries": Case(
        one(lambda t, _: [t.add(f"f{n}") for n in range(50)]),
        "limit-entries",
        "more than 40 entries",
        limits={"entries": 40},
    ),
    "depth-2000": Case(one(lambda t, _: t.add("d/" * 900 + "f")), "limit-depth", "is 901 folders deep"),
    "depth-step-by-step": Case(
        one(lambda t, _: [t.dir("d/" * n) for n in range(1, 400)]), "limit-depth", "is 129 folders deep"
    ),
    "path": Case(
        one(lambda t, _: t.add(("n" * 100 + "/") * 30 + "f")), "limit-path", "a path has 3031 bytes"
    ),
    "name": Case(one(lambda t, _: t.add("n" * 256)), "unsafe-image", "a name of more than 255 bytes"),
    "pax-bomb": Case(one(_pax({"comment": "x" * (2 << 20)})), "limit-header", "this looks like a bomb"),
    "long-name-bomb": Case(one(lambda t, _: t.add("n" * (2 << 20))), "limit-header", "a long name of"),
    "claims-a-terabyte": Case(
        lambda _: [layer(_changed(_plain(), 124, b"\x80\0\0\0\0\0\x01\0\0\0\0\0"))],
        "bad-layer",
        "is cut short",
    ),
}

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
        blob(gzip.compress(_plain())[:-9], diff_id=sha256(_plain())), "bad-layer", "is cut short"
    ),
    "flipped-bit": Case(
        blob(gzip.compress(_plain())[:40] + b"\xff" + gzip.compress(_plain())[41:], diff_id=sha256(_plain())),
        "bad-layer",
        "layer sha256:",
    ),
    "junk-after-gzip": Case(
        blob(gzip.compress(_plain()) + b"junk", diff_id=sha256(_plain())),
        "bad-layer",
        "has bytes after its gzip data",
    ),
    "junk-after-zstd": Case(
        lambda _: [Blob(layer(_plain(), ZSTD).content + b"junk", ZSTD, diff_id=sha256(_plain()))],
        "bad-layer",
        "is not zstd, or damaged",
    ),
    "not-gzip": Case(blob(_plain()), "bad-layer", "is not gzip"),
    "type-unknown": Case(blob(_plain(), "text/plain"), "bad-manifest", "has the media type `text/plain`"),
    "no-tar": Case(lambda _: [layer(b"x" * 2048)], "bad-layer", "is no tar, or damaged"),
    "cut-tar": Case(
        lambda _: [layer(Tar().add("f", content=bytes(4096)).end()[:2048])], "bad-layer", "cut short"
    ),
    "cut-header": Case(lambda _: [layer(_plain()[:1100])], "bad-layer", "is cut short"),
    "junk-after-tar": Case(
        lambda _: [layer(_plain() + b"junk" * 128)], "bad-layer", "has bytes after its end"
    ),
    "hole-in-tar": Case(lambda _: [layer(bytes(512) + _plain())], "bad-layer", "zeros between entries"),
}

FORMS = {
    "negative-size": Case(
        lambda _: [layer(_changed(_plain(), 124, b"\xff" * 12))], "bad-layer", "has a negative size"
    ),
    "negative-uid": Case(
        lambda _: [layer(_changed(_plain(), 108, b"\xff" * 8))], "bad-layer", "has a negative uid"
    ),
    "odd-number": Case(
        lambda _: [layer(_changed(_plain(), 100, b"0o7_7 "))], "bad-layer", "mode that is no number"
    ),
    "pax-negative-size": Case(one(_pax({"size": "-1"})), "bad-layer", "has a negative size"),
    "pax-huge-uid": Case(one(_pax({"uid": "70000"})), "unmapped-id", "uid 70000 (plain)"),
    "unmapped": Case(
        one(lambda t, _: t.add("a", uid=70000).add("b", gid=65536)),
        "unmapped-id",
        "gid 65536 (b), uid 70000 (a)",
    ),
    "checksum": Case(lambda _: [layer(b"x" + _plain()[1:])], "bad-layer", "checksum is wrong"),
    "sparse-gnu": Case(one(lambda t, _: t.add("f", tarfile.GNUTYPE_SPARSE)), "bad-layer", "is a sparse file"),
    "sparse-pax": Case(one(_pax({"GNU.sparse.major": "1"})), "bad-layer", "has a sparse file"),
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
        blob(gzip.compress(_plain()[:700]) + gzip.compress(_plain()[700:]), diff_id=sha256(_plain())),
        there=("etc/hello",),
    ),
    "no-end-marker": Case(lambda _: [layer(_plain()[:1024])], there=("etc/hello",)),
    "star-prefix": Case(
        lambda _: [layer(_changed(_plain(), 500, struct.pack("8x4s", b"tar\0")))], there=("etc/hello",)
    ),
}

CASES = {**ESCAPES, **WHITEOUTS, **DEVICES, **PRIVILEGES, **BOMBS, **DAMAGE, **FORMS}
