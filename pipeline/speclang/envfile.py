"""Files of KEY=VALUE lines, as `docker run --env-file` reads them: no quotes, no expansion."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.model.problems import Problems
from pipeline.model.process import variable
from pipeline.source import Source, decode


def parse(content: bytes, shown: str) -> dict[str, tuple[str, Place]]:
    """Return each variable with its place. Raises PipelineErrors; `shown` is the file's name in messages."""
    try:
        source = decode(content, shown)
    except PipelineError as fault:
        raise PipelineErrors([fault]) from None
    found: dict[str, tuple[str, Place]] = {}
    errors: list[PipelineError] = []
    for number, line in enumerate(source.lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = _place(source, number, line)
        try:
            key, value = _pair(line, place, found)
            found[key] = (value, place)
        except PipelineError as fault:
            errors.append(fault)
    if errors:
        raise PipelineErrors(errors)
    return found


def _place(source: Source, number: int, line: str) -> Place:
    """The key of a line. Its value may be a secret, so it is not shown."""
    key, equals, _ = line.partition("=")
    place = source.place(number, 0, len(key))
    return replace(place, text=place.text[: len(key)] + (equals and "=…"))


def _pair(line: str, place: Place, before: dict[str, tuple[str, Place]]) -> tuple[str, str]:
    key, equals, value = line.partition("=")
    try:
        read = variable(key, value if equals else None)
    except Problems as fault:
        problem = fault.problems[0]
        raise PipelineError(problem.code, problem.message, place=place, hint=problem.hint) from None
    if key in before:
        hint = f"the first is at {before[key][1]}: keep one"
        raise PipelineError("duplicate-key", f"the key `{key}` stands here twice", place=place, hint=hint)
    if value[:1] in ("'", '"') and value[-1:] == value[:1]:
        hint = "nothing is unquoted here: leave the quotes out"
        raise PipelineError("bad-value", "the quotes would become part of the value", place=place, hint=hint)
    return key, read
