"""The dated baselines: which year's masked and read-only paths a bundle follows, and what came later.

Cheap to load: `doit status` asks here whether a bundle lags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
# Readable by all and per CPU. A fixed count keeps the bytes the same on every host; runtimes pass over
# what is absent.
MASKED_CPUS = 16
_CPU = "/sys/devices/system/cpu/cpu{}/"


@dataclass(frozen=True)
class Baseline:
    """What one date (YYYY-MM) brought beyond the one before, and the change of others that it follows.

    `masked_of_cpus` are names in the folder that sysfs has for each CPU.
    """

    date: str
    source: str
    masked: tuple[str, ...]
    masked_of_cpus: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()

    @property
    def all_masked(self) -> tuple[str, ...]:
        """Every path that it masks beyond the one before, for `MASKED_CPUS` CPUs."""
        per_cpu = (_CPU.format(n) + name for name in self.masked_of_cpus for n in range(MASKED_CPUS))
        return (*self.masked, *per_cpu)

    def in_words(self) -> str:
        """What it adds, for a line of text."""
        per_cpu = (f"{name} of every CPU" for name in self.masked_of_cpus)
        parts = [f"masks {', '.join((*self.masked, *per_cpu))}"]
        parts += [f"makes {', '.join(self.readonly)} read-only"] if self.readonly else []
        return " and ".join(parts)


BASELINES = (
    Baseline(
        "2018-07",
        "moby's list, with moby#35399 (scsi, CVE-2017-16539) and moby#37404 (acpi, CVE-2018-10892)",
        (
            *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
            *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"),
        ),
        readonly=("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
    ),
    Baseline(
        "2023-10",
        "moby 24.0.7 and 25 (GHSA-jq35-85cj-fj4p: energy counters tell keys, CVE-2020-8694); podman#20501",
        ("/sys/devices/virtual/powercap",),
    ),
    Baseline(
        "2025-03",
        "moby#49560, containers/common#2375, kubernetes#131018, containerd#14090: thermal events tell load",
        ("/proc/interrupts",),
        masked_of_cpus=("thermal_throttle",),
    ),
    Baseline(
        "2026-11",
        "the lists of moby and of containers/common united",
        ("/sys/dev/block", "/sys/fs/selinux"),
    ),
)
"""Oldest first."""

NEWEST = BASELINES[-1].date


def is_date(text: str) -> bool:
    """True for YYYY-MM."""
    return bool(_DATE.fullmatch(text))


def as_of(date: str) -> str | None:
    """Return the date of the baseline that was the newest one then; None before the first."""
    known = [baseline.date for baseline in BASELINES if baseline.date <= date]
    return known[-1] if known else None


def masked_paths(date: str) -> tuple[str, ...]:
    """Return what the baseline of a date masks, sorted."""
    return tuple(sorted(path for baseline in _upto(date) for path in baseline.all_masked))


def readonly_paths(date: str) -> tuple[str, ...]:
    """Return what the baseline of a date makes read-only, sorted."""
    return tuple(sorted(path for baseline in _upto(date) for path in baseline.readonly))


def lag(values: Mapping[str, Any]) -> str | None:
    """Say of a bundle's values which newer baselines it does not follow; None when it lags behind none."""
    date = values["hardening"]["baseline"]
    newer = [f"{b.date} also {b.in_words()}" for b in BASELINES if b.date > date]
    return f"follows the baseline of {date}; {'; '.join(newer)}" if newer else None


def _upto(date: str) -> Iterator[Baseline]:
    return (baseline for baseline in BASELINES if baseline.date <= date)
