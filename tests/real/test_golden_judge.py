"""What the runtimes offer to begin with has no fault of form, meaning, bundle or host at high or above."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pipeline.checks.text import render_findings
from pipeline.model.nouns import Severity
from tests.judge_cases import GoldenCase

pytestmark = pytest.mark.real

SHELL = {"/bin/sh": {"link": "busybox"}, "/bin/busybox": "elf"}


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["runc", "spec"], set()),
        (["runc", "spec", "--rootless"], set()),
        (["crun", "spec"], set()),
        # crun alone fills in the mapping that it leaves out; runc refuses such a file.
        (["crun", "spec", "--rootless"], {"userns-without-mapping"}),
    ],
)
def test_the_default_of_a_runtime_is_no_fault(words: list[str], known: set[str], tmp_path: Path) -> None:
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "config.json").read_text()
    given = {"rootfs": SHELL, "host": {"files": {"/sys": "dir 0555"}}}
    mappings = json.loads(text)["linux"].get("uidMappings")
    if mappings:
        given["owner"] = mappings[0]["hostID"]
    case = GoldenCase("spec", text, "", (), (), (), given)
    loud = [f for f in case.faults() if f.severity.rank <= Severity.HIGH.rank]
    assert {finding.rule for finding in loud} == known, render_findings(loud)
