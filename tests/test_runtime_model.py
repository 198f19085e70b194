"""config.json as types: complete for Linux, closed, and compared with the official schema if installed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.checks.form import read_form
from pipeline.model.runtime import RuntimeConfig, child_path, read_config
from tests.judged import good_config

OFFICIAL = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema")
# Debian packages a snapshot between 1.0.2 and 1.1 (golang-github-opencontainers-specs-dev 1.0.2.118).


def test_a_config_survives_the_round_trip() -> None:
    config = good_config()
    assert json.loads(json.dumps(read_config(config).to_json())) == config


@pytest.mark.parametrize("where", ["", "process", "linux", "linux.resources", "linux.seccomp", "root"])
def test_an_unknown_key_is_refused_everywhere(where: str) -> None:
    config = good_config()
    place: Any = config
    for part in filter(None, where.split(".")):
        place = place[part]
    place["extra"] = 1
    with pytest.raises(msgspec.ValidationError, match="contains unknown field `extra`"):
        read_config(config)


def test_empty_capability_sets_are_written() -> None:
    value = read_config(good_config()).to_json()
    assert value["process"]["capabilities"]["bounding"] == ()
    assert "domainname" not in value


@pytest.mark.parametrize(
    ("path", "key", "joined"),
    [
        ("", "process", "process"),
        ("process", "args", "process.args"),
        ("process.args", 0, "process.args[0]"),
        ("annotations", "org.example", 'annotations["org.example"]'),
        ("linux.sysctl", "net.core/x", 'linux.sysctl["net.core/x"]'),
    ],
)
def test_json_paths(path: str, key: str | int, joined: str) -> None:
    assert child_path(path, key) == joined


def test_the_model_has_a_schema_of_its_own() -> None:
    schema = msgspec.json.schema(RuntimeConfig)
    assert all(part.get("additionalProperties") is False for name, part in schema["$defs"].items())


@pytest.fixture(scope="module")
def official() -> Any:
    """The official schema as Debian packages it; it is never fetched."""
    if not OFFICIAL.is_dir():
        pytest.skip("the package golang-github-opencontainers-specs-dev is not installed")
    from jsonschema import Draft4Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    files = {path.name: json.loads(path.read_text()) for path in OFFICIAL.glob("*.json")}
    resources = [
        (name, Resource.from_contents(text, default_specification=DRAFT4)) for name, text in files.items()
    ]
    return Draft4Validator({"$ref": "config-schema.json"}, registry=Registry().with_resources(resources))


def mutants(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every config with one value replaced by one of another type or removed, with the path of the change."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        here = child_path(path, key)
        others: tuple[object, ...] = (None, True, -1, "x", [])
        for other in others:
            if type(other) is not type(value[key]):
                changed = copy.copy(value)
                changed[key] = other
                yield here, changed
        if isinstance(value, dict):
            yield here, {k: v for k, v in value.items() if k != key}
        if isinstance(value[key], (dict, list)):
            for inner, changed_child in mutants(value[key], here):
                changed = copy.copy(value)
                changed[key] = changed_child
                yield inner, changed


def test_the_good_config_is_good_to_the_official_schema(official: Any) -> None:
    assert not list(official.iter_errors(good_config()))


def test_what_the_official_schema_refuses_is_refused_here(official: Any) -> None:
    refused, missed = 0, []
    for path, config in mutants(good_config()):
        if not official.is_valid(config):
            refused += 1
            if not read_form("config.json", json.dumps(config)).findings:
                missed.append((path, config))
    assert refused > 500
    assert [path for path, _ in missed] == []


def test_the_holes_of_the_official_schema_are_known(official: Any) -> None:
    """It lets unknown keys, wrong case and misspelt protections pass: hence the closed world here."""
    passed = []
    for change in (
        {"noNewPriviliges": True},
        {"NoNewPrivileges": True},
        {"selinuxLable": "x"},
    ):
        config = good_config()
        config["process"] |= change
        passed.append(official.is_valid(config))
        assert read_form("config.json", json.dumps(config)).findings
    assert passed == [True, True, True]
    time_namespace = good_config()
    time_namespace["linux"]["namespaces"].append({"type": "time"})
    assert not official.is_valid(time_namespace), "the snapshot is older than the time namespace"
    assert not read_form("config.json", json.dumps(time_namespace)).findings
