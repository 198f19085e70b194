"""runc, the reference runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.tools.runtimes.base import Runtime


@dataclass(frozen=True)
class Runc(Runtime):
    """runc has no quirk in what to type: its flags are the common ones."""

    name: ClassVar[str] = "runc"
