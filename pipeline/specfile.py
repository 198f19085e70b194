"""All specs of a project: `load` gives each bundle's values, and everything that is wrong with the files.

On the way of a run with nothing to do: parsed values are cached by the content of the files they came from,
so that such a run reads the files, hashes them and imports no parser. The cache is disposable.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.files import compact_json, sha256_bytes, write_atomic
from pipeline.paths import Project
from pipeline.source import read_source

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
"""A bundle's name: it becomes a folder, a container id and part of a task's name."""
RESERVED = ("report",)
"""Names that other folders below out/ have."""

_FOLDER = "specs"
_SUFFIX = ".yaml"
_PARSERS = ("specfile.py", "source.py", "yaml*.py", "speclang/*.py", "model/*.py")


@dataclass(frozen=True)
class Spec:
    """One bundle as its files describe it."""

    name: str
    values: dict[str, Any]
    """`Bundle.to_values()`: plain data, defaults filled in."""
    inputs: tuple[str, ...]
    """The files it came from, relative to the project or absolute, sorted: its own, its bases', env files."""


@dataclass
class Loaded:
    """What the specs of a project say, and what is wrong with them."""

    specs: dict[str, Spec] = field(default_factory=dict)
    errors: list[PipelineError] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Sources:
    """The files below specs/: content by bundle name; names that have errors instead."""

    contents: dict[str, bytes]
    errors: list[PipelineError]
    broken: set[str]


def load(project: Project) -> Loaded:
    """Return every spec of the project, sorted by name, and all errors, sorted by place. Raises nothing."""
    sources = _sources(project)
    profiles = _profiles(project)
    cache = _Cache(project, profiles)
    specs = {name: spec for name in sources.contents if (spec := cache.get(name, sources.contents))}
    loaded = Loaded(specs, list(sources.errors), set(sources.broken))
    waiting = [name for name in sources.contents if name not in specs]
    if waiting:
        for spec, digests in _parse(project, sources.contents, waiting, profiles, loaded):
            specs[spec.name] = spec
            cache.put(spec, digests)
    if waiting or cache.has_others(specs):
        cache.write(specs)
    loaded.specs = dict(sorted(specs.items()))
    loaded.errors = list(PipelineErrors(loaded.errors).errors)
    return loaded


def places(project: Project, name: str) -> dict[str, Place]:
    """Where the keys of a bundle are written: dotted path (`environment.HOME`, `volumes.0`) -> place.

    A key that comes from a base has its place there; one that is a default has none. Raises PipelineErrors.
    """
    from pipeline.speclang.links import Links

    sources = _sources(project)
    links = Links(project.root, sources.contents, sources.broken)
    merged = links.merged(name)
    if merged is None:
        raise PipelineErrors(links.errors)
    merged.read_env_files()
    return merged.places()


def shown(name: str) -> str:
    """The path of a spec file as messages show it."""
    return f"{_FOLDER}/{name}{_SUFFIX}"


def check_name(name: str) -> None:
    """Raises PipelineError `bad-name` when no bundle can have this name."""
    if NAME.fullmatch(name) and name not in RESERVED:
        return
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in name)
    place = Place(shown(escaped[:80]))
    if name in RESERVED:
        raise PipelineError(
            "bad-name", f"out/{name}/ is taken, so no bundle can be called `{name}`", place=place
        )
    hint = "lower-case letters, digits, `_`, `.` and `-`, a letter or digit first, at most 63"
    raise PipelineError("bad-name", f"`{escaped[:80]}` cannot name a bundle", place=place, hint=hint)


def _sources(project: Project) -> _Sources:
    contents: dict[str, bytes] = {}
    errors: list[PipelineError] = []
    broken: set[str] = set()
    try:
        listed = sorted(path.name for path in project.specs.iterdir())
    except FileNotFoundError:
        listed = []
    except OSError as fault:
        message = f"cannot list the specs: {os.strerror(fault.errno or 0)}"
        errors.append(PipelineError("unreadable", message, place=Place(_FOLDER)))
        listed = []
    for file in listed:
        name, dot, suffix = file.rpartition(".")
        if file.startswith(".") or (dot + suffix).lower() not in (_SUFFIX, ".yml"):
            continue
        try:
            contents[name] = _content(project, name, dot + suffix)
        except PipelineError as fault:
            errors.append(fault)
            broken.add(name if dot + suffix == _SUFFIX else file)
    return _Sources(contents, errors, broken)


def _content(project: Project, name: str, suffix: str) -> bytes:
    if suffix != _SUFFIX:
        place = Place(f"{_FOLDER}/{name}{suffix}")
        raise PipelineError("bad-name", "a spec ends in .yaml", place=place, hint=f"rename it to {name}.yaml")
    check_name(name)
    return read_source(project.specs / f"{name}{_SUFFIX}", shown(name))


def _profiles(project: Project) -> list[str]:
    try:
        listed = [path.name for path in project.seccomp_sources.iterdir()]
    except OSError:
        return []
    return sorted(name.removesuffix(_SUFFIX) for name in listed if name.endswith(_SUFFIX))


def _parse(
    project: Project,
    contents: dict[str, bytes],
    names: Iterable[str],
    profiles: Sequence[str],
    loaded: Loaded,
) -> list[tuple[Spec, dict[str, str]]]:
    """Parse some of the files; note errors and broken names in `loaded`."""
    from pipeline.speclang.links import Links

    links = Links(project.root, contents, frozenset(loaded.broken))
    done: list[tuple[Spec, dict[str, str]]] = []
    for name in names:
        built = links.build(name, profiles)
        if built is None:
            loaded.broken.add(name)
            continue
        digests = {path: sha256_bytes(content) for path, content in built.inputs.items()}
        done.append((Spec(name, built.bundle.to_values(), tuple(sorted(digests))), digests))
    loaded.errors += links.errors
    return done


class _Cache:
    """Values by content. Holds its own digest, so a damaged file counts as absent."""

    def __init__(self, project: Project, profiles: Sequence[str]) -> None:
        self._root = project.root
        self._file = project.cache / "specs.json"
        self._parser = _parser_digest(profiles)
        self._kept: dict[str, Any] = self._read()
        self._digests: dict[str, str | None] = {}

    def get(self, name: str, contents: dict[str, bytes]) -> Spec | None:
        """The spec, if every file that it came from is as it was."""
        kept = self._kept.get(name)
        if kept is None or any(
            self._digest(path, contents) != digest for path, digest in kept["inputs"].items()
        ):
            return None
        return Spec(name, kept["values"], tuple(sorted(kept["inputs"])))

    def put(self, spec: Spec, digests: dict[str, str]) -> None:
        """Keep a spec that has no errors."""
        self._kept[spec.name] = {"inputs": digests, "values": spec.values}

    def has_others(self, specs: dict[str, Spec]) -> bool:
        """True when it keeps bundles that are gone."""
        return any(name not in specs for name in self._kept)

    def write(self, specs: dict[str, Spec]) -> None:
        """Write what belongs to `specs`; a folder that is absent or not ours is left alone."""
        kept = {name: entry for name, entry in self._kept.items() if name in specs}
        body = compact_json({"parser": self._parser, "specs": kept})
        if not self._file.parent.is_dir():
            return
        try:
            # Not for others: it holds what env files hold.
            write_atomic(self._file, sha256_bytes(body).encode() + b"\n" + body, mode=0o600)
        except OSError:
            return

    def _read(self) -> dict[str, Any]:
        try:
            digest, _, body = self._file.read_bytes().partition(b"\n")
        except OSError:
            return {}
        if digest != sha256_bytes(body).encode():
            return {}
        stored: dict[str, Any] = json.loads(body)
        specs: dict[str, Any] = stored["specs"] if stored["parser"] == self._parser else {}
        return specs

    def _digest(self, path: str, contents: dict[str, bytes]) -> str | None:
        if path not in self._digests:
            self._digests[path] = self._compute(path, contents)
        return self._digests[path]

    def _compute(self, path: str, contents: dict[str, bytes]) -> str | None:
        folder, _, file = path.rpartition("/")
        name = file.removesuffix(_SUFFIX)
        if folder == _FOLDER and file.endswith(_SUFFIX) and name in contents:
            return sha256_bytes(contents[name])
        try:
            return sha256_bytes(read_source(self._root / path, path, follow=True))
        except PipelineError:
            return None


def _parser_digest(profiles: Sequence[str]) -> str:
    """What values depend on besides the files: the parser, the machine, the profiles that exist."""
    package = Path(__file__).parent
    files = (file for pattern in _PARSERS for file in sorted(package.glob(pattern)))
    code = [sha256_bytes(file.read_bytes()) for file in files]
    return sha256_bytes(compact_json([code, os.uname().machine, list(profiles)]))
