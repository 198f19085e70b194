"""The policy: forty rules and their weights, an index that is complete, score, profiles, baselines."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import pipeline.checks
from pipeline.checks import baselines as judged_baselines
from pipeline.checks.index import CHECKS, FORM, STAGE, Layer, known_rules
from pipeline.checks.layers import Check
from pipeline.checks.policy import BEYOND, FORTY, HARDENING_RULES, WEIGHTS
from pipeline.checks.scoring import in_profile, score
from pipeline.checks.waivers import apply_waivers
from pipeline.model import baselines
from pipeline.model.baselines import BASELINES, NEWEST, lag, masked_paths, readonly_paths
from pipeline.model.bundle import Bundle
from pipeline.model.nouns import Finding, Severity
from tests.judged import Case, findings
from tests.test_checks_ladder import bundle as careful_bundle
from tests.test_checks_rules import (
    APPARMOR,
    Change,
    add,
    allow,
    both,
    conditional,
    drop,
    eq,
    grant,
    join_namespace,
    mount,
    put,
    without_mask,
    without_namespace,
)


def good() -> Case:
    """The good case on a host with AppArmor, and its profile: the one thing that a spec cannot give."""
    case = Case()
    both(APPARMOR, put("process.apparmorProfile", "box"))(case)
    return case


ROOM = Path(pipeline.checks.__file__).parent
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+|hook|terminal|personality")


# The index is complete ------------------------------------------------------------------------


@cache
def functions() -> dict[tuple[str, str], ast.FunctionDef]:
    """Every function of the judge by module and name."""
    return {
        (path.stem, node.name): node
        for path in ROOM.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


@cache
def imported(module: str) -> dict[str, tuple[str, str]]:
    """What a module has from others of the judge."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse((ROOM / f"{module}.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline.checks."):
            source = str(node.module).rsplit(".", 1)[1]
            found |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return found


def emitted(module: str, name: str) -> set[str]:
    """The ids, or patterns of ids, that a function can yield, itself or by those that it calls."""
    waiting, seen, found = [(module, name)], set(), set()
    while waiting:
        here = waiting.pop()
        if here in seen or here not in functions():
            continue
        seen.add(here)
        for node in ast.walk(functions()[here]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = imported(here[0]).get(node.func.id, (here[0], node.func.id))
                if node.func.id == "Finding" or _takes_rule(called):
                    found |= _rule_of(node.args[0], functions()[here]) if node.args else set()
                if _finds(called):
                    waiting.append(called)
    return found


def _finds(called: tuple[str, str]) -> bool:
    """True for a function that yields or collects findings, not for one that is only asked for a fact."""
    function = functions().get(called)
    if function is None:
        return False
    kinds = [ast.unparse(arg.annotation) for arg in function.args.args if arg.annotation]
    returned = ast.unparse(function.returns) if function.returns else ""
    return "Finding" in returned or returned == "Trace" or "Trace" in kinds


def _takes_rule(called: tuple[str, str]) -> bool:
    function = functions().get(called)
    return function is not None and [arg.arg for arg in function.args.args][:1] == ["rule"]


def _rule_of(node: ast.expr, function: ast.FunctionDef) -> set[str]:
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "[a-z0-9]+" for p in node.values)
        return {"".join(map(str, parts))}
    if isinstance(node, ast.Name):
        given = [
            statement.value
            for statement in ast.walk(function)
            if isinstance(statement, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == node.id for target in statement.targets)
        ]
        return {rule for value in given for rule in _rule_of(value, function)}
    return set()


# Portability makes its ids of a table, from which it declares them as well; see test_checks_portability.py.
WRITTEN = [check for check in CHECKS if check.layer is not Layer.PORTABILITY]


@pytest.mark.parametrize("check", WRITTEN, ids=lambda check: check.name)
def test_a_check_declares_what_it_can_yield_and_nothing_else(check: Check) -> None:
    module = check.run.__module__.rsplit(".", 1)[1]
    found = emitted(module, check.run.__name__)
    assert {rule for rule in check.rules if not any(re.fullmatch(p, rule) for p in found)} == set()
    assert {p for p in found if not any(re.fullmatch(p, rule) for rule in check.rules)} == set()


def test_every_function_that_judges_is_in_the_index_once() -> None:
    runs = [check.run for check in CHECKS]
    assert len(runs) == len(set(runs))
    indexed = {(run.__module__.rsplit(".", 1)[1], run.__name__) for run in runs}
    # By hardening_mounts.tmpfs, by form, and by the mappings of the container and of mounts.
    called = {("mount_kinds", "tmpfs_sizes"), ("versions", "newer"), ("meaning_process", "overlaps")}
    public = {
        key
        for key, node in functions().items()
        if not key[1].startswith("_") and node.returns and ast.unparse(node.returns) == "Findings"
    }
    assert public == indexed | called


def test_what_form_and_stage_find_is_declared() -> None:
    form = _constants(ROOM / "form.py", ("add", "Finding"))
    form |= _constants(ROOM / "form_hints.py", ("Hint",)) | _constants(ROOM / "versions.py", ("Finding",))
    assert form == set(FORM.split())
    stage = _constants(ROOM.parent / "stages" / "validate.py", ("Finding",))
    waivers = _constants(ROOM / "waivers.py", ("Finding",))
    alone = _constants(ROOM.parent / "check.py", ("Finding",))
    assert stage | waivers | alone == set(STAGE.split())


def _constants(path: Path, names: tuple[str, ...]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            if name in names and isinstance(first, ast.Constant) and ID.fullmatch(str(first.value)):
                found.add(str(first.value))
    return found


def test_ids_are_written_as_a_waiver_takes_them() -> None:
    """But for one that ends in a version, and cannot be waived."""
    odd = {rule for rule in known_rules() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule)}
    assert odd <= {"refuses-oci-version-above-1.1"}


# The forty ------------------------------------------------------------------------------------


def test_there_are_forty_and_they_weigh_what_the_policy_says() -> None:
    assert [rule.number for rule in FORTY] == list(range(1, 41))
    counted = {severity: sum(rule.severity is severity for rule in FORTY) for severity in WEIGHTS}
    assert counted == {Severity.CRITICAL: 6, Severity.HIGH: 20, Severity.MEDIUM: 13, Severity.LOW: 1}
    assert sum(rule.weight for rule in FORTY) == 155


def test_each_rule_has_words_and_is_judged_once() -> None:
    for rule in FORTY:
        assert rule.name and rule.why and rule.anchors, rule
        assert rule.broken_by <= known_rules(), rule
        (check,) = [check for check in CHECKS if check.run is rule.run]
        assert check.layer is rule.layer
        assert check.rules == tuple(rule.rules.split()) or rule.layer is not Layer.HARDENING


def test_every_check_of_hardening_is_one_of_the_forty_or_listed_beyond() -> None:
    listed = [check for group in BEYOND.values() for check in group]
    forty = {rule.run for rule in FORTY}
    for check in CHECKS:
        if check.layer is Layer.HARDENING:
            assert (check.run in forty) != (check in listed), check.name


def test_every_finding_that_breaks_a_rule_costs_it() -> None:
    for rule in FORTY:
        for name in rule.broken_by:
            failed = {f.rule.number for f in score([Finding(name, Severity.INFO, "x")]).failed}
            assert rule.number in failed


# The score ------------------------------------------------------------------------------------


def test_a_good_bundle_meets_all_forty() -> None:
    found = score(findings(good()))
    assert (found.met, found.of, found.percent, found.failed) == (40, 40, 100, ())
    assert str(found) == "hardening 40/40"


def test_a_config_written_with_care_fails_eleven() -> None:
    """It looks well hardened, and lacks what few think of."""
    found = score(findings(careful_bundle()))
    failed = {failure.rule.number: failure.findings for failure in found.failed}
    assert sorted(failed) == [14, 19, 22, 24, 28, 29, 32, 34, 36, 37, 38]
    assert (found.met, found.percent) == (29, 79)
    assert failed[24] == ("unmasked-path-recent",)
    assert failed[36] == ("seccomp-clone-flags", "seccomp-clone3")
    assert failed[32] == ("core-dumps", "nproc-unset")


def test_a_waived_finding_still_costs_its_rule_and_is_shown_apart() -> None:
    case = good()
    case.config["root"]["readonly"] = False
    found = score(apply_waivers(findings(case), {"writable-root": "it updates itself"}))
    assert found.to_json() == {
        "met": 39,
        "of": 40,
        "percent": 97,
        "failed": [
            {
                "rule": 16,
                "name": "read-only root",
                "severity": "high",
                "findings": ["writable-root"],
                "waived": True,
            }
        ],
    }
    assert not score(findings(case)).failed[0].waived


def test_without_a_filter_no_rule_about_filters_is_met() -> None:
    case = good()
    del case.linux["seccomp"]
    assert [failure.rule.number for failure in score(findings(case)).failed] == [33, 34, 35, 36, 37]


def test_what_could_not_be_read_meets_nothing() -> None:
    for unread in (
        Finding("not-json", Severity.CRITICAL, "no"),
        Finding("wrong-type", Severity.HIGH, "a list"),
    ):
        assert (score([unread]).met, score([unread]).percent) == (0, 0)
    assert score([Finding("wrong-type", Severity.HIGH, "x", "hostname")]).met == 40


# Profiles -------------------------------------------------------------------------------------


def test_strict_raises_what_is_medium_in_hardening_and_nothing_else() -> None:
    medium = Finding("core-dumps", Severity.MEDIUM, "a core")
    others = [
        Finding("umask-open", Severity.LOW, "x"),
        Finding("env-duplicate", Severity.MEDIUM, "not of hardening"),
        Finding("writable-root", Severity.HIGH, "x"),
    ]
    raised, *kept = in_profile([medium, *others], "strict")
    assert raised == replace(
        medium,
        severity=Severity.HIGH,
        message="a core (medium; the profile `strict` makes it high)",
    )
    assert kept == others
    assert in_profile([medium], "baseline") == [medium]
    (waived,) = apply_waivers([raised], {"core-dumps": "debugging"})
    assert waived.waived == "debugging"


def test_hardening_rules_are_those_of_its_layer() -> None:
    assert {"core-dumps", "seccomp-foreign-architecture", "baseline-old"} <= HARDENING_RULES
    assert not {"env-duplicate", "program-missing", "unknown-key"} & HARDENING_RULES


# Baselines ------------------------------------------------------------------------------------


def test_judge_and_writer_agree_though_neither_reads_the_other() -> None:
    assert {b.date: tuple(sorted(b.masked)) for b in BASELINES} == {
        date: tuple(sorted(paths)) for date, paths in judged_baselines.MASKED.items()
    }
    assert judged_baselines.NEWEST == NEWEST
    assert [b.date for b in BASELINES if b.masked_of_cpus] == [judged_baselines.THERMAL_SINCE]
    thermal = {judged_baselines.thermal_path(cpu) for cpu in range(baselines.MASKED_CPUS)}
    assert thermal <= set(masked_paths(NEWEST))
    assert readonly_paths(NEWEST) == tuple(sorted(judged_baselines.READONLY))


def test_the_newest_has_dockers_twelve_and_five() -> None:
    """As moby has them (daemon/pkg/oci, defaults): ten of old, powercap, /proc/interrupts."""
    twelve = "acpi asound interrupts kcore keys latency_stats timer_list timer_stats sched_debug scsi".split()
    assert {*(f"/proc/{name}" for name in twelve), "/sys/firmware", "/sys/devices/virtual/powercap"} <= set(
        masked_paths(NEWEST)
    )
    assert readonly_paths("2018-07") == (
        *("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
    )


def test_an_older_baseline_masks_less() -> None:
    assert "/proc/interrupts" not in masked_paths("2023-10")
    assert "/sys/devices/virtual/powercap" in masked_paths("2023-10")
    assert "/sys/devices/virtual/powercap" not in masked_paths("2018-07")
    assert len(masked_paths(NEWEST)) == 14 + baselines.MASKED_CPUS


def values(**hardening: str) -> dict[str, object]:
    plain = {"image": "demo:busybox-httpd", "platform": "linux/amd64"}
    return Bundle.from_values({**plain, "hardening": hardening}).to_values()


def test_status_says_what_a_bundle_lags_behind() -> None:
    assert lag(values()) is None
    assert lag(values(baseline="2023-10")) == (
        "follows the baseline of 2023-10; 2025-03 also masks /proc/interrupts, thermal_throttle of every CPU"
        "; 2026-11 also masks /sys/dev/block, /sys/fs/selinux"
    )


def test_the_judge_says_so_too() -> None:
    case = good()
    case.config["annotations"] = {"org.cooperage.baseline": "2025-03"}
    (found,) = [f for f in findings(case) if f.rule == "baseline-old"]
    assert found.message == (
        "it follows the baseline of 2025-03; 2026-11 also masks /sys/dev/block, /sys/fs/selinux"
    )
    assert (found.severity, found.mend) == (Severity.LOW, f"`hardening: {{baseline: {NEWEST}}}`")


# One change that loses each of the forty -----------------------------------------------------

ONE_CHANGE: dict[int, Change] = {
    1: put("process.user.uid", 0),
    2: put("process.user.gid", 0),
    3: put("linux.uidMappings.0.hostID", 1000),
    4: put("process.user.uid", 70000),
    5: put("process.noNewPrivileges", False),
    6: drop("process.capabilities.ambient"),
    7: grant("CAP_SYS_PTRACE"),
    8: put("process.capabilities.inheritable", ["CAP_NET_BIND_SERVICE"]),
    9: without_namespace("pid"),
    10: without_namespace("network"),
    11: without_namespace("ipc"),
    12: without_namespace("uts"),
    13: without_namespace("mount"),
    14: without_namespace("cgroup"),
    15: join_namespace("network"),
    16: put("root.readonly", False),
    17: put("root.path", "../other"),
    18: mount("/data", source="/run/docker.sock"),
    19: mount("/data", without=("noexec",)),
    20: mount("/tmp", without=("size=16m",)),
    21: put("linux.rootfsPropagation", "shared"),
    22: mount("/proc", without=("nosuid",)),
    23: mount("/sys/fs/cgroup", without=("ro",)),
    24: without_mask("/sys/devices/virtual/powercap"),
    25: drop("linux.readonlyPaths.4"),
    26: add("linux.maskedPaths", "proc/kcore"),
    27: put("linux.devices", [{"type": "b", "path": "/dev/sda", "major": 8, "minor": 0}]),
    28: put("linux.resources.devices", [{"allow": False, "type": "b", "access": "rwm"}]),
    29: drop("linux.resources.memory.swap"),
    30: put("linux.resources.pids.limit", -1),
    31: put("linux.resources.cpu.quota", -1),
    32: drop("process.rlimits.2"),
    33: put("linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"),
    34: add("linux.seccomp.architectures", "SCMP_ARCH_X32"),
    35: allow("io_uring_setup"),
    36: allow("clone"),
    37: conditional("socket", eq(0, 2)),
    38: put("process.apparmorProfile", "unconfined"),
    39: put("hooks", {"createRuntime": [{"path": "/bin/x"}]}),
    40: add("process.env", "LD_PRELOAD=/x.so"),
}


@pytest.mark.parametrize("number", range(1, 41))
def test_one_change_loses_each_of_the_forty(number: int) -> None:
    case = good()
    ONE_CHANGE[number](case)
    assert number in {failure.rule.number for failure in score(findings(case)).failed}


@pytest.mark.parametrize("runtime_rule", ["clone3 refused", "clone3 open"])
def test_clone3_is_part_of_rule_36(runtime_rule: str) -> None:
    case = good()
    profile = case.linux["seccomp"]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"] != ["clone3"]]
    if runtime_rule == "clone3 open":
        profile["syscalls"][0]["names"].append("clone3")
    assert [failure.rule.number for failure in score(findings(case)).failed] == [36]
