"""config.json as types: complete for Linux, closed, and compared with the official schema if installed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checks.form import read_form
from pipeline.model.runtime import RuntimeConfig, child_path, read_config
from tests.judged import good_config
from tests.official import OFFICIAL, official_schema


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
    return official_schema()


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


# Why form alone refuses what the official schema lets pass: its rules by name, and what each stands for.
_OURS = {
    "unknown-key": "the specification lets runtimes ignore it, and the schema lets everybody",
    "key-case": "Go folds case, C does not; to the schema it is an unknown key",
    "moved-key": "a key of a draft",
    "duplicate-key": "a parsed document has no duplicates left",
    "newer-than-version": "the schema knows one version, and not the declared one",
    "gone-from-version": "the schema knows one version, and not the declared one",
    "control-character": "the schema has no opinion on NUL and what is no UTF-8",
    "bad-value": "Python's `$` matches before a newline at the end; empty keys; formats said only in words",
    "empty-array": "required by the words, not by the schema",
    "missing-key": "required by the words, not by the schema",
    "number-out-of-range": "the kernel's ranges, and those that the package leaves open",
    "unknown-word": "a set of words that the package leaves open",
    "wrong-type": "what came after the package is free there; and 1.0 is whole to JSON Schema",
}
# Paths that came after the package, or that its schema does not describe where the words do.
_WORDS = ("time", "CAP_X", "SCMP_ACT_ALLOW", "bind", "/x", "", "a\nb", "1.0.2", "2MB\n", "RLIMIT_CORE", "pid")


def _spots(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield (*way, key)
        if isinstance(value[key], dict | list):
            yield from _spots(value[key], (*way, key))


def _vocabulary(value: Any) -> Iterator[str]:
    """Every key that the schema knows somewhere."""
    if isinstance(value, dict):
        yield from value.get("properties", {}) if isinstance(value.get("properties"), dict) else ()
        value = list(value.values())
    for child in value if isinstance(value, list) else ():
        yield from _vocabulary(child)


_FILES = [json.loads(path.read_text()) for path in sorted(OFFICIAL.glob("*.json"))]
_KEYS = sorted({"noNewPriviliges", "Root", *(key for file in _FILES for key in _vocabulary(file))})
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([2**32, 2**64, 0.5]),
    st.sampled_from(_WORDS),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3),
    max_leaves=5,
)
_EDITS = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["set", "add", "drop"]), _VALUES), max_size=3
)


def _edited(edits: list[tuple[int, str, Any]], keys: list[str]) -> Any:
    config = good_config()
    for (number, verb, value), key in zip(edits, keys, strict=False):
        spots = list(_spots(config))
        way = spots[number % len(spots)]
        place: Any = config
        for step in way[:-1]:
            place = place[step]
        if verb == "drop":
            del place[way[-1]]
        elif verb == "set":
            place[way[-1]] = value
        elif isinstance(place, dict):
            place[key] = value
        else:
            place.append(value)
    return config


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(edits=_EDITS, keys=st.lists(st.sampled_from(_KEYS), min_size=3, max_size=3))
def test_where_form_and_the_official_schema_differ_the_reason_has_a_name(
    official: Any, edits: list[tuple[int, str, Any]], keys: list[str]
) -> None:
    config = _edited(edits, keys)
    faults = {finding.rule for finding in read_form("config.json", json.dumps(config)).findings}
    refused = list(official.iter_errors(config))
    if not refused:
        assert faults <= _OURS.keys()
        return
    if not faults:
        # The one thing that the package refuses and the specification does not (1.1, namespaces).
        namespaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] != "time"]
        assert len(config["linux"]["namespaces"]) < len(namespaces), refused
        assert official.is_valid(config)


def test_the_edits_make_configs_that_both_refuse_and_that_only_form_refuses(official: Any) -> None:
    """Each named reason that edits of a parsed document can show, shown."""
    shown = set()
    for change in (
        {"extra": 1},
        {"Hostname": "x"},
        {"hostname": "a\0b"},
        {"domainname": "x", "ociVersion": "1.0.2"},
        {"ociVersion": "1.0.2\n"},
        {"hooks": {"prestart": [{"path": "/x", "timeout": 2**64}]}},
    ):
        config = {**good_config(), **change}
        if official.is_valid(config):
            shown |= {finding.rule for finding in read_form("config.json", json.dumps(config)).findings}
    assert {"unknown-key", "key-case", "control-character", "newer-than-version"} <= shown
    assert shown <= _OURS.keys()
