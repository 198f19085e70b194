"""The blob store under `copy`: one copy on disk, damage, two at once, a kill in the middle."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import remove_tree, sha256_file
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.oci import layout, store
from pipeline.oci.layout import blob_path, read_image
from tests.copying import (
    HERE,
    Place,
    await_true,
    children_of,
    flip,
    layer_of,
    make_sources,
    temporary_place,
)
from tests.faulty_registry import Fault, digest_of, faulty_registry
from tests.registry import Registry, running_registry

pytestmark = pytest.mark.real


@pytest.fixture
def place() -> Iterator[Place]:
    with temporary_place() as made:
        yield made


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_two_bundles_share_each_blob(place: Place, sources: Path) -> None:
    copied = place.copy(f"oci:{sources}/app:v1")
    place.copy(f"dir:{sources}/app.dir")
    wanted = {blob.digest[7:] for blob in (copied.manifest.config, *copied.manifest.layers)}
    blobs = place.blobs()
    assert set(blobs) == wanted
    assert {status.st_nlink for status in blobs.values()} == {3}
    for name in wanted:
        assert (place.image / "blobs/sha256" / name).stat().st_ino == blobs[name].st_ino


def test_the_layout_is_complete_and_its_bytes_are_always_the_same(place: Place, sources: Path) -> None:
    copied = place.copy(f"oci:{sources}/app:v1")
    index = json.loads((place.image / "index.json").read_text())
    (entry,) = index["manifests"]
    assert entry["digest"] == copied.manifest.digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
    files = {p.relative_to(place.image): p.read_bytes() for p in place.image.rglob("*") if p.is_file()}
    assert len(files) == 2 + 1 + 1 + 2
    place.copy(f"dir:{sources}/app.dir")
    again = {p.relative_to(place.image): p.read_bytes() for p in place.image.rglob("*") if p.is_file()}
    assert again == files


def test_a_flipped_bit_in_the_store_heals(place: Place, sources: Path, registry: Registry) -> None:
    reference = registry.push(f"oci:{sources}/app:v1", "flip:v1")
    place.copy(reference)
    digest = layer_of(read_image(place.image))
    damaged = blob_path(place.project.blobs, digest)
    flip(damaged)
    place.copy(reference)
    assert place.said == [line for line in place.said if line.startswith(f"blob {digest} in the store has")]
    assert place.said[0].endswith("removed, copying it again")
    layout.verify_layout(place.image)
    blob = read_image(place.image).layers[0]
    assert layout.blob_fault(damaged, blob) is None
    assert damaged.stat().st_ino == read_image(place.image).blob(digest).stat().st_ino


@pytest.mark.parametrize(("times", "heals"), [(1, True), (2, False)])
def test_a_bit_that_flips_behind_skopeo_is_found(
    place: Place, sources: Path, monkeypatch: pytest.MonkeyPatch, times: int, heals: bool
) -> None:
    damaging_skopeo(place.project.root, times, monkeypatch)
    if heals:
        place.copy(f"oci:{sources}/app:v1")
        layout.verify_layout(place.image)
    else:
        with pytest.raises(PipelineError) as caught:
            place.copy(f"oci:{sources}/app:v1")
        assert caught.value.code == "bad-blob"
        assert "has the content sha256:" in caught.value.message
    assert [line.endswith("after it was copied: removed, copying it again") for line in place.said] == [True]
    for name in place.blobs():
        assert sha256_file(place.project.blobs / "sha256" / name) == name


def damaging_skopeo(folder: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a skopeo on PATH that damages the largest blob it wrote, the first `times` times."""
    program = folder / "bin" / "skopeo"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
{shutil.which("skopeo")} "$@" || exit
left=$(cat {folder}/left)
[ "$left" -gt 0 ] || exit 0
echo $((left - 1)) > {folder}/left
while [ "$1" != --dest-shared-blob-dir ]; do shift; done
damaged="$2/sha256/$(ls -S "$2/sha256" | head -n 1)"
printf x | dd of="$damaged" bs=1 seek=1000 conv=notrunc status=none
""")
    program.chmod(0o755)
    (folder / "left").write_text(str(times))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_flipped_bit_in_a_layout_is_found_by_name(place: Place, sources: Path) -> None:
    broken = place.project.root / "broken"
    shutil.copytree(sources / "app", broken)
    path = blob_path(broken / "blobs", layer_of(read_image(broken), 1))
    flip(path)
    with pytest.raises(PipelineError) as caught:
        place.copy("oci:broken:v1")
    assert caught.value.code == "bad-blob"
    assert caught.value.message.startswith(f"blob {path} has the content sha256:")
    assert path.name not in place.blobs()


@pytest.mark.parametrize("what", ["manifest", "config"])
def test_a_tampered_manifest_or_config_is_found(place: Place, sources: Path, what: str) -> None:
    broken = place.project.root / "broken"
    shutil.copytree(sources / "app", broken)
    manifest = read_image(broken).manifest
    path = blob_path(broken / "blobs", manifest.digest if what == "manifest" else manifest.config.digest)
    path.write_bytes(path.read_bytes().replace(b'"os":', b'"OS":').replace(b'"layers"', b'"Layers"'))
    with pytest.raises(PipelineError) as caught:
        place.copy("oci:broken:v1")
    assert caught.value.code == "bad-blob"
    assert str(path) in caught.value.message


def test_a_source_that_changes_meanwhile_is_not_taken(place: Place, sources: Path) -> None:
    with pytest.raises(PipelineError, match="changed while it was copied"):
        place.copy(f"oci:{sources}/app:v1", "sha256:" + "0" * 64)


def test_unused_blobs_and_leftovers_are_collected(place: Place, sources: Path) -> None:
    copied = place.copy(f"oci:{sources}/app:v1")
    kept = place.blobs()
    folder = place.project.blobs / "sha256"
    old, young = folder / ".x.tmp", folder / "oci-put-blob1"
    old.write_bytes(b"12345")
    young.write_bytes(b"123")
    os.utime(old, (0, 0))
    assert store.sweep_store(place.project) == 5
    assert young.exists()
    assert store.collect(place.project) == 3
    assert set(place.blobs()) == set(kept)
    remove_tree(place.image)
    assert store.collect(place.project) == copied.manifest.total_bytes
    assert place.blobs() == {}


def test_collecting_waits_for_a_copy(place: Place, sources: Path) -> None:
    with store.using(place.project):
        waiting = threading.Thread(target=store.collect, args=(place.project,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        place.copy(f"oci:{sources}/app:v1")
    waiting.join()
    layout.verify_layout(place.image)


def test_two_copies_at_once(place: Place, sources: Path, registry: Registry) -> None:
    reference = registry.push(f"oci:{sources}/app:v1", "twice:v1")
    pin = place.pin(Reference.parse(reference), HERE)
    errors: list[BaseException] = []

    def copy(name: str) -> None:
        try:
            place.copy(reference, pin, name=name)
        except BaseException as fault:
            errors.append(fault)

    threads = [threading.Thread(target=copy, args=(f"b{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    images = [read_image(place.project.out / f"b{number}" / "image") for number in range(6)]
    for digest in (layer_of(images[0], 0), layer_of(images[0], 1)):
        inodes = {image.blob(digest).stat().st_ino for image in images}
        assert inodes == {blob_path(place.project.blobs, digest).stat().st_ino}
    for image in images:
        layout.verify_layout(image.root)


@pytest.mark.root
def test_a_full_disk_is_told_before_anything_comes(place: Place, sources: Path) -> None:
    mounted = place.project.root / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k,mode=755", "small", mounted], check=True)
    try:
        with temporary_place(mounted) as small, pytest.raises(PipelineError) as caught:
            small.copy(f"oci:{sources}/app:v1")
        assert caught.value.code == "copy-no-space"
        assert "bytes are to come and the disk has" in caught.value.message
        assert "doit clean" in str(caught.value)
    finally:
        subprocess.run(["umount", mounted], check=True)


_COPY = """
import sys
from pathlib import Path
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.paths import Project
from pipeline.stages.copy import copy_image
from pipeline.tools.skopeo import Source
root, text, pin, work = sys.argv[1:]
source = Source(Reference.parse(text), Path(root), Path(work, "skopeo"))
copy_image(source, Platform("linux", "amd64"), pin, Project(Path(root)), Path(work, "image"),
           lambda done, total: print(done, flush=True))
"""


def test_kill_9_in_the_middle_leaves_nothing_wrong(place: Place) -> None:
    with faulty_registry(Fault("slow", "blob", times=1)) as registry:
        text, pin = f"docker://{registry.address}/app:v1", digest_of(registry.manifest)
        work = place.project.tmp / "killed"
        work.mkdir()
        argv = [sys.executable, "-c", _COPY, str(place.project.root), text, pin, str(work)]
        copying = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        wait_for_bytes(copying)
        victims = [int(child) for child in children_of(copying.pid)]
        os.kill(copying.pid, signal.SIGKILL)
        copying.wait()
        await_true(lambda: not any(Path(f"/proc/{pid}").exists() for pid in victims))
        assert victims
        assert set(place.blobs()) <= {digest_of(registry.config)[7:]}
        assert not (work / "image" / "index.json").exists()
        remove_tree(work)
        place.copy(text, pin, Platform("linux", "amd64"))
    layout.verify_layout(place.image)


def wait_for_bytes(copying: subprocess.Popen[bytes]) -> None:
    assert copying.stdout
    with copying.stdout as lines:
        while int(lines.readline() or b"999999999") < 10_000:
            assert select.select([lines], [], [], 30)[0]
    assert copying.poll() is None
