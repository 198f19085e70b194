"""Where each field of config.json comes from: image, spec, a key's default, or the baseline of a date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.bundle import KEYS, Bundle
from pipeline.model.runtime import child_path


@dataclass(frozen=True)
class Origin:
    """`source` is `image`, `spec`, `default` or `baseline:DATE`; `key` names the field there."""

    source: str
    key: str


@dataclass
class Provenance:
    """Origins by JSON path, and what the bundle's baseline is called.

    A path without an origin has the one of its nearest ancestor.
    """

    baseline_source: str
    origins: dict[str, Origin] = field(default_factory=dict)

    def note(self, path: str, source: str, key: str) -> None:
        """Record that the field at `path` and all below it come from `key` of `source`."""
        self.origins[path] = Origin(source, key)

    def spec(self, path: str, key: str) -> None:
        """Record that a spec key decided the field."""
        self.note(path, "spec", key)

    def image(self, path: str, key: str) -> None:
        """Record that a field of the image config decided the field."""
        self.note(path, "image", key)

    def baseline(self, path: str, key: str = "") -> None:
        """Record that the baseline decided the field."""
        self.note(path, self.baseline_source, key or path)

    def chosen(self, path: str, bundle: Bundle, key: str) -> None:
        """Record the spec key, as what the spec says or as the default of a key that it leaves out."""
        self.note(path, origin_of(bundle, key), key)

    def leaves(self, value: object) -> dict[str, dict[str, str]]:
        """Return for each leaf of the JSON value its origin, as provenance.json holds it."""
        return {
            path: {"from": o.source, "key": o.key} for path, o in self._resolve(value, "", Origin("", ""))
        }

    def _resolve(self, value: object, path: str, origin: Origin) -> Iterator[tuple[str, Origin]]:
        origin = self.origins.get(path, origin)
        children = _children(value, path)
        if not children:
            yield path, origin
        for inner, child in children:
            yield from self._resolve(child, inner, origin)


def origin_of(bundle: Bundle, key: str) -> str:
    """Return `spec`, or `default` where a spec key has the value that it has when nobody writes it."""
    return "spec" if getattr(bundle, key) != _default(key) else "default"


def _children(value: object, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(child_path(path, key), child) for key, child in value.items()]
    if isinstance(value, (list, tuple)):
        return [(child_path(path, index), child) for index, child in enumerate(value)]
    return []


def _default(key: str) -> object:
    if not _DEFAULTS:
        plain = Bundle(image="", platform="")
        _DEFAULTS.update({name: getattr(plain, name) for name in KEYS})
    return _DEFAULTS[key]


_DEFAULTS: dict[str, object] = {}
