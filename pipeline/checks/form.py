"""Form: every key and value of config.json against the closed types of the runtime specification.

A runtime must ignore what it does not know (runtime-spec, config.md, Extensibility), so a misspelt protection
is lost in silence. Here it is a finding.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import msgspec.inspect as types

from pipeline.checks import versions
from pipeline.checks.form_hints import unknown_key
from pipeline.checks.rawjson import Document, Node, NotJson, parse
from pipeline.checks.subject import CRITICAL, HIGH, MEDIUM
from pipeline.checks.text import cleaned
from pipeline.errors import Place, suggest
from pipeline.model.nouns import Finding, Severity
from pipeline.model.runtime import RuntimeConfig, child_path, read_config

_SPEC = "runtime-spec, config.md"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Scripts and texts for people may have lines.
_FREE_TEXT = re.compile(
    r"process\.(args|env)\[|annotations|hooks\..*\.(args|env)\[|seccomp\.listenerMetadata"
)
_MARK = "\ufeff"
# The marks of UTF-16, as bytes that are not UTF-8 are read.
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")
# A float is exact below this, so what was meant can be said.
_EXACT = 2**53
_LONGEST = 24
# Words beside the specification that both runtimes take as the plain ones, with MS_REC.
_TOLERATED: dict[tuple[str, object], str] = {
    ("linux.rootfsPropagation", f"r{word}"): word for word in ("private", "shared", "slave", "unbindable")
}
_NOTHING = object()
# What stands in for a required field that is not there, so that the other checks can still speak.
_STAND_IN: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "path": "rootfs",
    "process.cwd": "/",
    "user": {"uid": 0, "gid": 0},
}


@dataclass
class Form:
    """A document's faults of form, and what could be read in spite of them."""

    document: Document | None
    config: RuntimeConfig | None
    findings: list[Finding] = field(default_factory=list)


def read_form(name: str, text: str) -> Form:
    """Judge the text of a config.json; `name` is what it is called in places."""
    unread, document = _read(name, text)
    if document is None:
        return Form(None, None, [cleaned(finding) for finding in unread])
    walk = _Walk(document)
    value = walk.value(document.root, types.type_info(RuntimeConfig), "")
    config = None
    if value is not _NOTHING:
        try:
            config = read_config(value)
        except msgspec.ValidationError as fault:
            walk.add("wrong-type", HIGH, str(fault), "")
    late = [replace(finding, place=document.place(finding.path)) for finding in versions.newer(document)]
    return Form(document, config, [cleaned(finding) for finding in (*unread, *walk.findings, *late)])


def _read(name: str, text: str) -> tuple[list[Finding], Document | None]:
    """Return the document, if one can be read, and what strict parsers would stop at."""
    findings = []
    if text.startswith(_MARK):
        fault = NotJson("it begins with a byte order mark, which no runtime reads", 0)
        findings.append(_not_json(name, text, fault, "save it as UTF-8 without a mark"))
        text = " " + text[1:]
    try:
        return findings, parse(name, text)
    except NotJson as fault:
        mend = "RFC 8259 has no comments and no comma at the end"
        if fault.document is not None:
            mend = "remove it: runc passes over it, crun refuses the file"
        elif text[:2] in _UTF_16:
            fault, mend = NotJson("it is UTF-16, which no runtime reads", 0), "save it as UTF-8"
        return [*findings, _not_json(name, text, fault, mend)], fault.document


def _not_json(name: str, text: str, fault: NotJson, mend: str) -> Finding:
    before = text[: fault.offset]
    start = before.rfind("\n") + 1
    line = text[start:].split("\n", 1)[0]
    place = Place(name, before.count("\n") + 1, fault.offset - start + 1, 1, line[:400])
    return Finding("not-json", CRITICAL, f"not JSON: {fault.message}", "", mend, "RFC 8259", place)


class _Walk:
    """One walk over a document beside its types; collects findings and returns what is sound."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Finding] = []

    def add(
        self,
        rule: str,
        severity: Severity,
        message: str,
        path: str,
        mend: str = "",
        offset: int | None = None,
    ) -> None:
        place = self.document.place(path) if offset is None else self.document.at(offset)
        self.findings.append(Finding(rule, severity, message, path, mend, _SPEC, place))

    def value(self, node: Node, kind: types.Type, path: str) -> Any:
        """Return the plain value of `node` without its faults, or _NOTHING."""
        extra = None
        if isinstance(kind, types.Metadata):
            extra, kind = kind.extra_json_schema, kind.type
        if isinstance(kind, types.UnionType):
            kind = next(member for member in kind.types if not isinstance(member, types.NoneType))
            return self.value(node, kind, path)
        if isinstance(kind, types.StructType):
            return self._struct(node, kind, path)
        if isinstance(kind, types.VarTupleType):
            return self._array(node, kind, path)
        if isinstance(kind, types.DictType):
            return self._map(node, kind, path)
        return self._scalar(node, kind, path, extra or {})

    def _struct(self, node: Node, kind: types.StructType, path: str) -> Any:
        if node.members is None:
            return self._mistyped(node, "an object", path)
        fields = {entry.encode_name: entry for entry in kind.fields}
        found: dict[str, Any] = {}
        for key, offset, child in self._members(node, path):
            if key not in fields:
                self._unknown(key, fields, path, offset)
                continue
            inner = self.value(child, fields[key].type, child_path(path, key))
            if inner is not _NOTHING:
                found[key] = inner
        return found if self._complete(found, node, fields, path) else _NOTHING

    def _complete(self, found: dict[str, Any], node: Node, fields: dict[str, types.Field], path: str) -> bool:
        there = {key for key, _, _ in node.members or ()}
        for key, entry in fields.items():
            if not entry.required or key in found:
                continue
            inner = child_path(path, key)
            if key not in there:
                self.add("missing-key", HIGH, f"`{inner}` is required and not there", path, f"add `{key}`")
            stand_in = _STAND_IN.get(inner, _STAND_IN.get(key, _NOTHING))
            if stand_in is _NOTHING:
                return False
            found[key] = stand_in
        return True

    def _array(self, node: Node, kind: types.VarTupleType, path: str) -> Any:
        if node.items is None:
            return self._mistyped(node, "an array", path)
        if len(node.items) < (kind.min_length or 0):
            self.add("empty-array", HIGH, f"`{path}` must not be empty", path)
        found = [self.value(item, kind.item_type, child_path(path, n)) for n, item in enumerate(node.items)]
        sound = [item for item in found if item is not _NOTHING]
        return sound if len(sound) >= (kind.min_length or 0) else _NOTHING

    def _map(self, node: Node, kind: types.DictType, path: str) -> Any:
        if node.members is None:
            return self._mistyped(node, "an object", path)
        found = {}
        for key, offset, child in self._members(node, path):
            if isinstance(kind.key_type, types.LiteralType) and key not in kind.key_type.values:
                self._unknown(key, cast("tuple[str, ...]", kind.key_type.values), path, offset)
                continue
            if not key:
                self.add("bad-value", HIGH, f"a key of `{path}` is empty", path, offset=offset)
                continue
            inner = self.value(child, kind.value_type, child_path(path, key))
            if inner is not _NOTHING:
                found[key] = inner
        return found

    def _members(self, node: Node, path: str) -> Iterator[tuple[str, int, Node]]:
        seen: dict[str, str] = {}
        for key, offset, child in node.members or ():
            if key in seen:
                message = f"`{child_path(path, key)}` is there twice: runc takes the last, crun the first"
                self.add("duplicate-key", HIGH, message, path, "keep one", offset)
            seen[key] = key
            self._controls(key, path, offset)
            yield key, offset, child

    def _unknown(self, key: str, known: Collection[str], path: str, offset: int) -> None:
        hint = unknown_key(path, key, known)
        severity = MEDIUM if hint.rule == "moved-key" else HIGH
        self.add(hint.rule, severity, hint.message, child_path(path, key), hint.mend, offset)

    def _mistyped(self, node: Node, wanted: str, path: str) -> Any:
        message = f"`{path or 'the document'}` must be {wanted}, not {_kind(node)}"
        self.add("wrong-type", HIGH, message, path)
        return _NOTHING

    def _scalar(self, node: Node, kind: types.Type, path: str, extra: dict[str, Any]) -> Any:
        if isinstance(kind, types.LiteralType):
            return self._word(node, kind, path)
        if isinstance(kind, types.BoolType):
            return node.value if isinstance(node.value, bool) else self._mistyped(node, "true or false", path)
        if isinstance(kind, types.IntType):
            return self._number(node, kind, path, extra)
        return self._text(node, cast("types.StrType", kind), path)

    def _word(self, node: Node, kind: types.LiteralType, path: str) -> Any:
        words = list(kind.values)
        if (
            node.value in words
            and not isinstance(node.value, bool)
            and node.items is None
            and node.members is None
        ):
            return node.value
        if (path, node.value) in _TOLERATED:
            message = (
                f"`{node.value}` is no value of `{path}` in the specification, though runc and crun take it"
            )
            mend = f"write `{_TOLERATED[path, node.value]}`"
            self.add("unknown-word", MEDIUM, message, path, mend)
            return _TOLERATED[path, node.value]
        close = suggest(node.value, map(str, words)) if isinstance(node.value, str) else None
        mend = f"did you mean `{close}`?" if close else "one of " + ", ".join(map(str, words))
        self.add(
            "unknown-word", HIGH, f"`{path}` has {_shown(node)}, which is not one of its values", path, mend
        )
        return _NOTHING

    def _number(self, node: Node, kind: types.IntType, path: str, extra: dict[str, Any]) -> Any:
        if isinstance(node.value, float) and node.value.is_integer() and abs(node.value) < _EXACT:
            message = f"`{path}` is written as a fraction: Go and C parsers want a whole number"
            self.add("wrong-type", HIGH, message, path, f"write {int(node.value)}")
            return _NOTHING
        if isinstance(node.value, bool) or not isinstance(node.value, int):
            return self._mistyped(node, "a whole number", path)
        least, most = kind.ge, extra.get("maximum", kind.le)
        if (least is not None and node.value < least) or (most is not None and node.value > most):
            message = f"`{path}` is {_brief(node.value)}, outside {least} to {most}"
            self.add("number-out-of-range", HIGH, message, path)
            return _NOTHING
        return node.value

    def _text(self, node: Node, kind: types.StrType, path: str) -> Any:
        if not isinstance(node.value, str):
            return self._mistyped(node, "a string", path)
        self._controls(node.value, path, node.start)
        if len(node.value) < (kind.min_length or 0):
            self.add("bad-value", HIGH, f"`{path}` is empty", path)
            return _NOTHING
        # fullmatch, since `$` also matches before a newline at the end.
        if kind.pattern and not re.fullmatch(kind.pattern.removesuffix("$"), node.value):
            self.add(
                "bad-value", HIGH, f"`{path}` has {_shown(node)}, which does not match {kind.pattern}", path
            )
            return _NOTHING
        return node.value

    def _controls(self, text: str, path: str, offset: int) -> None:
        match = _CONTROL.search(text)
        if match is None:
            lone = next((c for c in text if "\ud800" <= c <= "\udfff"), None)
            if lone:
                # Bytes that are not UTF-8 are read as lone surrogates (PEP 383); escapes can name them too.
                is_byte = "\udc80" <= lone <= "\udcff" and lone in self.document.text
                what = "bytes that are not UTF-8" if is_byte else "half a surrogate pair"
                message = f"`{path}` has {what}: each parser makes something else of them"
                self.add("control-character", HIGH, message, path, "write UTF-8", offset)
            return
        name = f"U+{ord(match[0]):04X}"
        if match[0] == "\0":
            message = f"`{path}` has a NUL character, where C programs stop reading"
            self.add("control-character", HIGH, message, path, "remove it", offset)
        elif not _FREE_TEXT.match(path):
            self.add(
                "control-character", MEDIUM, f"`{path}` has the control character {name}", path, "", offset
            )


def _brief(number: int) -> str:
    text = str(number)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} digits)"


def _kind(node: Node) -> str:
    if node.members is not None:
        return "an object"
    if node.items is not None:
        return "an array"
    names = {bool: "a boolean", int: "a number", float: "a fraction", str: "a string"}
    return names.get(type(node.value), "null")


def _shown(node: Node) -> str:
    return f"`{node.value}`" if isinstance(node.value, str) else _kind(node)
