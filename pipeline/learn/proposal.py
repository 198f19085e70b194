"""From a trace to a source in the seccomp language: the groups of the shipped ones where a call is in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.learn.recorded import REFUSED, Trace
from pipeline.oci.seccomp import Profile
from pipeline.oci.seccomp_constants import constants
from pipeline.oci.seccomp_tables import (
    ARCHITECTURE_NAMES,
    ESCAPES,
    MULTIPLEXED,
    NAMESPACE_FLAGS,
    NEWER_FORMS,
    PROBED,
)

SEEN, ALWAYS, VDSO, FORMS = "seen", "always", "vdso", "other-forms"
_OWN_GROUPS = {
    SEEN: "seen, and in no group of another source",
    ALWAYS: "not seen; how any program ends, and what the kernel has it call after a signal",
    VDSO: "not seen; the clock where the kernel gives it no shortcut (vdso(7)), and in sandboxes without one",
    FORMS: "not seen; older or newer forms of calls that were, as another libc or architecture has them",
}
_VDSO_CALLS = ("clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time")  # vdso(7)
# A signal may come at any time and its handler returns by rt_sigreturn(2); a call that a stop and a
# continuation broke off goes on by restart_syscall(2).
_ALWAYS_CALLS = ("exit", "exit_group", "restart_syscall", "rt_sigreturn")
# Where the newer form was seen, no libc of today calls these, or they are something else on x86_64.
_NOT_BACK = frozenset(
    "alarm arch_prctl creat epoll_create eventfd futimesat getdents getrlimit inotify_init mknod pause "
    "setrlimit signalfd time utime utimes".split()
)
# Newer calls that a libc tries before the older (glibc, musl), beside those of NEWER_FORMS.
_FORMS = (
    *((old, new) for old, new in NEWER_FORMS.items() if old != "arch_prctl"),
    *(("stat", "statx"), ("fstat", "statx"), ("lstat", "statx"), ("newfstatat", "statx")),
    *(("access", "faccessat2"), ("faccessat", "faccessat2"), ("epoll_pwait", "epoll_pwait2")),
    *(("preadv", "preadv2"), ("pwritev", "pwritev2"), ("accept", "accept4"), ("renameat", "renameat2")),
    *(("getrlimit", "prlimit64"), ("setrlimit", "prlimit64"), ("nanosleep", "clock_nanosleep")),
)
_AF_NETLINK = 16
# Of several names of one number, the one that is written; the others are older.
_USUAL = ("AF_UNIX", "AF_NETLINK")
# No sign of YAML at its start, and none within that needs a blank beside it.
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9,;.()/ -]*[A-Za-z0-9.)])?")
_NO_TEXT = frozenset("null true false yes no on off y n".split())
_SHOWN_PROCESSES = 4
_SHOWN_VALUES = 8
_LINE = 116


@dataclass(frozen=True)
class Proposal:
    """A source for what was seen; `calls` it allows; `refused` and `left` are named in comments alone."""

    text: str
    calls: tuple[str, ...]
    refused: tuple[str, ...]


def propose(trace: Trace, sources: Sequence[Profile], known: Callable[[str], bool]) -> Proposal:
    """Return the source that allows what a trace saw, in the groups of `sources`, the first before others.

    `known` says whether a source may name a call.
    """
    calls: Mapping[str, Mapping[str, Any]] = trace["calls"]
    needed = [name for name in calls if _allowed(name, calls[name]) and known(name)]
    groups, reasons = _groups(needed, sources)
    for group, more_calls in ((ALWAYS, _ALWAYS_CALLS), (VDSO, _VDSO_CALLS)):
        for name in more_calls:
            if name not in needed:
                groups.setdefault(group, []).append(name)
    listed = {name for names in groups.values() for name in names}
    more = sorted({form for form in _forms(needed) if form not in listed and known(form)})
    if more:
        groups[FORMS] = more
    absent = sorted(n for n in calls if known(n) and n not in needed and _absent(n, calls[n]))
    # What a libc tries first is answered as it was here.
    refused = sorted(set(calls) - {*needed, *absent, *PROBED})
    lines = [*_head(trace, refused), *_body(groups, reasons, calls), *_denied(absent)]
    allowed = tuple(sorted(name for names in groups.values() for name in names))
    return Proposal("\n".join(lines) + "\n", allowed, tuple(refused))


def _allowed(name: str, entry: Mapping[str, Any]) -> bool:
    """True for a call that came to something, be it an error, and is no way out."""
    if name in ESCAPES or name in MULTIPLEXED or name == "clone3":
        return False
    refusals = sum(count for error, count in entry["errors"].items() if error in REFUSED)
    return bool(refusals < entry["count"])


def _absent(name: str, entry: Mapping[str, Any]) -> bool:
    """True for a call that this kernel has not: whoever asks must go on being told so, and not EPERM."""
    probed = name in PROBED or name in ESCAPES or name in MULTIPLEXED
    return not probed and entry["errors"].get("ENOSYS", 0) == entry["count"]


def _forms(needed: Iterable[str]) -> Iterator[str]:
    there = set(needed)
    for old, new in _FORMS:
        if old in there:
            yield new
        if new in there and old not in _NOT_BACK:
            yield old


def _groups(needed: Iterable[str], sources: Sequence[Profile]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The needed calls by group, groups in the order of the sources; and the groups' reasons."""
    place: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for profile in sources:
        for group, found in profile.calls_by_group().items():
            # A group of what was not seen says so of calls that were.
            if found["reason"].startswith("not seen") or group in _OWN_GROUPS:
                continue
            reasons.setdefault(group, found["reason"])
            for name in found["calls"]:
                place.setdefault(name, group)
    groups: dict[str, list[str]] = {group: [] for group in (*reasons, SEEN)}
    for name in sorted(needed):
        groups[place.get(name, SEEN)].append(name)
    return {group: names for group, names in groups.items() if names}, {**reasons, **_OWN_GROUPS}


def _head(trace: Trace, refused: Sequence[str]) -> Iterator[str]:
    runs = trace["runs"]
    ways = sorted({f"{run['runtime']} ({run['recording']}, {run['architecture']})" for run in runs})
    number = f"{len(runs)} run{'s' if len(runs) != 1 else ''}"
    yield from _comment(f"Proposed by `doit trace:{trace['bundle']}` from {number} under {', '.join(ways)}.")
    yield from _comment(
        "What no run came to is not in it: read it before you use it. What the runtimes themselves need is "
        "added from floors.json."
    )
    if refused:
        yield from _comment(f"Seen and left out, since it was refused each time: {', '.join(refused)}.")
    yield ""
    yield f"description: what {trace['bundle']} was seen to call"
    yield ""
    yield "# clone3 and other calls that programs try first are answered ENOSYS by themselves."
    yield "default: {action: errno, errno: EPERM}"
    yield ""
    yield "groups:"


def _comment(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + len(word) + 1 > _LINE:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def _body(
    groups: Mapping[str, list[str]], reasons: Mapping[str, str], calls: Mapping[str, Any]
) -> Iterator[str]:
    for index, (group, names) in enumerate(groups.items()):
        if index:
            yield ""
        yield f"  {group}:"
        yield f"    reason: {_text(reasons[group])}"
        yield "    allow:"
        for name in names:
            entry = calls.get(name) if group not in (ALWAYS, VDSO, FORMS) else None
            yield from _entry(name, entry)


def _text(reason: str) -> str:
    """A reason as YAML that means nothing but itself: in quotes where it is not plainly words."""
    if _PLAIN.fullmatch(reason) and reason.lower() not in _NO_TEXT:
        return reason
    return "'" + reason.replace("'", "''") + "'"


def _entry(name: str, entry: Mapping[str, Any] | None) -> Iterator[str]:
    note = f"  # {_seen(name, entry)}" if entry else ""
    tests = list(_tests(name, entry))
    if not tests:
        yield f"      - {name}{note}"
    for at, test in enumerate(tests):
        yield f"      - name: {name}{note if at == 0 else ''}"
        yield f"        arguments: [{test}]"


def _tests(name: str, entry: Mapping[str, Any] | None) -> Iterator[str]:
    """The conditions of each entry of a call; none where it is allowed whatever its arguments."""
    values = entry["values"] if entry else {}
    if name == "clone":
        flags = (flag for flag, bit in constants(_HERE).items() if flag.startswith("CLONE_NEW"))
        kept = sorted(flag for flag in flags if constants(_HERE)[flag] & NAMESPACE_FLAGS)
        yield f"{{argument: 0, without: [{', '.join(kept)}]}}"
    elif name in ("socket", "socketpair"):
        families = sorted(int(value) for value in values.get("family", {}))
        protocols = sorted(int(value) for value in values.get("netlink", {}))
        plain = [family for family in families if family != _AF_NETLINK or not protocols]
        if plain:
            yield f"{{argument: 0, in: [{', '.join(map(_family, plain))}]}}"
        if protocols:
            words = ", ".join(_named("NETLINK_", protocol) for protocol in protocols)
            yield f"{{argument: 0, eq: AF_NETLINK}}, {{argument: 2, in: [{words}]}}"
    elif name == "personality" and values.get("persona"):
        yield f"{{argument: 0, in: [{', '.join(hex(int(value)) for value in values['persona'])}]}}"


_HERE = next(iter(ARCHITECTURE_NAMES.values()))


def _family(number: int) -> str:
    return _named("AF_", number)


def _named(prefix: str, number: int) -> str:
    """The constant of that value, or the number where there is none; the same on every architecture."""
    names = [name for name, value in constants(_HERE).items() if name.startswith(prefix) and value == number]
    usual = [name for name in names if name in _USUAL]
    return (usual or sorted(names) or [str(number)])[0]


def _seen(name: str, entry: Mapping[str, Any]) -> str:
    """What was seen of a call, for a comment: how often, by whom, with what arguments and errors."""
    processes = sorted(entry["processes"], key=lambda who: (-entry["processes"][who], who))
    shown = ", ".join(processes[:_SHOWN_PROCESSES])
    rest = len(processes) - _SHOWN_PROCESSES
    words = [f"{entry['count']} by {shown}{f' and {rest} more' if rest > 0 else ''}"]
    for kind, counts in entry["values"].items():
        if (name, kind) not in (("socket", "family"), ("socketpair", "family"), ("socket", "netlink")):
            values = [hex(int(value)) for value in counts]
            more = " …" if len(values) > _SHOWN_VALUES else ""
            words.append(f"{kind} {' '.join(values[:_SHOWN_VALUES])}{more}")
    if entry["errors"]:
        words.append(" ".join(entry["errors"]))
    return "; ".join(words)


def _denied(absent: Sequence[str]) -> Iterator[str]:
    if absent:
        yield ""
        yield "deny:"
        yield "  - errno: ENOSYS"
        yield "    reason: asked for, and this kernel has none of it"
        yield f"    names: [{', '.join(absent)}]"
