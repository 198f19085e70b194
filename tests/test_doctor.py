"""`doit doctor`: what it finds on this host, and what it says of hosts that lack something."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.doctor import asking, diagnosis, host, kernel, run, software
from pipeline.doctor.asking import ask
from pipeline.doctor.check import Check, State, everywhere
from pipeline.doctor.diagnosis import Diagnosis, in_json, in_text
from pipeline.oci.idmap import PRIVATE
from pipeline.packages import FAMILIES, family, install_lines, package, table
from pipeline.paths import Project

V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"
HYBRID = (
    "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
)


def project(folder: Path) -> Project:
    return Project(folder)


def test_this_host_can_do_a_default_build(tmp_path: Path) -> None:
    text, code = run(project(tmp_path), as_json=True)
    document = json.loads(text)
    failed = [check for check in document["checks"] if check["state"] == "fail"]
    assert (failed, code, document["exit_code"], document["version"]) == ([], 0, 0, 1)
    names = {check["name"] for check in document["checks"]}
    assert {
        "namespaces",
        "id mapping",
        "tmpfs",
        "cgroups",
        "seccomp filter",
        "runc",
        "skopeo",
        "disk",
    } <= names


def test_it_needs_no_specs_and_no_out_and_makes_none(tmp_path: Path) -> None:
    run(project(tmp_path), as_json=False)
    assert list(tmp_path.iterdir()) == []


def test_probes_leave_no_cgroup_and_no_mount(tmp_path: Path) -> None:
    before = Path("/proc/self/mounts").read_text().count("cooperage-doctor")
    run(project(tmp_path), as_json=False)
    assert Path("/proc/self/mounts").read_text().count("cooperage-doctor") == before == 0
    assert not list(Path("/sys/fs/cgroup").glob("**/cooperage-doctor-*"))


def test_every_gap_has_a_command_for_each_family(tmp_path: Path) -> None:
    document = json.loads(run(project(tmp_path), as_json=True)[0])
    for check in document["checks"]:
        if check["state"] in ("fail", "warn", "needs-root"):
            assert set(check["mend"]) == set(FAMILIES), check["name"]


def test_a_gap_shows_who_needs_it_and_the_command_of_this_distribution() -> None:
    mend = {"apt": "apt line", "dnf": "dnf line", "pacman": "pacman line", "zypper": "zypper line"}
    bad = Check("umoci", State.FAIL, "not installed", "unpack", mend)
    told = in_text(Diagnosis((bad,), "dnf", True))
    assert told.splitlines()[:3] == [
        "FAIL        umoci  not installed",
        "            needed by: unpack",
        "            mend: dnf line",
    ]
    assert "A default build cannot work here before each FAIL is mended." in told
    assert "apt line" not in told
    assert all(line in in_text(Diagnosis((bad,), None, True)) for line in mend.values())


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.OK, 0), (State.INFO, 0), (State.WARN, 0), (State.NEEDS_ROOT, 0), (State.FAIL, 1)],
)
def test_only_what_the_default_build_needs_makes_it_exit_1(state: State, code: int) -> None:
    told = Diagnosis((Check("x", state, "y"),), "apt", True)
    assert (told.exit_code, json.loads(in_json(told))["exit_code"]) == (code, code)


def test_an_ordinary_user_is_told_what_can_be_built() -> None:
    told = in_text(Diagnosis((Check("x", State.OK, "y"),), "apt", False))
    assert "You are not root: `copy` and `seccomp` can be built" in told
    assert "A default build can work here." in in_text(Diagnosis((Check("x", State.OK, "y"),), "apt", True))


@pytest.mark.parametrize("width", [60, 80, 110])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    mend = everywhere("sudo " + "word " * 40)
    checks = (
        Check("x", State.FAIL, "words " * 40, "stage, " * 40, mend),
        Check("a.name.that.is.longer.than.its.column", State.OK, "y"),
    )
    lines = in_text(Diagnosis(checks, "apt", True), width).splitlines()
    assert max(map(len, lines)) <= width


def test_a_word_is_never_broken() -> None:
    path = "/very/long" * 20
    told = in_text(
        Diagnosis((Check("x", State.WARN, "y", "", everywhere(f"chmod o+x {path}")),), "apt", True)
    )
    assert f"chmod o+x\n                  {path}\n" in told


def test_the_known_complaints_are_answered() -> None:
    told = in_text(Diagnosis((Check("x", State.OK, "y"),), "apt", True))
    assert "\n  runc spec --validate\n    no version of runc or crun has it; `doit validate` does" in told
    assert "\n  failed to create shim task\n    containerd's words" in told
    assert "\n    runc --debug run --bundle out/NAME/bundle try 2>&1 | tee runtime.log\n" in told


def test_a_check_that_crashes_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_project: Project) -> None:
        raise RuntimeError("odd kernel")

    crash.__module__ = "pipeline.doctor.kernel"
    monkeypatch.setattr(kernel, "checks", crash)
    told = diagnosis.examine(project(tmp_path))
    assert any(c.fact == "stopped early by RuntimeError: odd kernel" for c in told.checks)
    assert any(c.name == "disk" for c in told.checks)


def test_a_missing_tool_names_the_stage_that_lacks_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(software, "which", lambda name: None if name == "umoci" else Path(f"/usr/bin/{name}"))
    check = next(c for c in software.checks(project(tmp_path)) if c.name == "umoci")
    assert (check.state, check.needed_by) == (State.FAIL, "unpack, and copy of demo images")
    assert check.mend["apt"] == "sudo apt-get install umoci"
    assert check.mend["pacman"].startswith(
        "put a static binary from https://github.com/opencontainers/umoci/"
    )


def test_without_setpriv_nothing_is_blamed_that_was_not_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for room in (asking, software):
        monkeypatch.setattr(
            room, "which", lambda name: None if name == "setpriv" else Path(f"/usr/bin/{name}")
        )
    checks = {check.name: check for check in diagnosis.examine(project(tmp_path)).checks}
    assert {name for name, check in checks.items() if check.state is State.FAIL} == {"setpriv"}
    assert checks["skopeo"].fact == "/usr/bin/skopeo was not tried: without setpriv no tool can be started"
    assert checks["kernel"].fact == "not examined: without setpriv no probe can be started"
    assert {checks[name].mend["apt"] for name in ("setpriv", "skopeo", "busybox", "kernel")} == {
        "sudo apt-get install util-linux"
    }


def test_a_runtime_that_does_not_start_is_reinstalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "runc"
    broken.write_text("#!/bin/sh\necho 'symbol lookup error' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = next(c for c in software.checks(project(tmp_path)) if c.name == "runc")
    assert check.state is State.FAIL
    assert check.fact == f"{broken} does not start: symbol lookup error"
    assert check.mend["apt"] == "sudo apt-get install --reinstall runc"


def test_an_old_runc_is_told_by_its_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "runc"
    old.write_text("#!/bin/sh\necho 'runc version 1.2.7'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = next(c for c in software.checks(project(tmp_path)) if c.name == "runc")
    assert check.state is State.WARN
    assert "CVE-2025-31133" in check.fact
    assert "1.2.8, 1.3.3" in check.mend["dnf"]
    old.write_text("#!/bin/sh\necho 'runc version 1.3.3'\n")
    check = next(c for c in software.checks(project(tmp_path)) if c.name == "runc")
    assert (check.state, check.fact) == (State.OK, f"1.3.3 at {old}, no hole known to this program")


@pytest.mark.parametrize(
    ("version", "told", "good"),
    [
        (
            "1.8.1",
            "1.8.1 loses nosuid, nodev and noexec of a writable bind mount",
            "1.21",
        ),
        ("1.21", None, ""),
    ],
)
def test_what_a_runtime_drops_is_a_gap_where_a_newer_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, told: str | None, good: str
) -> None:
    crun = tmp_path / "crun"
    crun.write_text(f"#!/bin/sh\necho 'crun version {version}'\n")
    crun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    checks = {check.name: check for check in software.checks(project(tmp_path))}
    assert checks["crun"].state is State.OK
    if told is None:
        assert "crun protections" not in checks
    else:
        gap = checks["crun protections"]
        assert gap.state is State.WARN
        assert gap.fact.startswith(f"{told} under a user namespace (drops-bind-flags); ")
        assert gap.mend["apt"].startswith(f"sudo apt-get install crun  # if that brings {good} or later")
    quirks = checks["crun quirks"]
    assert quirks.state is State.INFO
    assert "every version known to this program passes over `resources.unified`" in quirks.fact
    assert "writable bind" not in quirks.fact


def test_a_dynamic_busybox_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamic = tmp_path / "busybox"
    dynamic.write_bytes(Path("/bin/true").resolve().read_bytes())
    dynamic.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = next(c for c in software.checks(project(tmp_path)) if c.name == "busybox")
    assert (check.state, check.mend["dnf"]) == (State.FAIL, "sudo dnf install busybox")
    assert check.fact == f"{dynamic} is dynamically linked: it cannot run in an image of its own"


def test_cgroup_versions() -> None:
    version, folders = kernel.cgroup_folders(HYBRID)
    assert version == "hybrid"
    assert folders["memory"] == "/sys/fs/cgroup/memory"
    assert folders["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert not {"rw", "nosuid", "name=systemd"} & folders.keys()
    assert kernel.cgroup_folders(V2)[0] == "v2"
    assert kernel.cgroup_folders("proc /proc proc rw 0 0\n") == ("none", {})


def test_an_authfile_that_others_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authfile = tmp_path / "auth.json"
    authfile.write_text("{}")
    authfile.chmod(0o644)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(authfile))
    check = next(c for c in host.checks(project(tmp_path)) if c.name == "authfile")
    assert (check.state, check.mend["apt"]) == (State.WARN, f"chmod 600 {authfile}")
    assert check.fact == f"{authfile} has mode 0644: others may read it"
    authfile.chmod(0o600)
    check = next(c for c in host.checks(project(tmp_path)) if c.name == "authfile")
    assert (check.state, check.fact) == (State.OK, str(authfile))


def test_subordinate_ids_that_overlap_the_default_mapping(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text(f"ann:100000:65536\nbob:{PRIVATE.host_id + 65535}:10\nbad line\n")
    assert host.overlapping(tmp_path) == [f"{tmp_path}/subuid: bob:{PRIVATE.host_id + 65535}:10"]
    (tmp_path / "subuid").write_text(f"bob:{PRIVATE.host_id + 65536}:10\n")
    assert host.overlapping(tmp_path) == []


def test_a_closed_folder_on_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tmp_path.chmod(0o700)
    check = next(c for c in host.checks(project(tmp_path)) if c.name == "way to out/")
    assert check.state is kernel.failed()
    assert "lets no mapped root pass (runtimes then say `permission denied`)" in check.fact
    assert check.mend["apt"].startswith("chmod o+x ")


def test_a_probe_that_is_refused_says_the_kernel_s_reason() -> None:
    assert ask("cgroup", "/nonexistent").said == {"/nonexistent": "!No such file or directory"}
    assert ask("xattr", "/nonexistent").refused == "No such file or directory"
    assert ask("no-such-probe").refused is not None


def test_families(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    for text, expected in (
        ("ID=debian\n", "apt"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "apt"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\n', "dnf"),
        ("ID=arch\n", "pacman"),
        ('ID="opensuse-tumbleweed"\n', "zypper"),
        ("# nothing\nID=plan9\n", None),
    ):
        release.write_text(text)
        assert family(release) == expected
    assert family(tmp_path / "absent") is None


def test_the_table_of_packages() -> None:
    rows = table()
    assert {row.set for row in rows} == {"core", "tests", "chroot"}
    assert all(row.names["apt"] and row.lacked_by for row in rows)
    assert package("newuidmap").names == {
        "apt": "uidmap",
        "dnf": "shadow-utils",
        "pacman": "shadow",
        "zypper": "shadow",
    }
    assert install_lines(["skopeo", "runc"])["pacman"] == "sudo pacman -S skopeo runc"
    assert everywhere("x") == dict.fromkeys(FAMILIES, "x")
