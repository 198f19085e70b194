"""The stand-in image alone: its shape, its bytes, and what it does in a container without a filter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import remove_tree, sha256_file
from tests.conftest import Workspace
from tests.standin import build, bundle
from tests.standin.bundle import Container

pytestmark = [pytest.mark.real, pytest.mark.root]

HTTP, HTTPS = "http://127.0.0.1:11470", "https://127.0.0.1:12470"


@pytest.fixture(scope="module")
def layout() -> Path:
    return build.layout()


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def manifest(layout: Path) -> dict[str, Any]:
    index = json.loads((layout / "index.json").read_bytes())
    found: dict[str, Any] = json.loads(blob(layout, index["manifests"][0]["digest"]).read_bytes())
    return found


def test_it_has_the_shape_of_the_real_image(layout: Path) -> None:
    config = json.loads(blob(layout, manifest(layout)["config"]["digest"]).read_bytes())
    inner = config["config"]
    assert config["os"] == "linux"
    assert inner["Entrypoint"] == ["/app/bin/node", "/app/server.js"]
    assert inner["User"] == "65532:65532"
    assert inner["WorkingDir"] == "/app"
    assert inner["Volumes"] == {"/home/nonroot/.stremio-server": {}}
    assert inner["ExposedPorts"] == {"11470/tcp": {}, "12470/tcp": {}}
    assert inner["Healthcheck"]["Test"] == ["CMD", "/app/bin/node", "-e", "process.exit(0)"]
    env = dict(line.split("=", 1) for line in inner["Env"])
    assert env["LD_LIBRARY_PATH"] == "/app/lib"
    assert (env["FFMPEG_BIN"], env["FFPROBE_BIN"]) == ("/app/bin/ffmpeg", "/app/bin/ffprobe")
    assert env["PATH"].startswith("/app/bin:")


def test_it_has_several_layers_and_some_weight(layout: Path) -> None:
    layers = manifest(layout)["layers"]
    assert len(layers) == 5
    assert sum(layer["size"] for layer in layers) > 100 << 20
    for layer in layers:
        assert sha256_file(blob(layout, layer["digest"])) == layer["digest"].removeprefix("sha256:")


def test_equal_inputs_give_equal_bytes(layout: Path, tmp_path: Path) -> None:
    again = build.layout(tmp_path)
    # Digests name all the rest, and pytest would keep the copy.
    remade = (again / "index.json").read_bytes()
    remove_tree(again)
    assert remade == (layout / "index.json").read_bytes()


def test_it_is_made_once(layout: Path) -> None:
    before = (layout / "index.json").stat().st_mtime_ns
    assert build.layout() == layout
    assert (layout / "index.json").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def server(layout: Path, shared_workspace: Workspace) -> Iterator[Container]:
    """The server under runc, hardened, without a filter and without an init."""
    folder = shared_workspace.root / "standin"
    volume = folder / "volume"
    volume.mkdir(parents=True)
    bundle.own(volume, build.USER)
    bundle.unpack(layout, build.REFERENCE, folder / "rootfs")
    image = json.loads((build.HERE / "image.json").read_bytes())
    bundle.write_config(folder, image["Entrypoint"], image["Env"], None, [(volume, bundle.VOLUME, "rw")])
    with Container(folder, "runc") as container:
        container.wait_for(f"{HTTP}/health")
        yield container


def test_both_ports_answer(server: Container) -> None:
    assert server.fetch(f"{HTTP}/")[0] == 200
    # The certificate is made new at each start, so nothing could know it.
    assert b"https on 12470" in server.log.read_bytes()
    assert server.execute("/app/bin/node", "-e", probe_tls()).returncode == 0


def probe_tls() -> str:
    options = "{rejectUnauthorized: false}"
    return f"require('https').get('{HTTPS}/', {options}, (r) => process.exit(r.statusCode === 200 ? 0 : 1))"


def test_settings_are_written_atomically_into_the_volume(server: Container) -> None:
    status, said = server.fetch(f"{HTTP}/settings", '{"cacheSize": 2}')
    assert (status, json.loads(said)["written"]) == (200, f"{bundle.VOLUME}/settings.json")
    volume = server.bundle / "volume"
    assert json.loads((volume / "settings.json").read_bytes()) == {"cacheSize": 2}
    assert [path.name for path in volume.iterdir() if path.name.endswith(".tmp")] == []


def test_a_file_is_streamed_by_ranges(server: Container) -> None:
    status, part = server.fetch(f"{HTTP}/stream", Range="bytes=4-11")
    assert (status, part[:4]) == (206, b"ftyp")
    assert server.fetch(f"{HTTP}/stream", Range="bytes=99999999-")[0] == 416


def test_a_wrong_route_is_404(server: Container) -> None:
    assert server.fetch(f"{HTTP}/nothing")[0] == 404


def test_the_self_test_covers_what_a_streaming_server_does(server: Container) -> None:
    status, said = server.fetch(f"{HTTP}/selftest")
    answer = json.loads(said)
    assert (status, [n for n, r in answer["results"].items() if not r["ok"]]) == (200, []), said.decode()
    wanted = (
        "children crypto dns files https_client ranges settings tcp timers transcode udp worker_threads zlib"
    )
    assert set(wanted.split()) <= answer["results"].keys()


def test_as_pid_1_it_ignores_sigterm(server: Container) -> None:
    assert not re.search(r"process\.on\('SIGTERM'", (build.HERE / "server.js").read_text())
    server.signal("TERM")
    assert not server.stopped(within_s=1)
    assert server.fetch(f"{HTTP}/health")[0] == 200
