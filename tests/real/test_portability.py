"""What the shipped bundle gets under each runtime, on this host, from doit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.announced import unannounced
from pipeline.model.truths.nouns import version_numbers
from pipeline.model.truths.table import KNOWN
from pipeline.tools.runtimes import registry
from tests.conftest import Workspace
from tests.judged import Case
from tests.test_checks_portability import subject

pytestmark = [pytest.mark.real, pytest.mark.root]


def result(workspace: Workspace, name: str = "hello") -> dict[str, Any]:
    """What findings.json says of a bundle."""
    found: dict[str, Any] = json.loads((workspace.out / name / "validate/findings.json").read_text())
    return found


def test_the_shipped_bundle_keeps_its_protections_under_what_is_here(shared_workspace: Workspace) -> None:
    shared_workspace.doit("bundle:hello")
    found = result(shared_workspace)
    matrix = found["portability"]
    assert matrix.keys() == KNOWN.keys()
    for name in registry.ADAPTERS:
        version = registry.get(name).version().number
        row = matrix[name]
        assert (row["found"], row["verdict"]) == (True, "full"), row
        assert version_numbers(row["version"]) == version_numbers(version)
        assert row["judged"] == row["version"]
    assert {name: matrix[name]["verdict"] for name in ("youki", "runsc", "kata")} == {
        "youki": "full",
        "runsc": "weaker",
        "kata": "weaker",
    }
    ours = [finding for finding in found["findings"] if finding["rule"].startswith(("drops-", "refuses-"))]
    assert {(finding["rule"], finding["severity"]) for finding in ours} == {
        ("drops-seccomp", "info"),
        ("drops-user-namespace", "info"),
    }
    kept = json.loads((shared_workspace.root / "out/.state/cache/features.json").read_text())
    assert {name.partition(" ")[0] for name in kept} == set(registry.ADAPTERS)


def test_a_verdict_is_what_a_run_shows(shared_workspace: Workspace, volumes: Path) -> None:
    """A writable volume: where the table says that crun loses its flags, `smoke` sees that it does."""
    spec = "image: demo:busybox-httpd\nhealthcheck: {http: 'http://:8080/'}\nvolumes: [data:/data]\n"
    shared_workspace.spec("keeps", spec)
    shared_workspace.doit("bundle:keeps")
    found = result(shared_workspace, "keeps")
    is_old = version_numbers(registry.get("crun").version().number) < (1, 21)
    assert found["portability"]["crun"]["verdict"] == ("weaker" if is_old else "full")
    told = {finding["rule"]: finding["severity"] for finding in found["findings"]}
    assert told.get("drops-bind-flags") == ("low" if is_old else None)
    done = shared_workspace.doit("smoke:keeps/crun", code=int(is_old))
    assert ("not-as-configured" in done.stdout + done.stderr) is is_old
    assert found["portability"]["runc"]["verdict"] == "full"
    shared_workspace.doit("smoke:keeps/runc")


def test_the_real_runc_announces_all_that_a_good_bundle_uses() -> None:
    features = registry.get("runc").features()
    assert features is not None
    assert features["linux"]["seccomp"]["enabled"] is True
    case = Case()
    case.config["ociVersion"] = "1.0.2"
    assert list(unannounced(subject(case), features)) == []
    case.linux["namespaces"].append({"type": "time"})
    told = [use[0] for use in unannounced(subject(case), features)]
    has_time = "time" in features["linux"]["namespaces"]
    assert told == ([] if has_time else ["time-namespace"])


def test_crun_says_what_it_can_do_since_it_has_the_command() -> None:
    crun = registry.get("crun")
    has_command = version_numbers(crun.version().number) >= (1, 8, 6)
    assert (crun.features() is not None) is has_command
