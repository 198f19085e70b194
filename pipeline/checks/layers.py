"""What a check is: a named question, where it belongs, and which rules can answer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pipeline.checks.subject import Findings, Subject


class Layer(Enum):
    """What a check looks at. Form, the first layer, is judged while config.json is read (`form`)."""

    MEANING = "meaning"
    BUNDLE = "bundle"
    HOST = "host"
    HARDENING = "hardening"
    PORTABILITY = "portability"


@dataclass(frozen=True)
class Check:
    """One named question, the function that answers it, and the ids of the findings that it can yield."""

    name: str
    layer: Layer
    run: Callable[[Subject], Findings]
    rules: tuple[str, ...]
