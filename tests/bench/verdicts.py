"""What it costs to compile, to simulate, to compare and to draw a profile for both architectures.

    python -m tests.bench.verdicts

prints medians of 15 rounds, and how many verdicts a round of simulation comes to.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

from pipeline.oci.bpf import Filter, words
from pipeline.oci.verdicts import AUDIT
from pipeline.paths import Project
from pipeline.profiles import compiled
from pipeline.profilesource import syscall_table
from pipeline.report.verdicts import render
from pipeline.seccompdiff import compare
from tests.conftest import PROJECT

_ROUNDS = 15
_PROFILES = ("default", "node-server", "docker-default")


def main() -> None:
    """Measure each profile."""
    project = Project(PROJECT)
    syscall_table()
    for name in _PROFILES:
        profile = compiled(project, name)
        verdicts = profile.verdicts()
        calls = [call for found in verdicts["architectures"].values() for call in found["calls"].values()]
        rows = sum(1 if isinstance(call, str) else len(call) for call in calls)
        print(f"{name}: {len(calls)} calls, {rows} verdicts")
        _tell("  read and compile", partial(compiled, project, name))
        _tell("  simulate the table", profile.verdicts)
        _tell("  every call in full, without arguments", partial(_in_full, profile.filters))
        _tell("  draw the page", partial(render, verdicts, {}))
        _tell("  compare with docker-default", partial(compare, project, "docker-default", name))


def _in_full(filters: Mapping[str, bytes]) -> None:
    for arch, content in filters.items():
        program = Filter.read(content)
        for number in syscall_table().numbers[arch].values():
            program.run(words(number, AUDIT[arch]))


def _tell(what: str, work: Callable[[], object]) -> None:
    taken = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    print(f"{what:<42} {statistics.median(taken) * 1000:7.1f} ms")


if __name__ == "__main__":
    main()
