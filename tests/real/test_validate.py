"""The judge on real bundles: with a real rootfs, this host, and the runtime's dry run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.check import judged_for
from pipeline.examine import examine
from pipeline.model.nouns import Finding, Severity
from pipeline.observe.host import held_capabilities
from tests.conftest import Workspace
from tests.judged import elf
from tests.real.busybox_bundle import BASE, make_bundle, write_config
from tests.test_checks_ladder import config as careful_config

pytestmark = [pytest.mark.real, pytest.mark.root]

HELLO = "image: demo:busybox-httpd\nhealthcheck: {http: 'http://:8080/'}\n"


def result(workspace: Workspace, name: str) -> dict[str, Any]:
    """What findings.json says."""
    found: dict[str, Any] = json.loads((workspace.out / name / "validate" / "findings.json").read_text())
    return found


def judged(folder: Path) -> dict[str, Finding]:
    """The findings on a bundle from elsewhere, by rule."""
    host, _ = judged_for()
    found = examine(folder / "config.json", "config.json", host)
    return {finding.rule: finding for finding in found}


@pytest.fixture
def open_path(workspace: Workspace) -> Path:
    """A folder that a mapped root can reach, removed afterwards."""
    return workspace.root / "box"


def test_the_shipped_bundle_has_nothing_at_high_and_little_below(shared_workspace: Workspace) -> None:
    shared_workspace.doit("bundle:hello")
    found = result(shared_workspace, "hello")
    assert found["score"]["met"] >= 38
    assert {failure["rule"] for failure in found["score"]["failed"]} <= {38}
    assert (found["version"], found["bundle"]) == (1, "hello")
    assert found["runtime"]["dry_run"] == "created and deleted"
    assert found["counts"] | {"info": 0} == dict.fromkeys(
        ("critical", "high", "medium", "low", "info", "waived"), 0
    )


def test_every_loosening_is_named_and_a_waiver_keeps_it(shared_workspace: Workspace) -> None:
    loose = HELLO + (
        "read_only: false\nuserns: host\nnetwork_mode: host\ncap_add: [SYS_ADMIN, CHOWN]\n"
        "seccomp: unconfined\n"
        "ulimits: {core: 1}\n"
    )
    shared_workspace.spec("loose", loose)
    done = shared_workspace.doit("bundle:loose", code=1)
    rules = {finding["rule"]: finding for finding in result(shared_workspace, "loose")["findings"]}
    named = {
        *(
            "writable-root",
            "host-user-namespace",
            "host-network-namespace",
            "capability-root-like",
            "seccomp-missing",
        ),
        *("capability-added", "core-dumps"),
    }
    assert named <= rules.keys()
    said = done.stdout + done.stderr
    assert "critical[seccomp-missing]: no seccomp profile" in said
    assert rules["writable-root"]["mend"].startswith("`read_only: true`")
    reasons = "".join(
        f"  {name}: tried in a test\n" for name, f in rules.items() if f["severity"] in ("critical", "high")
    )
    shared_workspace.spec("loose", f"{loose}waive:\n{reasons}  writable-rot: a typo\n")
    shared_workspace.doit("bundle:loose")
    found = result(shared_workspace, "loose")
    assert found["counts"]["high"] == found["counts"]["critical"] == 0
    waived = {finding["rule"] for finding in found["findings"] if finding.get("waived") == "tried in a test"}
    assert named - {"core-dumps"} <= waived
    unused = next(finding for finding in found["findings"] if finding["rule"] == "waiver-unused")
    assert unused["message"] == "the waiver of `writable-rot` fits no finding: there is no such rule"


def test_strict_fails_what_is_medium_until_it_is_waived(shared_workspace: Workspace) -> None:
    text = HELLO + "ulimits: {core: 1}\n"
    shared_workspace.spec("strict", text)
    shared_workspace.doit("bundle:strict")
    shared_workspace.spec("strict", text + "hardening: strict\n")
    done = shared_workspace.doit("bundle:strict", code=1)
    assert (
        "high[core-dumps]: a crash may write memory, with its secrets, to a core file "
        "(medium; the profile `strict` makes it high)"
    ) in done.stdout + done.stderr
    waived = "hardening: strict\nwaive: {core-dumps: for a debugger}\n"
    shared_workspace.spec("strict", text + waived)
    shared_workspace.doit("bundle:strict")
    score = result(shared_workspace, "strict")["score"]
    (failure,) = [failure for failure in score["failed"] if failure["rule"] == 32]
    assert (failure["findings"], failure["waived"]) == (["core-dumps"], True)


def test_an_older_baseline_is_followed_and_told(shared_workspace: Workspace) -> None:
    shared_workspace.spec("older", HELLO + "hardening: {baseline: 2024-06}\n")
    done = shared_workspace.doit("bundle:older")
    assert re.search(r"validate:older: .*; hardening 3[0-9]/40", done.stdout), done.stdout
    config = json.loads((shared_workspace.out / "older/bundle/config.json").read_text())
    assert config["annotations"]["org.cooperage.baseline"] == "2023-10"
    assert "/sys/devices/virtual/powercap" in config["linux"]["maskedPaths"]
    assert "/proc/interrupts" not in config["linux"]["maskedPaths"]
    rules = {finding["rule"]: finding for finding in result(shared_workspace, "older")["findings"]}
    assert rules["baseline-old"]["severity"] == "low"
    assert "/proc/interrupts" in rules["unmasked-path-recent"]["message"]
    line = "older: follows the baseline of 2023-10; 2025-03 also masks /proc/interrupts, thermal_throttle"
    assert line in shared_workspace.doit("status", "older").stdout
    told = json.loads(shared_workspace.doit("status", "older", "--json").stdout)
    assert told["lags"]["older"].startswith("follows the baseline of 2023-10")
    assert "lags" in told and "follows" not in shared_workspace.doit("status", "hello").stdout


def test_what_only_the_runtime_can_know_is_its_finding(shared_workspace: Workspace) -> None:
    shared_workspace.spec("refused", HELLO + 'sysctls: {net.ipv4.ip_local_port_range: "no range"}\n')
    done = shared_workspace.doit("bundle:refused", code=1)
    found = result(shared_workspace, "refused")
    (finding,) = [f for f in found["findings"] if f["rule"] == "runtime-refused"]
    assert finding["message"].startswith("runc could not create the container: ")
    assert found["runtime"]["dry_run"] == "refused"
    assert "high[runtime-refused]" in done.stdout + done.stderr


def test_a_wrong_owner_is_found_and_the_line_given_mends_it(shared_workspace: Workspace) -> None:
    source = shared_workspace.root / "data"
    shared_workspace.spec("bound", HELLO + "volumes: [./data:/data]\n")
    shared_workspace.doit("bundle:bound", code=1)
    (missing,) = [
        f for f in result(shared_workspace, "bound")["findings"] if f["rule"] == "bind-source-missing"
    ]
    source.mkdir(mode=0o700)
    shared_workspace.doit("bundle:bound", code=1)
    (closed,) = [
        f for f in result(shared_workspace, "bound")["findings"] if f["rule"] == "bind-source-closed"
    ]
    assert "it runs as 2000065532:2000065532 on the host (container 65532:65532)" in closed["message"]
    for line in (missing["mend"], closed["mend"]):
        subprocess.run(shlex.split(line), check=True)
        shared_workspace.doit("bundle:bound")
        source.rmdir()
        source.mkdir(mode=0o700)


def test_a_volume_of_the_image_must_be_placed(shared_workspace: Workspace) -> None:
    shared_workspace.doit("bundle:hello")
    layout = shared_workspace.root / "keeper"
    shutil.copytree(shared_workspace.out / "hello" / "image", layout)
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    tag = entry["annotations"]["org.opencontainers.image.ref.name"]
    words = ["umoci", "config", "--image", f"{layout}:{tag}", "--config.volume", "/srv/media"]
    subprocess.run(words, check=True, capture_output=True)
    shared_workspace.spec("keeper", f"image: oci:keeper:{tag}\n")
    done = shared_workspace.doit("bundle:keeper", code=1)
    assert (
        "error[uncovered-volume]: the image keeps data in `/srv/media` (VOLUME) and the spec "
        "does not say where\n"
        "  --> specs/keeper.yaml:1:1\n"
    ) in done.stdout + done.stderr
    shared_workspace.spec("keeper", f"image: oci:keeper:{tag}\ntmpfs: [/srv/media]\n")
    assert "VOLUME /srv/media: tmpfs" in shared_workspace.doit("bundle:keeper").stdout


def test_what_unpack_took_from_the_image_is_told(shared_workspace: Workspace, tmp_path: Path) -> None:
    shared_workspace.doit("bundle:hello")
    layout = shared_workspace.root / "setid"
    shutil.copytree(shared_workspace.out / "hello" / "image", layout)
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    tag = entry["annotations"]["org.opencontainers.image.ref.name"]
    program = tmp_path / "su"
    program.write_bytes(elf())
    program.chmod(0o4755)
    words = ["umoci", "insert", "--image", f"{layout}:{tag}", str(program), "/bin/su"]
    subprocess.run(words, check=True, capture_output=True)
    spec = f"image: oci:setid:{tag}\n"
    shared_workspace.spec("setid", spec)
    shared_workspace.doit("bundle:setid")
    rules = {finding["rule"]: finding for finding in result(shared_workspace, "setid")["findings"]}
    assert rules["privilege-dropped"]["severity"] == "info"
    assert "/bin/su (" in rules["privilege-dropped"]["message"]
    shared_workspace.spec("setid", spec + "keep_privileged_files: [/bin/su, /bin/none]\n")
    shared_workspace.doit("bundle:setid")
    rules = {finding["rule"]: finding for finding in result(shared_workspace, "setid")["findings"]}
    assert (rules["privileged-file"]["severity"], rules["privileged-file"]["path"]) == ("medium", "/bin/su")
    assert rules["privileged-file-not-found"]["path"] == "/bin/none"
    assert "privilege-dropped" not in rules


def test_a_named_volume_is_made_for_the_process(shared_workspace: Workspace, volumes: Path) -> None:
    shared_workspace.spec("keeps", HELLO + "volumes: [data:/data]\n")
    done = shared_workspace.doit("bundle:keeps")
    status = (volumes / "keeps" / "data").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (BASE + 65532, BASE + 65532, 0o750)
    assert f"made the volume {volumes}/keeps/data, owner {BASE + 65532}:{BASE + 65532}" in done.stdout
    assert result(shared_workspace, "keeps")["counts"]["high"] == 0


def test_a_hand_written_bundle_is_judged_in_one_pass(open_path: Path) -> None:
    """A careful config over a rootfs as root unpacks it, in a folder of mode 0700."""
    rootfs = open_path / "rootfs"
    for path in ("proc", "sys", "dev", "tmp", "app/bin", "lib64"):
        (rootfs / path).mkdir(parents=True)
    (rootfs / "app/bin/node").write_bytes(elf("/lib64/ld-linux-x86-64.so.2"))
    (rootfs / "app/bin/node").chmod(0o755)
    (rootfs / "lib64/ld-linux-x86-64.so.2").write_bytes(elf())
    open_path.chmod(0o700)
    write_config(open_path, careful_config())
    found = judged(open_path)
    rungs = {
        *("bind-source-missing", "program-missing", "seccomp-blocks-runtime", "seccomp-blocks-loader"),
        *("seccomp-blocks-program", "mount-point-missing", "way-closed"),
    }
    assert rungs <= found.keys()
    assert all(found[rule].severity is Severity.HIGH for rule in rungs)


def test_a_real_hardened_bundle_raises_no_false_alarm(open_path: Path) -> None:
    make_bundle(open_path)
    found = judged(open_path)
    # It is a bundle for other tests: its profile names what is denied, and /proc/scsi is not masked.
    high = {rule for rule, finding in found.items() if finding.severity.at_least(Severity.HIGH)}
    assert high == {"seccomp-default-allows", "unmasked-path"}


@pytest.mark.skipif(
    "CAP_SYS_RESOURCE" in held_capabilities(), reason="with CAP_SYS_RESOURCE every limit can be raised"
)
def test_a_limit_above_the_host_is_found_before_the_runtime_fails(open_path: Path) -> None:
    config = make_bundle(open_path)
    config["process"]["rlimits"][1] |= {"hard": 1 << 30}
    write_config(open_path, config)
    mend = judged(open_path)["rlimit-above-host"].mend
    assert mend.startswith("`ulimits: {nofile: ")
    assert "operation not permitted" in runc(open_path).stderr


def runc(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the bundle to its end with the host's runc."""
    name = f"cooperage-test-{os.getpid()}"
    try:
        return subprocess.run(
            ["runc", "run", "--bundle", str(folder), name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        subprocess.run(["runc", "delete", "--force", name], capture_output=True, timeout=60)


def runs(workspace: Workspace, *words: str) -> int:
    """How many containers a doit makes: each has a log of its runtime, seen by a runc that counts."""
    shim = workspace.root / "shim"
    shim.mkdir(exist_ok=True)
    count = shim / "count"
    count.write_text("")
    program = shim / "runc"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" create "*) echo x >>{count};; esac\nexec /usr/sbin/runc "$@"\n'
    )
    program.chmod(0o755)
    workspace.doit(*words, PATH=f"{shim}:{os.environ['PATH']}")
    return count.read_text().count("x")


def test_a_dry_run_is_done_once_for_the_same_bundle(shared_workspace: Workspace) -> None:
    spec = HELLO + "mem_limit: 60m\n"
    shared_workspace.spec("once", spec)
    assert runs(shared_workspace, "validate:once") == 1
    # The judge is asked again, the runtime is not: its input is the same.
    shared_workspace.spec("once", spec + "waive: {no-init: a test}\n")
    assert runs(shared_workspace, "validate:once") == 0
    assert result(shared_workspace, "once")["runtime"]["dry_run"] == "created and deleted"
    shared_workspace.spec("once", spec.replace("60m", "61m"))
    assert runs(shared_workspace, "validate:once") == 1
    shared_workspace.doit("forget", "validate:once")
    assert runs(shared_workspace, "validate:once") == 1
    # A rootfs that somebody changed is no rootfs that was tried.
    (shared_workspace.out / "once/bundle/rootfs/added").touch()
    shared_workspace.spec("once", spec.replace("60m", "61m") + "waive: {rootfs-changed: a test}\n")
    assert runs(shared_workspace, "validate:once") == 1
