"""The demo image: an HTTP server from the host's static busybox, put together with umoci.

The same busybox and the same umoci give the same bytes every time: all times are fixed.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import compact_json, read_json, remove_tree, sha256_bytes
from pipeline.model.nouns import Platform
from pipeline.run import require, run, which

if TYPE_CHECKING:
    import tarfile

IMAGE_NAME = "latest"
PORT = 8080
USER = 65532
_CREATED = "2000-01-01T00:00:00Z"
_CREATED_S = 946684800
_TIMEOUT_S = 120
_PT_INTERP = 3
_APPLETS = ("sh", "httpd", "wget", "cat", "ls", "ps", "id", "sleep", "true", "echo", "env", "grep", "mount")
# As PID 1 of a container httpd cannot be stopped: it has no handler for any signal that ends a process,
# and the kernel drops such signals (pid_namespaces(7)). A shell that has one passes the stop on.
_SERVE = b"""#!/bin/sh
/bin/busybox httpd -f -v -h /www "$@" &
server=$!
trap 'kill "$server"; wait "$server"; exit 0' TERM INT
wait "$server"
"""
_PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hello</title></head>
<body><h1>Hello from a hardened container</h1></body></html>
"""
_FILES: tuple[tuple[str, int, bytes], ...] = (
    ("bin/serve", 0o755, _SERVE),
    ("etc/group", 0o644, b"root:x:0:\nnonroot:x:65532:\n"),
    ("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/false\nnonroot:x:65532:65532:nonroot:/:/bin/false\n"),
    ("www/index.html", 0o644, _PAGE),
)
_FOLDERS = (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("www", 0o755))
_NANOSECONDS = 1_000_000_000
_HEALTHCHECK = {
    "Test": ["CMD", "/bin/busybox", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/"],
    "Interval": 10 * _NANOSECONDS,
    "Timeout": 3 * _NANOSECONDS,
    "Retries": 3,
}


def static_busybox() -> Path:
    """Return the host's static busybox. Raises PipelineError `missing-tool` or `dynamic-busybox`."""
    path = which("busybox") or require("busybox", "make the demo image")
    if not _is_static(path):
        raise PipelineError(
            "dynamic-busybox",
            f"{path} needs shared libraries, which the demo image has not",
            hint="apt install busybox-static | dnf install busybox | pacman -S busybox",
        )
    return path


def demo_identity(digest_of: Callable[[Path], str]) -> str:
    """Return the digest that stands for the demo image: busybox and this code; `digest_of` hashes a file."""
    code = sha256_bytes(Path(__file__).read_bytes())
    return f"sha256:{sha256_bytes(f'{digest_of(static_busybox())} {code} {Platform.host()}'.encode())}"


def make_demo(layout: Path) -> None:
    """Make the demo image `latest` as the OCI layout `layout`, which must not exist.

    Raises PipelineError `missing-tool`, `dynamic-busybox`, ToolFailed.
    """
    require("umoci", "make the demo image")
    busybox = static_busybox()
    layer = layout.with_name(f"{layout.name}.layer.tar")
    layer.write_bytes(_layer(busybox.read_bytes()))
    image = f"{layout}:{IMAGE_NAME}"
    _umoci("init", "--layout", layout)
    _umoci("new", "--image", image)
    # Without history: umoci would write the present time into it.
    _umoci("raw", "add-layer", "--image", image, "--no-history", layer)
    _umoci("config", "--image", image, "--no-history", *_config_flags())
    _set_healthcheck(layout)
    _umoci("gc", "--layout", layout)
    remove_tree(layer)


def _config_flags() -> list[str]:
    platform = Platform.host()
    values = {
        "os": platform.os,
        "architecture": platform.architecture,
        "created": _CREATED,
        "config.user": f"{USER}:{USER}",
        "config.env": "PATH=/bin",
        "config.workingdir": "/",
        "config.entrypoint": "/bin/serve",
        "config.exposedports": f"{PORT}/tcp",
        "config.stopsignal": "SIGTERM",
        "config.label": "org.opencontainers.image.title=busybox-httpd",
    }
    flags = [word for name, value in values.items() for word in (f"--{name}", value)]
    return [*flags, "--config.cmd", "-p", "--config.cmd", str(PORT)]


def _umoci(*words: str | Path) -> None:
    run(["umoci", *words], timeout_s=_TIMEOUT_S)


def _layer(busybox: bytes) -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, mode in _FOLDERS:
            _add(archive, tarfile.TarInfo(name), mode, kind=tarfile.DIRTYPE)
        for name, mode, content in (("bin/busybox", 0o755, busybox), *_FILES):
            _add(archive, tarfile.TarInfo(name), mode, content)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.linkname = "busybox"
            _add(archive, link, 0o777, kind=tarfile.SYMTYPE)
    return stream.getvalue()


def _add(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, mode: int, content: bytes = b"", kind: bytes = b"0"
) -> None:
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, len(content), _CREATED_S
    archive.addfile(entry, io.BytesIO(content))


def _set_healthcheck(layout: Path) -> None:
    # umoci 0.4.7 has no flag for it: HEALTHCHECK is docker's and not the image specification's.
    index = read_json(layout / "index.json")
    entry = index["manifests"][0]
    manifest = _blob(layout, entry)
    config = _blob(layout, manifest["config"])
    config["config"]["Healthcheck"] = _HEALTHCHECK
    _put_blob(layout, manifest["config"], config)
    _put_blob(layout, entry, manifest)
    (layout / "index.json").write_bytes(compact_json(index))


def _blob(layout: Path, entry: dict[str, Any]) -> Any:
    return read_json(layout / "blobs" / entry["digest"].replace(":", "/"))


def _put_blob(layout: Path, entry: dict[str, Any], document: Any) -> None:
    content = compact_json(document)
    entry.update(digest=f"sha256:{sha256_bytes(content)}", size=len(content))
    (layout / "blobs" / entry["digest"].replace(":", "/")).write_bytes(content)


def _is_static(path: Path) -> bool:
    """True for an ELF program without an interpreter (elf(5), PT_INTERP)."""
    with path.open("rb") as program:
        head = program.read(64)
        if head[:4] != b"\x7fELF":
            return False
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        offset = struct.unpack_from(order + "Q" if wide else order + "I", head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        program.seek(offset)
        table = program.read(size * count)
    kinds = (struct.unpack_from(f"{order}I", table, at)[0] for at in range(0, len(table), size))
    return _PT_INTERP not in kinds
