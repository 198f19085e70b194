"""YAML 1.2 core to plain values, each with its place in the file.

Built on the parser's events rather than its nodes: nothing recurses, so depth, size and aliases are
capped before they cost anything. PyYAML's own loader is not used, since it reads YAML 1.1, where `no`
is false, `0755` is octal, `22:22` is a number and the last of two equal keys wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.source import FORBIDDEN, SHOWN_COLUMNS, Source, decode, forbidden
from pipeline.yamlscalars import resolve

MAX_DEPTH = 32
MAX_VALUES = 20_000
"""More than any spec needs; an alias counts as often as it is used."""

Step = str | int
Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Spot:
    """Where a key (of a list: the item) and its value stand."""

    key: Place
    value: Place


@dataclass(frozen=True)
class Document:
    """The mapping of a file and the spot of each part of it, by steps from the top."""

    path: str
    value: dict[str, Any]
    spots: dict[Steps, Spot]

    def key(self, steps: Steps) -> Place:
        """The place of the key at `steps`, or of the nearest thing around it."""
        return self._spot(steps).key

    def place(self, steps: Steps) -> Place:
        """The place of the value at `steps`, or of the nearest thing around it."""
        return self._spot(steps).value

    def _spot(self, steps: Steps) -> Spot:
        while steps not in self.spots:
            steps = steps[:-1]
        return self.spots[steps]


def parse(content: bytes, path: str) -> Document:
    """Return the one mapping that a file of YAML holds. Raises PipelineErrors, each with its place."""
    import yaml

    source = Source("", path)
    try:
        source = decode(content, path)
        builder = _Builder(source)
        for event in yaml.parse(source.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
        document = builder.document()
    except PipelineError as fault:
        raise PipelineErrors([fault]) from None
    except yaml.YAMLError as fault:
        raise PipelineErrors([_syntax(fault, source)]) from None
    return document


# What libyaml says -> what to do about it.
_ADVICE = (
    ("mapping values", "quote text that contains `: `, and check the indentation"),
    ("cannot start any token", "quote text that starts with this sign"),
    ("expected key", "check the indentation of this line"),
    ("expected ',' or", "close the bracket that is open above"),
)


def _syntax(fault: Any, source: Source) -> PipelineError:
    said = [getattr(fault, "context", None), getattr(fault, "problem", None) or "not YAML"]
    message, place = ", ".join(part for part in said if part), _where(fault, source)
    hint = next((advice for words, advice in _ADVICE if words in message), None)
    if _tab_before(source, place):
        message, hint = "a tab cannot indent a line of YAML", "use spaces"
    return PipelineError("bad-yaml", message, place=place, hint=hint)


def _where(fault: Any, source: Source) -> Place:
    problem, context = getattr(fault, "problem_mark", None), getattr(fault, "context_mark", None)
    end = len(source.text.rstrip())
    # Where it began tells more than where the file ends.
    marks = [mark for mark in (problem, context) if mark is not None and mark.index < end]
    if marks:
        return source.place(marks[0].line, marks[0].column)
    return source.offset(max(0, end - 1))


def _tab_before(source: Source, place: Place) -> bool:
    line = source.lines[place.line - 1] if place.line <= len(source.lines) else ""
    return "\t" in line[: place.column] and not line[: place.column].strip()


@dataclass
class _Open:
    """A mapping or list that has begun and not ended; `steps` lead to it."""

    steps: Steps
    value: dict[str, Any] | list[Any]
    anchor: str | None
    count_before: int
    key: str | None = None
    key_place: Place | None = None
    seen: dict[str, Place] = field(default_factory=dict)
    height: int = 1


@dataclass(frozen=True)
class _Anchored:
    """What an anchor names: a whole value, how many values that is, and how deep."""

    value: Any
    count: int
    height: int


class _Builder:
    """Takes one event after another and builds the value."""

    def __init__(self, source: Source) -> None:
        top = source.place(0, 0, len(source.lines[0]))
        self.source = source
        self.value: Any = None
        self.spots: dict[Steps, Spot] = {(): Spot(top, top)}
        self.faults: list[PipelineError] = []
        self.open: list[_Open] = []
        self.anchors: dict[str, _Anchored | None] = {}
        self.count = 0
        self.documents = 0

    def take(self, event: Any) -> None:
        """Build on. Raises PipelineError on what makes the rest of the file meaningless."""
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._scalar(event)
        elif kind == "AliasEvent":
            self._alias(event)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._begin(event, {} if kind.startswith("M") else [])
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._end()
        elif kind == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                hint = "one file describes one bundle: put the second in a file of its own"
                raise self._fault("many-documents", "a second document begins here", self._place(event), hint)

    def document(self) -> Document:
        """What was built. Raises PipelineErrors with all that was found wrong."""
        top = self.spots[()].value
        if not self.faults and self.value is None:
            self._note("empty-file", "the file holds nothing", top, "write `key: value` lines")
        elif not self.faults and not isinstance(self.value, dict):
            kind = "a list" if isinstance(self.value, list) else "text"
            self._note("wrong-type", f"expected `key: value` lines, found {kind}", top)
        if self.faults:
            raise PipelineErrors(self.faults)
        return Document(self.source.path, self.value, self.spots)

    def _scalar(self, event: Any) -> None:
        place = self._place(event)
        self._refuse_tag(event, place)
        if match := FORBIDDEN.search(event.value.replace("\r", "\r\r")):
            self.faults.append(forbidden(match[0], place))
        if self.open and isinstance(self.open[-1].value, dict) and self.open[-1].key is None:
            self._key(event, place)
            return
        try:
            value = resolve(event.value) if event.implicit[0] else event.value
        except ValueError:
            raise self._fault("bad-value", "this number has too many digits", place) from None
        self._put(value, place)
        self._keep(event.anchor, _Anchored(value, 1, 0))

    def _key(self, event: Any, place: Place) -> None:
        frame, key = self.open[-1], event.value
        if key == "<<" and event.implicit[0]:
            hint = "to build on another spec, write `extends: NAME`"
            self._note("merge-key", "YAML 1.2 has no merge key `<<`", place, hint)
        elif key in frame.seen:
            first = frame.seen[key]
            hint = f"the first is at {first}: keep one"
            self._note("duplicate-key", f"the key `{key[:60]}` stands here twice", place, hint)
        elif not key:
            self._note("bad-yaml", "a key is empty", place)
        frame.seen.setdefault(key, place)
        frame.key, frame.key_place = key, place
        self._keep(event.anchor, _Anchored(key, 1, 0))

    def _alias(self, event: Any) -> None:
        place = self._place(event)
        if event.anchor not in self.anchors:
            raise self._fault("bad-yaml", f"there is no anchor `&{event.anchor[:60]}` above this line", place)
        target = self.anchors[event.anchor]
        if target is None:
            raise self._fault("bad-yaml", f"`*{event.anchor[:60]}` stands within its own value", place)
        if len(self.open) + target.height > MAX_DEPTH:
            raise self._too_deep(place)
        self.open[-1].height = max(self.open[-1].height, target.height + 1)
        self._put(target.value, place, target.count)

    def _begin(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        place = self._place(event)
        self._refuse_tag(event, place)
        if len(self.open) >= MAX_DEPTH:
            raise self._too_deep(place)
        count, steps = self.count, self._put(value, place)
        self._keep(event.anchor, None)
        self.open.append(_Open(steps, value, event.anchor, count))

    def _end(self) -> None:
        done = self.open.pop()
        self._keep(done.anchor, _Anchored(done.value, self.count - done.count_before, done.height))
        if self.open:
            self.open[-1].height = max(self.open[-1].height, done.height + 1)

    def _put(self, value: Any, place: Place, count: int = 1) -> Steps:
        """Put a value where it belongs; return the steps to it."""
        self.count += count
        if self.count > MAX_VALUES:
            hint = "an alias counts as often as it is used"
            raise self._fault("too-big", f"the file holds more than {MAX_VALUES} values", place, hint)
        if not self.open:
            self.value, self.spots[()] = value, Spot(place, place)
            return ()
        frame = self.open[-1]
        steps, key_place = frame.steps, place
        if isinstance(frame.value, list):
            steps += (len(frame.value),)
            frame.value.append(value)
        else:
            if frame.key is None or frame.key_place is None:
                raise self._fault("bad-yaml", "a key must be text", place)
            steps, key_place = (*steps, frame.key), frame.key_place
            frame.value[frame.key] = value
            frame.key = None
        self.spots[steps] = Spot(key_place, place)
        return steps

    def _keep(self, anchor: str | None, anchored: _Anchored | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = anchored

    def _refuse_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None:
            name = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._note(
                "yaml-tag", f"the tag `{name[:60]}` is not allowed", place, "to make a value text, quote it"
            )

    def _too_deep(self, place: Place) -> PipelineError:
        return self._fault("too-deep", f"more than {MAX_DEPTH} levels of lists and mappings", place)

    def _note(self, code: str, message: str, place: Place, hint: str | None = None) -> None:
        self.faults.append(self._fault(code, message, place, hint))

    def _fault(self, code: str, message: str, place: Place, hint: str | None = None) -> PipelineError:
        return PipelineError(code, message, place=place, hint=hint)

    def _place(self, event: Any) -> Place:
        start, end = event.start_mark, event.end_mark
        length = end.column - start.column if end.line == start.line else SHOWN_COLUMNS
        return self.source.place(start.line, start.column, length)
