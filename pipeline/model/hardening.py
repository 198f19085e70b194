"""Reader of `hardening`: how strictly the judge speaks, and which year's hardening the bundle follows."""

from __future__ import annotations

from typing import Any

from pipeline.model.baselines import BASELINES, NEWEST, as_of, is_date
from pipeline.model.problems import bad, fields_of, quoted, unknown, wrong_type

PROFILES = ("baseline", "strict")


def hardening(value: Any) -> dict[str, str]:
    """A profile, or a mapping; returned as what is written, so that `extends` can merge it."""
    if isinstance(value, str):
        return {"profile": _profile(value)}
    readers = {"profile": _profile, "baseline": _baseline}
    found: dict[str, str] = fields_of(value, readers, "a profile or a mapping with `profile` and `baseline`")
    return found


def _profile(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "the text `baseline` or `strict`")
    if value not in PROFILES:
        raise unknown(value, "profile", PROFILES)
    return value


def _baseline(value: Any) -> str:
    """YYYY-MM; returned as the date of the baseline that was the newest one then."""
    listed = ", ".join(baseline.date for baseline in BASELINES)
    if not isinstance(value, str):
        raise wrong_type(value, "a date such as `2025-03`", f"year and month; there are: {listed}")
    if not is_date(value):
        raise bad("bad-value", f"{quoted(value)} is not a year and month", f"there are: {listed}")
    if value > NEWEST:
        hint = f"the newest is {NEWEST}; left out, the bundle follows the newest"
        raise bad("bad-value", f"there is no baseline of {value} yet", hint)
    found = as_of(value)
    if found is None:
        raise bad("bad-value", f"no baseline is as old as {value}", f"the oldest is {BASELINES[0].date}")
    return found
