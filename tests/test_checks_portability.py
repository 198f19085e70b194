"""Which runtimes keep a bundle's protections: what it uses, what they announce, verdicts and findings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import proc, runtimefacts
from pipeline.checks import portability
from pipeline.checks.announced import unannounced
from pipeline.checks.form import read_form
from pipeline.checks.portability import USES, Row, Standing, Verdict
from pipeline.checks.subject import HIGH, INFO, LOW, Subject
from pipeline.model.nouns import Finding
from pipeline.model.truths.nouns import Effect, FoundRuntime
from pipeline.observe.host import host_facts
from pipeline.paths import Project
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime
from tests.judged import BASE, FOLDER, Case, device, findings, folder, link

MAPPING = [{"containerID": 0, "hostID": BASE, "size": 65536}]
Change = Callable[[Case], object]


def subject(case: Case, text: str | None = None) -> Subject:
    """A case before the judge."""
    form = read_form("config.json", text or json.dumps(case.config))
    assert form.document is not None
    assert form.config is not None
    return Subject(form.document, form.config, FOLDER, case.tree, case.host, case.facts)


def bind(*options: str, **keys: Any) -> Change:
    """Make the bind mount (the sixth of the good case) another."""
    return lambda case: case.mount("/data").update({"options": ["bind", *options], **keys})


def linux(**keys: Any) -> Change:
    """Set members of `linux`."""
    return lambda case: case.linux.update(keys)


def profile(**keys: Any) -> Change:
    """Set members of the seccomp profile."""
    return lambda case: case.linux["seccomp"].update(keys)


def process(**keys: Any) -> Change:
    """Set members of `process`."""
    return lambda case: case.process.update(keys)


def pids(limit: int) -> Change:
    """Set the pids limit."""
    return lambda case: case.resources.update({"pids": {"limit": limit}})


def without_namespace(kind: str) -> Change:
    """Leave a namespace to the host."""
    return lambda case: case.linux.update(
        namespaces=[entry for entry in case.linux["namespaces"] if entry["type"] != kind]
    )


def with_namespace(**entry: str) -> Change:
    """Add a namespace, or replace the one of its type."""

    def change(case: Case) -> None:
        without_namespace(entry["type"])(case)
        case.linux["namespaces"].append(entry)

    return change


def both(*changes: Change) -> Change:
    """Several changes."""
    return lambda case: [change(case) for change in changes]


def tmpfs(mode: str, there: int) -> Change:
    """A mode of the tmpfs on /tmp, and that of the folder below."""

    def change(case: Case) -> None:
        case.mount("/tmp")["options"].append(f"mode={mode}")
        case.tree.put("/tmp", folder(there))

    return change


def tmpfs_in_dev(case: Case) -> None:
    """A tmpfs whose folder the one on /dev hides."""
    case.tree.put("/dev/shm", folder(0o700))
    shm = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777", "size=1m"]}
    case.mounts.append(shm)


def linked_rootfs(case: Case) -> None:
    """A rootfs that is a link."""
    case.host[f"{FOLDER}/rootfs"] = link("/srv/elsewhere")


def own_device(path: str) -> Change:
    """A device of the bundle's."""
    return linux(devices=[{"path": path, "type": "c", "major": 1, "minor": 11}])


def device_there(case: Case) -> None:
    """The same device on the host."""
    case.host["/dev/there"] = device(1, 11)


def facts(**values: Any) -> Change:
    """Another host."""
    return lambda case: case.change_facts(**values)


V1 = facts(cgroups="hybrid")
KILL = {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"}
NO_CLONE3 = [{"names": ["close"], "action": "SCMP_ACT_ALLOW"}]
OFFSETS = both(with_namespace(type="time"), linux(timeOffsets={"boottime": {"secs": 5}}))
# feature: a use, the paths it is found at, and the near miss that is none.
CASES: dict[str, tuple[Change, list[str], Change | None]] = {
    "always": (pids(64), [""], None),
    "rw-bind-flags-under-userns": (bind("nosuid", "rw"), ["mounts[5].options"], bind("nosuid", "ro")),
    "bind-nosuid-nodev": (bind("nodev"), ["mounts[5].options"], bind("noexec")),
    "tmpfs-mode-wider": (tmpfs("0700", 0o755), ["mounts[4].options"], tmpfs("1777", 0o755)),
    "tmpfs-mode-narrower": (tmpfs("1777", 0o755), ["mounts[4].options"], tmpfs("1777", 0o1777)),
    "idmapped-mounts": (bind(uidMappings=MAPPING, gidMappings=MAPPING), ["mounts[5]"], bind()),
    "recursive-read-only": (bind("rro"), ["mounts[5].options"], bind("rro", "ro")),
    "bind-data-options": (bind("size=1m"), ["mounts[5].options[1]"], bind("rprivate", "rnosuid", "nosuid")),
    "host-net-sysfs": (without_namespace("network"), ["mounts[2]"], without_namespace("user")),
    "masked-paths-elsewhere": (
        linux(maskedPaths=["/proc/kcore", "/etc/shadow"]),
        ["linux.maskedPaths[1]"],
        linux(maskedPaths=["/proc/kcore", "/sys/firmware"]),
    ),
    "readonly-paths-elsewhere": (
        linux(readonlyPaths=["/proc/sys", "/process"]),
        ["linux.readonlyPaths[1]"],
        linux(readonlyPaths=["/proc/sys", "/sys/kernel"]),
    ),
    "readonly-path-flags": (
        linux(readonlyPaths=["/proc/sys", "/tmp/x"]),
        ["linux.readonlyPaths[1]"],
        linux(readonlyPaths=["/proc/sys", "/etc"]),
    ),
    "propagation-shared": (
        linux(rootfsPropagation="rshared"),
        ["linux.rootfsPropagation"],
        linux(rootfsPropagation="slave"),
    ),
    "propagation-recursive": (
        linux(rootfsPropagation="rprivate"),
        ["linux.rootfsPropagation"],
        linux(rootfsPropagation="private"),
    ),
    "symlinked-rootfs": (linked_rootfs, ["root.path"], pids(64)),
    "device-not-on-host": (
        own_device("/dev/none"),
        ["linux.devices[0].path"],
        both(own_device("/dev/there"), device_there),
    ),
    "oci-version-above-1.1": (
        lambda case: case.config.update(ociVersion="1.2.0"),
        ["ociVersion"],
        lambda case: case.config.update(ociVersion="1.1.9"),
    ),
    "oci-version-2": (
        lambda case: case.config.update(ociVersion="2.0.0"),
        ["ociVersion"],
        lambda case: case.config.update(ociVersion="1.9.9"),
    ),
    "domainname": (lambda case: case.config.update(domainname="d.example"), ["domainname"], pids(64)),
    "scheduler": (process(scheduler={"policy": "SCHED_BATCH"}), ["process.scheduler"], pids(64)),
    "io-priority": (process(ioPriority={"class": "IOPRIO_CLASS_IDLE"}), ["process.ioPriority"], pids(64)),
    "umask": (process(user={"uid": 1, "gid": 1, "umask": 0}), ["process.user.umask"], pids(64)),
    "apparmor": (process(apparmorProfile="x"), ["process.apparmorProfile"], process(selinuxLabel="x")),
    "selinux": (process(selinuxLabel="x"), ["process.selinuxLabel"], process(apparmorProfile="x")),
    "no-new-privileges": (
        process(noNewPrivileges=True),
        ["process.noNewPrivileges"],
        process(noNewPrivileges=False),
    ),
    "user-namespace": (
        pids(64),
        ["linux.namespaces[5]"],
        with_namespace(type="user", path="/proc/7/ns/user"),
    ),
    "private-network": (
        pids(64),
        ["linux.namespaces[3]"],
        with_namespace(type="network", path="/run/netns/n"),
    ),
    "joined-network": (
        with_namespace(type="network", path="/run/netns/n"),
        ["linux.namespaces[6]"],
        pids(64),
    ),
    "host-network": (
        without_namespace("network"),
        ["linux.namespaces"],
        with_namespace(type="network", path="/run/netns/n"),
    ),
    "time-namespace": (with_namespace(type="time"), ["linux.namespaces[7]"], pids(64)),
    "time-offsets": (OFFSETS, ["linux.timeOffsets"], linux(timeOffsets={"boottime": {"secs": 0}})),
    "time-offsets-under-userns": (
        OFFSETS,
        ["linux.timeOffsets"],
        both(OFFSETS, without_namespace("user")),
    ),
    "personality": (linux(personality={"domain": "LINUX32"}), ["linux.personality"], pids(64)),
    "sysctl": (linux(sysctl={"net.core.somaxconn": "9"}), ["linux.sysctl"], linux(sysctl={})),
    "hybrid-cgroup": (V1, [""], facts(cgroups="v2")),
    "unified-on-v1": (
        both(V1, lambda case: case.resources.update(unified={"memory.high": "1"})),
        ["linux.resources.unified"],
        lambda case: case.resources.update(unified={"memory.high": "1"}),
    ),
    "pids-limit-zero": (pids(0), ["linux.resources.pids.limit"], pids(1)),
    "pids-limit-below-32": (pids(31), ["linux.resources.pids.limit"], pids(32)),
    "pids-limit-below-512": (pids(32), ["linux.resources.pids.limit"], pids(512)),
    "seccomp": (pids(64), ["linux.seccomp"], lambda case: case.linux.pop("seccomp")),
    "seccomp-flags": (
        profile(flags=["SECCOMP_FILTER_FLAG_LOG"]),
        ["linux.seccomp.flags"],
        profile(flags=[]),
    ),
    "seccomp-wait-killable": (
        profile(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        ["linux.seccomp.flags"],
        profile(flags=["SECCOMP_FILTER_FLAG_LOG"]),
    ),
    "seccomp-errno": (
        profile(defaultErrnoRet=38),
        ["linux.seccomp.defaultErrnoRet", "linux.seccomp.syscalls[2].errnoRet"],
        profile(defaultErrnoRet=1, syscalls=NO_CLONE3),
    ),
    "seccomp-uncommon-actions": (
        profile(defaultAction="SCMP_ACT_LOG", syscalls=[*NO_CLONE3, KILL]),
        ["linux.seccomp.defaultAction", "linux.seccomp.syscalls[1].action"],
        profile(defaultAction="SCMP_ACT_TRAP"),
    ),
    "clone3-unlisted": (
        profile(syscalls=NO_CLONE3),
        ["linux.seccomp"],
        profile(syscalls=NO_CLONE3, defaultErrnoRet=38),
    ),
}


@pytest.mark.parametrize("feature", CASES)
def test_where_a_bundle_uses_a_feature(feature: str) -> None:
    change, paths, near_miss = CASES[feature]
    used, other = Case(), Case()
    change(used)
    assert list(USES[feature](subject(used))) == paths
    if near_miss is not None:
        near_miss(other)
        assert list(USES[feature](subject(other))) == []


def test_a_tmpfs_on_a_folder_that_another_hides_has_its_own_mode() -> None:
    case = Case()
    tmpfs_in_dev(case)
    assert list(USES["tmpfs-mode-wider"](subject(case))) == []
    assert list(USES["tmpfs-mode-narrower"](subject(case))) == []


@pytest.mark.parametrize(("mode", "there", "wider"), [("1777", 0o777, True), ("1755", 0o755, False)])
def test_without_the_sticky_bit_users_can_remove_each_others_files(
    mode: str, there: int, wider: bool
) -> None:
    case = Case()
    tmpfs(mode, there)(case)
    assert bool(list(USES["tmpfs-mode-wider"](subject(case)))) is wider
    assert bool(list(USES["tmpfs-mode-narrower"](subject(case)))) is not wider


@pytest.mark.parametrize(
    ("feature", "old", "new", "paths"),
    [
        ("duplicate-keys", '"cwd": "/"', '"cwd": "/", "cwd": "/tmp"', ["process.cwd"]),
        ("duplicate-keys", '"cwd": "/"', '"cwd": "/", "Cwd": "/tmp"', []),
        ("key-case", '"noNewPrivileges"', '"NoNewPrivileges"', ["process.NoNewPrivileges"]),
        ("key-case", '"noNewPrivileges"', '"noNewPriviliges"', []),
        ("key-case", '"org.example.name"', '"CWD"', []),
    ],
)
def test_keys_that_parsers_read_differently(feature: str, old: str, new: str, paths: list[str]) -> None:
    text = json.dumps(Case().config).replace(old, new)
    assert list(USES[feature](subject(Case(), text))) == paths


def test_every_use_has_its_case() -> None:
    assert CASES.keys() | {"duplicate-keys", "key-case"} == USES.keys()


# In the shape of runtime-spec, features.md; the values are those of a runtime that can do little.
POOR: dict[str, Any] = {
    "ociVersionMin": "1.0.0",
    "ociVersionMax": "1.1.0-dev",
    "hooks": ["prestart", "poststop"],
    "mountOptions": ["bind", "nosuid", "nodev", "noexec", "ro", "rw"],
    "linux": {
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
        "capabilities": ["CAP_CHOWN"],
        "cgroup": {"v1": False, "v2": True},
        "seccomp": {
            "enabled": True,
            "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"],
            "operators": ["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"],
            "archs": ["SCMP_ARCH_X86_64"],
            "knownFlags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"],
            "supportedFlags": ["SECCOMP_FILTER_FLAG_TSYNC"],
        },
        "apparmor": {"enabled": False},
        "selinux": {"enabled": False},
        "intelRdt": {"enabled": False},
        "mountExtensions": {"idmap": {"enabled": False}},
    },
    "potentiallyUnsafeConfigAnnotations": ["bundle", "run.oci."],
}
ARGUMENT = {"index": 0, "value": 1, "op": "SCMP_CMP_NE"}
FILTERED = [{"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [ARGUMENT]}]


@pytest.mark.parametrize(
    ("change", "use"),
    [
        (
            lambda case: case.config.update(ociVersion="1.2.0"),
            ("oci-version", "differs", "", "ociVersion", "knows the specification up to 1.1.0-dev"),
        ),
        (
            lambda case: case.config.update(ociVersion="0.9.0"),
            ("oci-version", "refuses", "", "ociVersion", "knows the specification from 1.0.0 on"),
        ),
        (
            lambda case: case.config.update(hooks={"poststart": [{"path": "/bin/x"}]}),
            ("hooks", "ignores", "", "hooks.poststart[0]", "does not know the hook `poststart`"),
        ),
        (
            bind("rnoexec"),
            ("mount-option", "ignores", "mount-flags", "mounts[5].options[1]", "the mount option `rnoexec`"),
        ),
        (
            bind("noatime"),
            ("mount-option", "ignores", "", "mounts[5].options[1]", "the mount option `noatime`"),
        ),
        (
            lambda case: case.mount("/tmp")["options"].append("nosymfollow"),
            ("mount-option", "refuses", "mount-flags", "mounts[4].options[4]", "option `nosymfollow`"),
        ),
        (
            with_namespace(type="time"),
            ("time-namespace", "refuses", "", "linux.namespaces[7]", "does not know the time namespace"),
        ),
        (
            lambda case: case.process["capabilities"].update(bounding=["CAP_CHOWN", "CAP_SETUID"]),
            ("capabilities", "ignores", "", "process.capabilities", "does not know CAP_SETUID"),
        ),
        (
            process(apparmorProfile="x"),
            ("apparmor", "ignores", "apparmor", "process.apparmorProfile", "was built without apparmor"),
        ),
        (
            process(selinuxLabel="x"),
            ("selinux", "ignores", "selinux", "process.selinuxLabel", "was built without selinux"),
        ),
        (V1, ("cgroup", "refuses", "", "linux.resources", "was built without cgroup v1")),
        (
            profile(defaultAction="SCMP_ACT_TRAP"),
            ("seccomp-actions", "refuses", "", "linux.seccomp", "does not know SCMP_ACT_TRAP"),
        ),
        (
            profile(syscalls=FILTERED),
            ("seccomp-operators", "refuses", "", "linux.seccomp", "does not know SCMP_CMP_NE"),
        ),
        (
            profile(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_RISCV64"]),
            ("seccomp-archs", "refuses", "", "linux.seccomp", "does not know SCMP_ARCH_RISCV64"),
        ),
        (
            profile(flags=["SECCOMP_FILTER_FLAG_LOG"]),
            ("seccomp-flags", "refuses", "", "linux.seccomp", "does not know SECCOMP_FILTER_FLAG_LOG"),
        ),
        (
            bind(uidMappings=MAPPING, gidMappings=MAPPING),
            ("idmapped-mounts", "ignores", "id-mapped-mounts", "mounts[5]", "passes over the id mappings"),
        ),
        (
            linux(intelRdt={"closID": "x"}),
            ("intel-rdt", "ignores", "", "linux.intelRdt", "was built without Intel RDT"),
        ),
        (
            lambda case: case.config.update(annotations={"run.oci.handler": "krun"}),
            ("annotation", "differs", "", 'annotations["run.oci.handler"]', "obeys the annotation"),
        ),
    ],
)
def test_what_a_runtime_does_not_announce(change: Change, use: tuple[str, str, str, str, str]) -> None:
    case = Case()
    change(case)
    ((feature, effect, protection, path, reason),) = unannounced(subject(case), POOR)
    assert (feature, effect.value, protection, path) == use[:4]
    assert use[4] in reason
    known = {"ignores": portability.LOSSES, "refuses": portability.REFUSALS}.get(effect.value, ())
    if protection:
        assert f"drops-{protection}" in portability.DROPS
    elif effect is not Effect.DIFFERS:
        assert f"{effect.value}-{feature}" in known


def test_what_is_built_without_seccomp_drops_it() -> None:
    ((feature, effect, protection, *_),) = unannounced(
        subject(Case()), {"linux": {"seccomp": {"enabled": False}}}
    )
    assert (feature, effect, protection) == ("seccomp", Effect.IGNORES, "seccomp")


@pytest.mark.parametrize(
    "features", [POOR, {}, {"linux": None}, {"linux": {"seccomp": None, "cgroup": None}}]
)
def test_what_a_structure_leaves_out_is_unknown(features: dict[str, Any]) -> None:
    assert list(unannounced(subject(Case()), features)) == []


@pytest.mark.parametrize("odd", [None, 7, "x", [], [7], {}, {"enabled": None}, {"idmap": 7}])
def test_what_breaks_the_shape_says_nothing(odd: object) -> None:
    case = Case()
    case.config |= {"ociVersion": "1.1.0", "hooks": {"poststart": [{"path": "/bin/x"}]}}
    case.linux["seccomp"]["flags"] = ["SECCOMP_FILTER_FLAG_LOG"]
    names = ("namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "mountExtensions", "intelRdt")
    for features in (
        {"linux": odd, "hooks": odd if not isinstance(odd, list) else None},
        {"linux": {name: odd for name in names if not isinstance(odd, list)}},
        {"linux": {"seccomp": {name: odd for name in ("actions", "archs") if not isinstance(odd, list)}}},
    ):
        assert list(unannounced(subject(case), features)) == []


def found(case: Case, *runtimes: FoundRuntime) -> dict[str, Row]:
    """The matrix of a case on a host with these runtimes."""
    case.change_facts(runtimes=runtimes)
    return {row.name: row for row in portability.rows(subject(case))}


CRUN = FoundRuntime("crun", "1.8.1")
NEW_CRUN = FoundRuntime("crun", "1.28")


def test_verdicts_on_a_good_bundle() -> None:
    rows = found(Case(), FoundRuntime("runc", "1.1.5"), CRUN)
    assert {name: row.verdict.value for name, row in rows.items()} == {
        "runc": "full",
        "crun": "weaker",
        "youki": "full",
        "runsc": "weaker",
        "kata": "weaker",
    }
    assert {row.standing for row in rows.values()} == set(Standing)
    assert found(Case(), NEW_CRUN)["crun"].verdict is Verdict.FULL
    assert rows["youki"].where == "youki 0.7.0 (not installed here)"
    assert rows["crun"].where == "crun 1.8.1, installed here,"
    assert rows["runc"].where == "runc 1.1.5"


def test_of_what_was_never_tried_nothing_good_is_said() -> None:
    case = Case()
    case.linux.pop("seccomp")
    without_namespace("user")(case)
    assert found(case)["kata"].verdict is Verdict.UNKNOWN
    assert found(case, FoundRuntime("another", "1.0"))["another"].verdict is Verdict.UNKNOWN


def test_a_refusal_counts_more_than_a_loss() -> None:
    case = Case()
    case.config["ociVersion"] = "1.2.0"
    crun = found(case, CRUN)["crun"]
    assert crun.verdict is Verdict.REFUSES
    assert any(reason.drops for reason in crun.reasons)


def test_what_this_program_avoids_is_told_and_refuses_nothing() -> None:
    case = Case()
    case.change_facts(cgroups="hybrid")
    crun = found(case, NEW_CRUN)["crun"]
    assert crun.verdict is Verdict.FULL
    (hybrid,) = [reason for reason in crun.reasons if reason.feature == "hybrid-cgroup"]
    assert hybrid.avoided == "started where cgroup2's list of controllers is hidden"


def test_what_a_runtime_says_of_itself_counts_too_and_is_told_once() -> None:
    case = Case()
    case.mount("/data").update(uidMappings=MAPPING, gidMappings=MAPPING)
    reasons = found(case, replace(CRUN, features=POOR))["crun"].reasons
    assert [r.evidence.partition(":")[0] for r in reasons if r.feature == "idmapped-mounts"] == ["measured"]
    case.change_facts(runtime="runc", runtime_version="1.1.5")
    told = found(case, FoundRuntime("runc", "1.1.5", POOR))["runc"].reasons
    assert sum(reason.feature == "idmapped-mounts" for reason in told) == 1


def test_rules_have_names_that_stay() -> None:
    dropped = (
        *("drops-apparmor", "drops-bind-flags", "drops-cgroup-limits", "drops-id-mapped-mounts"),
        *("drops-masked-paths", "drops-mount-flags", "drops-pids-limit", "drops-readonly-paths"),
        *("drops-seccomp", "drops-selinux", "drops-tmpfs-mode", "drops-umask", "drops-user-namespace"),
    )
    assert dropped == portability.DROPS
    assert {"refuses-symlinked-rootfs", "refuses-time-namespace"} <= set(portability.REFUSALS)
    assert {"ignores-domainname", "ignores-hooks"} <= set(portability.LOSSES)
    told = {finding.rule for change, *_ in CASES.values() for finding in _spoilt(change)}
    ours = {rule for rule in told if rule.startswith(("drops-", "refuses-", "ignores-"))}
    assert ours <= {*portability.DROPS, *portability.REFUSALS, *portability.LOSSES}
    assert len(ours) > 20


def _spoilt(change: Change) -> list[Finding]:
    case = Case()
    change(case)
    case.change_facts(runtimes=(CRUN,))
    return findings(case)


def about(case: Case, rule: str) -> list[Finding]:
    """The findings of one rule, worst first."""
    return [finding for finding in findings(case) if finding.rule == rule]


@pytest.mark.parametrize(
    ("runtime", "version", "runtimes", "severity", "said"),
    [
        ("crun", "1.8.1", (), HIGH, "crun 1.8.1 loses nosuid, nodev and noexec of a writable bind"),
        ("runc", "1.1.5", (CRUN,), LOW, "crun 1.8.1, installed here, loses nosuid, nodev and noexec"),
    ],
)
def test_a_dropped_protection_weighs_as_near_as_the_runtime_is(
    runtime: str, version: str, runtimes: tuple[FoundRuntime, ...], severity: object, said: str
) -> None:
    case = Case()
    case.change_facts(runtime=runtime, runtime_version=version, runtimes=runtimes)
    (finding,) = about(case, "drops-bind-flags")
    assert finding.severity is severity
    assert finding.message.startswith(said)
    assert (finding.path, finding.mend) == ("mounts[5].options", "crun 1.21 or later")
    assert finding.source.startswith("measured: crun 1.8.1 has it")
    assert finding.place is not None


def test_runtimes_that_are_not_here_are_told_in_one_line() -> None:
    (finding,) = about(Case(), "drops-seccomp")
    assert finding.severity is INFO
    assert finding.message.startswith("gVisor runsc 20240729 (not installed here) passes over the seccomp")
    assert "; Kata Containers (not installed here) passes over the seccomp profile" in finding.message


@pytest.mark.parametrize(("runtime", "runtimes", "severity"), [("crun", (), HIGH), ("runc", (CRUN,), INFO)])
def test_a_refusal_weighs_only_where_the_bundle_is_to_run(
    runtime: str, runtimes: tuple[FoundRuntime, ...], severity: object
) -> None:
    case = Case()
    case.config["ociVersion"] = "1.2.0"
    case.change_facts(runtime=runtime, runtime_version="1.8.1", runtimes=runtimes)
    (finding,) = about(case, "refuses-oci-version-above-1.1")
    assert finding.severity is severity
    assert "refuses an ociVersion above 1.1" in finding.message


@pytest.mark.parametrize(("runtime", "severity"), [("runc", LOW), ("crun", INFO)])
def test_what_is_passed_over_and_no_protection_is_a_small_matter(runtime: str, severity: object) -> None:
    case = Case()
    case.config |= {"domainname": "d.example", "ociVersion": "1.1.0"}
    case.change_facts(runtime=runtime, runtime_version="1.28", runtimes=(FoundRuntime("runc", "1.1.5"),))
    if runtime == "runc":
        case.change_facts(runtime_version="1.1.5")
    (finding,) = about(case, "ignores-domainname")
    assert finding.severity is severity
    assert "passes over `domainname`" in finding.message


def test_what_is_refused_anyhow_is_told_once() -> None:
    case = Case()
    without_namespace("network")(case)
    case.change_facts(runtime="crun", runtime_version="1.8.1")
    crun = found(case)["crun"]
    assert [reason.drops for reason in crun.reasons if reason.feature == "host-net-sysfs"] == [True]
    assert about(case, "sysfs-host-network")
    assert not about(case, "drops-mount-flags")


def test_the_matrix_in_json() -> None:
    case = Case()
    case.change_facts(runtimes=(CRUN,))
    judged = subject(case)
    assert portability.matrix(judged.cache) == {}
    portability.rows(judged)
    value = json.loads(json.dumps(portability.matrix(judged.cache)))
    assert value["runc"] | {"reasons": []} == {
        "version": "1.1.5",
        "found": True,
        "judged": "1.1.5",
        "verdict": "full",
        "reasons": [],
    }
    assert value["crun"]["reasons"][0] == {
        "feature": "rw-bind-flags-under-userns",
        "effect": "weakens",
        "protection": "bind-flags",
        "path": "mounts[5].options",
        "reason": "loses nosuid, nodev and noexec of a writable bind mount under a user namespace",
        "evidence": "measured: crun 1.8.1 has it, 1.21 and 1.28 have not; documented: containers/crun#1336, "
        "a mend in 1.11.1",
    }
    assert (value["youki"]["version"], value["youki"]["found"]) == (None, False)
    assert value["kata"]["judged"] == "what is written of it; none was tried"


SAYING = '#!/bin/sh\necho asked >> "${{0%/*}}/asked"\n{what}\n'


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a runc on PATH that does as told when it is asked anything."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(what: str) -> Path:
        path = tmp_path / "runc"
        path.write_text(SAYING.format(what=what))
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize(
    ("what", "features"),
    [
        ('test "$1" = features && echo \'{"hooks": []}\'', {"hooks": []}),
        ("echo 'unknown command features' >&2; exit 1", None),
        ("echo no JSON", None),
        ("echo '[]'", None),
    ],
)
def test_a_runtime_is_asked_what_it_can_do(
    runtime: Callable[[str], Path], tmp_path: Path, what: str, features: object
) -> None:
    runtime(what)
    found = registry.get("runc")
    assert isinstance(found, Runtime)
    assert found.features() == features


def test_a_program_is_asked_once(runtime: Callable[[str], Path], tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.cache.mkdir(parents=True)
    runtime("echo '{\"hooks\": []}'")
    tools = {"runc": "1.3.6 (0123456789ab)", "crun": "absent", "libseccomp": "2.5.4 (0123456789ab)"}
    for _ in range(3):
        assert runtimefacts.found_runtimes(project, tools) == (FoundRuntime("runc", "1.3.6", {"hooks": []}),)
    assert (tmp_path / "asked").read_text().count("asked") == 1
    changed = {**tools, "runc": "1.3.6 (ba9876543210)"}
    runtimefacts.found_runtimes(project, changed)
    assert (tmp_path / "asked").read_text().count("asked") == 2
    (project.cache / "features.json").write_text('{"runc 1.3.6 (0123456789ab)": 7}')
    assert runtimefacts.found_runtimes(project, tools)[0].features == {"hooks": []}


def test_a_runtime_that_cannot_say_says_nothing(
    runtime: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tools.runtimes.base._ASK_TIMEOUT_S", 0.1)
    runtime("sleep 5")
    project = Project(tmp_path)
    assert runtimefacts.found_runtimes(project, {"runc": "1 (x)"}) == (FoundRuntime("runc", "1", None),)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [(("cgroup", "cgroup2"), "hybrid"), (("cgroup",), "v1"), (("cgroup2",), "v2"), ((), "")],
)
def test_the_hierarchies_of_the_host(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], said: str
) -> None:
    mounts = [
        proc.Mount(2, 1, "0:2", "/", f"/cg/{kind}", frozenset(), (), kind, kind, frozenset({"rw"}))
        for kind in kinds
    ]
    monkeypatch.setattr(proc, "cgroup_roots", lambda: mounts)
    assert host_facts("runc", "1.1.5", (CRUN,)).cgroups == said
    assert host_facts("runc", "1.1.5", (CRUN,)).runtimes == (CRUN,)
