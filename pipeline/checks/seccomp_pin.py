"""Whether a seccomp profile is as open as was accepted, and no more.

The pin beside a profile's source says what was accepted; what is open is what its compiled filter answers.
"""

from __future__ import annotations

from pipeline.checks.subject import HIGH, INFO, Findings, Subject
from pipeline.model.nouns import Finding

_PATH = "linux.seccomp"
_MOST_SHOWN = 12


def as_pinned(subject: Subject) -> Findings:
    """Nothing became open that nobody gave a reason for (rule `seccomp-widened`)."""
    drift = subject.profile_drift
    if drift is None:
        return
    again = f"`doit seccomp-accept {drift.name}`"
    if not drift.pinned:
        message = f"nothing says what the profile `{drift.name}` may leave open, so it can grow unseen"
        yield Finding("seccomp-unpinned", INFO, message, _PATH, f"{again} pins what it leaves open now")
    if drift.opened:
        message = f"the profile `{drift.name}` is more open than was accepted: {_listed(drift.opened)}"
        mend = f'take it out, or say why: `doit seccomp-accept {drift.name} --reason "…"`'
        yield Finding("seccomp-widened", HIGH, message, _PATH, mend, "the profile's pin", place=drift.place)
    if drift.closed:
        message = f"the profile `{drift.name}` is less open than its pin: {_listed(drift.closed)}"
        yield Finding("seccomp-narrowed", INFO, message, _PATH, f"{again} pins that", "the profile's pin")


def _listed(calls: tuple[str, ...]) -> str:
    rest = len(calls) - _MOST_SHOWN
    return ", ".join(calls[:_MOST_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
