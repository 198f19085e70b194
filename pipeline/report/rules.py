"""What each rule of the judge is about, read from the checks themselves, so that no list of them can rot.

A rule is what a check gives to `Finding("rule-id", SEVERITY, …)`; the first line of that check's docstring
says what it asks for, its literals say how bad it is and by which source.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.checks.index import CHECKS
from pipeline.model.nouns import Finding, Severity

_CHECKED = ("checks/*.py", "stages/validate.py", "examine.py", "check.py")
_PACKAGE = Path(__file__).parent.parent
_SEVERITIES = {severity.name: severity for severity in Severity}
_ANY = "[a-z0-9-]+"
_SOURCE_AT = 5


@dataclass(frozen=True)
class Rule:
    """A rule: what its check asks for, how bad it is where that is fixed, and who says so."""

    id: str
    description: str
    severity: Severity | None = None
    source: str = ""


def describe(finding: Finding) -> Rule:
    """Return the rule of a finding; of an unknown one (a spec's mistake) what the finding itself says."""
    found = catalogue().get(finding.rule) or _by_pattern(finding.rule)
    if found is None:
        return Rule(finding.rule, finding.rule.replace("-", " "), finding.severity, finding.source)
    return Rule(
        finding.rule,
        found.description,
        found.severity or finding.severity,
        found.source or finding.source,
    )


@cache
def catalogue() -> dict[str, Rule]:
    """Return every rule by its id; one that is put together (`host-NAME-namespace`) by its pattern."""
    rules: dict[str, Rule] = {}
    for pattern in _CHECKED:
        for path in sorted(_PACKAGE.glob(pattern)):
            for rule in _rules(ast.parse(path.read_text(encoding="utf-8"))):
                known = rules.setdefault(rule.id, rule)
                if known.severity is not rule.severity:
                    # Two grades of one rule: the finding says which.
                    rules[rule.id] = Rule(known.id, known.description, None, known.source)
    return rules | _declared(rules)


def _declared(written: dict[str, Rule]) -> dict[str, Rule]:
    """The rules that checks declare, each described by its check; some put their ids together."""
    found = {}
    for check in CHECKS:
        words = " ".join((inspect.getdoc(check.run) or check.name).partition("\n\n")[0].split())
        for name in check.rules:
            known = written.get(name, Rule(name, words))
            found[name] = Rule(name, words, known.severity, known.source)
    return found


def _by_pattern(rule: str) -> Rule | None:
    patterns = (known for id_, known in catalogue().items() if _ANY in id_)
    return next((known for known in patterns if re.fullmatch(known.id, rule)), None)


def _rules(module: ast.Module) -> Iterator[Rule]:
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    described = {name: _description(node, functions, module) for name, node in functions.items()}
    for statement in module.body:
        words = described.get(getattr(statement, "name", ""), _first_line(module))
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and _is_finding(node):
                rule_id = _text(node.args[0])
                if rule_id:
                    yield Rule(rule_id, words, _severity(node), _source(node))


def _description(node: ast.FunctionDef, functions: dict[str, ast.FunctionDef], module: ast.Module) -> str:
    """What the function says of itself; a private one is described by whoever calls it."""
    seen = {node.name}
    waiting = [node]
    while waiting:
        here = waiting.pop(0)
        said = _first_line(here)
        if said and not here.name.startswith("_"):
            return said
        callers = [other for other in functions.values() if here.name in _names(other)]
        waiting += [other for other in callers if other.name not in seen]
        seen |= {other.name for other in callers}
    return _first_line(node) or _first_line(module)


def _names(node: ast.FunctionDef) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _first_line(node: ast.Module | ast.FunctionDef) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def _is_finding(call: ast.Call) -> bool:
    """`Finding(…)`, or the `self.add(…)` of the walk over a document's form."""
    match call.func:
        case ast.Name(id="Finding"):
            return bool(call.args)
        case ast.Attribute(value=ast.Name(id="self"), attr="add"):
            return len(call.args) > 1
    return False


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else _ANY for part in values
            )
    return ""


def _severity(call: ast.Call) -> Severity | None:
    match call.args[1:2]:
        case [ast.Name(id=name)] | [ast.Attribute(attr=name)]:
            return _SEVERITIES.get(name)
    return None


def _source(call: ast.Call) -> str:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "source"]
    given = named or call.args[_SOURCE_AT : _SOURCE_AT + 1]
    return _text(given[0]) if given and isinstance(given[0], ast.Constant) else ""
