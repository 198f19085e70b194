"""Asking a probe: a process of its own, a time limit, and the answer or the reason why not."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.run import run, which

_CHECKOUT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What a probe said, or why it could not."""

    said: Any
    refused: str | None


def can_run() -> bool:
    """False where no tool and no probe can be started, so that nothing can be said of any."""
    return which("setpriv") is not None


def ask(probe: str, *arguments: str) -> Answer:
    """Run a probe of `child.py`; one that crashes or hangs is a refusal."""
    words = [sys.executable, "-m", "pipeline.doctor.child", probe, *arguments]
    try:
        answer = json.loads(run(words, timeout_s=_TIMEOUT_S, cwd=_CHECKOUT).stdout)
    except (PipelineError, ValueError) as fault:
        return Answer(None, getattr(fault, "message", "the probe gave no answer").splitlines()[-1].strip())
    return Answer(answer.get("said"), answer.get("refused"))
