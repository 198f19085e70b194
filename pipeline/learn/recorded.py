"""What traces saw of a program: each call, who made it, how it ended; one run added to those before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.tools.strace import Call

VERSION = 1

REFUSED = frozenset({"ENOSYS", "EPERM"})
"""How a call ends that a filter refuses; what is answered so every time is not needed."""

# clone(2): its flags are the first argument of the call, and the last or second of what strace shows.
_FLAGS = "flags="
_AF_NETLINK = 16  # sys/socket.h
# Which integer arguments tell what a call is for: socket(2), socketpair(2), prctl(2), ioctl(2), fcntl(2),
# personality(2).
_ARGUMENTS = {
    "socket": {"family": 0, "type": 1},
    "socketpair": {"family": 0},
    "prctl": {"option": 0},
    "ioctl": {"request": 1},
    "fcntl": {"command": 1},
    "personality": {"persona": 0},
}
# A process names itself (prctl(2), PR_SET_NAME), and what it is called ends in files and on terminals.
_STRANGE = re.compile(r"[^A-Za-z0-9_.:/+-]")

Trace = dict[str, Any]


def program_calls(calls: Iterable[Call]) -> list[Call]:
    """Return what a program called after it took the runtime's place, with all that it started.

    The calls are those of a process that strace was attached to before that. Empty if it never did.
    """
    found: list[Call] | None = None
    for call in calls:
        if found is not None:
            found.append(call)
        elif call.starts_program:
            found = []
    return found or []


def calls_after_filter(calls: Iterable[Call]) -> list[Call]:
    """Return what a program called that a runtime's `exec` started, from a trace of that runtime.

    A runtime executes itself first, so a program is only what starts under a filter (seccomp(2)). Empty
    if none did.
    """
    bound: set[int] = set()
    ours: set[int] = set()
    found: list[Call] = []
    for call in calls:
        if call.thread in ours:
            found.append(call)
            if call.child is not None:
                ours.add(call.child)
        elif call.loads_filter:
            bound.add(call.thread)
        elif call.thread in bound and call.starts_program:
            ours.add(call.thread)
        elif call.thread in bound and call.child is not None:
            bound.add(call.child)
    return found


def new_trace(bundle: str) -> Trace:
    """Return a trace without a run."""
    return {"version": VERSION, "bundle": bundle, "runs": [], "calls": {}}


def add_run(trace: Trace, run: dict[str, Any], calls: Iterable[Call]) -> Trace:
    """Return the trace with one more run; `run` says how it was made and gets the number of its calls."""
    seen = {name: _counted(entry) for name, entry in trace["calls"].items()}
    total = 0
    for call in calls:
        total += 1
        entry = seen.setdefault(call.name, _counted({}))
        entry["count"]["all"] += 1
        entry["processes"][_STRANGE.sub("?", call.process) or "?"] += 1
        if call.error:
            entry["errors"][call.error] += 1
        if call.error not in REFUSED:
            for kind, value in _values(call):
                entry["values"].setdefault(kind, Counter())[str(value)] += 1
    runs = [*trace["runs"], {**run, "calls": total}]
    return {**trace, "runs": runs, "calls": {name: _plain(seen[name]) for name in sorted(seen)}}


def _values(call: Call) -> Iterator[tuple[str, int]]:
    for kind, index in _ARGUMENTS.get(call.name, {}).items():
        if len(call.arguments) > index and (value := _number(call.arguments[index])) is not None:
            yield kind, value & 0xFFFF_FFFF
    if call.name == "socket" and call.integer(0) == _AF_NETLINK and (protocol := call.integer(2)) is not None:
        yield "netlink", protocol
    if call.name == "clone":
        for argument in call.arguments:
            found = _number(argument.removeprefix(_FLAGS)) if argument.startswith(_FLAGS) else None
            if found is not None:
                yield "flags", found


def _number(text: str) -> int | None:
    """A number as strace shows it: flags, and the signal among those of clone, may be joined by `|`."""
    try:
        return sum({int(part, 0) for part in text.split("|")})
    except ValueError:
        return None


def _counted(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "count": Counter({"all": entry.get("count", 0)}),
        "processes": Counter(entry.get("processes", {})),
        "errors": Counter(entry.get("errors", {})),
        "values": {kind: Counter(counts) for kind, counts in entry.get("values", {}).items()},
    }


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "count": entry["count"]["all"],
        "processes": dict(sorted(entry["processes"].items())),
        "errors": dict(sorted(entry["errors"].items())),
        "values": {
            kind: {value: counts[value] for value in sorted(counts, key=int)}
            for kind, counts in sorted(entry["values"].items())
        },
    }
