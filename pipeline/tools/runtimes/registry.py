"""Which runtimes there are adapters for, and which of them this host has."""

from __future__ import annotations

from pipeline.run import require
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.crun import Crun
from pipeline.tools.runtimes.runc import Runc

ADAPTERS: dict[str, type[Runtime]] = {adapter.name: adapter for adapter in (Runc, Crun)}


def find(name: str) -> Runtime | None:
    """Return the installed runtime of that name, or None."""
    return ADAPTERS[name].find()


def get(name: str) -> Runtime:
    """Return the installed runtime of that name. Raises PipelineError `missing-tool`."""
    found = find(name)
    if found is None:
        require(name, "run bundles")
        raise AssertionError(f"{name} appeared just now")
    return found
