"""What compiling a seccomp profile costs: source to documents, filters and verdicts for both architectures.

    python -m tests.bench.seccomp [ROUNDS]

prints, for each shipped profile, the median of each step in a process that has done it before, and of imports
and all steps in a fresh one.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pipeline.oci.verdicts import table as verdict_table
from pipeline.profilesource import filters_of, read_named, syscall_table
from tests.conftest import PROJECT

_SOURCES = PROJECT / "specs" / "seccomp"
_PROFILES = ("default", "node-server")
_FRESH = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from pipeline.oci.verdicts import table
from pipeline.profilesource import filters_of, read_named, syscall_table
imported = time.perf_counter()
root = Path(sys.argv[1])
made = filters_of(read_named(sys.argv[2], root / "specs" / "seccomp", root))
table(made.documents, made.filters, syscall_table().numbers)
print(imported - start, time.perf_counter() - imported)
"""


def main(rounds: int) -> None:
    """Measure every shipped profile."""
    for name in _PROFILES:
        profile = read_named(name, _SOURCES, PROJECT)
        made = filters_of(profile)
        steps: dict[str, Callable[[], Any]] = {
            "read": partial(read_named, name, _SOURCES, PROJECT),
            "compile": partial(filters_of, profile),
            "verdicts": partial(verdict_table, made.documents, made.filters, syscall_table().numbers),
        }
        told = [f"{step} {_median_ms(do, rounds):.1f} ms" for step, do in steps.items()]
        fresh = [_fresh(name) for _ in range(rounds)]
        imports, work = (statistics.median(column) * 1000 for column in zip(*fresh, strict=True))
        sizes = " and ".join(str(len(bpf) // 8) for bpf in made.filters.values())
        print(f"{name}: {', '.join(told)}; fresh: imports {imports:.0f} ms, all steps {work:.0f} ms")
        print(f"{name}: {sizes} instructions")


def _median_ms(do: Callable[[], Any], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        do()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def _fresh(name: str) -> tuple[float, float]:
    argv = [sys.executable, "-c", _FRESH, str(PROJECT), name]
    said = subprocess.run(argv, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    imports, work = map(float, said.split())
    return imports, work


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
