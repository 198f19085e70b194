"""The official JSON schema of the runtime specification, as Debian packages it; it is never fetched.

Debian's package is a snapshot between 1.0.2 and 1.1 (golang-github-opencontainers-specs-dev 1.0.2.118).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OFFICIAL = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema")


def official_schema() -> Any:
    """Return a validator for config.json. Raises FileNotFoundError where the package is not installed."""
    from jsonschema import Draft4Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    if not OFFICIAL.is_dir():
        raise FileNotFoundError("the package golang-github-opencontainers-specs-dev is not installed")
    files = {path.name: json.loads(path.read_text()) for path in OFFICIAL.glob("*.json")}
    resources = [
        (name, Resource.from_contents(text, default_specification=DRAFT4)) for name, text in files.items()
    ]
    return Draft4Validator({"$ref": "config-schema.json"}, registry=Registry().with_resources(resources))
