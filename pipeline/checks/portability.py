"""Portability: which runtimes would run this bundle with all its protections, and which would drop one.

Source: the table in model/truths, and what a runtime that is here says of itself (`features`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pipeline.checks import announced, uses_mounts, uses_process, uses_seccomp, uses_spelling
from pipeline.checks.subject import HIGH, INFO, LOW, Findings, Subject
from pipeline.model.nouns import Finding, Severity
from pipeline.model.truths.nouns import Effect, FoundRuntime, Truth
from pipeline.model.truths.table import KNOWN, TRUTHS, truths_of

USES: dict[str, Callable[[Subject], Iterator[str]]] = {
    **uses_mounts.USES,
    **uses_process.USES,
    **uses_seccomp.USES,
    **uses_spelling.USES,
}
"""Where a bundle uses each feature of the table."""
# A check of its own refuses these whatever the runtime (form, host); here they only stand in the matrix.
_REFUSED_ANYHOW = frozenset({"duplicate-keys", "key-case", "host-net-sysfs"})


def _rules(prefix: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(f"{prefix}-{name}" for name in names))


_TOLD = tuple(truth for truth in TRUTHS if truth.feature not in _REFUSED_ANYHOW)
_REFUSING = {truth.feature for truth in _TOLD if truth.effect is Effect.REFUSES}
_LOSING = {truth.feature for truth in _TOLD if truth.effect is Effect.IGNORES and not truth.protection}
DROPS = _rules("drops", {truth.protection for truth in _TOLD if truth.drops}.union(announced.PROTECTIONS))
REFUSALS = _rules("refuses", _REFUSING.union(announced.REFUSED))
LOSSES = _rules("ignores", _LOSING.union(announced.IGNORED))
"""The rules that `drops`, `refusals` and `losses` can find."""


class Verdict(Enum):
    """What becomes of a bundle under a runtime."""

    FULL = "full"
    WEAKER = "weaker"
    REFUSES = "refuses"
    UNKNOWN = "unknown"


class Standing(Enum):
    """How near a runtime is: the one that the bundle is judged for, one of this host, one of elsewhere."""

    HOST = "host"
    FOUND = "found"
    ABSENT = "absent"


@dataclass(frozen=True)
class Reason:
    """One thing in which a runtime does not do as config.json says, and where it says so."""

    feature: str
    effect: Effect
    protection: str
    path: str
    reason: str
    evidence: str
    mend: str = ""
    avoided: str = ""

    @property
    def drops(self) -> bool:
        """True when a protection gets lost in silence."""
        return bool(self.protection) and self.effect in (Effect.IGNORES, Effect.WEAKENS)

    @property
    def refuses(self) -> bool:
        """True when the container would not start, however this program types it."""
        return self.effect is Effect.REFUSES and not self.avoided


@dataclass(frozen=True)
class Row:
    """One runtime of the matrix. `judged` is the version that the verdict is for ("": what was read)."""

    name: str
    title: str
    standing: Standing
    version: str | None
    judged: str
    reasons: tuple[Reason, ...]

    @property
    def verdict(self) -> Verdict:
        """Refused, else weaker, else full; of what was never tried nothing good is said."""
        if any(reason.refuses for reason in self.reasons):
            return Verdict.REFUSES
        if any(reason.drops for reason in self.reasons):
            return Verdict.WEAKER
        return Verdict.FULL if self.name in KNOWN and self.judged else Verdict.UNKNOWN

    @property
    def where(self) -> str:
        """The runtime, its version and how near it is, in words."""
        title = f"{self.title} {self.judged}".rstrip()
        return title + {Standing.HOST: "", Standing.FOUND: ", installed here,"}.get(
            self.standing, " (not installed here)"
        )


def rows(subject: Subject) -> tuple[Row, ...]:
    """Return the matrix: every runtime of the table, and others that were found. It is made once."""
    made = subject.cache.get("portability")
    if not isinstance(made, tuple):
        used = {name: tuple(use(subject)) for name, use in USES.items()}
        found = {runtime.name: runtime for runtime in subject.host.runtimes}
        names = [*KNOWN, *(name for name in found if name not in KNOWN)]
        made = tuple(_row(subject, name, found.get(name), used) for name in names)
        subject.cache["portability"] = made
    return made


def _row(subject: Subject, name: str, found: FoundRuntime | None, used: Mapping[str, tuple[str, ...]]) -> Row:
    host = subject.host
    is_host = name == host.runtime
    version = host.runtime_version if is_host else found.version if found else None
    known = KNOWN.get(name)
    judged = version if version is not None else known.newest if known else ""
    listed = [_reason(truth, path) for truth in truths_of(name, judged) for path in used[truth.feature][:1]]
    if found and found.features is not None:
        told = {(reason.feature, reason.effect) for reason in listed}
        said = _announced(subject, found.features)
        listed += [reason for reason in said if (reason.feature, reason.effect) not in told]
    standing = Standing.HOST if is_host else Standing.FOUND if found else Standing.ABSENT
    return Row(name, known.title if known else name, standing, version, judged, tuple(listed))


def _reason(truth: Truth, path: str) -> Reason:
    return Reason(
        truth.feature,
        truth.effect,
        truth.protection,
        path,
        truth.reason,
        truth.evidence,
        truth.mend,
        truth.avoided,
    )


def _announced(subject: Subject, features: Mapping[str, Any]) -> Iterator[Reason]:
    for feature, effect, protection, path, reason in announced.unannounced(subject, features):
        yield Reason(feature, effect, protection, path, reason, announced.EVIDENCE)


def drops(subject: Subject) -> Findings:
    """The runtime that the bundle is for drops no protection in silence; that another would is told."""
    for (protection, standing), listed in _grouped(
        subject, lambda reason: reason.drops, "protection"
    ).items():
        severity = {Standing.HOST: HIGH, Standing.FOUND: LOW}.get(standing, INFO)
        yield _finding(f"drops-{protection}", severity, listed)


def refusals(subject: Subject) -> Findings:
    """The runtime that the bundle is for takes it; that another would not is told."""
    for (feature, standing), listed in _grouped(subject, lambda reason: reason.refuses, "feature").items():
        severity = HIGH if standing is Standing.HOST else INFO
        yield _finding(f"refuses-{feature}", severity, listed)


def losses(subject: Subject) -> Findings:
    """What the runtime passes over is no protection, and still somebody asked for it."""

    def counts(reason: Reason) -> bool:
        return reason.effect is Effect.IGNORES and not reason.protection

    for (feature, standing), listed in _grouped(subject, counts, "feature").items():
        if standing is not Standing.ABSENT:
            yield _finding(f"ignores-{feature}", LOW if standing is Standing.HOST else INFO, listed)


Told = list[tuple[Row, Reason]]


def _grouped(subject: Subject, counts: Callable[[Reason], bool], by: str) -> dict[tuple[str, Standing], Told]:
    """The reasons that count, by what they are about and how near the runtime is."""
    found: dict[tuple[str, Standing], Told] = {}
    for row in rows(subject):
        for reason in filter(counts, row.reasons):
            if reason.feature not in _REFUSED_ANYHOW:
                found.setdefault((getattr(reason, by), row.standing), []).append((row, reason))
    return found


def _finding(rule: str, severity: Severity, listed: Told) -> Finding:
    _, first = listed[0]
    told: dict[str, list[str]] = {}
    for row, reason in listed:
        told.setdefault(row.where, []).append(reason.reason)
    message = "; ".join(f"{where} {', and '.join(reasons)}" for where, reasons in told.items())
    mends = dict.fromkeys(reason.mend for _, reason in listed if reason.mend)
    sources = dict.fromkeys(reason.evidence for _, reason in listed)
    return Finding(rule, severity, message, first.path, "; or ".join(mends), "; ".join(sources))


def matrix(seen: Mapping[str, object]) -> dict[str, Any]:
    """Return the matrix as findings.json holds it, by runtime.

    `seen` is the cache of a Subject that was judged; it is empty where config.json could not be read.
    """
    made = seen.get("portability")
    return {
        row.name: {
            "version": row.version,
            "found": row.standing is not Standing.ABSENT,
            "judged": row.judged or "what is written of it; none was tried",
            "verdict": row.verdict.value,
            "reasons": [_reason_value(reason) for reason in row.reasons],
        }
        for row in (made if isinstance(made, tuple) else ())
    }


def _reason_value(reason: Reason) -> dict[str, str]:
    value = {
        "feature": reason.feature,
        "effect": reason.effect.value,
        "protection": reason.protection,
        "path": reason.path,
        "reason": reason.reason,
        "evidence": reason.evidence,
        "avoided": reason.avoided,
    }
    return {key: text for key, text in value.items() if text or key == "path"}
