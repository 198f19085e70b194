"""What a `doit` that has nothing to do costs, against importing doit alone; interleaved in one run.

    python -m tests.bench.noop 2 100 1000

prints, for each number of bundles, both medians and their ratio, and the cost of one more bundle.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.conftest import Workspace, make_workspace, remove_workspace

_ROUNDS = 15
_IMPORT = [sys.executable, "-c", "import doit.doit_cmd"]


def main(counts: Sequence[int]) -> None:
    """Measure each number of bundles in one workspace that grows."""
    workspace = make_workspace(specs=False)
    try:
        for count in counts:
            _measure(workspace, count)
    finally:
        remove_workspace(workspace)


def _measure(workspace: Workspace, count: int) -> None:
    for number in range(count):
        workspace.spec(f"b{number:04}", "image: demo:busybox-httpd\n")
    workspace.doit(timeout_s=3600)
    bare, noop = [], []
    for _ in range(_ROUNDS):
        bare.append(_seconds(_IMPORT, workspace))
        noop.append(_seconds(workspace.argv(), workspace))
    floor, cost = statistics.median(bare), statistics.median(noop)
    each = (cost - floor) / count
    print(
        f"{count:5} bundles: import {floor * 1e3:6.1f} ms, no-op {cost * 1e3:7.1f} ms,"
        f" ratio {cost / floor:.2f}, {each * 1e3:.2f} ms a bundle above the import",
        flush=True,
    )


def _seconds(argv: list[str], workspace: Workspace) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, cwd=workspace.root, env=workspace.env(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [2, 100])
