"""Read the seccomp language (`specs/seccomp/NAME.yaml`) into a Profile, with every mistake at its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.errors import PipelineError, PipelineErrors, Place, suggest
from pipeline.oci.seccomp import ArgumentTest, Profile, Rule, SyscallTable, errno_names
from pipeline.oci.seccomp_mistakes import mistakes
from pipeline.oci.seccomp_tables import CONSTANTS, INTEGER_ARGUMENTS, LOW_32_BITS
from pipeline.yamlnodes import Document, Steps, parse

_GROUP_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TOP = ("description", "default", "groups", "deny")
_LAST_ARGUMENT = 5


def read_profile(content: bytes, path: str, table: SyscallTable) -> Profile:
    """Return the profile that a source describes.

    `path` is what errors call the file. Raises PipelineErrors with every mistake in it, each at its
    line and column.
    """
    reader = _Reader(parse(content, path), table)
    profile = reader.profile()
    errors = [*reader.errors, *mistakes(reader.rules, table)]
    if errors:
        raise PipelineErrors(errors)
    return profile


class _Reader:
    """One pass over one source; mistakes are collected and reading goes on after each."""

    def __init__(self, document: Document, table: SyscallTable) -> None:
        self.document = document
        self.table = table
        self.errors: list[PipelineError] = []
        self.groups: dict[str, str] = {}
        self.rules: list[tuple[Rule, Place]] = []

    def profile(self) -> Profile:
        top = self._keys((), "a profile", _TOP, required=("description", "groups"))
        description = self._line(("description",)) if "description" in top else ""
        default = self._default() if "default" in top else "EPERM"
        for name in self._names_of_groups() if "groups" in top else ():
            self._group(name)
        for steps in self._items(("deny",)) if "deny" in top else ():
            self._deny(steps)
        return Profile(description, default, self.groups, tuple(rule for rule, _ in self.rules))

    def _default(self) -> str:
        keys = self._keys(("default",), "`default`", ("action", "errno"), required=("action",))
        if keys.get("action", "errno") != "errno":
            self._fault(
                "bad-action",
                f"the default action cannot be `{keys['action']}`",
                ("default", "action"),
                "write `errno`: killing a thread hangs a program, and allowing by default is no profile",
            )
        return (self._errno(("default", "errno")) if "errno" in keys else None) or "EPERM"

    def _names_of_groups(self) -> Iterator[str]:
        groups = self._at(("groups",))
        if not isinstance(groups, dict) or not groups:
            message = "`groups` maps the name of a group to its `reason` and `allow`"
            self._fault("wrong-type", message, ("groups",))
            return
        for name in groups:
            if not _GROUP_NAME.fullmatch(name):
                hint = "small letters, digits and dashes, like `file-names`"
                message = f"`{name}` is no name for a group"
                self._fault("bad-group-name", message, ("groups", name), hint, key=True)
            yield name

    def _group(self, name: str) -> None:
        top = ("groups", name)
        keys = self._keys(top, f"group `{name}`", ("reason", "allow"), required=("reason", "allow"))
        self.groups[name] = self._line((*top, "reason")) if "reason" in keys else ""
        for steps in self._items((*top, "allow")) if "allow" in keys else ():
            self._allow(name, steps)

    def _allow(self, group: str, steps: Steps) -> None:
        entry = self._at(steps)
        if not isinstance(entry, dict):
            self._rule(Rule(self._word(steps), group), steps)
            return
        keys = self._keys(steps, "an entry", ("name", "reason", "arguments"), required=("name",))
        name = self._word((*steps, "name")) if "name" in keys else ""
        reason = self._line((*steps, "reason")) if "reason" in keys else ""
        before = len(self.errors)
        tests = tuple(self._tests(name, (*steps, "arguments"))) if "arguments" in keys else ()
        # An entry whose arguments are wrong would only be judged for what it does not say.
        if len(self.errors) == before:
            self._rule(Rule(name, group, None, tests, reason), (*steps, "name"))

    def _deny(self, steps: Steps) -> None:
        wanted = ("errno", "reason", "names")
        keys = self._keys(steps, "an entry of `deny`", wanted, required=wanted)
        error = (self._errno((*steps, "errno")) if "errno" in keys else None) or "EPERM"
        reason = self._line((*steps, "reason")) if "reason" in keys else ""
        for name in self._items((*steps, "names")) if "names" in keys else ():
            self._rule(Rule(self._word(name), "deny", error, (), reason), name)

    def _rule(self, rule: Rule, steps: Steps) -> None:
        if rule.name:
            self.rules.append((rule, self.document.place(steps)))

    def _tests(self, syscall: str, steps: Steps) -> Iterator[ArgumentTest]:
        seen: set[int] = set()
        for item in self._items(steps):
            keys = self._keys(item, "an argument rule", ("argument", "in", "without"), required=("argument",))
            index = self._index((*item, "argument")) if "argument" in keys else None
            if ("in" in keys) == ("without" in keys):
                self._fault("bad-argument", "an argument rule needs either `in` or `without`", item)
            elif index in seen:
                self._fault("bad-argument", f"argument {index} is tested twice in one entry", item)
            elif index is not None:
                seen.add(index)
                yield self._without(item, index) if "without" in keys else self._in(syscall, item, index)

    def _without(self, item: Steps, index: int) -> ArgumentTest:
        words = self._constants((*item, "without"))
        mask = 0
        for value in words.values():
            mask |= value
        if not mask:
            self._fault("bad-argument", "`without` needs at least one flag that is not 0", (*item, "without"))
        # Only the named bits are looked at, so no other bit can change the answer.
        return ArgumentTest(index, mask, (0,), f"argument {index} without {', '.join(words)}")

    def _in(self, syscall: str, item: Steps, index: int) -> ArgumentTest:
        words = self._constants((*item, "in"))
        if (syscall, index) not in INTEGER_ARGUMENTS:
            self._fault(
                "bad-argument",
                f"argument {index} of `{syscall}` is not known to be an integer of 32 bits",
                (*item, "argument"),
                "a filter sees 64 bits, so what the kernel reads must be known; `without` tests single bits",
            )
        values = tuple(sorted({value & LOW_32_BITS for value in words.values()}))
        return ArgumentTest(index, LOW_32_BITS, values, f"argument {index} in {', '.join(words)}")

    # Values

    def _index(self, steps: Steps) -> int | None:
        value = self._at(steps)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_ARGUMENT:
            return int(value)
        self._fault("bad-argument", f"`argument` is a number from 0 to {_LAST_ARGUMENT}", steps)
        return None

    def _constants(self, steps: Steps) -> dict[str, int]:
        found = {}
        for item in self._items(steps):
            value = self._at(item)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LOW_32_BITS:
                found[getattr(value, "text", "") or str(value)] = int(value)
            elif value in CONSTANTS:
                found[value] = CONSTANTS[value]
            else:
                hint = _did_you_mean(str(value), CONSTANTS) or "a number of 32 bits always works"
                self._fault("unknown-constant", f"unknown constant `{value}`", item, hint)
        return found

    def _errno(self, steps: Steps) -> str | None:
        value = self._at(steps)
        if isinstance(value, str) and value in errno_names():
            return value
        hint = _did_you_mean(str(value), errno_names()) or "a name of errno(3), like ENOSYS"
        self._fault("bad-errno", f"`{value}` is no errno", steps, hint)
        return None

    def _word(self, steps: Steps) -> str:
        return self._text(steps, "the name of a syscall", lambda text: not re.search(r"\s", text))

    def _line(self, steps: Steps) -> str:
        return self._text(steps, "one line of text", lambda text: "\n" not in text)

    def _text(self, steps: Steps, what: str, fits: Callable[[str], bool]) -> str:
        value = self._at(steps)
        text = value.strip() if isinstance(value, str) else ""
        if text and fits(text):
            return text
        where = f"`{steps[-1]}`" if isinstance(steps[-1], str) else "an entry of this list"
        self._fault("wrong-type", f"{where} must be {what}", steps)
        return ""

    # Lists and mappings

    def _keys(
        self, steps: Steps, what: str, known: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        found = self._at(steps)
        if not isinstance(found, dict):
            self._fault("wrong-type", f"{what} is a mapping with {', '.join(f'`{k}`' for k in known)}", steps)
            return {}
        for name in required:
            if name not in found:
                self._fault("missing-key", f"{what} needs `{name}`", steps, key=True)
        for name in found:
            if name not in known and not name.startswith("x-"):
                hint = _did_you_mean(name, known) or f"{what} has {', '.join(known)}"
                self._fault("unknown-key", f"unknown key `{name}`", (*steps, name), hint, key=True)
        return {name: value for name, value in found.items() if name in known}

    def _items(self, steps: Steps) -> list[Steps]:
        value = self._at(steps)
        if isinstance(value, list) and value:
            return [(*steps, index) for index in range(len(value))]
        self._fault("wrong-type", f"`{steps[-1]}` must be a list with at least one entry", steps)
        return []

    def _at(self, steps: Steps) -> Any:
        value: Any = self.document.value
        for step in steps:
            value = value[step]
        return value

    def _fault(
        self, code: str, message: str, steps: Steps, hint: str | None = None, key: bool = False
    ) -> None:
        place = self.document.key(steps) if key else self.document.place(steps)
        self.errors.append(PipelineError(code, message, place=place, hint=hint))


def _did_you_mean(word: str, known: Iterable[str]) -> str | None:
    meant = suggest(word, known)
    return f"did you mean `{meant}`?" if meant else None
