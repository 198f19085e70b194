"""The floor of this host's runtime, as the judge takes it: looked up by version and the program's hash."""

from __future__ import annotations

from pipeline.checks.subject import RuntimeFloor
from pipeline.files import sha256_file
from pipeline.oci.floor import NEEDED, SOMETIMES, floor_of, read_floors
from pipeline.paths import Project
from pipeline.tools.runtimes.base import Runtime


def known_floor(project: Project, runtime: Runtime, version: str) -> RuntimeFloor:
    """Return what the runtime itself needs; of another version, not exact, where its own was not measured.

    Raises PipelineError `bad-floors`.
    """
    found, exact = floor_of(read_floors(project.floors), runtime.name, version, sha256_file(runtime.path))
    if found is None:
        return RuntimeFloor()
    return RuntimeFloor(
        of=found.label,
        exact=exact,
        needed={quiet: found.of_kind(NEEDED, no_new_privileges=quiet) for quiet in (True, False)},
        sometimes={quiet: found.of_kind(SOMETIMES, no_new_privileges=quiet) for quiet in (True, False)},
    )
