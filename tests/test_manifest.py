"""Manifests and indexes: what is taken, what is refused and in which words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.model.variants import canonical_platform
from pipeline.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
    parse,
)

LAYER = f"{OCI_LAYER}+gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def good(**changes: Any) -> dict[str, Any]:
    digest = "sha256:" + "a" * 64
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": 2},
        "layers": [{"mediaType": LAYER, "digest": digest, "size": 3}],
        **changes,
    }


def layers(**changes: Any) -> list[dict[str, Any]]:
    return [{"mediaType": LAYER, "digest": "sha256:" + "a" * 64, "size": 3, **changes}]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "it is not a JSON object"),
        ("{", "it is not JSON"),
        ('{"layers": [], "layers": []}', "a key is there twice"),
        (good(Layers=[]), "it spells `layers` as `Layers`, which readers take differently"),
        (good(schemaVersion=1), "it is a schema 1 manifest, which names no config"),
        (good(schemaVersion=3), "its schemaVersion is 3, not 2"),
        (good(manifests=[]), "it has both `manifests` and `layers` or `config` (CVE-2021-41190)"),
        (good(mediaType=OCI_INDEX), f"its media type is `{OCI_INDEX}`, its content is another"),
        (good(config={"mediaType": "x/y", "digest": "sha256:" + "a" * 64, "size": 1}), "its config is `x/y`"),
        (good(config=None), "an entry is not an object"),
        (good(layers={}), "layers cannot be used: it is not a list"),
        (good(layers=layers() * 501), "it has 501 layers, more than 500"),
        (good(layers=layers(urls=["https://x"])), "is to be fetched from other addresses (`urls`)"),
        (good(layers=layers(size=-1)), "is -1"),
        (good(layers=layers(size=True)), "is True"),
        (good(layers=layers(size="3")), "is '3'"),
        (good(layers=layers(digest="sha256:../x")), "`sha256:../x` is not a digest"),
        (good(layers=layers(digest="sha512:" + "a" * 128)), "is not a digest"),
        (good(layers=layers(digest=None)), "an entry has no mediaType or no digest"),
        (good(layers=layers(mediaType="text/plain")), "has the media type `text/plain`"),
        (
            good(layers=layers(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")),
            "has the media type `application/vnd.docker.image.rootfs.foreign.diff.tar.gzip`",
        ),
        (good(annotations={"a": 1}), "its annotations are not texts"),
    ],
)
def test_a_bad_manifest_is_refused(document: Any, said: str) -> None:
    content = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(PipelineError) as caught:
        parse(content.encode(), "app")
    assert caught.value.code == "bad-manifest"
    assert said in caught.value.message
    assert caught.value.message.startswith("app")


def test_a_manifest_must_have_its_digest() -> None:
    content = json.dumps(good()).encode()
    assert parse(content, "app", digest_of(content)).digest == digest_of(content)
    with pytest.raises(PipelineError) as caught:
        parse(content + b" ", "app", digest_of(content))
    assert caught.value.code == "bad-digest"
    assert digest_of(content) in caught.value.message


def test_docker_manifests_are_known() -> None:
    digest = "sha256:" + "a" * 64
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    document = good(mediaType=DOCKER_MANIFEST, layers=[{"mediaType": kind, "digest": digest, "size": 3}])
    document["config"]["mediaType"] = DOCKER_CONFIG
    found = parse(json.dumps(document).encode(), "app")
    assert isinstance(found, Manifest)
    assert (found.media_type, found.total_bytes) == (DOCKER_MANIFEST, 3)


def test_the_first_entry_of_a_platform_counts() -> None:
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": f"sha256:{digit * 64}", "size": 1, "platform": platform}
        for digit, platform in (
            ("a", {"os": "linux", "architecture": "amd64"}),
            ("b", {"os": "linux", "architecture": "amd64"}),
            ("c", {"os": "linux", "architecture": "amd64", "variant": "v3"}),
        )
    ]
    found = parse(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), "app")
    assert isinstance(found, Index)
    assert found.platforms == {"linux/amd64": "sha256:" + "a" * 64, "linux/amd64/v3": "sha256:" + "c" * 64}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/arm/7", "linux/arm"),
    ],
)
def test_variants_with_one_meaning(text: str, canonical: str) -> None:
    assert canonical_platform(text) == canonical
