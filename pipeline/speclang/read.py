"""One spec file: YAML to normalised values, key by key, with every mistake at its place.

The readers of `speckeys` judge and explain. A spec that they refuse is checked with jsonschema too, against
the schema that editors use, so that all is said at once. That both accept the same specs is under test.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pipeline.errors import PipelineError
from pipeline.model.foreign import FOREIGN, SYNONYMS
from pipeline.model.problems import Problem, Problems, bad, unknown_key
from pipeline.model.speckeys import readers
from pipeline.yamlnodes import Document, Steps, parse

_FOLDER = "specs"


@dataclass(frozen=True)
class Written:
    """What one file says: its keys with normalised values, without defaults and without its base.

    A key that has errors is not among the values.
    """

    name: str
    document: Document
    values: dict[str, Any]
    errors: tuple[PipelineError, ...] = ()

    @property
    def extends(self) -> str | None:
        """The name of the spec that this one builds on."""
        return self.values.get("extends")

    def error(
        self, code: str, message: str, key: str, hint: str | None = None, part: Steps = ()
    ) -> PipelineError:
        """An error at a key of this file, or a part of it; at the first line when the key is not there."""
        return PipelineError(code, message, place=self.document.place((key, *part)), hint=hint)


def read(name: str, content: bytes, shown: str) -> Written:
    """Read one file. Raises PipelineErrors when it is not YAML; what is wrong with keys is in `errors`."""
    document = parse(content, shown)
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in document.value.items():
        if key.startswith("x-") or value is None:
            continue
        try:
            values[key] = _reader(key)(value)
        except Problems as fault:
            problems += fault.below(key).problems
    if problems:
        # Not for a spec that is right: importing jsonschema would be a sixth of a rebuild.
        problems += _structure(document.value, {problem.steps[0] for problem in problems})
    for problem in problems:
        values.pop(str(problem.steps[0]), None)
    errors = tuple(_placed(problem, document) for problem in problems)
    if "env_file" in values:
        values["env_file"] = tuple(_from_project(path) for path in values["env_file"])
    return Written(name, document, values, errors)


def _reader(key: str) -> Any:
    known = readers()
    if key not in known:
        if key in FOREIGN:
            raise bad("unknown-key", f"unknown key `{key}`", FOREIGN[key], on_key=True)
        raise unknown_key(key, known, SYNONYMS)
    return known[key]


def _placed(problem: Problem, document: Document) -> PipelineError:
    place = document.key(problem.steps) if problem.on_key else document.place(problem.steps)
    if problem.secret:
        place = replace(place, text="")
    return PipelineError(problem.code, problem.message, place=place, hint=problem.hint)


def _from_project(path: str) -> str:
    return path if path.startswith("/") else posixpath.normpath(f"{_FOLDER}/{path}")


def _structure(value: Any, explained: set[str | int]) -> Iterator[Problem]:
    """What the schema refuses and no reader has explained."""
    for error in _validator().iter_errors(value):
        steps: Steps = tuple(error.absolute_path)
        if steps and steps[0] not in explained:
            explained.add(steps[0])
            yield Problem("wrong-type", f"the schema of specs allows no such `{steps[0]}`", None, steps)


@cache
def _validator() -> Any:
    from jsonschema import Draft7Validator

    from pipeline.model.schema import bundle_schema

    return Draft7Validator(bundle_schema())
