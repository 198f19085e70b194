"""What config.json names on the host: a bundle that trips each rule, and a near miss."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.model.nouns import Severity
from tests.judged import Case, device, file, findings, folder, rules
from tests.test_checks_rules import Change, both, host, put, tree, without_namespace

PAGES = "linux.resources.hugepageLimits"
PRIORITIES = "linux.resources.network.priorities"


def described(kind: str = "c", **values: Any) -> Change:
    """Describe a device."""
    value = {"type": kind, "path": "/dev/tun", "major": 10, "minor": 200, **values}
    return put("linux.devices", [value])


def hook(kind: str = "poststop") -> Change:
    """Name a hook."""
    return put("hooks", {kind: [{"path": "/bin/hook"}]})


# rule, what trips it, what nearly does.
TABLE: list[tuple[str, Change, Change]] = [
    ("device-not-on-host", described(), both(described(), host("/dev/tun", device(10, 200)))),
    ("device-not-on-host", described(), both(described(), without_namespace("user"))),
    *(
        (
            "device-differs",
            both(described(), host("/dev/tun", other)),
            both(described(), host("/dev/tun", same)),
        )
        for other, same in (
            (device(10, 201), device(10, 200)),
            (device(10, 200, 0o060000), device(10, 200)),
            (file(), device(10, 200)),
        )
    ),
    ("hook-missing", hook(), both(hook(), host("/bin/hook", file()))),
    (
        "hook-missing",
        both(hook(), host("/bin/hook", file(mode=0o644))),
        both(hook(), host("/bin/hook", file(mode=0o744))),
    ),
    ("hook-missing", both(hook(), host("/bin/hook", folder())), both(hook(), host("/bin/hook", file()))),
    (
        "hook-missing",
        both(hook("startContainer"), host("/bin/hook", file())),
        both(hook("startContainer"), tree("/bin/hook", file())),
    ),
    (
        "interface-missing",
        put(PRIORITIES, [{"name": "eth0", "priority": 1}]),
        both(put(PRIORITIES, [{"name": "eth0", "priority": 1}]), host("/sys/class/net/eth0", folder())),
    ),
    (
        "interface-missing",
        put("linux.netDevices", {"eth0": {}}),
        both(put("linux.netDevices", {"eth0": {}}), host("/sys/class/net/eth0", folder())),
    ),
    (
        "hugepage-size",
        put(PAGES, [{"pageSize": "2MB", "limit": 0}]),
        both(
            put(PAGES, [{"pageSize": "2MB", "limit": 0}]),
            host("/sys/kernel/mm/hugepages/hugepages-2048kB", folder()),
        ),
    ),
    (
        "unified-without-v2",
        put("linux.resources.unified", {"memory.high": "1"}),
        both(
            put("linux.resources.unified", {"memory.high": "1"}),
            host("/sys/fs/cgroup/cgroup.controllers", file()),
        ),
    ),
]


@pytest.mark.parametrize(
    ("rule_id", "trip", "miss"), TABLE, ids=[f"{n}-{row[0]}" for n, row in enumerate(TABLE)]
)
def test_each_rule_trips_and_lets_the_near_miss_pass(rule_id: str, trip: Change, miss: Change) -> None:
    tripped, missed = Case(), Case()
    trip(tripped)
    miss(missed)
    assert rule_id in rules(tripped)
    assert rule_id not in rules(missed)


def test_what_only_this_host_lacks_weighs_medium() -> None:
    case = Case()
    hook()(case)
    found = {f.rule: (f.severity, f.message) for f in findings(case)}
    assert found["hook-missing"] == (
        Severity.MEDIUM,
        "there is no hook `/bin/hook`: the container does not start",
    )
