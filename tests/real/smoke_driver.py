"""Run the stage `smoke` as a process that tests can interrupt and kill: smoke_driver.py ROOT RUNTIME."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.errors import PipelineError
from pipeline.paths import Project
from pipeline.tools.runtimes.sweep import sweep
from tests.real.smoke_project import make_cell


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Sweep, say `ready`, smoke; 130 when interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    project = Project(Path(sys.argv[1]))
    for line in sweep(project):
        print(line, flush=True)
    print("ready", flush=True)
    try:
        for _ in range(int(os.environ.get("ROUNDS", "1"))):
            make_cell(project, sys.argv[2]).build()
    except KeyboardInterrupt:
        return 130
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
