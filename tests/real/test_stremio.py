"""The shipped `stremio-server` spec over its stand-in, from a real registry: built, judged, run, stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import remove_tree
from pipeline.paths import STATE_HOME
from tests.conftest import Workspace, make_workspace, remove_workspace
from tests.leftovers import wait_for_none
from tests.registry import Registry, running_registry
from tests.standin.build import REFERENCE, layout

pytestmark = pytest.mark.real

NAME = "standin"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        running.push(f"oci:{layout()}:{REFERENCE}", "stremio:server")
        yield running


@pytest.fixture(scope="module")
def standin(registry: Registry) -> Iterator[Workspace]:
    made = make_workspace()
    made.spec(NAME, f"extends: stremio-server\nimage: docker://{registry.address}/stremio:server\n")
    yield made
    remove_workspace(made)
    for name in (NAME, "selftest", "noinit"):
        remove_tree(STATE_HOME / "volumes" / name)


def smoke_record(workspace: Workspace, name: str, runtime: str) -> Any:
    return json.loads((workspace.out / name / "smoke" / f"{runtime}.json").read_text())


def test_what_is_not_pinned_is_said_and_left_out(standin: Workspace) -> None:
    said = standin.doit("copy").stdout
    assert "standin" not in said
    said = standin.doit("list").stdout
    assert "bundle:standin" in said


def test_asking_for_it_by_name_pins_and_builds_it(standin: Workspace) -> None:
    said = standin.doit(f"bundle:{NAME}").stdout
    assert re.search(r"^standin: not pinned -> sha256:[0-9a-f]{12} \(pinned\)$", said, re.M), said
    assert re.search(r"^5 run, 0 cached, ", said, re.M), said
    lock = json.loads((standin.root / "specs" / "lock.json").read_text())
    assert [list(pin["platforms"]) for pin in lock["images"].values()] == [["linux/amd64"]]


def test_it_has_no_finding_that_counts(standin: Workspace) -> None:
    standin.doit(f"bundle:{NAME}")
    judged = json.loads((standin.out / NAME / "validate" / "findings.json").read_text())
    assert [f for f in judged["findings"] if f["severity"] in ("critical", "high", "medium")] == []
    assert judged["score"]["met"] >= 38
    assert {failure["rule"] for failure in judged["score"]["failed"]} <= {38}


def test_it_runs_hardened_and_stops(standin: Workspace) -> None:
    standin.doit(f"smoke:{NAME}")
    record = smoke_record(standin, NAME, "runc")
    assert record["result"] == "proven"
    assert len(record["facts"]) > 50
    assert [fact for fact in record["facts"] if not fact["ok"]] == []
    assert wait_for_none(standin.root) == []


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_everything_that_the_real_server_uses_works(standin: Workspace, runtime: str) -> None:
    """The same bundle with the server's own check of files, ranges, ffmpeg, threads, DNS as health check."""
    standin.spec(
        "selftest",
        f"extends: {NAME}\nhealthcheck: {{http: 'http://:11470/selftest', timeout: 120s, retries: 1}}\n",
    )
    standin.doit(f"smoke:selftest/{runtime}", code=None)
    record = smoke_record(standin, "selftest", runtime)
    assert record["ready"]["ok"], record["ready"]
    # crun before 1.21 drops these options of a writable bind mount under a user namespace.
    wrong = [fact["name"] for fact in record["facts"] if not fact["ok"]]
    assert wrong == [] or (runtime, wrong) == ("crun", ["mount /home/nonroot/.stremio-server options"])
    (standin.root / "specs" / "selftest.yaml").unlink()


def test_a_protection_that_the_runtime_drops_fails_the_smoke(standin: Workspace) -> None:
    done = standin.doit(f"smoke:{NAME}/crun", code=None)
    record = smoke_record(standin, NAME, "crun")
    dropped = [fact for fact in record["facts"] if not fact["ok"]]
    assert (done.returncode, record["result"]) == ((1, "failed") if dropped else (0, "proven"))
    for fact in dropped:
        assert fact["name"] in done.stderr


def test_without_an_init_it_does_not_stop_and_smoke_says_so(standin: Workspace) -> None:
    standin.spec("noinit", f"extends: {NAME}\ninit: false\nstop_grace_period: 2s\n")
    said = standin.doit("smoke:noinit/runc", code=1)
    assert "set `init: true`" in said.stderr
    (standin.root / "specs" / "noinit.yaml").unlink()
    assert wait_for_none(standin.root) == []


def test_a_tag_that_moved_to_the_same_digest_runs_nothing(standin: Workspace, registry: Registry) -> None:
    standin.doit(f"bundle:{NAME}")
    registry.push(f"oci:{layout()}:{REFERENCE}", "stremio:other")
    registry.push(f"docker://{registry.address}/stremio:other", "stremio:server", "--src-tls-verify=false")
    assert re.search(r"^standin: still sha256:", standin.doit("outdated", NAME).stdout, re.M)
    assert re.search(r"^standin: still sha256:", standin.doit("update", NAME).stdout, re.M)
    assert re.search(r"^0 run, 5 cached, ", standin.doit(f"bundle:{NAME}").stdout, re.M)


def test_its_blobs_are_on_disk_once(standin: Workspace) -> None:
    standin.doit(f"bundle:{NAME}")
    blobs = [path.stat() for path in (standin.out / NAME / "image" / "blobs" / "sha256").iterdir()]
    assert sum(blob.st_size for blob in blobs) > 100_000_000
    # A manifest names its bundle's image alone; the rest is shared with the store.
    assert all(blob.st_nlink >= 2 for blob in blobs if blob.st_size > 4096)


def test_a_deleted_file_is_found_before_anything_is_built_upon_it(standin: Workspace) -> None:
    standin.doit(f"smoke:{NAME}/runc")
    (standin.out / NAME / "bundle" / "rootfs" / "app" / "server.js").unlink()
    assert "app/server.js" in standin.doit("-a", "-s", f"smoke:{NAME}/runc", code=1).stderr
    assert "app/server.js" in standin.doit("verify", NAME, code=1).stderr
    assert re.search(r"^unpack:standin ", standin.doit(f"smoke:{NAME}/runc").stdout, re.M)
    assert "every output is as it was made" in standin.doit("verify", NAME).stdout


def test_a_flipped_bit_in_a_blob_is_found(standin: Workspace) -> None:
    standin.doit(f"bundle:{NAME}")
    blob = max(
        (standin.out / NAME / "image" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size
    )
    _flip(blob)
    assert blob.name[:12] in standin.doit("verify", NAME, code=1).stderr
    said = standin.doit(f"bundle:{NAME}").stdout
    assert re.search(r"^copy:standin ", said, re.M), said
    assert "every output is as it was made" in standin.doit("verify", NAME).stdout


def _flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
