"""A catalogue of hostile and broken images: what each is made of, and how it must be met.

Groups as in the suites of containerd (TestBreakouts), moby/go-archive and umoci (hardening.bats).
"""

from __future__ import annotations

import tarfile

from tests.evil_forms import DAMAGE, FORMS, changed_header, plain_tar, with_pax
from tests.evil_images import PLAIN, ZSTD, Case, Tar, layer, one, two

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""security.capability of `cap_net_bind_service=ep`, version 2 (linux/capability.h)."""

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
    "pax-bomb": Case(one(with_pax({"comment": "x" * (2 << 20)})), "limit-header", "this looks like a bomb"),
    "long-name-bomb": Case(one(lambda t, _: t.add("n" * (2 << 20))), "limit-header", "a long name of"),
    "claims-a-terabyte": Case(
        lambda _: [layer(changed_header(plain_tar(), 124, b"\x80\0\0\0\0\0\x01\0\0\0\0\0"))],
        "bad-layer",
        "is cut short",
    ),
}

CASES = {**ESCAPES, **WHITEOUTS, **DEVICES, **PRIVILEGES, **BOMBS, **DAMAGE, **FORMS}
