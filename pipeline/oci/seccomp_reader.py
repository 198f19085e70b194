"""Values out of one seccomp source, each mistake noted at its place while reading goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.errors import PipelineError, Place, suggest
from pipeline.model.linuxnames import CAPABILITIES
from pipeline.oci.seccomp import Only, errno_names
from pipeline.oci.seccomp_constants import constants, names
from pipeline.oci.seccomp_tables import ARCHITECTURE_NAMES
from pipeline.yamlnodes import Document, Steps


class Reader:
    """One pass over one source; mistakes are collected in `errors`."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.errors: list[PipelineError] = []

    def place(self, steps: Steps) -> Place:
        """Where a value stands."""
        return self.document.place(steps)

    def fault(
        self, code: str, message: str, steps: Steps, hint: str | None = None, key: bool = False
    ) -> None:
        """Note a mistake at a value, or at its key."""
        place = self.document.key(steps) if key else self.document.place(steps)
        self.errors.append(PipelineError(code, message, place=place, hint=hint))

    def at(self, steps: Steps) -> Any:
        """Return the value at `steps`, which is there."""
        value: Any = self.document.value
        for step in steps:
            value = value[step]
        return value

    def keys(
        self,
        steps: Steps,
        what: str,
        known: tuple[str, ...],
        required: tuple[str, ...] = (),
        told: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Return the known keys of a mapping; those that begin with x- are the reader's own.

        `told` are others of which something better was said already.
        """
        found = self.at(steps)
        if not isinstance(found, dict):
            self.fault("wrong-type", f"{what} is a mapping with {', '.join(f'`{k}`' for k in known)}", steps)
            return {}
        for name in required:
            if name not in found:
                self.fault("missing-key", f"{what} needs `{name}`", steps, key=True)
        for name in found:
            if name not in (*known, *told) and not name.startswith("x-"):
                hint = did_you_mean(name, known) or f"{what} has {', '.join(known)}"
                self.fault("unknown-key", f"unknown key `{name}`", (*steps, name), hint, key=True)
        return {name: value for name, value in found.items() if name in known}

    def items(self, steps: Steps, *, may_be_empty: bool = False) -> list[Steps]:
        """Return the steps to each entry of a list."""
        value = self.at(steps)
        if isinstance(value, list) and (value or may_be_empty):
            return [(*steps, index) for index in range(len(value))]
        least = "" if may_be_empty else " with at least one entry"
        self.fault("wrong-type", f"`{steps[-1]}` must be a list{least}", steps)
        return []

    def word(self, steps: Steps, what: str = "the name of a syscall") -> str:
        """Return a word, or nothing after a mistake."""
        return self._text(steps, what, lambda text: not re.search(r"\s", text))

    def line(self, steps: Steps) -> str:
        """Return one line of text, or nothing after a mistake."""
        return self._text(steps, "one line of text", lambda text: "\n" not in text)

    def errno(self, steps: Steps) -> str | None:
        """Return the name of an errno."""
        value = self.at(steps)
        if isinstance(value, str) and value in errno_names():
            return value
        if value == 0 and not isinstance(value, bool):
            message = "errno 0 tells the program that the call succeeded, though nothing was done"
            self.fault("errno-zero", message, steps, "a name of errno(3), like EPERM or ENOSYS")
            return None
        hint = did_you_mean(str(value), errno_names()) or "a name of errno(3), like ENOSYS"
        self.fault("bad-errno", f"`{value}` is no errno", steps, hint)
        return None

    def only(self, steps: Steps) -> Only:
        """Return the condition that `only` states."""
        found = self.keys(steps, "`only`", ("architectures", "capabilities"))
        architectures = [
            self._one_of((*steps, "architectures"), item, ARCHITECTURE_NAMES, "architecture", str)
            for item in (self.items((*steps, "architectures")) if "architectures" in found else ())
        ]
        capabilities = [
            self._one_of((*steps, "capabilities"), item, _CAPABILITIES, "capability", _with_cap)
            for item in (self.items((*steps, "capabilities")) if "capabilities" in found else ())
        ]
        if isinstance(self.at(steps), dict) and not found:
            self.fault("missing-key", "`only` needs `architectures` or `capabilities`", steps, key=True)
        return Only(
            frozenset(ARCHITECTURE_NAMES[a] for a in architectures if a),
            frozenset(filter(None, capabilities)),
        )

    def number(self, steps: Steps, architectures: Iterable[str]) -> dict[str, int] | None:
        """Return a value on each architecture: a number, a constant, or several joined by `|`."""
        value = self.at(steps)
        if isinstance(value, int) and not isinstance(value, bool):
            return dict.fromkeys(architectures, int(value))
        if not isinstance(value, str) or not value:
            self.fault("wrong-type", "a value is a number or the name of a constant, like AF_INET", steps)
            return None
        found = dict.fromkeys(architectures, 0)
        for part in value.split("|"):
            part = part.strip()
            for architecture in found:
                number = _number(part, architecture)
                if number is None:
                    self._unknown_constant(part, architecture, steps)
                    return None
                found[architecture] |= number
        return found

    def shown(self, steps: Steps) -> str:
        """A value as the source has it."""
        value = self.at(steps)
        return getattr(value, "text", "") or str(value)

    def _unknown_constant(self, name: str, architecture: str, steps: Steps) -> None:
        if name in names():
            there = [text for text, oci in ARCHITECTURE_NAMES.items() if name in constants(oci)]
            lacks = next(text for text, oci in ARCHITECTURE_NAMES.items() if oci == architecture)
            hint = f"limit the entry: only: {{architectures: [{', '.join(there)}]}}"
            self.fault("unknown-constant", f"`{name}` does not exist on {lacks}", steps, hint)
            return
        hint = did_you_mean(name, names()) or "a number always works"
        self.fault("unknown-constant", f"unknown constant `{name}`", steps, hint)

    def _one_of(
        self, top: Steps, item: Steps, known: Iterable[str], what: str, spelled: Callable[[str], str]
    ) -> str:
        value = self.at(item)
        text = spelled(value) if isinstance(value, str) else ""
        if text in known:
            return text
        shown = ", ".join(known) if len(list(known)) < 5 else f"{what} names are in capabilities(7)"
        hint = did_you_mean(text, known) or f"one of: {shown}"
        self.fault(f"unknown-{what}", f"unknown {what} `{value}`", item, hint)
        return ""

    def _text(self, steps: Steps, what: str, fits: Callable[[str], bool]) -> str:
        value = self.at(steps)
        text = value.strip() if isinstance(value, str) else ""
        if text and fits(text):
            return text
        where = f"`{steps[-1]}`" if isinstance(steps[-1], str) else "an entry of this list"
        self.fault("wrong-type", f"{where} must be {what}", steps)
        return ""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint with the known word that was most likely meant, or None."""
    meant = suggest(word, known)
    return f"did you mean `{meant}`?" if meant else None


_CAPABILITIES = tuple(f"CAP_{name}" for name in CAPABILITIES)


def _with_cap(name: str) -> str:
    return f"CAP_{name.upper().removeprefix('CAP_')}"


def _number(text: str, architecture: str) -> int | None:
    known = constants(architecture)
    if text in known:
        return known[text]
    try:
        return int(text, 0)
    except ValueError:
        return None
