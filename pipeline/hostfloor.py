"""The floor of this host's runtime, as the judge takes it: looked up by version and the program's hash."""

from __future__ import annotations

from pipeline.checks.subject import RuntimeFloor
from pipeline.oci.floor import NEEDED, SOMETIMES, floor_of, read_floors
from pipeline.paths import Project


def known_floor(project: Project, runtime: str, fingerprint: str) -> RuntimeFloor:
    """Return what the runtime itself needs; of another version, not exact, where its own was not measured.

    `fingerprint` is that of `Fingerprints.tool`, which has read the program already: `VERSION (digits)`.
    Raises PipelineError `bad-floors`.
    """
    version, _, digits = fingerprint.partition(" ")
    found, exact = floor_of(read_floors(project.floors), runtime, version, digits.strip("()"))
    if found is None:
        return RuntimeFloor()
    return RuntimeFloor(
        of=found.label,
        exact=exact,
        needed={quiet: found.of_kind(NEEDED, no_new_privileges=quiet) for quiet in (True, False)},
        sometimes={quiet: found.of_kind(SOMETIMES, no_new_privileges=quiet) for quiet in (True, False)},
    )
