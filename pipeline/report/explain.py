"""`doit explain config:NAME[:PATH]`: where a field of config.json came from, and who found what in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.checks.form import read_form
from pipeline.checks.rawjson import Node
from pipeline.checks.subject import HostFacts
from pipeline.checks.text import cleaned, finding_value, place_value, printable, render_finding
from pipeline.checks.waivers import apply_waivers
from pipeline.errors import PipelineError, suggest
from pipeline.examine import read_text, subject_of
from pipeline.model.nouns import Finding
from pipeline.model.runtime import child_path
from pipeline.origins import Origins, parent_path, with_origin
from pipeline.paths import BundlePaths
from pipeline.report.reading import Reading, readings

_FORM = "form"
"""The walk over the raw text: it looks at every key and every value."""
_WIDEST_VALUE = 60
_VARIABLE = re.compile(r"(process|hooks\.\w+\[\d+\])\.env\[")


@dataclass(frozen=True)
class Field:
    """A field of config.json that holds no other, or nothing."""

    path: str
    value: Any
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Explained:
    """Some fields of one config.json, and where all its fields came from."""

    name: str
    fields: tuple[Field, ...]
    origins: Origins

    def came_from(self, path: str) -> str:
        """Return in words who decided a field."""
        came = self.origins.of(path)
        place = self.origins.place(came)
        return f"{place} ({came.key})" if came and place else str(came) if came else "nobody that is recorded"

    def to_json(self) -> list[dict[str, Any]]:
        """Return each field as a JSON value."""
        return [_value(field, self.origins) for field in self.fields]


def explain_config(
    paths: BundlePaths,
    path: str,
    origins: Origins,
    host: HostFacts,
    *,
    facts: dict[str, Any],
    waive: dict[str, str],
) -> Explained:
    """Explain the field at a JSON path and those in it, or all of them.

    `facts` is what the judge is told of a built bundle (`built.known`). Raises PipelineError `usage` for a
    path that is not there, OSError when config.json cannot be read.
    """
    form = read_form(paths.config.name, read_text(paths.config))
    subject = subject_of(paths.config, form, host, **facts)
    if form.document is None or subject is None:
        hint = f"`doit check {paths.name}` says why"
        raise PipelineError("bad-config", f"{paths.config} cannot be understood", hint=hint)
    told = readings(subject)
    every = [*(replace(f, layer=_FORM) for f in form.findings), *(f for one in told for f in one.findings)]
    found = with_origin(apply_waivers(every, waive), origins)
    nodes = dict(_nodes(form.document.root, ""))
    wanted = path.strip()
    if wanted and wanted not in nodes:
        raise _unknown(wanted, nodes)
    below = (f"{wanted}.", f"{wanted}[")
    leaves = [p for p, node in nodes.items() if not node.members and not node.items]
    chosen = [p for p in leaves if not wanted or p == wanted or p.startswith(below)]
    fields = (_field(leaf, nodes[leaf], told, found) for leaf in chosen)
    return Explained(paths.name, tuple(fields), origins)


def lines(told: Explained, path: str) -> Iterator[str]:
    """Say it for people: all of it about the fields asked for, or a line for each of all."""
    for field in told.fields:
        value = _short(field.value)
        if not path:
            marks = "".join(f"  {f.severity.value}[{f.rule}]" for f in field.findings if f.waived is None)
            looked = f"{len(field.checks)} checks"
            yield printable(f"{field.path} = {value}  from {told.came_from(field.path)}  {looked}{marks}")
            continue
        yield printable(f"{field.path} = {value}")
        yield printable(f"  from    {told.came_from(field.path)}")
        yield f"  read by {', '.join(field.checks)}"
        for finding in field.findings:
            text = render_finding(cleaned(replace(finding, provenance=None, origin=None, place=None)))
            yield "\n".join(f"  {line}" for line in text.splitlines())


def _field(path: str, node: Node, told: Sequence[Reading], found: Sequence[Finding]) -> Field:
    """A finding is about a field when it names that, or something that holds it."""
    checks = (_FORM, *(one.check.name for one in told if one.looked_at(path)))
    above, here = set(), path
    while here:
        above.add(here)
        here = parent_path(here)
    own = tuple(finding for finding in found if finding.path in above)
    return Field(path, _without_secret(path, node.plain()), checks, own)


def _without_secret(path: str, value: Any) -> Any:
    """Of a variable the name alone: its value may be a secret, and this ends in logs."""
    if not _VARIABLE.match(path) or not isinstance(value, str):
        return value
    name, given, _ = value.partition("=")
    return f"{name}=…" if given else name


def _nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for key, _, child in node.members or ():
        yield from _nodes(child, child_path(path, key))
    for index, child in enumerate(node.items or ()):
        yield from _nodes(child, child_path(path, index))


def _unknown(path: str, known: dict[str, Node]) -> PipelineError:
    meant = suggest(path, filter(None, known))
    hint = f"did you mean `{meant}`?" if meant else "without a path, every field is listed"
    return PipelineError("usage", f"config.json has no field `{path}`", hint=hint)


def _value(field: Field, origins: Origins) -> dict[str, Any]:
    came = origins.of(field.path)
    place = origins.place(came)
    return {
        "path": field.path,
        "value": field.value,
        "from": came.source if came else None,
        "key": came.key if came else None,
        "origin": place_value(place) if place else None,
        "checks": list(field.checks),
        "findings": [finding_value(finding) for finding in field.findings],
    }


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST_VALUE else text[: _WIDEST_VALUE - 1] + "…"
