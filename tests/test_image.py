"""Image configs: what the blob says, with what docker adds to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.model.image import Healthcheck, ImageConfig
from pipeline.model.nouns import Platform


def config_document(platform: str, diff_ids: int) -> dict[str, Any]:
    os_name, architecture, *variant = platform.split("/")
    return {
        "os": os_name,
        "architecture": architecture,
        **({"variant": variant[0]} if variant else {}),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "a" * 64] * diff_ids},
    }


def test_dockers_health_check_is_read() -> None:
    document = config_document("linux/amd64", 0)
    document["config"] = {
        "User": "65532:65532",
        "Env": None,
        "Entrypoint": ["/x"],
        "Volumes": {"/b": {}, "/a": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "/x"], "Interval": 1_500_000_000, "Timeout": 0, "Retries": 3},
    }
    config = ImageConfig.parse(json.dumps(document).encode())
    assert config.healthcheck == Healthcheck(("CMD", "/x"), interval_s=1.5, retries=3)
    assert (config.user, config.environment, config.entrypoint) == ("65532:65532", (), ("/x",))
    assert (config.volumes, config.exposed_ports) == (("/a", "/b"), ("80/tcp",))
    assert config.platform == Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rootfs": {"type": "other"}}, "rootfs.type is `other`, not `layers`"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "`x` is not a digest"),
        ({"architecture": 7}, "Expected `str`, got `int` - at `$.architecture`"),
        ({"os": "li nux"}, "`li nux/amd64` is not a platform"),
        ({"config": {"Env": "A=b"}}, "Expected `array | null`, got `str` - at `$.config.Env`"),
    ],
)
def test_a_bad_config_is_refused(change: dict[str, Any], said: str) -> None:
    content = json.dumps({**config_document("linux/amd64", 0), **change}).encode()
    with pytest.raises(PipelineError) as caught:
        ImageConfig.parse(content, "app: config")
    assert caught.value.code == "bad-image-config"
    assert said in caught.value.message


def test_what_is_no_json_is_no_config() -> None:
    with pytest.raises(PipelineError, match="app is no JSON"):
        ImageConfig.parse(b"<html>", "app")
