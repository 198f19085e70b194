"""The one table of what runtimes make of a bundle, read by `validate`, `doctor` and the adapters."""

from __future__ import annotations

from pipeline.model.truths.crun import CRUN
from pipeline.model.truths.nouns import KnownRuntime, Truth, version_numbers
from pipeline.model.truths.runc import RUNC
from pipeline.model.truths.sandboxes import KATA, RUNSC
from pipeline.model.truths.youki import YOUKI

TRUTHS: tuple[Truth, ...] = (*RUNC, *CRUN, *YOUKI, *RUNSC, *KATA)

KNOWN: dict[str, KnownRuntime] = {
    known.name: known
    for known in (
        KnownRuntime("runc", "runc", "1.3.6"),
        KnownRuntime("crun", "crun", "1.28"),
        KnownRuntime("youki", "youki", "0.7.0"),
        KnownRuntime("runsc", "gVisor runsc", "20240729"),
        KnownRuntime("kata", "Kata Containers", ""),
    )
}
"""The runtimes that a bundle is judged for, whether they are here or not."""


def truths_of(runtime: str, version: str) -> list[Truth]:
    """Return what is known of a version of a runtime; of a version that cannot be read, everything."""
    number = version_numbers(version)
    return [truth for truth in TRUTHS if truth.runtime == runtime and truth.versions.covers(number)]
