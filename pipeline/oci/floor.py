"""The floor: what a runtime itself calls under a container's filter, between loading it and the program.

`specs/seccomp/floors.json` holds what was measured (`doit floor`); here it is read, and added to profiles as
the group `runtime`. Whether a call is needed depends on the runtime's version and on noNewPrivileges: without
it, the filter comes earlier and also judges the dropping of ids and capabilities (config-linux.md, seccomp).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, PipelineErrors, Place, suggest
from pipeline.files import canonical_json, compact_json, read_json, sha256_bytes

if TYPE_CHECKING:
    from pipeline.oci.seccomp import Profile
    from pipeline.yamlnodes import Document, Steps

GROUP = "runtime"
"""The group's name in every compiled profile."""

NEEDED, SOMETIMES, SEEN = "needed", "sometimes", "seen"
"""Without it no start succeeds; some fail (or may: Go's scheduler); it was called and may be refused."""

VERSION = 1
_WORDS = (NEEDED, SOMETIMES, SEEN)
_KEYS = frozenset({"runtime", "version", "sha256", "architecture", "kernel", "source", "calls"})
_QUIET, _PRIVILEGED = "no_new_privileges", "privileged"
_NONE = "none"
# The group of calls that a source leaves to be answered ENOSYS (see seccomp_source).
_PROBED = "probed"

Calls = Mapping[str, str]


@dataclass(frozen=True)
class Floor:
    """What one program needs: by noNewPrivileges, each call and how much it is needed.

    `sha256` is the program's, empty for what is only documented; `source` is `measured` or says where the
    figures come from. `kernel` is a note.
    """

    runtime: str
    version: str
    calls: Mapping[bool, Calls]
    sha256: str = ""
    architecture: str = ""
    kernel: str = ""
    source: str = "measured"

    @property
    def label(self) -> str:
        """The runtime with its version."""
        return f"{self.runtime} {self.version}"

    def wanted(self, *, no_new_privileges: bool) -> frozenset[str]:
        """The calls without which some start fails."""
        calls = self.calls.get(no_new_privileges, {})
        return frozenset(name for name, how in calls.items() if how != SEEN)

    def of_kind(self, how: str, *, no_new_privileges: bool) -> frozenset[str]:
        """The calls of one kind: `needed`, `sometimes` or `seen`."""
        calls = self.calls.get(no_new_privileges, {})
        return frozenset(name for name, found in calls.items() if found == how)

    def to_json(self) -> dict[str, Any]:
        """The entry as floors.json has it."""
        return {
            "runtime": self.runtime,
            "version": self.version,
            "sha256": self.sha256,
            "architecture": self.architecture,
            "kernel": self.kernel,
            "source": self.source,
            "calls": {(_QUIET if quiet else _PRIVILEGED): dict(c) for quiet, c in self.calls.items()},
        }


def read_floors(path: Path) -> tuple[Floor, ...]:
    """Read floors.json; an absent file has none. Raises PipelineError `bad-floors` or `bad-json`."""
    try:
        document = read_json(path)
    except FileNotFoundError:
        return ()
    if not isinstance(document, dict) or document.get("version") != VERSION or "floors" not in document:
        raise _bad(path, f"it must hold `version` {VERSION} and `floors`")
    return tuple(_entry(value, path) for value in document["floors"])


def content(floors: Iterable[Floor]) -> bytes:
    """Return the file's canonical bytes."""
    return canonical_json({"version": VERSION, "floors": [floor.to_json() for floor in _ordered(floors)]})


def _ordered(floors: Iterable[Floor]) -> list[Floor]:
    return sorted(floors, key=lambda f: (f.runtime, numbers(f.version), f.version, f.sha256))


def merged(floors: Iterable[Floor], new: Floor) -> tuple[Floor, ...]:
    """Return the floors with `new` in the place of the entry for the same program."""
    kept = [f for f in floors if (f.runtime, f.version, f.sha256) != (new.runtime, new.version, new.sha256)]
    return (*kept, new)


def relevant(floors: Iterable[Floor]) -> str:
    """Return a digest of what profiles and judgements depend on: no notes, and no order."""
    values = sorted(
        (f.runtime, f.version, f.sha256, *(sorted(f.wanted(no_new_privileges=q)) for q in (True, False)))
        for f in floors
    )
    return sha256_bytes(compact_json(values))


def names(floors: Iterable[Floor]) -> frozenset[str]:
    """Return the runtimes that have a floor."""
    return frozenset(floor.runtime for floor in floors)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's first numbers, to compare: `1.1.5+ds1` is (1, 1, 5)."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("+")[0])[:3])


def floor_of(floors: Iterable[Floor], runtime: str, version: str, sha256: str) -> tuple[Floor | None, bool]:
    """Return the floor to judge a runtime by, and whether it was measured with this very program.

    Else the same version's; else the newest that is not newer; else the oldest that there is. `sha256` is
    the program's, or the first digits of it.
    """
    own = sorted((f for f in floors if f.runtime == runtime), key=lambda f: numbers(f.version))
    exact = [f for f in own if f.version == version and sha256 and f.sha256.startswith(sha256)]
    if exact:
        return exact[0], True
    older = [f for f in own if numbers(f.version) <= numbers(version)]
    near = older[-1:] or own[:1]
    return (near[0] if near else None), False


# What a profile's source says of it ------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """The runtimes whose floors a profile takes in; None means all. `document` gives errors their places."""

    runtimes: tuple[str, ...] | None = None
    document: Document | None = None

    def takes(self, runtime: str) -> bool:
        """True when this runtime's floor belongs to the profile."""
        return self.runtimes is None or runtime in self.runtimes

    def place(self, steps: Steps) -> Place | None:
        """Where something stands in the source."""
        return self.document.place(steps) if self.document else None


def read_wanted(source: bytes, path: str, known: Iterable[str]) -> Wanted:
    """Return what a source's `floor` asks for: `none`, or a list of runtimes; without it, all.

    `known` are the runtimes that have a floor or could be measured. Raises PipelineErrors with what is
    wrong with it.
    """
    from pipeline.yamlnodes import parse

    document = parse(source, path)
    value = document.value.get("floor") if isinstance(document.value, dict) else None
    if value is None or value == _NONE:
        return Wanted(() if value else None, document)
    if not isinstance(value, list) or not value:
        message = "`floor` is `none`, or a list of the runtimes that the profile is for"
        raise PipelineErrors([PipelineError("wrong-type", message, place=document.place(("floor",)))])
    errors = [_unknown(document, index, str(n), known) for index, n in enumerate(value) if n not in known]
    if errors:
        raise PipelineErrors(errors)
    return Wanted(tuple(value), document)


def with_floor(profile: Profile, floors: Sequence[Floor], wanted: Wanted) -> Profile:
    """Return the profile with the group `runtime`: what the wanted runtimes need and no group allows yet.

    A call that a group allows under conditions stays as its author wrote it. Raises PipelineErrors:
    `floor-denied` for each call that the source denies, `reserved-group`, `no-floor`.
    """
    calls = union(floors, wanted)
    errors = [*_reserved(profile, wanted), *_denied(profile, calls, wanted), *_lacking(floors, wanted)]
    if errors:
        raise PipelineErrors(errors)
    if not calls:
        return profile
    # What is answered ENOSYS only because programs try it first gives way to what a runtime needs.
    kept = tuple(rule for rule in profile.rules if rule.group != _PROBED or rule.name not in calls)
    profile = replace(profile, rules=kept)
    there = {rule.name for rule in kept}
    labels = ", ".join(dict.fromkeys(f.label for f in _ordered(floors) if wanted.takes(f.runtime)))
    reason = f"what {labels} call between loading the filter and starting a program"
    return profile.with_group(GROUP, reason, calls.keys() - there)


def union(floors: Iterable[Floor], wanted: Wanted) -> dict[str, list[str]]:
    """Return each call that one of the wanted runtimes needs, with the runtimes that do.

    Bundles of this project always have noNewPrivileges, so what is needed without it does not count.
    """
    found: dict[str, list[str]] = {}
    for floor in _ordered(floors):
        if wanted.takes(floor.runtime):
            for name in sorted(floor.wanted(no_new_privileges=True)):
                found.setdefault(name, [])
                if floor.label not in found[name]:
                    found[name].append(floor.label)
    return dict(sorted(found.items()))


def _reserved(profile: Profile, wanted: Wanted) -> Iterator[PipelineError]:
    if GROUP in profile.groups and wanted.runtimes != ():
        yield PipelineError(
            "reserved-group",
            f"the group `{GROUP}` is what runtimes need, and is added from floors.json",
            place=wanted.document.key(("groups", GROUP)) if wanted.document else None,
            hint="remove it, or give it another name; `floor: none` adds nothing",
        )


def _denied(profile: Profile, calls: Mapping[str, list[str]], wanted: Wanted) -> Iterator[PipelineError]:
    allowed = {rule.name for rule in profile.rules if rule.error is None}
    denied = {r.name for r in profile.rules if r.error is not None and r.group != _PROBED}
    for name in sorted(calls.keys() & denied - allowed):
        places = list(_denials(wanted, name))
        yield PipelineError(
            "floor-denied",
            f"`{name}` is denied, and {', '.join(calls[name])} cannot start a program without it",
            place=places[0] if places else None,
            hint="remove the denial, or say which runtimes the profile is for, as in `floor: [crun]`",
        )


def _denials(wanted: Wanted, name: str) -> Iterator[Place]:
    """The places below `deny` where a call is named."""
    document = wanted.document
    top = document.value.get("deny") if document else None

    def walk(value: Any, steps: Steps) -> Iterator[Steps]:
        children = value.items() if isinstance(value, dict) else ()
        for step, child in enumerate(value) if isinstance(value, list) else children:
            yield from walk(child, (*steps, step))
        if value == name:
            yield steps

    if document is not None:
        yield from (document.place(steps) for steps in walk(top, ("deny",)))


def _lacking(floors: Sequence[Floor], wanted: Wanted) -> Iterator[PipelineError]:
    known = {floor.runtime for floor in floors}
    for index, name in enumerate(wanted.runtimes or ()):
        if name not in known:
            yield PipelineError(
                "no-floor",
                f"what {name} needs was never measured",
                place=wanted.place(("floor", index)),
                hint=f"doit floor {name}",
            )


def _unknown(document: Document, index: int, name: str, known: Iterable[str]) -> PipelineError:
    known = sorted(known)
    meant = suggest(name, known)
    hint = f"did you mean `{meant}`?" if meant else f"there are {', '.join(known)}"
    return PipelineError(
        "unknown-runtime", f"there is no runtime `{name}`", place=document.place(("floor", index)), hint=hint
    )


# The file ------------------------------------------------------------------------------------------


def _entry(value: Any, path: Path) -> Floor:
    if not isinstance(value, dict) or set(value) != _KEYS:
        raise _bad(path, f"an entry must hold {', '.join(sorted(_KEYS))}, nothing else")
    texts = {key: value[key] for key in _KEYS - {"calls"}}
    calls = value["calls"]
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(calls, dict):
        raise _bad(path, "an entry's values must be texts, and its `calls` an object")
    for mode, listed in calls.items():
        fits = mode in (_QUIET, _PRIVILEGED) and isinstance(listed, dict)
        if not fits or any(how not in _WORDS for how in listed.values()):
            raise _bad(path, f"`calls` maps {_QUIET} and {_PRIVILEGED} to calls, each {', '.join(_WORDS)}")
    return Floor(calls={mode == _QUIET: dict(listed) for mode, listed in calls.items()}, **texts)


def _bad(path: Path, message: str) -> PipelineError:
    return PipelineError(
        "bad-floors",
        f"the file of floors is damaged: {message}",
        place=Place(str(path)),
        hint="restore it from git, or remove it and run `doit floor`",
    )
