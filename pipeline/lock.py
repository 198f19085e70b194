"""Pins: which digest each remote image reference stands for, in `specs/lock.json`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import PipelineError, Place
from pipeline.files import canonical_json, read_json, write_atomic
from pipeline.model.nouns import Platform, parse_digest
from pipeline.model.variants import canonical_platform

VERSION = 1


class Named(Protocol):
    """What the lock needs of an image reference."""

    @property
    def key(self) -> str: ...

    @property
    def digest(self) -> str | None: ...


@dataclass(frozen=True)
class Pin:
    """What one reference stood for when it was last asked: its index, and a manifest per platform."""

    index: str | None = None
    platforms: Mapping[str, str] = field(default_factory=dict)


class Lock:
    """The pins of a project. `Lock.load` reads them, `update` writes."""

    def __init__(self, path: Path, images: Mapping[str, Pin]) -> None:
        self.path = path
        self.images = dict(images)

    @classmethod
    def load(cls, path: Path) -> Lock:
        """Read the pins; an absent file has none. Raises PipelineError `bad-lock` or `bad-json`."""
        try:
            document = read_json(path)
        except FileNotFoundError:
            return cls(path, {})
        return cls(path, _images(document, path))

    def pin_of(self, reference: Named, platform: Platform | str) -> str | None:
        """Return the digest to build from, or None when the reference is not pinned for the platform.

        A reference that carries a digest is its own pin.
        """
        if reference.digest:
            return reference.digest
        pin = self.images.get(reference.key)
        return pin.platforms.get(canonical_platform(str(platform))) if pin else None

    def content(self) -> bytes:
        """Return the file's canonical bytes."""
        images = {
            key: {"index": pin.index, "platforms": dict(pin.platforms)} for key, pin in self.images.items()
        }
        return canonical_json({"version": VERSION, "images": images})


@contextmanager
def update(path: Path) -> Iterator[Lock]:
    """Give the pins to change, and write them when the block ends without an error.

    Two writers take turns (flock(2) on its folder), so neither loses the other's pins; the file
    is replaced whole, and only when it differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        lock = Lock.load(path)
        before = lock.content() if path.exists() else b""
        yield lock
        after = lock.content()
        if after != before:
            write_atomic(path, after)
    finally:
        os.close(fd)


def _images(document: Any, path: Path) -> dict[str, Pin]:
    if not isinstance(document, dict):
        raise _bad(path, "it is not an object", "")
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise PipelineError(
            "bad-lock",
            f"version {version!r} of the lock file is not known, only {VERSION}",
            place=_find(path, "version"),
            hint="a newer Cooperage wrote it: update this checkout, or remove the file and run `doit update`",
        )
    images = document.get("images")
    if not isinstance(images, dict) or set(document) != {"version", "images"}:
        raise _bad(path, "it must hold `version` and `images`, nothing else", "images")
    return {key: _pin(key, value, path) for key, value in images.items()}


def _pin(key: str, value: Any, path: Path) -> Pin:
    if not isinstance(value, dict) or set(value) != {"index", "platforms"}:
        raise _bad(path, f"the pin of {key} must hold `index` and `platforms`, nothing else", key)
    index, platforms = value["index"], value["platforms"]
    if not isinstance(platforms, dict):
        raise _bad(path, f"`platforms` of {key} must map platforms to digests", key)
    for platform in platforms:
        _checked(lambda text: str(Platform.parse(text)), platform, key, path)
    for digest in [*platforms.values(), *([] if index is None else [index])]:
        _checked(parse_digest, digest, key, path)
    return Pin(index, dict(platforms))


def _checked(parse: Any, value: Any, key: str, path: Path) -> None:
    try:
        parse(value)
    except (PipelineError, TypeError) as fault:
        said = fault.message if isinstance(fault, PipelineError) else f"`{value}` is no text"
        raise _bad(path, f"in the pin of {key}: {said}", str(value)) from None


def _bad(path: Path, message: str, word: str) -> PipelineError:
    return PipelineError(
        "bad-lock",
        f"the lock file is damaged: {message}",
        place=_find(path, word),
        hint="restore it from git, or remove it and run `doit update`",
    )


def _find(path: Path, word: str) -> Place:
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        column = line.find(f'"{word}"') if word else -1
        if column >= 0:
            return Place(str(path), number, column + 1, len(word) + 2, line)
    return Place(str(path))
