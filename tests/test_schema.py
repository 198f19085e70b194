"""The schema that editors use: fresh, of draft-07, described, and of one mind with the readers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from pipeline.model import speckeys
from pipeline.model.bundle import KEYS, Bundle
from pipeline.model.problems import Problems
from pipeline.model.schema import FILE, bundle_schema, schema_text
from pipeline.paths import Project
from pipeline.specfile import load

SCHEMA = bundle_schema()
VALIDATOR = Draft7Validator(SCHEMA)


def test_the_file_is_fresh() -> None:
    assert FILE.read_text() == schema_text(), "run: python -m pipeline.model.schema"


def test_it_is_a_schema_of_draft_07() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(SCHEMA)
    assert "$defs" not in schema_text()


def test_the_keys_are_those_of_the_model() -> None:
    assert set(SCHEMA["properties"]) == KEYS | {"extends"} == set(speckeys.readers())


@pytest.mark.parametrize("key", sorted(KEYS | {"extends"}))
def test_every_key_is_described(key: str) -> None:
    assert SCHEMA["properties"][key]["description"].endswith(".")


@pytest.mark.parametrize("key", [key for key, about in SCHEMA["properties"].items() if "default" in about])
def test_a_default_is_the_default(key: str) -> None:
    read = speckeys.readers()[key](SCHEMA["properties"][key]["default"])
    assert read == getattr(Bundle(image="x", platform="x"), key)


def test_everything_is_closed_but_for_x() -> None:
    for part in (SCHEMA, *SCHEMA["definitions"].values()):
        assert part["additionalProperties"] is False
        assert list(part["patternProperties"]) == ["^x-"]


@pytest.mark.parametrize("name", ["hello", "stremio-server"])
def test_the_shipped_specs_pass(name: str) -> None:
    import yaml

    text = (FILE.parent.parent / "specs" / f"{name}.yaml").read_text()
    VALIDATOR.validate(yaml.safe_load(text))


# The readers accept nothing that an editor would underline.
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.floats(allow_nan=False),
    st.sampled_from(
        [
            *("512m", "1.5 GiB", "10s", "1m30s", "/a", "/a/b:size=1m", "data:/data", "./x:/y:ro", "a=b", "A"),
            *(
                "private",
                "none",
                "host",
                "no",
                "on-failure:3",
                "linux/arm64",
                "1:2",
                "80:80",
                "SIGTERM",
                "15",
            ),
            *(
                "http://:80/",
                "CMD",
                "NONE",
                "x",
                "1.0.2",
                "CAP_CHOWN",
                "100000:65536",
                "unconfined",
                "1777",
                "",
            ),
        ]
    ),
)
_WORDS = ["soft", "hard", "type", "source", "target", "test", "http", "tcp", "interval", "nofile", "A", "x-y"]
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_WORDS), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(key=st.sampled_from(sorted(speckeys.readers())), value=_VALUES)
def test_what_a_reader_takes_the_schema_takes(key: str, value: Any) -> None:
    try:
        speckeys.readers()[key](value)
    except Problems:
        return
    assert VALIDATOR.is_valid({key: value}), (key, value)


@settings(max_examples=100, deadline=None)
@given(value=st.dictionaries(st.sampled_from(["image", "cpus", "x-a", "volumes"]), _VALUES, max_size=3))
def test_no_message_is_the_library_s_own(value: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.specs.mkdir()
        (project.specs / "a.yaml").write_text(json.dumps(value))
        for error in load(project).errors:
            assert "is not valid under any of" not in str(error)
            assert "the schema of specs" not in str(error), str(error)
