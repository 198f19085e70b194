"""What judging again costs when only the config changed, against a `doit` with nothing to do; paired.

    python -m tests.bench.validate [ROUNDS] [hello|standin]

Each round changes a variable in the spec, builds up to `spec`, then measures `doit validate:NAME` twice: once
with work to do, and once more with none. The judge alone and the dry run alone are measured in one process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from pipeline.files import remove_tree
from pipeline.paths import STATE_HOME
from tests.conftest import Workspace, make_workspace, remove_workspace
from tests.standin.build import REFERENCE, layout

_NAME = "bench-validate"
_ALONE = """
import sys, time
from pathlib import Path
from pipeline.examine import examine
from pipeline.observe.host import host_facts
from pipeline.paths import Project
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.container import Container
name = sys.argv[1]
project = Project(Path.cwd()); paths = project.bundle(name); runtime = registry.get("runc")
def judge():
    examine(paths.config, "config.json", host_facts("runc", "1.1.5"))
def dry_run():
    with Container(runtime, paths.bundle, name=name, project=project, scratch=project.tmp):
        pass
for action in (judge, dry_run):
    times = []
    for _ in range(9):
        begun = time.perf_counter(); action(); times.append(1e3 * (time.perf_counter() - begun))
    print(f"  {action.__name__:8} alone, in one process: {sorted(times)[4]:6.1f} ms (least {min(times):.1f})")
"""


def main(rounds: int, kind: str) -> None:
    """Print the medians of both, and of their differences."""
    workspace = make_workspace()
    try:
        text = "extends: hello\n"
        if kind == "standin":
            text = f"extends: stremio-server\nimage: oci:{layout()}:{REFERENCE}\n"
        workspace.spec(_NAME, text)
        workspace.doit(f"bundle:{_NAME}")
        pairs = [_round(workspace, text, number) for number in range(rounds)]
        work, idle = zip(*pairs, strict=True)
        more = [1e3 * (a - b) for a, b in pairs]
        print(
            f"{kind}: changed config {1e3 * statistics.median(work):.0f} ms, nothing to do"
            f" {1e3 * statistics.median(idle):.0f} ms, difference {statistics.median(more):.0f} ms"
            f" (least {min(more):.0f}, most {max(more):.0f}, n={rounds}, load {os.getloadavg()[0]:.1f})",
            flush=True,
        )
        words = [sys.executable, "-c", _ALONE, _NAME]
        subprocess.run(words, cwd=workspace.root, env=workspace.env(), check=True)
    finally:
        remove_workspace(workspace)
        remove_tree(STATE_HOME / "volumes" / _NAME)


def _round(workspace: Workspace, text: str, number: int) -> tuple[float, float]:
    workspace.spec(_NAME, f"{text}environment: {{ROUND: '{number}'}}\n")
    workspace.doit(f"spec:{_NAME}")
    return _seconds(workspace), _seconds(workspace)


def _seconds(workspace: Workspace) -> float:
    begun = time.perf_counter()
    words = workspace.argv(f"validate:{_NAME}")
    subprocess.run(words, cwd=workspace.root, env=workspace.env(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9, sys.argv[2] if len(sys.argv) > 2 else "standin")
