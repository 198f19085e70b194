"""How specs build on each other: the chain of `extends`, each file read once."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError, PipelineErrors, suggest
from pipeline.model.bundle import Bundle
from pipeline.model.problems import quoted
from pipeline.speclang.build import Merged, build
from pipeline.speclang.read import Written, read


@dataclass(frozen=True)
class Built:
    """A bundle and the files that it came from, relative to the project, with their content."""

    bundle: Bundle
    inputs: dict[str, bytes]


class Links:
    """The spec files of a project, by name. Collects in `errors` each mistake once."""

    def __init__(self, root: Path, contents: Mapping[str, bytes], unreadable: Container[str] = ()) -> None:
        self._root = root
        self._contents = contents
        self._unreadable = unreadable
        self._read: dict[str, Written | None] = {}
        self._errors: dict[str, PipelineError] = {}
        self._cycles: set[frozenset[str]] = set()

    @property
    def errors(self) -> list[PipelineError]:
        """What was found wrong so far."""
        return list(self._errors.values())

    def build(self, name: str, profiles: Sequence[str]) -> Built | None:
        """The bundle, or None when it or one of its bases has errors."""
        merged = self.merged(name)
        if merged is None:
            return None
        try:
            bundle = build(merged, profiles)
        except PipelineErrors as fault:
            self._note(fault.errors)
            return None
        inputs = {written.document.path: self._contents[written.name] for written in merged.chain}
        return Built(bundle, {**inputs, **merged.env_files})

    def merged(self, name: str) -> Merged | None:
        """The spec over its bases, or None when one of them cannot be read or does not exist."""
        chain: list[Written] = []
        seen: list[str] = []
        next_name: str | None = name
        while next_name is not None:
            if next_name in seen:
                self._refuse_cycle([*seen[seen.index(next_name) :]])
                return None
            seen.append(next_name)
            written = self._written(next_name)
            if written is None or not self._base_exists(written):
                return None
            chain.insert(0, written)
            next_name = written.extends
        return Merged(self._root, chain)

    def _written(self, name: str) -> Written | None:
        if name not in self._read:
            try:
                self._read[name] = read(name, self._contents[name], f"specs/{name}.yaml")
            except PipelineErrors as fault:
                self._note(fault.errors)
                self._read[name] = None
        return self._read[name]

    def _base_exists(self, written: Written) -> bool:
        base = written.extends
        if base is None or base in self._contents:
            return True
        if base in self._unreadable:
            return False
        meant = suggest(base, [name for name in self._contents if name != written.name])
        hint = f"did you mean `{meant}`?" if meant else "it names another file in specs/, without .yaml"
        self._note(
            [written.error("extends-missing", f"there is no {quoted(f'specs/{base}.yaml')}", "extends", hint)]
        )
        return False

    def _refuse_cycle(self, names: list[str]) -> None:
        """Say it once for each cycle, at its first name."""
        start = names.index(min(names))
        turn = [*names[start:], *names[:start]]
        written = self._read[turn[0]]
        if written is not None and frozenset(names) not in self._cycles:
            self._cycles.add(frozenset(names))
            message = f"specs extend each other in a circle: {' -> '.join([*turn, turn[0]])}"
            self._note([written.error("extends-cycle", message, "extends", "one of them must stand alone")])

    def _note(self, errors: Sequence[PipelineError]) -> None:
        for error in errors:
            self._errors.setdefault(str(error), error)
