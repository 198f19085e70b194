"""The stand-in image: node, ffmpeg and a small server in the shape of a real streaming server's image.

Made from the Debian packages of this machine, straight as an OCI layout. Equal inputs give equal bytes,
so a layout is made once and reused for as long as its inputs stay the same.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import compact_json, remove_tree, sha256_bytes
from pipeline.model.nouns import Platform
from pipeline.run import require, run

HERE = Path(__file__).parent
REFERENCE = "server"
"""The name of the image in the layout: `oci:PATH:server`."""
USER = 65532
VOLUME = "home/nonroot/.stremio-server"

# What Debian calls them; the image keeps them where a distroless glibc image does.
_BASE_LIBRARIES = (
    *("ld-linux", "libc.so", "libdl.so", "libm.so", "libpthread.so", "libresolv.so", "librt.so"),
    *("libgcc_s.so", "libnss_", "libstdc++.so"),
)
_BASE_FOLDERS = (
    *("dev", "etc", "home", "proc", "root", "run", "sys", "var"),
    *("usr", "usr/bin", "usr/lib", "usr/lib64"),
)
_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "../run"}
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n"
    "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'ID=standin\nNAME="stand-in"\nVERSION_ID=1\n',
}
_BASE_FILES = ("etc/ssl/certs/ca-certificates.crt",)
_BASE_TREES = ("usr/share/zoneinfo/Etc", "usr/share/zoneinfo/Europe")
_TIME_S = 1_700_000_000
_PIECE_BYTES = 1 << 20

Member = tuple[tarfile.TarInfo, Path | bytes | None]


@dataclass(frozen=True)
class Layer:
    """A layer as the layout knows it: `digest` of the gzip file, `diff_id` of the tar inside."""

    digest: str
    diff_id: str
    size_bytes: int
    what: str


def layout(cache: Path | None = None) -> Path:
    """Return the OCI layout of the stand-in, made below `cache` if it is not there yet.

    `cache` is ~/.cache/cooperage-tests by default. Copy it before changing it.
    """
    cache = cache or Path.home() / ".cache" / "cooperage-tests"
    sources = _sources()
    place = cache / f"standin-{_key(sources)[:16]}"
    if not (place / "index.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = cache / f".standin.{os.getpid()}"
        remove_tree(temporary)
        _write_layout(temporary, sources)
        if place.exists():
            remove_tree(temporary)
        else:
            temporary.rename(place)
    return place


def _sources() -> dict[str, Path]:
    """What of this machine goes into the image: path in the image -> file."""
    wanted = ("node", "ffmpeg", "ffprobe", "ps")
    programs = {name: require(name, "build the stand-in image") for name in wanted}
    found = {f"app/bin/{name}": path.resolve() for name, path in programs.items()}
    for library in sorted({lib for path in programs.values() for lib in _libraries(path)}):
        base = library.name.startswith(_BASE_LIBRARIES)
        folder = f"usr{library.parent}" if library.parts[1].startswith("lib") else str(library.parent)[1:]
        found[f"{folder if base else 'app/lib'}/{library.name}"] = library.resolve()
    for name in _BASE_FILES:
        found[name] = Path("/", name).resolve()
    for tree in _BASE_TREES:
        found |= {str(p)[1:]: p.resolve() for p in sorted(Path("/", tree).iterdir()) if p.is_file()}
    return found


def _libraries(program: Path) -> Iterator[Path]:
    said = run(["ldd", program], timeout_s=30).stdout
    for line in said.splitlines():
        for word in line.split():
            if word.startswith("/"):
                yield Path(word)


def _key(sources: dict[str, Path]) -> str:
    stats = {name: (str(p), p.stat().st_size, p.stat().st_mtime_ns) for name, p in sources.items()}
    ours = [sha256_bytes((HERE / name).read_bytes()) for name in ("build.py", "server.js", "image.json")]
    return sha256_bytes(compact_json([stats, ours]))


def _write_layout(place: Path, sources: dict[str, Path]) -> None:
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers = [_write_layer(blobs, what, members) for what, members in _layers(sources)]
    config = _write_blob(blobs, compact_json(_config(layers)))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer.digest,
                "size": layer.size_bytes,
            }
            for layer in layers
        ],
    }
    descriptor = {
        "mediaType": manifest["mediaType"],
        **_write_blob(blobs, compact_json(manifest)),
        "annotations": {"org.opencontainers.image.ref.name": REFERENCE},
    }
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (place / "index.json").write_bytes(compact_json({"schemaVersion": 2, "manifests": [descriptor]}))


def _config(layers: list[Layer]) -> dict[str, Any]:
    created = "2023-11-14T22:13:20Z"
    platform = Platform.host()
    return {
        "architecture": platform.architecture,
        "os": "linux",
        "created": created,
        "config": json.loads((HERE / "image.json").read_bytes()),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": layer.what} for layer in layers],
    }


def _layers(sources: dict[str, Path]) -> Iterator[tuple[str, list[Member]]]:
    """The layers from the bottom up, each with what it is."""
    app = {name: path for name, path in sources.items() if name.startswith("app/")}
    base = {name: path for name, path in sources.items() if name not in app}
    yield "base: glibc, certificates, time zones", _base(base)
    for what, prefix, names in (
        ("node", "app/bin/", ("node", "ps")),
        ("libraries of ffmpeg", "app/lib/", None),
        ("ffmpeg and ffprobe", "app/bin/", ("ffmpeg", "ffprobe")),
    ):
        chosen = [n for n in sorted(app) if n.startswith(prefix) and (not names or Path(n).name in names)]
        folders = ["app", prefix.rstrip("/")]
        yield what, [*(_folder(f, USER) for f in folders), *(_file(n, app[n], USER) for n in chosen)]
    server = _file("app/server.js", HERE / "server.js", USER)
    homes = [_folder("home/nonroot", USER, 0o700), _folder(VOLUME, USER)]
    yield "server.js and its volume", [_folder("app", USER), server, _folder("home"), *homes]


def _base(files: dict[str, Path]) -> list[Member]:
    parents = {str(parent) for name in files for parent in Path(name).parents if parent != Path()}
    members: list[Member] = [_folder(name) for name in sorted({*_BASE_FOLDERS, *parents})]
    members.append(_folder("tmp", mode=0o1777))
    members += [_link(name, target) for name, target in _LINKS.items()]
    members += [_text(name, text) for name, text in _TEXTS.items()]
    return members + [_file(name, path) for name, path in sorted(files.items())]


def _entry(name: str, kind: bytes, mode: int, owner: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, owner, owner, _TIME_S
    return info


def _folder(name: str, owner: int = 0, mode: int = 0o755) -> Member:
    return _entry(name, tarfile.DIRTYPE, mode, owner), None


def _link(name: str, target: str) -> Member:
    info = _entry(name, tarfile.SYMTYPE, 0o777, 0)
    info.linkname = target
    return info, None


def _text(name: str, text: str) -> Member:
    info = _entry(name, tarfile.REGTYPE, 0o644, 0)
    info.size = len(text)
    return info, text.encode()


def _file(name: str, path: Path, owner: int = 0) -> Member:
    executable = os.access(path, os.X_OK) or ".so" in path.name
    info = _entry(name, tarfile.REGTYPE, 0o755 if executable else 0o644, owner)
    info.size = path.stat().st_size
    return info, path


def _write_layer(blobs: Path, what: str, members: Iterable[Member]) -> Layer:
    packed, plain = hashlib.sha256(), hashlib.sha256()
    temporary = blobs / ".layer"
    with (
        temporary.open("wb") as raw,
        # No name and no time in the gzip header, or equal inputs would give other bytes.
        gzip.GzipFile("", "wb", 1, _Tee(raw.write, packed.update), mtime=0) as squeezed,
        tarfile.open(fileobj=_Tee(squeezed.write, plain.update), mode="w|", bufsize=_PIECE_BYTES) as archive,
    ):
        for info, content in members:
            _add(archive, info, content)
    digest = packed.hexdigest()
    temporary.rename(blobs / digest)
    size_bytes = (blobs / digest).stat().st_size
    return Layer(f"sha256:{digest}", f"sha256:{plain.hexdigest()}", size_bytes, what)


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, content: Path | bytes | None) -> None:
    if isinstance(content, Path):
        with content.open("rb") as stream:
            archive.addfile(info, stream)
    else:
        archive.addfile(info, io.BytesIO(content) if content is not None else None)


class _Tee(io.RawIOBase):
    """A stream that hands each piece to several takers."""

    def __init__(self, *takers: Callable[[bytes], object]) -> None:
        self._takers = takers

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        for take in self._takers:
            take(piece)
        return len(piece)


def _write_blob(blobs: Path, content: bytes) -> dict[str, Any]:
    digest = sha256_bytes(content)
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


if __name__ == "__main__":
    destination = Path(sys.argv[1])
    _write_layout(destination, _sources())
    print(f"oci:{destination}:{REFERENCE}")
