"""No false alarm: what the runtimes themselves write is sound in form, meaning, bundle and host."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.checks.form import read_form
from pipeline.checks.index import CHECKS, FORM, Layer
from pipeline.checks.program import trace
from pipeline.checks.scoring import score
from pipeline.checks.subject import Subject
from pipeline.checks.text import render_findings
from pipeline.examine import examine
from pipeline.model.nouns import Finding, Severity
from pipeline.observe.host import host_facts
from pipeline.observe.rootfs import HostLook, RootfsLook
from pipeline.tools.runtimes import registry
from tests.judged import good_config

pytestmark = pytest.mark.real

LAYERS = (Layer.MEANING, Layer.BUNDLE, Layer.HOST)
# Form is judged before the checks of the index.
SOUND = {*FORM.split(), *(rule for check in CHECKS if check.layer in LAYERS for rule in check.rules)}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A bundle folder that the host's own root can reach, with a static busybox as its rootfs."""
    rootfs = tmp_path / "rootfs"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", rootfs / "bin/busybox")
    (rootfs / "bin/sh").symlink_to("busybox")
    return tmp_path


def judged(folder: Path, runtime: str, *options: str) -> list[Finding]:
    """What the judge says of a bundle whose config.json the runtime writes."""
    subprocess.run([runtime, "spec", *options], cwd=folder, check=True, timeout=60)
    facts = host_facts(runtime, registry.get(runtime).version().number)
    return examine(folder / "config.json", "config.json", facts)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_a_runtime_writes_raises_no_alarm_in_layers_1_to_3(box: Path, runtime: str) -> None:
    alarms = [f for f in judged(box, runtime) if f.rule in SOUND and f.severity.at_least(Severity.HIGH)]
    assert not alarms, render_findings(alarms)


def test_what_runc_writes_for_users_other_than_root_has_no_alarm_in_form_and_meaning(box: Path) -> None:
    """Its mapping is of the one who writes it, here root: what it does on this host is not asked."""
    rules = {
        *FORM.split(),
        *(rule for check in CHECKS if check.layer is Layer.MEANING for rule in check.rules),
    }
    found = judged(box, "runc", "--rootless")
    alarms = [f for f in found if f.rule in rules and f.severity.at_least(Severity.HIGH)]
    assert not alarms, render_findings(alarms)
    assert found, "it has no limits: hardening has something to say"


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_it_is_not_hardened_all_the_same(box: Path, runtime: str) -> None:
    """Root, no user namespace, no seccomp, no limits: about half of the forty."""
    found = score(judged(box, runtime))
    assert 18 <= found.met <= 24, found
    assert {1, 3, 29, 30, 33} <= {failure.rule.number for failure in found.failed}


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_the_same_rootfs_with_a_fault_is_an_alarm(box: Path, runtime: str) -> None:
    """The near miss of the first test: it could fail."""
    (box / "rootfs/bin/sh").unlink()
    (box / "rootfs/bin/su").write_bytes(b"x")
    (box / "rootfs/bin/su").chmod(0o4755)
    found = {finding.rule: finding for finding in judged(box, runtime)}
    assert found["program-missing"].severity is Severity.HIGH
    assert found["rootfs-set-id"].message.startswith("the rootfs has set-id programs: /bin/su")


def test_every_program_of_this_host_finds_its_libraries() -> None:
    """The host's own tree as a rootfs: its loader finds them, by folders, run paths and /etc/ld.so.cache."""
    config = good_config()
    config["mounts"] = []
    alarms, count, facts = [], 0, host_facts("runc", "1.1.5")
    for path in sorted(Path("/usr/bin").iterdir())[:400]:
        if not path.is_file():
            continue
        config["process"]["args"] = [str(path)]
        form = read_form("config.json", json.dumps(config))
        assert form.document and form.config
        subject = Subject(form.document, form.config, "/box", RootfsLook(Path("/")), HostLook(), facts)
        found = trace(subject)
        count += found.elf is not None and bool(found.elf.needed)
        alarms += [f for f in found.faults if f.rule in ("library-missing", "program-loader")]
    assert count > 50
    assert not alarms, render_findings(alarms)
