"""One change to a good config, as a careful attacker or a tired author would make it, and what it must earn.

The other half are near misses: they look as odd and are right, and nothing may be said of them at high.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.checks.form import read_form
from pipeline.checks.index import judge
from pipeline.checks.subject import Subject
from pipeline.checks.text import render_findings
from pipeline.model.nouns import Finding, Severity
from pipeline.tools import libseccomp
from tests.judged import BASE, FOLDER, USER, Case, elf, file, folder, link
from tests.test_checks_rules import (
    Change,
    add,
    allow,
    both,
    conditional,
    device_rule,
    drop,
    grant,
    host,
    mount,
    new_mount,
    nothing,
    program,
    put,
    tree,
    unified,
)

CRITICAL, HIGH, MEDIUM, LOW, INFO = Severity
SAFE = ("nosuid", "nodev", "noexec")
Text = tuple[str, str]


def call(action: str, *names: str, **values: Any) -> Change:
    """Add a rule to the filter."""
    return add("linux.seccomp.syscalls", {"names": list(names), "action": action, **values})


def default(action: str) -> Change:
    """Set what the filter does by default, which has no errno."""
    return both(put("linux.seccomp.defaultAction", action), drop("linux.seccomp.defaultErrnoRet"))


def limit(name: str, value: int) -> Change:
    """Add a limit of the process."""
    return add("process.rlimits", {"type": f"RLIMIT_{name}", "soft": value, "hard": value})


def bound(source: str, *options: str) -> Change:
    """Bind something of the host that the process may use."""
    return new_mount("/x", "bind", source, "bind", *SAFE, *options)


def device(path: str, major: int, minor: int, **values: Any) -> Change:
    """Give a character device."""
    return put("linux.devices", [{"type": "c", "path": path, "major": major, "minor": minor, **values}])


def ids(*rows: tuple[int, int, int]) -> Change:
    """Set the mapping of uids: container, host, size."""
    return put("linux.uidMappings", [{"containerID": a, "hostID": b, "size": n} for a, b, n in rows])


def masked(value: int, two: int) -> dict[str, Any]:
    """The first argument, masked, and what is left of it."""
    return {"index": 0, "value": value, "valueTwo": two, "op": "SCMP_CMP_MASKED_EQ"}


# What was changed in the text, for what no parser would keep: look-alikes, escapes, cases, doubles.
WRITTEN: list[tuple[str, Text, str, Severity]] = [
    ("a Cyrillic o", ('"noNewPrivileges"', '"n\u043eNewPrivileges"'), "unknown-key", HIGH),
    ("a zero-width space", ('"readonly"', '"readonly\u200b"'), "unknown-key", HIGH),
    ("an escaped letter", ('"root":', '"\\u0072oot": {"path": "/"}, "root":'), "duplicate-key", HIGH),
    ("a dotless i", ('"linux":', '"l\u0131nux": {}, "linux":'), "unknown-key", HIGH),
    ("a long s, which Go folds", ('"seccomp":', '"\u017feccomp":'), "key-case", HIGH),
    ("a second list by case", ('"maskedPaths":', '"maskedpaths": [], "maskedPaths":'), "key-case", HIGH),
    ("a byte order mark", ("{", "\ufeff{"), "not-json", CRITICAL),
    ("a comment", ('"linux":', '// open\n"linux":'), "not-json", CRITICAL),
    (
        "seventy levels",
        ('"annotations": {', f'"annotations": {{"a.b": {"[" * 70}{"]" * 70},'),
        "not-json",
        HIGH,
    ),
    ("an id with an exponent", (f'"uid": {USER}', '"uid": 1e3'), "wrong-type", HIGH),
    ("an id with a fraction", (f'"uid": {USER}', f'"uid": {USER}.0'), "wrong-type", HIGH),
]

HOSTILE: list[tuple[str, Change, str, Severity]] = [
    ("null for a protection", put("linux.seccomp", None), "wrong-type", HIGH),
    ("true as a word", put("process.noNewPrivileges", "true"), "new-privileges", CRITICAL),
    ("one for true", put("root.readonly", 1), "writable-root", HIGH),
    ("uid -1", put("process.user.uid", -1), "number-out-of-range", HIGH),
    ("uid 2^32", put("process.user.uid", 2**32), "number-out-of-range", HIGH),
    ("the whole host mapped", ids((0, 0, 2**32 - 1)), "low-host-ids", HIGH),
    ("one user is the host's root", ids((0, BASE, USER), (USER, 0, 1)), "low-host-ids", HIGH),
    ("a group of root's", put("process.user.additionalGids", [0]), "root-group", MEDIUM),
    ("out of the bundle and on", put("root.path", "rootfs/../../"), "root-path", HIGH),
    ("the host's root", put("root.path", "/"), "root-path", HIGH),
    ("up and down", mount("/data", destination="/proc/../etc"), "mount-target-relative", HIGH),
    ("a dot on the way", new_mount("/./proc/sys", "bind", "/srv/data", "bind"), "mount-over-system", HIGH),
    ("a space behind /proc", mount("/proc", destination="/proc "), "pseudo-elsewhere", HIGH),
    ("two options in one", mount("/data", add=("rw,ro",)), "mount-option-unknown", HIGH),
    ("a space before ro", mount("/sys", add=(" ro",), without=("ro",)), "sysfs-writable", HIGH),
    ("RO", mount("/sys", add=("RO",), without=("ro",)), "mount-option-unknown", HIGH),
    ("a size with a tail", mount("/tmp", add=("size=16m,exec",)), "tmpfs-size-bad", HIGH),
    ("a type with a space", mount("/data", type="bind "), "mount-type", HIGH),
    ("a type in capitals", mount("/data", type="Bind"), "mount-type", HIGH),
    ("a tmpfs that is a bind", mount("/tmp", add=("bind",)), "mount-type", HIGH),
    ("devices on a volume", mount("/data", add=("dev",)), "bind-flags", HIGH),
    ("debugfs", new_mount("/d", "debugfs", "debugfs", *SAFE), "mount-type", HIGH),
    ("overlay of the host", new_mount("/o", "overlay", "overlay", "lowerdir=/etc"), "mount-type", HIGH),
    ("lower case", grant("cap_chown"), "capability-unknown", HIGH),
    ("CAP_ALL", grant("CAP_ALL"), "capability-unknown", HIGH),
    ("ALL", grant("ALL"), "capability-unknown", HIGH),
    ("a space behind", grant("CAP_SYS_ADMIN "), "capability-unknown", HIGH),
    ("bounding alone", grant("CAP_SYS_ADMIN", kinds=("bounding",)), "capability-root-like", CRITICAL),
    ("the host's /proc elsewhere", bound("/proc", "ro"), "sensitive-bind", HIGH),
    ("every cgroup", put("linux.cgroupsPath", "/"), "cgroups-path", HIGH),
    ("allowed by logging", call("SCMP_ACT_LOG", "ptrace"), "seccomp-escape", HIGH),
    ("a tracer decides", call("SCMP_ACT_TRACE", "read"), "seccomp-decided-elsewhere", HIGH),
    ("a mask that misses", conditional("clone", masked(0xFF, 0x100)), "seccomp-clone-flags", HIGH),
    ("nothing is named", put("linux.seccomp.syscalls.0.names", []), "empty-array", HIGH),
    ("a flag misspelt", put("linux.seccomp.flags", ["SECCOMP_FILTER_FLAG_SPEC"]), "unknown-word", HIGH),
    ("x86-64", put("linux.seccomp.architectures", ["SCMP_ARCH_X86-64"]), "unknown-word", HIGH),
    ("another's files by descriptor", allow("pidfd_getfd"), "seccomp-escape", HIGH),
    (
        "pages that run",
        put("linux.personality", {"domain": "LINUX", "flags": ["READ_IMPLIES_EXEC"]}),
        "personality",
        MEDIUM,
    ),
    ("never killed", put("process.oomScoreAdj", -1000), "oom-score-below-host", HIGH),
    ("less than never", put("process.oomScoreAdj", -1001), "number-out-of-range", HIGH),
    ("a limit lifted", unified("memory.max", "max"), "unified-contradicts", HIGH),
    ("no number", unified("memory.max", "banana"), "unified-contradicts", HIGH),
    ("rwx", device_rule(type="c", major=1, minor=3, access="rwx"), "bad-value", HIGH),
    (
        "allowed and then denied",
        put("linux.resources.devices", [{"allow": True, "access": "rwm"}, {"allow": False, "access": "rwm"}]),
        "devices-open",
        CRITICAL,
    ),
    (
        "a newline in a value",
        put("linux.sysctl", {"net.core.somaxconn": "1\n2"}),
        "control-character",
        MEDIUM,
    ),
    ("a limit without its prefix", put("process.rlimits.1.type", "NOFILE"), "bad-value", HIGH),
    ("a size in words", put("linux.resources.memory.limit", "512m"), "wrong-type", HIGH),
    ("one and a half", put("linux.resources.cpu.quota", 1.5), "wrong-type", HIGH),
    (
        "a page size with a newline",
        put("linux.resources.hugepageLimits", [{"pageSize": "2MB\n", "limit": 1}]),
        "bad-value",
        HIGH,
    ),
    ("mnt", put("linux.namespaces.2.type", "mnt"), "host-mount-namespace", HIGH),
    ("PID", put("linux.namespaces.4.type", "PID"), "host-pid-namespace", HIGH),
    ("masks by pattern", put("linux.maskedPaths", ["/proc/*", "/sys/*"]), "unmasked-path", HIGH),
    ("sysrq_trigger", put("linux.readonlyPaths.4", "/proc/sysrq_trigger"), "writable-proc", HIGH),
    ("a login in a proxy", add("process.env", "HTTP_PROXY=http://me:pw@proxy:3128"), "env-secret", MEDIUM),
    ("program and words in one", put("process.args", ["/bin/serve --port 80"]), "program-missing", HIGH),
    ("a tilde", put("process.args", ["~/serve"]), "program-missing", HIGH),
    ("NUL in an argument", put("process.args", ["/bin/serve", "a\0b"]), "control-character", HIGH),
    ("a folder as the program", put("process.args", ["/data"]), "program-missing", HIGH),
    ("a link to nowhere", tree("/bin/serve", link("/gone/x")), "program-missing", HIGH),
    ("v1.0.2", put("ociVersion", "v1.0.2"), "bad-value", HIGH),
    ("1.0", put("ociVersion", "1.0"), "bad-value", HIGH),
    (
        "the way to a socket",
        both(host("/srv/run", link("/var/run")), bound("/srv/run")),
        "sensitive-bind",
        CRITICAL,
    ),
    ("the keys of a user", bound("/home/me/.ssh/id_rsa", "ro"), "sensitive-bind", HIGH),
    ("the session of a user", bound("/run/user/1000"), "sensitive-bind", CRITICAL),
    ("the program hidden", new_mount("/bin", "bind", "/srv/bin", "bind", *SAFE), "program-missing", HIGH),
    ("only root mapped", ids((0, BASE, 1)), "id-unmapped", HIGH),
    ("cpus that are not there", put("linux.resources.cpu.cpus", "0-63"), "cpuset-above-host", HIGH),
    ("AppArmor that is not there", put("process.apparmorProfile", "box"), "lsm-absent", HIGH),
    (
        "SELinux that is not there",
        put("process.selinuxLabel", "system_u:system_r:container_t:s0"),
        "lsm-absent",
        HIGH,
    ),
    ("a token by its look", add("process.env", f"CI_PAT=ghp_{'0' * 36}"), "env-secret", MEDIUM),
    ("a key in a value", add("process.env", "K=-----BEGIN RSA PRIVATE KEY-----\nx"), "env-secret", MEDIUM),
    ("the jobs of cron", bound("/var/spool/cron"), "sensitive-bind", CRITICAL),
    ("what runs at login", bound("/home/me/.bashrc"), "sensitive-bind", HIGH),
    ("a range past 2^32", ids((0, BASE, 65536), (2**32 - 5, 3 * 10**9, 100)), "mapping-overflow", HIGH),
    (
        "more ranges than the kernel takes",
        ids((0, BASE, 65536), *((70000 + n, BASE + 70000 + n, 1) for n in range(340))),
        "mapping-too-many",
        HIGH,
    ),
    ("nobody", put("process.user.uid", 2**32 - 1), "id-too-large", CRITICAL),
    ("a second size in one option", mount("/tmp", add=("mode=1777,size=0",)), "mount-option-value", HIGH),
    ("a mode that is none", mount("/tmp", add=("mode=9z",)), "mount-option-value", HIGH),
    ("hidepid=banana", mount("/proc", add=("hidepid=banana",)), "mount-option-value", HIGH),
    ("bind by its type alone", mount("/data", without=("bind",)), "bind-option-missing", MEDIUM),
    ("a service's cgroup", put("linux.cgroupsPath", "/system.slice/ssh.service"), "cgroups-path", HIGH),
    ("refused with success", call("SCMP_ACT_ERRNO", "setuid", errnoRet=0), "seccomp-errno-zero", HIGH),
    ("all refused with success", put("linux.seccomp.defaultErrnoRet", 0), "seccomp-errno-zero", HIGH),
    ("an errno for ALLOW", call("SCMP_ACT_ALLOW", "getcwd", errnoRet=1), "seccomp-errno-unused", HIGH),
    ("old ways in", allow("uselib"), "seccomp-escape", MEDIUM),
    ("a file of another cgroup", unified("../../cgroup.procs", "1"), "unified-key", HIGH),
    ("a process moved", unified("cgroup.procs", "1"), "unified-key", HIGH),
    ("killed at the start", unified("cgroup.kill", "1"), "unified-key", HIGH),
    ("memory itself", device("/dev/mem", 1, 1), "device-added", CRITICAL),
    ("memory under another name", device("/dev/null", 1, 1), "device-added", CRITICAL),
    ("up from /dev", device("/dev/../x", 1, 3), "device-path", HIGH),
    ("no process at all", limit("NPROC", 0), "rlimit-too-small", HIGH),
    ("no room for a loader", limit("AS", 1 << 20), "rlimit-too-small", HIGH),
    ("no stack", limit("STACK", 1), "rlimit-too-small", HIGH),
    (
        "no file",
        put("process.rlimits.1", {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}),
        "rlimit-too-small",
        HIGH,
    ),
    ("one share", put("linux.resources.cpu.shares", 1), "cpu-shares", MEDIUM),
    ("cpus in words", put("linux.resources.cpu.cpus", "zero"), "number-list", HIGH),
    ("a class elsewhere", put("linux.intelRdt", {"closID": "../x"}), "rdt-class", HIGH),
    ("all of /proc masked", add("linux.maskedPaths", "/proc"), "masked-path-too-wide", HIGH),
    ("the program masked", add("linux.maskedPaths", "/bin"), "masked-path-too-wide", HIGH),
    ("a password among the arguments", add("process.args", "--password=hunter2"), "args-secret", MEDIUM),
    ("a descriptor as working directory", put("process.cwd", "/proc/self/fd/7"), "cwd-proc", CRITICAL),
    ("up from a descriptor", put("process.cwd", "/proc/self/fd/8/../../.."), "cwd-proc", CRITICAL),
    ("nobody may read it", put("process.user.umask", 0o777), "umask-odd", MEDIUM),
    ("a tmpfs for root alone", mount("/tmp", add=("mode=0755",)), "tmpfs-closed", MEDIUM),
    (
        "its own rules",
        both(host(FOLDER, folder(0o770, 0, BASE + USER)), bound(FOLDER)),
        "bind-source-in-bundle",
        HIGH,
    ),
    ("real time", put("linux.resources.cpu.realtimeRuntime", 950000), "cpu-realtime", LOW),
]

# Not seen yet: who may read a script, or pass the folders above a program, is not asked of the rootfs.
TO_COME: list[tuple[str, Change, str, Severity]] = [
    (
        "a script that cannot be read",
        both(program(b"#!/bin/sh\n", mode=0o711), tree("/bin/sh", file(elf()))),
        "script-unreadable",
        HIGH,
    ),
    (
        "a closed folder above the program",
        both(tree("/opt", folder(0o700)), tree("/opt/s", file(elf())), put("process.args", ["/opt/s"])),
        "program-not-executable",
        HIGH,
    ),
]

# What looks odd and is right.
ODD: list[tuple[str, Change]] = [
    ("a dot before the root", put("root.path", "./rootfs")),
    ("a slash behind it", put("root.path", "rootfs/")),
    ("a slash behind a target", mount("/proc", destination="/proc/")),
    ("hidepid", mount("/proc", add=("hidepid=2",))),
    ("cgroup2", mount("/sys/fs/cgroup", type="cgroup2")),
    ("rbind", mount("/data", add=("rbind",))),
    ("a slave mount", mount("/data", add=("rslave",))),
    ("a group of its own", put("process.user.additionalGids", [999])),
    ("no architecture", put("linux.seccomp.architectures", [])),
    ("trap", default("SCMP_ACT_TRAP")),
    ("kill the process", default("SCMP_ACT_KILL_PROCESS")),
    ("landlock", allow("landlock_create_ruleset", "landlock_restrict_self")),
    ("deny twice", add("linux.resources.devices", {"allow": False, "access": "rwm"})),
    ("a namespaced sysctl", put("linux.sysctl", {"kernel.shmmax": "1048576"})),
    (
        "a port below 1024 without a capability",
        put("linux.sysctl", {"net.ipv4.ip_unprivileged_port_start": "0"}),
    ),
    ("no period", drop("linux.resources.cpu.period")),
    ("no shares", put("linux.resources.cpu.shares", 0)),
    ("an empty path of a namespace", put("linux.namespaces.3.path", "")),
    ("no profile by an empty name", put("process.apparmorProfile", "")),
    ("a masked read-only path", add("linux.readonlyPaths", "/data")),
    ("quotes in a variable", add("process.env", 'A="b"')),
    ("a variable not expanded", add("process.env", "URL=http://${HOST}/")),
    ("from the working directory", both(put("process.cwd", "/bin"), put("process.args", ["./serve"]))),
    ("a program that only its owner reads", program(elf(), mode=0o711)),
    ("the clock of the host", bound("/etc/localtime", "ro")),
    ("a neighbour by its beginning", new_mount("/data2", "tmpfs", "tmpfs", *SAFE, "size=1m")),
    ("a development version", put("ociVersion", "1.0.2-dev")),
    ("localhost", put("hostname", "localhost")),
    ("a limit of v2", unified("memory.high", "1M")),
    ("nothing changed", nothing),
]


def said(change: Change = nothing, text: Text | None = None) -> list[Finding]:
    """What the judge says after one change."""
    case = Case()
    change(case)
    source = json.dumps(case.config, indent=2, ensure_ascii=False)
    if text is not None:
        assert text[0] in source
        source = source.replace(*text, 1)
    form = read_form("config.json", source)
    if form.document is None or form.config is None:
        return form.findings
    subject = Subject(
        document=form.document,
        config=form.config,
        folder=FOLDER,
        rootfs=case.tree,
        host_view=case.host,
        host=case.facts,
        is_syscall=libseccomp.is_known,
    )
    return [*form.findings, *judge(subject)]


def has(found: list[Finding], rule: str, least: Severity) -> bool:
    """True when the rule speaks, at least as severely."""
    return any(finding.rule == rule and finding.severity.rank <= least.rank for finding in found)


@pytest.mark.parametrize(
    ("text", "rule", "least"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN]
)
def test_what_only_the_text_shows(text: Text, rule: str, least: Severity) -> None:
    found = said(text=text)
    assert has(found, rule, least), render_findings(found)


@pytest.mark.parametrize(
    ("change", "rule", "least"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE]
)
def test_what_is_hostile_is_found(change: Change, rule: str, least: Severity) -> None:
    found = said(change)
    assert has(found, rule, least), render_findings(found)


@pytest.mark.xfail(strict=True, reason="rule to come")
@pytest.mark.parametrize(
    ("change", "rule", "least"), [row[1:] for row in TO_COME], ids=[row[0] for row in TO_COME]
)
def test_what_is_not_found_yet(change: Change, rule: str, least: Severity) -> None:
    found = said(change)
    assert has(found, rule, least), render_findings(found)


@pytest.mark.parametrize("change", [row[1] for row in ODD], ids=[row[0] for row in ODD])
def test_what_looks_odd_and_is_right_is_let_pass(change: Change) -> None:
    loud = [finding for finding in said(change) if finding.severity.rank <= Severity.HIGH.rank]
    assert not loud, render_findings(loud)
