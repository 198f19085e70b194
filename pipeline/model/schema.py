"""The JSON Schema of a spec file, draft-07: `python -m pipeline.model.schema` writes schema/bundle.json.

draft-07, since yaml-language-server knows no later one.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.speckeys import SpecFile

FILE = Path(__file__).parents[2] / "schema" / "bundle.json"
_DRAFT = "http://json-schema.org/draft-07/schema#"
_IGNORED = {"^x-": {"description": "Ignored; a place for anchors and notes of your own."}}


@cache
def bundle_schema() -> dict[str, Any]:
    """The schema; the same on every call and every machine."""
    _, parts = msgspec.json.schema_components([SpecFile], ref_template="#/definitions/{name}")
    spec = parts.pop("SpecFile")
    definitions = {name: _closed(part) for name, part in parts.items()}
    return {
        "$schema": _DRAFT,
        "title": "A bundle of Cooperage",
        **_closed(spec),
        # `image` is not required here: a spec that extends another takes it from there.
        "definitions": definitions,
    }


def schema_text() -> str:
    """What schema/bundle.json holds."""
    return json.dumps(bundle_schema(), indent=2, ensure_ascii=False) + "\n"


def _closed(part: dict[str, Any]) -> dict[str, Any]:
    """The same without `title`, closed to unknown keys, open to `x-…`; null is as if a key were not there."""
    needed = part.get("required", [])
    properties = {
        name: schema if name in needed else _or_null(schema) for name, schema in part["properties"].items()
    }
    about = {key: value for key, value in part.items() if key != "title"}
    return {**about, "properties": properties, "patternProperties": _IGNORED, "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: schema[key] for key in ("description", "default") if key in schema}
    form = {key: value for key, value in schema.items() if key not in about}
    if "$ref" in form:
        # In draft-07 whatever stands beside `$ref` is ignored.
        form = {"anyOf": [form]}
    if "anyOf" in form:
        return {**about, "anyOf": [*form["anyOf"], {"type": "null"}]}
    return {**about, "anyOf": [form, {"type": "null"}]}


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
