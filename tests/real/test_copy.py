"""`copy` with the real skopeo and docker-registry: every transport, every platform."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.oci import layout
from pipeline.oci.layout import read_image
from pipeline.registry import resolve
from tests.copying import (
    HERE,
    Place,
    make_image,
    make_many,
    make_sources,
    temporary_place,
)
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


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_many(tmp_path_factory.mktemp("many") / "many")


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
    argv = ["umoci", "raw", "unpack", "--image", f"{place.image}:{layout.IMAGE_NAME}", str(target)]
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
    argv = ["skopeo", "--policy", f"{sources}/policy.json", "copy", "--quiet", f"oci:{sources}/app:v1"]
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


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/s390x"])
def test_an_index_gives_the_bundles_platform(
    place: Place, many: Path, registry: Registry, platform: str
) -> None:
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
