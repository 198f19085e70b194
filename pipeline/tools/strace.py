"""strace: the words that make it watch a process, and what it writes down, read back (strace(1), 6.1)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.run import Argument, require

_LINE = re.compile(r"(\d+)(?:<(.*?)>)? +(.*)")
_BEGUN = re.compile(r"([a-z_0-9]+)\((.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. ([a-z_0-9]+) resumed>(.*)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"
# The last ` = ` outside of brackets ends the arguments; what follows begins with a number, or is `?`.
_RESULT = re.compile(r"(.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)$")
_ERROR = re.compile(r" (E[A-Z0-9]+) ")
_TRANSLATED = re.compile(r"/\* (\d+) in strace's PID NS \*/")
_PAUSE_S = 0.02
# seccomp(2): SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC.
# prctl(2): PR_SET_SECCOMP, SECCOMP_MODE_FILTER.
_SET_MODE_FILTER = 1
_FLAG_TSYNC = 1
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

# -f: children too. comm: the name of each process, of which there are many; pidns: without it a new thread is
# known by its number inside the container alone. -s 0: no content of what is read and written, which may be
# secret. -X raw: numbers, which can be compared, and not the names of flags. -q: no word of attaching; the
# end of each process is still told.
_FLAGS = ("-f", "--decode-pids=comm,pidns", "-q", "-s", "0", "-X", "raw")


@dataclass(frozen=True)
class Call:
    """One system call: who made it (`thread`, as the host numbers it, and the process's name), and its end.

    `result` is the number returned, None where the call never returned; `error` the name of its errno.
    `child` is the host's number of the process or thread that it made.
    """

    thread: int
    process: str
    name: str
    arguments: tuple[str, ...]
    result: int | None = None
    error: str = ""
    child: int | None = None

    def integer(self, index: int) -> int | None:
        """An argument as a number, or None when it is none or not there."""
        if index >= len(self.arguments):
            return None
        try:
            return int(self.arguments[index], 0)
        except ValueError:
            return None

    @property
    def loads_filter(self) -> bool:
        """True when a seccomp filter is in force from here on; probes with a null pointer load none."""
        if self.error or self.result is None or self.arguments[-1:] == ("NULL",):
            return False
        if self.name == "seccomp":
            return self.integer(0) == _SET_MODE_FILTER
        return self.name == "prctl" and (self.integer(0), self.integer(1)) == (_PR_SET_SECCOMP, _MODE_FILTER)

    @property
    def binds_all_threads(self) -> bool:
        """True when the filter that is loaded here is for the whole process."""
        return self.name == "seccomp" and bool((self.integer(1) or 0) & _FLAG_TSYNC)

    @property
    def starts_program(self) -> bool:
        """True when another program takes the process's place."""
        return self.name in ("execve", "execveat") and self.result == 0


def watching(log: Path) -> list[Argument]:
    """The words before a command that have it and all its children watched; they end when the last does.

    The command stays our own child (-D), so that it dies with us and its end is seen at once.
    """
    return [require("strace", "watch system calls"), "-D", *_FLAGS, "-o", log]


def attaching(pid: int, log: Path) -> list[Argument]:
    """The words that watch a process which runs already, with all its threads and children to come."""
    return [require("strace", "watch system calls"), *_FLAGS, "-o", log, "-p", str(pid)]


def read_calls(lines: Iterable[str]) -> Iterator[Call]:
    """Yield each call when it has returned; those that never did at the end, or when their thread ends."""
    open_calls: dict[int, tuple[str, str, str]] = {}
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        thread, process, rest = int(match[1]), match[2] or "", match[3]
        resumed, begun = _RESUMED.match(rest), _BEGUN.match(rest)
        if resumed and thread in open_calls:
            name, _, start = open_calls.pop(thread)
            yield _call(thread, process, name, start + resumed[2])
        elif begun and rest.endswith(_UNFINISHED):
            open_calls[thread] = (begun[1], process, begun[2].removesuffix(_UNFINISHED))
        elif begun:
            yield _call(thread, process, begun[1], begun[2])
        elif rest.startswith("+++") and thread in open_calls:
            name, process, start = open_calls.pop(thread)
            yield Call(thread, process, name, _split(start))
    for thread, (name, process, start) in open_calls.items():
        yield Call(thread, process, name, _split(start))


def _call(thread: int, process: str, name: str, text: str) -> Call:
    end = _RESULT.match(text)
    if end is None:
        return Call(thread, process, name, _split(text))
    made = Call(thread, process, name, _split(end[1]))
    if end[2] == "?":
        return made
    # umask(2) answers in octal, as C writes it.
    value = int(end[2], 8) if re.fullmatch("0[0-7]+", end[2]) else int(end[2], 0)
    error = _ERROR.match(end[3]) if value < 0 else None
    child = _TRANSLATED.search(end[3])
    number = int(child[1]) if child else value
    makes = name in ("clone", "clone3", "fork", "vfork") and value > 0
    return replace(made, result=value, error=error[1] if error else "", child=number if makes else None)


def _split(text: str) -> tuple[str, ...]:
    """The arguments, parted at commas that are in no bracket and in no string."""
    parts, depth, start, quoted = [], 0, 0, False
    for at, letter in enumerate(text):
        if letter == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth <= 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return tuple(filter(None, [*parts, text[start:].strip()]))


def wait_until_written(log: Path, timeout_s: float) -> bool:
    """Wait until every process in the log has ended, so that nothing more is written; False if time is up."""
    end = time.monotonic() + timeout_s
    while True:
        seen: set[str] = set()
        ended: set[str] = set()
        for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
            match = _LINE.match(line)
            if match is not None:
                (ended if match[3].startswith("+++") else seen).add(match[1])
        if seen and seen <= ended:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE_S)


def between_filter_and_program(calls: Iterable[Call]) -> list[Call]:
    """Return the calls that a runtime itself made under the filter: from loading it to the program's start.

    Without TSYNC a filter binds the thread that loads it, and what that one makes, alone (seccomp(2)).
    The call that starts the program is the last. Empty where no filter was loaded.
    """
    bound: set[int] = set()
    whole: set[str] = set()
    found: list[Call] = []
    for call in calls:
        if call.loads_filter:
            bound.add(call.thread)
            # Threads of one program bear its name, unless one of them chose another.
            whole |= {call.process} if call.binds_all_threads else set()
        elif call.thread in bound or call.process in whole:
            found.append(call)
            if call.child is not None:
                bound.add(call.child)
            if call.starts_program:
                return found
    return found
