"""`copy` with the real skopeo, umoci and docker-registry, and with a registry that goes wrong."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.files import remove_tree
from pipeline.lock import Lock
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.oci import layout, store
from pipeline.oci.identity import identity
from pipeline.oci.layout import Image, blob_path, read_image
from pipeline.paths import Project
from pipeline.registry import resolve
from pipeline.stages.copy import Copied, copy_image
from pipeline.tools import umoci_demo
from pipeline.tools.skopeo import Source
from pipeline.tools.transfer import Patience
from tests.faulty_registry import Fault, digest_of, faulty_registry
from tests.registry import TOKEN, USER, Registry, running_registry

pytestmark = pytest.mark.real
HERE = Platform.host()
QUICK = Patience(total_s=60, stall_s=20, attempts=3, delay_s=0.02)
ANYTHING = '{"default":[{"type":"insecureAcceptAnything"}]}'
LAYER_BYTES = 300_000


class Place:
    """A project in a temporary folder, and copies made in it."""

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.project = Project(root)
        self.project.open()
        self.said: list[str] = []
        self.progress: list[tuple[int, int]] = []
        self.log = root / "log"

    def copy(
        self, text: str, pin: str = "", platform: Platform = HERE, patience: Patience = QUICK, name: str = ""
    ) -> Copied:
        """Copy an image to out/NAME/image as the engine would; NAME is new each time unless given."""
        reference = Reference.parse(text)
        work = self.project.tmp / f"copy.{time.monotonic_ns()}"
        work.mkdir()
        source = Source(reference, self.project.root, work / "skopeo", patience, self.log, self.said.append)
        try:
            copied = copy_image(
                source,
                platform,
                pin or self.pin(reference, platform),
                self.project,
                work / "image",
                lambda done, total: self.progress.append((done, total)),
            )
            self.image = self.project.out / (name or work.name) / "image"
            self.image.parent.mkdir()
            (work / "image").rename(self.image)
            return copied
        finally:
            remove_tree(work)

    def pin(self, reference: Reference, platform: Platform) -> str:
        """What the reference stands for now."""
        if not reference.remote:
            return identity(reference, self.project)
        pins = {reference.key: resolve(reference, self.project, patience=QUICK)}
        return Lock(self.project.lock_file, pins).pin_of(reference, platform) or "not pinned"

    def blobs(self) -> dict[str, os.stat_result]:
        """The store: name -> stat."""
        return {path.name: path.stat() for path in self.project.blobs.glob("sha256/*")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    # /tmp is below a closed folder, where a project's out/ would move elsewhere.
    root = Path("/var/tmp") / f"cooperage-copy-{tmp_path.parent.name}-{tmp_path.name}"
    root.mkdir()
    yield Place(root)
    remove_tree(root)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout `app:v1` with two layers and a health check, and the same image in every local transport."""
    folder = tmp_path_factory.mktemp("sources")
    make_image(folder / "app", "v1", HERE)
    (folder / "policy.json").write_text(ANYTHING)
    for target, flags in (
        ("oci-archive:app.oci.tar:v1", ()),
        ("docker-archive:app.docker.tar:app:v1", ()),
        ("dir:app.dir", ()),
        ("dir:app.v2s2", ("--format", "v2s2")),
    ):
        argv = ["skopeo", "--policy", "policy.json", "copy", "--quiet", *flags, "oci:app:v1", target]
        subprocess.run(argv, check=True, cwd=folder, capture_output=True)
    add_health_check(folder / "app.v2s2")
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def make_image(folder: Path, tag: str, platform: Platform, layers: int = 2) -> None:
    image = f"{folder}:{tag}"
    if not folder.exists():
        subprocess.run(["umoci", "init", "--layout", folder], check=True)
    subprocess.run(["umoci", "new", "--image", image], check=True)
    for number in range(layers):
        content = folder.with_name("content")
        content.write_bytes(os.urandom(LAYER_BYTES))
        argv = ["umoci", "insert", "--image", image, content, f"/f{number}"]
        subprocess.run(argv, check=True, capture_output=True)
    argv = ["umoci", "config", "--image", image, "--os", platform.os, "--architecture", platform.architecture]
    subprocess.run([*argv, "--config.user", "65532:65532"], check=True)


def add_health_check(folder: Path) -> None:
    """Put docker's Healthcheck into the config of a dir: image."""
    manifest = json.loads((folder / "manifest.json").read_text())
    config = json.loads((folder / manifest["config"]["digest"][7:]).read_text())
    config["config"]["Healthcheck"] = {"Test": ["CMD", "/healthy"], "Interval": 5_000_000_000}
    content = json.dumps(config).encode()
    manifest["config"].update(digest=digest_of(content), size=len(content))
    (folder / digest_of(content)[7:]).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def layer_of(image: Image, number: int = 0) -> str:
    return image.layers[number].digest


def flip(path: Path) -> None:
    """Flip one bit in place."""
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 4]))


# --- every transport ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["oci:app:v1", "oci:app", "oci-archive:app.oci.tar", "dir:app.dir"])
def test_an_oci_image_comes_byte_for_byte(place: Place, sources: Path, target: str) -> None:
    transport, _, rest = target.partition(":")
    copied = place.copy(f"{transport}:{sources}/{rest}")
    original = read_image(sources / "app")
    assert copied.source.digest == copied.manifest.digest == original.manifest.digest
    image = read_image(place.image)
    assert image.config == original.config
    for blob in [image.manifest.config, *image.layers]:
        assert layout.blob_fault(image.blob(blob.digest), blob) is None
    assert place.progress[-1] == (copied.manifest.total_bytes, copied.manifest.total_bytes)


def test_a_relative_path_starts_at_the_project(place: Place, sources: Path) -> None:
    shutil.copytree(sources / "app", place.project.root / "images" / "app")
    assert place.copy("oci:images/app:v1").manifest.digest == read_image(sources / "app").manifest.digest


def test_umoci_can_unpack_what_came(place: Place, sources: Path) -> None:
    place.copy(f"oci:{sources}/app:v1")
    target = place.project.root / "unpacked"
    argv = ["umoci", "raw", "unpack", "--image", f"{place.image}:{layout.IMAGE_NAME}", target]
    subprocess.run(argv, check=True, capture_output=True)
    assert sorted(path.name for path in target.iterdir()) == ["f0", "f1"]


def test_a_docker_image_keeps_its_config_and_health_check(place: Place, sources: Path) -> None:
    copied = place.copy(f"dir:{sources}/app.v2s2")
    image = read_image(place.image)
    assert image.manifest.config.digest == copied.source.config.digest
    assert copied.manifest.digest != copied.source.digest
    assert image.config.healthcheck is not None
    assert image.config.healthcheck.test == ("CMD", "/healthy")
    assert image.config.healthcheck.interval_s == 5
    assert {layer.media_type for layer in image.layers} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert place.copy(f"dir:{sources}/app.v2s2").manifest.digest == copied.manifest.digest


def test_plain_layers_of_an_archive_are_called_plain(place: Place, sources: Path) -> None:
    place.copy(f"docker-archive:{sources}/app.docker.tar")
    image = read_image(place.image)
    assert {layer.media_type for layer in image.layers} == {"application/vnd.oci.image.layer.v1.tar"}
    assert tuple(layer.digest for layer in image.layers) == image.config.diff_ids


def test_containers_storage(place: Place, sources: Path) -> None:
    stored = f"[vfs@{place.project.root}/graph+{place.project.root}/run]localhost/app"
    argv = ["skopeo", "--policy", sources / "policy.json", "copy", "--quiet", f"oci:{sources}/app:v1"]
    subprocess.run([*argv, f"containers-storage:{stored}:v1"], check=True)
    copied = place.copy(f"containers-storage:{stored}:v1")
    assert copied.source.digest == read_image(sources / "app").manifest.digest
    assert read_image(place.image).config == read_image(sources / "app").config
    place.copy(f"containers-storage:{stored}@{copied.source.digest}")


def test_a_registry_is_read_by_digest(place: Place, sources: Path, registry: Registry) -> None:
    reference = registry.push(f"oci:{sources}/app:v1", "byd:v1")
    pin = place.pin(Reference.parse(reference), HERE)
    make_image(place.project.root / "other", "v2", HERE)
    registry.push(f"oci:{place.project.root}/other:v2", "byd:v1")
    assert place.copy(reference, pin).manifest.digest == pin == read_image(sources / "app").manifest.digest
    assert place.pin(Reference.parse(reference), HERE) != pin


def test_docker_media_types_from_a_registry(place: Place, sources: Path, registry: Registry) -> None:
    reference = registry.push(f"dir:{sources}/app.v2s2", "v2s2:v1")
    copied = place.copy(reference)
    assert copied.source.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert read_image(place.image).config.healthcheck is not None
    place.copy(f"dir:{sources}/app.v2s2")
    assert read_image(place.image).manifest.digest == copied.manifest.digest


def test_what_is_not_pinned_is_not_copied(place: Place) -> None:
    with pytest.raises(PipelineError, match=r"docker://q.io/x:latest is not pinned"):
        place.copy("docker://q.io/x", "not pinned")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("oci:nowhere:v1", "`image: oci:nowhere:v1`: folder"),
        ("dir:nowhere", "`image: dir:nowhere`: folder"),
        ("oci-archive:no.tar", "`image: oci-archive:no.tar`: file"),
        ("docker-archive:no.tar", "`image: docker-archive:no.tar`: file"),
    ],
)
def test_a_missing_image_is_told(place: Place, text: str, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        place.copy(text, "absent")
    assert caught.value.code == "image-missing"
    assert caught.value.message.startswith(said)
    assert str(place.project.root) in caught.value.message
    assert "relative paths start at the project folder" in str(caught.value)


def test_a_broken_archive_is_told(place: Place) -> None:
    (place.project.root / "x.tar").write_bytes(b"no tar at all")
    with pytest.raises(PipelineError, match="cannot be read as an archive"):
        place.copy("oci-archive:x.tar")


# --- platforms ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout whose one image is an index of three platforms."""
    folder = tmp_path_factory.mktemp("many") / "many"
    entries = []
    for platform in ("linux/amd64", "linux/arm64", "linux/s390x"):
        make_image(folder, platform.replace("/", "-"), Platform.parse(platform), layers=1)
    for entry in json.loads((folder / "index.json").read_text())["manifests"]:
        os_name, _, architecture = entry.pop("annotations")[layout.REF_NAME].partition("-")
        entries.append({**entry, "platform": {"os": os_name, "architecture": architecture}})
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    content = json.dumps(index).encode()
    blob_path(folder / "blobs", digest_of(content)).write_bytes(content)
    entry = {"mediaType": index["mediaType"], "digest": digest_of(content), "size": len(content)}
    top = {"schemaVersion": 2, "manifests": [{**entry, "annotations": {layout.REF_NAME: "v1"}}]}
    (folder / "index.json").write_text(json.dumps(top))
    return folder


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/s390x"])
def test_an_index_gives_the_bundles_platform(place: Place, many: Path, registry: Registry, platform: str) -> None:
    reference = registry.push(f"oci:{many}:v1", "many:v1", "--all")
    pin = resolve(Reference.parse(reference), place.project)
    assert sorted(pin.platforms) == ["linux/amd64", "linux/arm64", "linux/s390x"]
    for text in (reference, f"oci:{many}:v1"):
        place.copy(text, platform=Platform.parse(platform))
        assert platform.startswith(str(read_image(place.image).config.platform))
        assert len(list((place.image / "blobs/sha256").iterdir())) == 3
    by_index = f"{reference.rpartition(':')[0]}@{pin.index}"
    place.copy(by_index, platform=Platform.parse(platform))


def test_a_missing_platform_is_refused_with_those_there(place: Place, many: Path, registry: Registry) -> None:
    reference = registry.push(f"oci:{many}:v1", "many:v1", "--all")
    index = resolve(Reference.parse(reference), place.project).index
    for text, pin in ((f"oci:{many}:v1", ""), (reference, str(index))):
        with pytest.raises(PipelineError) as caught:
            place.copy(text, pin, platform=Platform.parse("linux/riscv64"))
        assert caught.value.code == "missing-platform"
        assert "has no image for linux/riscv64" in caught.value.message
        assert "there: linux/amd64, linux/arm64, linux/s390x;" in str(caught.value)
    assert place.blobs() == {}


def test_a_single_image_for_another_platform_costs_no_download(
    place: Place, many: Path, registry: Registry
) -> None:
    make_image(place.project.root / "arm", "v1", Platform.parse("linux/arm64"))
    reference = registry.push(f"oci:{place.project.root}/arm:v1", "arm:v1")
    pin = resolve(Reference.parse(reference), place.project)
    assert list(pin.platforms) == ["linux/arm64"]
    with pytest.raises(PipelineError, match="has no image for linux/amd64"):
        place.copy(reference, pin.platforms["linux/arm64"], platform=Platform.parse("linux/amd64"))
    assert place.blobs() == {}


# --- the store ---------------------------------------------------------------------------------------


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


# --- faults of a registry ----------------------------------------------------------------------------

LASTING = 10**6


@pytest.mark.parametrize(
    ("where", "name", "code"),
    [
        ("manifest", "500", "copy-server"),
        ("manifest", "502", "copy-server"),
        ("manifest", "503", "copy-server"),
        ("manifest", "reset", "copy-reset"),
        ("manifest", "end_early", "copy-end"),
        ("ping", "500", "copy-server"),
        ("config", "503", "copy-server"),
        ("blob", "500", "copy-server"),
        ("blob", "503", "copy-server"),
        ("blob", "reset", "copy-reset"),
        ("blob", "end_early", "copy-end"),
    ],
)
def test_a_passing_fault_is_overcome_and_a_lasting_one_is_met_three_times(
    place: Place, where: str, name: str, code: str
) -> None:
    with faulty_registry(Fault(name, where, times=1)) as registry:
        place.copy(f"docker://{registry.address}/app:v1", digest_of(registry.manifest), Platform("linux", "amd64"))
        assert [line.split("; ")[1][:15] for line in place.said] == ["attempt 2 of 3 "]
    with faulty_registry(Fault(name, where, times=LASTING), layer=os.urandom(5000)) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
        assert error.code == code
        assert "(3 attempts)" in error.message
        assert registry.count(where) == 3


@pytest.mark.parametrize(
    ("where", "name", "code"),
    [
        ("manifest", "401", "copy-auth"),
        ("manifest", "403", "copy-forbidden"),
        ("manifest", "404", "copy-missing"),
        ("manifest", "html", "bad-digest"),
        ("manifest", "tampered", "bad-digest"),
        ("manifest", "huge", "copy-manifest"),
        ("manifest", "redirect_file", "copy-redirect"),
        ("config", "corrupt", "copy-digest"),
        ("blob", "401", "copy-auth"),
        ("blob", "404", "copy-missing"),
        ("blob", "truncated", "copy-digest"),
        ("blob", "overlong", "copy-digest"),
        ("blob", "corrupt", "copy-digest"),
        ("blob", "redirect_file", "copy-redirect"),
    ],
)
def test_a_fault_that_stays_is_met_once(place: Place, where: str, name: str, code: str) -> None:
    with faulty_registry(Fault(name, where)) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
        assert error.code == code
        assert registry.address in str(error)
        assert registry.count(where) == 1
    assert place.said == []
    assert digest_of(registry.layer)[7:] not in place.blobs()


def test_a_redirect_loop_ends(place: Place) -> None:
    with faulty_registry(Fault("redirect_loop", "blob")) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
    assert error.code == "copy-redirect"
    assert registry.count("blob") == 10


@pytest.mark.parametrize(("where", "name"), [("ping", "hang"), ("manifest", "hang"), ("blob", "stall")])
def test_silence_is_ended_and_tried_again(place: Place, where: str, name: str) -> None:
    patience = Patience(total_s=60, stall_s=0.5, attempts=2, delay_s=0.01)
    before = children_of(os.getpid())
    with faulty_registry(Fault(name, where)) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest), patience)
        assert error.code == "copy-stalled"
        assert registry.count(where) == 2
    assert children_of(os.getpid()) == before


def test_a_slow_transfer_is_no_silence_but_has_its_limit(place: Place) -> None:
    patience = Patience(total_s=2, stall_s=1)
    with faulty_registry(Fault("slow", "blob")) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest), patience)
    assert error.code == "copy-timeout"
    assert registry.count("blob") == 1
    assert len({done for done, _ in place.progress}) > 5


def test_too_many_requests_is_waited_out(place: Place) -> None:
    with faulty_registry(Fault("429", "manifest", times=1)) as registry:
        place.copy(f"docker://{registry.address}/app:v1", digest_of(registry.manifest), Platform("linux", "amd64"))


def test_nothing_listens(place: Place) -> None:
    with faulty_registry() as registry:
        pass
    error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
    assert error.code == "copy-refused"
    assert "(3 attempts)" in error.message


def test_what_has_come_is_not_fetched_again(place: Place) -> None:
    with faulty_registry() as registry:
        reference, pin = f"docker://{registry.address}/app:v1", digest_of(registry.manifest)
        place.copy(reference, pin, Platform("linux", "amd64"))
        place.copy(reference, pin, Platform("linux", "amd64"))
        assert registry.count("blob") == 1


def test_an_unknown_certificate_is_refused_beyond_loopback(place: Place, tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"]
    subprocess.run([*argv, "-keyout", tmp_path / "key", "-out", tmp_path / "crt"], check=True, capture_output=True)
    pem.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "crt").read_bytes())
    # 0.0.0.0 leads here too and is no loopback address, so TLS is verified.
    with faulty_registry(host="0.0.0.0", certificate=pem) as registry:  # noqa: S104 - for the time of the test
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
        assert error.code == "copy-tls"
        assert f"/etc/containers/certs.d/{registry.address}/ca.crt" in str(error)
        assert registry.requests == []


def refused(place: Place, text: str, pin: str, patience: Patience = QUICK) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        place.copy(text, pin, Platform("linux", "amd64"), patience)
    # Whatever went wrong, nothing of it is left and nothing runs.
    assert caught.value.hint
    return caught.value


def children_of(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]


# --- credentials -------------------------------------------------------------------------------------


def test_credentials_come_from_the_authfile_and_show_nowhere(
    place: Place, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    seen: list[bytes] = []
    with running_registry(tmp_path / "registry", login=True) as registry:
        reference = registry.push(f"oci:{sources}/app:v1", "private:v1")
        with pytest.raises(PipelineError) as caught:
            place.pin(Reference.parse(reference), HERE)
        assert caught.value.code == "copy-auth"
        assert f"skopeo login {registry.address}" in str(caught.value)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.authfile))
        done = threading.Event()
        watcher = threading.Thread(target=watch_command_lines, args=(seen, done))
        watcher.start()
        place.copy(reference)
        done.set()
        watcher.join()
    assert any(b"skopeo" in line for line in seen)
    auth = json.loads(registry.authfile.read_text())["auths"][registry.address]["auth"]
    for secret in (TOKEN, auth):
        assert not [line for line in seen if secret.encode() in line]
        assert secret not in place.log.read_text()
        assert secret not in "".join(place.said)


def test_a_registry_that_repeats_credentials_is_not_quoted(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_registry(Fault("echo", "manifest")) as registry:
        auth = Registry(tmp_path, registry.address, login=True)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth.authfile))
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
    assert error.code == "copy-forbidden"
    for text in (str(error), place.log.read_text()):
        assert TOKEN not in text
        assert json.loads(auth.authfile.read_text())["auths"][registry.address]["auth"] not in text
    assert USER


def watch_command_lines(seen: list[bytes], done: threading.Event) -> None:
    while not done.wait(0.002):
        for pid in children_of(os.getpid()):
            try:
                seen.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue


# --- a killed copy -----------------------------------------------------------------------------------

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


def await_true(condition: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the demo image ----------------------------------------------------------------------------------


def test_the_demo_image_is_the_same_every_time(place: Place) -> None:
    first = place.copy("demo:busybox-httpd")
    time.sleep(1.1)
    second = place.copy("demo:busybox-httpd")
    assert first.manifest == second.manifest
    config = read_image(place.image, HERE).config
    assert (config.user, config.entrypoint, config.command) == ("65532:65532", ("/bin/serve",), ("-p", "8080"))
    assert (config.exposed_ports, config.stop_signal) == (("8080/tcp",), "SIGTERM")
    assert config.healthcheck is not None
    assert config.healthcheck.test[:2] == ("CMD", "/bin/busybox")
    assert (config.healthcheck.interval_s, config.healthcheck.retries) == (10, 3)


def test_the_demo_for_another_platform_is_refused(place: Place) -> None:
    with pytest.raises(PipelineError, match="demo:busybox-httpd has no image for linux/s390x"):
        place.copy("demo:busybox-httpd", platform=Platform.parse("linux/s390x"))


def test_a_dynamic_busybox_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.project.root / "bin"
    folder.mkdir()
    shutil.copy(shutil.which("umoci") or "", folder / "busybox")
    shutil.copy("/bin/ls", folder / "busybox")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(PipelineError) as caught:
        place.copy("demo:busybox-httpd", "absent")
    assert caught.value.code == "dynamic-busybox"
    assert "apt install busybox-static" in str(caught.value)


@pytest.mark.root
def test_the_demo_serves_as_pid_1_and_stops_when_told(place: Place) -> None:
    place.copy("demo:busybox-httpd")
    rootfs = place.project.root / "rootfs"
    image = read_image(place.image)
    with tarfile.open(image.blob(layer_of(image))) as layer:
        layer.extractall(rootfs, filter="fully_trusted")
    (rootfs / "dev").mkdir()
    os.mknod(rootfs / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    port = "18273"
    argv = ["unshare", "--pid", "--net", "--fork", "--kill-child", "chroot", rootfs, "/bin/serve", "-p", port]
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_true(lambda: len(children_of(running.pid)) == 1)
        (first,) = children_of(running.pid)
        await_true(lambda: len(children_of(int(first))) == 1)
        enter = ["nsenter", "--net", "--target", first, "busybox"]
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        page: list[str] = []
        await_true(lambda: bool(page.append(fetch(enter, port)) or page[-1]))
        assert "Hello" in page[-1]
        os.kill(int(first), signal.SIGTERM)
        assert running.wait(5) == 0
    finally:
        running.kill()
        running.wait()


def fetch(enter: list[Any], port: str) -> str:
    argv = [*enter, "wget", "-q", "-O", "-", f"http://127.0.0.1:{port}/"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=10).stdout


def test_the_demo_needs_no_clock(place: Place) -> None:
    """What identifies the demo image is busybox and the code, and nothing of when it was made."""
    first = umoci_demo.demo_identity(lambda path: "sha256:0")
    time.sleep(0.01)
    assert umoci_demo.demo_identity(lambda path: "sha256:0") == first
    assert umoci_demo.demo_identity(lambda path: "sha256:1") != first
