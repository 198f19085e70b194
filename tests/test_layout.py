"""OCI layouts and manifests: what is taken, what is refused and in which words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.model.variants import canonical_platform
from pipeline.oci import layout
from pipeline.oci.manifest import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)

PLAIN = b"a layer"
LAYER = f"{OCI_LAYER}+gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Layout:
    """A layout under construction; whatever a test wants to be wrong can be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.entries: list[dict[str, Any]] = []

    def blob(self, content: bytes, kind: str) -> dict[str, Any]:
        (self.root / "blobs/sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content)
        return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}

    def json(self, document: Any, kind: str) -> dict[str, Any]:
        return self.blob(json.dumps(document).encode(), kind)

    def image(
        self, platform: str = "linux/amd64", layers: int = 1, diff_ids: int | None = None
    ) -> dict[str, Any]:
        config = self.json(config_document(platform, layers if diff_ids is None else diff_ids), OCI_CONFIG)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [self.blob(PLAIN, LAYER)] * layers,
        }
        return self.json(document, OCI_MANIFEST)

    def write(self, *entries: dict[str, Any], **names: dict[str, Any]) -> Path:
        listed = [*entries]
        for name, entry in names.items():
            listed.append({**entry, "annotations": {layout.REF_NAME: name}})
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))
        return self.root


def config_document(platform: str, diff_ids: int) -> dict[str, Any]:
    os_name, architecture, *variant = platform.split("/")
    return {
        "os": os_name,
        "architecture": architecture,
        **({"variant": variant[0]} if variant else {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(PLAIN)] * diff_ids},
    }


@pytest.fixture
def made(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def refused(code: str, said: str, root: Path, platform: str = "linux/amd64", name: str = "") -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        layout.read_image(root, platform, name)
    assert caught.value.code == code, caught.value
    assert said in caught.value.message
    return caught.value


def test_the_one_image_is_read(made: Layout) -> None:
    image = layout.read_image(made.write(v1=made.image()))
    assert str(image.config.platform) == "linux/amd64"
    assert [layer.digest for layer in image.layers] == [digest_of(PLAIN)]
    assert image.blob(digest_of(PLAIN)).read_bytes() == PLAIN


def test_one_of_several_is_chosen_by_name(made: Layout) -> None:
    root = made.write(v1=made.image(), v2=made.image("linux/arm64"))
    assert str(layout.read_image(root, "linux/arm64", "v2").config.platform) == "linux/arm64"
    assert (
        refused("bad-layout", "has 2 images", root).hint == "name one of them: oci:PATH:NAME; there: v1, v2"
    )
    assert refused("bad-layout", "has no image called `v3`", root, name="v3").hint == "there: v1, v2"


def test_an_index_is_resolved_to_the_platform(made: Layout) -> None:
    entries = [
        {
            **made.image("linux/arm64/v8"),
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
        {**made.image(), "platform": {"os": "linux", "architecture": "amd64"}},
        {**made.image("linux/arm/v6"), "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
        {**made.image("linux/s390x"), "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    index = made.json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)
    root = made.write(v1=index)
    for platform in ("linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/arm/v6"):
        found = layout.read_image(root, platform).config.platform
        assert canonical_platform(found) == canonical_platform(platform)
    error = refused("missing-platform", "has no image for linux/s390x", root, "linux/s390x")
    assert (
        error.hint
        == "there: linux/amd64, linux/arm/v6, linux/arm64; set `platform:` in the spec to one of them"
    )
    refused("missing-platform", "has no image for linux/arm", root, "linux/arm/v7")


def test_a_single_image_for_another_platform_is_refused(made: Layout) -> None:
    error = refused(
        "missing-platform", "has no image for linux/amd64", made.write(made.image("linux/arm64/v8"))
    )
    assert error.hint == "there: linux/arm64; set `platform:` in the spec to one of them"


def test_layers_and_diff_ids_must_agree(made: Layout) -> None:
    refused("bad-manifest", "2 layers, 1 in its config", made.write(made.image(layers=2, diff_ids=1)))


def test_a_changed_manifest_is_found_by_name(made: Layout) -> None:
    entry = made.image()
    path = made.root / "blobs/sha256" / entry["digest"][7:]
    path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    assert str(path) in refused("bad-blob", "has the content sha256:", made.write(entry)).message


def test_each_damage_to_a_blob_is_told(made: Layout) -> None:
    root = made.write(made.image())
    (blob,) = layout.read_image(root).layers
    path = layout.blob_path(root / "blobs", blob.digest)
    assert layout.blob_fault(path, blob) is None
    layout.verify_layout(root)
    path.write_bytes(b"A layer")
    assert layout.blob_faults(root / "blobs", [blob]) == {
        blob.digest: f"has the content {digest_of(b'A layer')}"
    }
    with pytest.raises(PipelineError, match=rf"blob {path} has the content"):
        layout.verify_layout(root)
    path.write_bytes(b"a laye")
    assert layout.blob_fault(path, blob) == "is 6 bytes long, not 7"
    path.unlink()
    assert layout.blob_fault(path, blob) == "cannot be read: No such file or directory"
    path.symlink_to("/etc/passwd")
    assert layout.blob_fault(path, blob) == "cannot be read: Too many levels of symbolic links"
    path.unlink()
    path.mkdir()
    assert layout.blob_fault(path, blob) == "is no regular file"


def test_what_is_no_layout_is_refused(tmp_path: Path, made: Layout) -> None:
    refused("bad-layout", "has no oci-layout", tmp_path)
    refused("bad-layout", "has no index.json", made.root)
    made.write()
    assert (
        refused("bad-layout", "has 0 images", made.root).hint
        == "name one of them: oci:PATH:NAME; it is empty"
    )
    (made.root / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    refused("bad-layout", "has the layout version '2.0.0', not 1.0.0", made.root)
