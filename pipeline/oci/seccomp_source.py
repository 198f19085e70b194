"""Read the seccomp language (`specs/seccomp/NAME.yaml`) into a Profile, with every mistake at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.errors import PipelineError, PipelineErrors, Place, suggest
from pipeline.oci.seccomp import Only, Profile, Rule, SyscallTable
from pipeline.oci.seccomp_entries import Placed, allowed, denied
from pipeline.oci.seccomp_extends import extended
from pipeline.oci.seccomp_mistakes import mistakes, warnings
from pipeline.oci.seccomp_reader import Reader, did_you_mean
from pipeline.oci.seccomp_tables import ARCHITECTURE_NAMES, PROBED
from pipeline.yamlnodes import Document, Steps, parse

_GROUP_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TOP = ("description", "extends", "default", "floor", "drop", "groups", "deny")
_KILLS = ("kill", "kill_thread", "scmp_act_kill", "scmp_act_kill_thread")
_PROBED = "probed"


@dataclass
class _Draft:
    """What a chain of sources says so far, each over the one that it extends."""

    description: str = ""
    default_error: str = "EPERM"
    probed: list[Placed] | None = None
    groups: dict[str, str] = field(default_factory=dict)
    rules: list[Placed] = field(default_factory=list)


def read_profile(
    content: bytes, path: str, table: SyscallTable, others: Mapping[str, bytes] | None = None
) -> Profile:
    """Return the profile that a source describes.

    `path` is what errors call the file, `others` the sources beside it by name, for `extends`. Raises
    PipelineErrors with every mistake in it and in those that it extends, each at its line and column.
    """
    draft, errors = _Draft(), []
    for reader in _chain(content, path, others or {}):
        _read(reader, draft)
        errors += reader.errors
    placed = [*draft.rules, *_probed(draft, path)]
    errors += mistakes(placed, table, draft.default_error)
    if errors:
        raise PipelineErrors(errors)
    rules = tuple(rule for rule, _ in placed)
    found = tuple(warnings(placed, table))
    return Profile(draft.description, draft.default_error, draft.groups, rules, found)


def _chain(content: bytes, path: str, others: Mapping[str, bytes]) -> list[Reader]:
    """The sources from the first base to `path` itself. Raises PipelineErrors where that cannot be known."""
    folder, _, file = path.rpartition("/")
    seen = [file.removesuffix(".yaml")]
    chain = [Reader(parse(content, path))]
    while "extends" in chain[0].document.value:
        reader = chain[0]
        base = _base(reader.document, seen[-1], others)
        if base in seen:
            turn = " -> ".join([*seen[seen.index(base) :], base])
            message = f"profiles extend each other in a circle: {turn}"
            raise _refused(reader, "extends-cycle", message, "one of them must stand alone")
        seen.append(base)
        shown = f"{folder}/{base}.yaml" if folder else f"{base}.yaml"
        chain.insert(0, Reader(parse(others[base], shown)))
    return chain


def _base(document: Document, here: str, others: Mapping[str, bytes]) -> str:
    name = document.value["extends"]
    reader = Reader(document)
    if not isinstance(name, str):
        raise _refused(reader, "wrong-type", "`extends` names another profile", "without .yaml")
    place = document.place(("extends",))
    # What is read decides what a stage depends on, and that is found without a parser (`extended`).
    if name not in place.text or name not in extended(f"extends: {name}".encode()):
        raise _refused(reader, "wrong-type", "`extends` must be a plain name", "without .yaml")
    if name not in others and name != here:
        meant = suggest(name, [other for other in others if other != here])
        hint = f"did you mean `{meant}`?" if meant else "it names another file in the same folder"
        raise _refused(reader, "extends-missing", f"there is no profile `{name}`", hint)
    return name


def _refused(reader: Reader, code: str, message: str, hint: str) -> PipelineErrors:
    return PipelineErrors([PipelineError(code, message, place=reader.place(("extends",)), hint=hint)])


def _read(reader: Reader, draft: _Draft) -> None:
    value = reader.document.value
    _refuse_architectures(reader)
    needed = ("description",) if "extends" in value else ("description", "groups")
    top = reader.keys((), "a profile", _TOP, required=needed, told=("architectures",))
    draft.description = reader.line(("description",)) if "description" in top else ""
    if "default" in top:
        _default(reader, draft)
    if "drop" in top:
        _drop(reader, draft)
    for name in _names_of_groups(reader) if "groups" in top else ():
        _group(reader, draft, name)
    for steps in reader.items(("deny",)) if "deny" in top else ():
        draft.rules += denied(reader, steps)


def _refuse_architectures(reader: Reader) -> None:
    if "architectures" in reader.document.value:
        message = "a profile is compiled for x86_64 and aarch64, each with its own calls alone"
        hint = (
            "listing x32 or x86 opens a second set of numbers, and socketcall with it;\n"
            "to limit an entry: only: {architectures: [x86_64]}"
        )
        reader.fault("second-convention", message, ("architectures",), hint, key=True)


def _default(reader: Reader, draft: _Draft) -> None:
    keys = reader.keys(("default",), "`default`", ("action", "errno", "probed"))
    action = keys.get("action", "errno")
    if str(action).lower() in _KILLS:
        message = f"`{action}` kills one thread, and the others wait for it for ever"
        hint = "write `errno`: a refused call is then an error that a program can tell"
        reader.fault("kills-thread", message, ("default", "action"), hint)
    elif action != "errno":
        message = f"the default action cannot be `{action}`"
        hint = "write `errno`: what a profile does not name must be refused, and be told so"
        reader.fault("bad-action", message, ("default", "action"), hint)
    if "errno" in keys:
        draft.default_error = reader.errno(("default", "errno")) or "EPERM"
    if "probed" in keys:
        words = reader.items(("default", "probed"), may_be_empty=True)
        rules = [(Rule(reader.word(item), _PROBED, "ENOSYS"), reader.place(item)) for item in words]
        draft.probed = [(rule, place) for rule, place in rules if rule.name]


def _drop(reader: Reader, draft: _Draft) -> None:
    keys = reader.keys(("drop",), "`drop`", ("groups", "names"))
    if "extends" not in reader.document.value:
        message = "there is nothing to drop from: this profile extends no other"
        reader.fault("drop-nothing", message, ("drop",), "remove it, or add `extends`", key=True)
        return
    for item in reader.items(("drop", "groups")) if "groups" in keys else ():
        name = reader.word(item, "the name of a group")
        if name and draft.groups.pop(name, None) is None:
            hint = did_you_mean(name, draft.groups) or f"there are: {', '.join(draft.groups)}"
            reader.fault("drop-nothing", f"the profile that is extended has no group `{name}`", item, hint)
        draft.rules = [(rule, place) for rule, place in draft.rules if rule.group != name]
    for item in reader.items(("drop", "names")) if "names" in keys else ():
        name = reader.word(item)
        there = {rule.name for rule, _ in draft.rules}
        if name and name not in there:
            hint = did_you_mean(name, there) or "remove it"
            reader.fault("drop-nothing", f"the profile that is extended does not name `{name}`", item, hint)
        draft.rules = [(rule, place) for rule, place in draft.rules if rule.name != name]


def _names_of_groups(reader: Reader) -> Iterator[str]:
    groups = reader.at(("groups",))
    if not isinstance(groups, dict) or not groups:
        message = "`groups` maps the name of a group to its `reason` and `allow`"
        reader.fault("wrong-type", message, ("groups",))
        return
    for name in groups:
        if not _GROUP_NAME.fullmatch(name) or name in ("deny", _PROBED):
            hint = "small letters, digits and dashes, like `file-names`"
            message = f"`{name}` is no name for a group"
            reader.fault("bad-group-name", message, ("groups", name), hint, key=True)
        yield name


def _group(reader: Reader, draft: _Draft, name: str) -> None:
    top: Steps = ("groups", name)
    # A group of the profile that is extended goes on with the reason that it has.
    required = ("allow",) if name in draft.groups else ("reason", "allow")
    keys = reader.keys(top, f"group `{name}`", ("reason", "only", "allow"), required=required)
    reason = reader.line((*top, "reason")) if "reason" in keys else draft.groups.get(name, "")
    only = reader.only((*top, "only")) if "only" in keys else Only()
    draft.groups[name] = reason
    for steps in reader.items((*top, "allow")) if "allow" in keys else ():
        draft.rules += allowed(reader, name, steps, only)


def _probed(draft: _Draft, path: str) -> list[Placed]:
    """What is answered ENOSYS because programs try it first: the source's list, or the built-in one.

    Of the latter each where no rule of the source says otherwise.
    """
    if draft.probed is not None:
        return draft.probed
    every = frozenset(ARCHITECTURE_NAMES.values())
    found = []
    for name in PROBED:
        ruled = [rule.only for rule, _ in draft.rules if rule.name == name]
        silent = frozenset(arch for arch in every if not any(only.holds(arch, ()) for only in ruled))
        if silent:
            only = Only() if silent == every else Only(silent)
            found.append((Rule(name, _PROBED, "ENOSYS", only=only), Place(path)))
    return found
