"""What containers have hidden, and from when on: the judge's own copy of the dated lists.

Sources: moby oci/defaults and daemon/pkg/oci, containers/common pkg/config, Kubernetes (procMount Default).
A test compares this with what `spec` writes, so that neither copies the other's mistake.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.checks.subject import LOW, Findings, Subject
from pipeline.model.nouns import Finding

# Date -> what it added. moby#35399 and moby#37404 were the last of the first list; GHSA-jq35-85cj-fj4p;
# moby#49560 and containers/common#2375; the lists of moby and containers/common united.
MASKED: Mapping[str, tuple[str, ...]] = {
    "2018-07": (
        *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
        *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"),
    ),
    "2023-10": ("/sys/devices/virtual/powercap",),
    "2025-03": ("/proc/interrupts",),
    "2026-11": ("/sys/dev/block", "/sys/fs/selinux"),
}
THERMAL_SINCE = "2025-03"
"""From then on thermal_throttle of each CPU is masked too (moby#49560)."""
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Read-only in all of them."""
NEWEST = max(MASKED)
_ANNOTATION = "org.cooperage.baseline"


def thermal_path(cpu: int) -> str:
    """Return where sysfs tells how often a CPU got too hot (kernel, drivers/thermal/intel/therm_throt.c)."""
    return f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"


def current(subject: Subject) -> Findings:
    """The baseline that the bundle says it follows is the newest one; bundles from elsewhere say nothing."""
    date = (subject.config.annotations or {}).get(_ANNOTATION)
    if date is None or date == NEWEST:
        return
    path, source = f'annotations["{_ANNOTATION}"]', "moby, oci/defaults; containers/common#2375"
    if date not in MASKED:
        message = f"it says it follows the baseline of {date}, which is none of {', '.join(MASKED)}"
        yield Finding("baseline-old", LOW, message, path, f"`hardening: {{baseline: {NEWEST}}}`", source)
        return
    newer = "; ".join(f"{later} also masks {_added(later)}" for later in MASKED if later > date)
    message = f"it follows the baseline of {date}; {newer}"
    yield Finding("baseline-old", LOW, message, path, f"`hardening: {{baseline: {NEWEST}}}`", source)


def _added(date: str) -> str:
    thermal = ("thermal_throttle of every CPU",) if date == THERMAL_SINCE else ()
    return ", ".join((*MASKED[date], *thermal))
