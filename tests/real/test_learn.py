"""`doit trace:NAME` over real containers: a program watched, a profile proposed, adopted, and proven."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import remove_tree
from pipeline.paths import STATE_HOME
from tests.conftest import Workspace, make_workspace, remove_workspace
from tests.leftovers import wait_for_none
from tests.registry import running_registry
from tests.standin.build import REFERENCE, layout

pytestmark = [pytest.mark.real, pytest.mark.root]


def trace_of(workspace: Workspace, name: str) -> Any:
    return json.loads((workspace.out / name / "trace" / "trace.json").read_bytes())


def adopt(workspace: Workspace, name: str) -> None:
    """Do what the last line of a trace says."""
    shutil.copy(
        workspace.out / name / "trace" / "proposal.yaml", workspace.root / f"specs/seccomp/{name}.yaml"
    )
    path = workspace.root / "specs" / f"{name}.yaml"
    path.write_text(f"{path.read_text()}\nseccomp: {name}\n")


def test_hello_is_traced_twice_and_its_proposal_holds(workspace: Workspace) -> None:
    workspace.doit("bundle:hello")
    config = (workspace.out / "hello" / "bundle" / "config.json").read_bytes()
    said = workspace.doit("trace:hello").stdout
    assert re.search(r"trace:hello: runc \S+, watched by strace \S+ from its start on, which slows", said), (
        said
    )
    assert "cp out/hello/trace/proposal.yaml specs/seccomp/hello.yaml" in said
    assert re.search(r"against `seccomp: default`, x86_64: \+\d+ −\d+", said), said
    first = trace_of(workspace, "hello")
    workspace.doit("trace:hello/crun")
    both = trace_of(workspace, "hello")
    assert [run["runtime"].split()[0] for run in both["runs"]] == ["runc", "crun"]
    assert both["calls"]["accept"]["count"] > first["calls"]["accept"]["count"]
    assert (
        "clone3" not in (workspace.out / "hello" / "trace" / "proposal.yaml").read_text().split("groups:")[1]
    )
    # The bundle is what it was, and a smoke finds it intact.
    assert (workspace.out / "hello" / "bundle" / "config.json").read_bytes() == config
    adopt(workspace, "hello")
    workspace.doit("smoke:hello/runc", "smoke:hello/crun")
    for runtime in ("runc", "crun"):
        record = json.loads((workspace.out / "hello" / "smoke" / f"{runtime}.json").read_text())
        assert record["result"] == "proven"
    workspace.doit("forget", "trace:hello")
    assert not (workspace.out / "hello" / "trace").exists()
    assert wait_for_none(workspace.root) == []


def test_what_is_run_in_the_container_is_seen_and_what_fails_is_said(workspace: Workspace) -> None:
    with (workspace.root / "specs" / "hello.yaml").open("a") as spec:
        spec.write("x-trace: {exec: [[/bin/busybox, uptime]], http: ['http://:8080/']}\n")
    workspace.doit("trace:hello")
    assert "sysinfo" in trace_of(workspace, "hello")["calls"]
    before = trace_of(workspace, "hello")
    spec_text = (workspace.root / "specs" / "hello.yaml").read_text()
    workspace.spec("hello", spec_text.replace("http://:8080/'", "http://:8080/absent'"))
    failed = workspace.doit("trace:hello", code=1)
    assert "error[exercise-failed]: `x-trace`: GET http://127.0.0.1:8080/absent: 404" in failed.stderr
    assert trace_of(workspace, "hello") == before
    workspace.doit("clean", "-n", "trace:hello")
    assert (workspace.out / "hello" / "trace").exists()
    assert workspace.doit("clean", "trace:hello").stdout.count("removing out/hello/trace") == 1
    assert [
        path.name for path in (workspace.out / "hello").iterdir() if path.name in ("trace", "bundle")
    ] == ["bundle"]
    assert wait_for_none(workspace.root) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_trace_that_is_interrupted(workspace: Workspace, number: int) -> None:
    with (workspace.root / "specs" / "hello.yaml").open("a") as spec:
        spec.write("x-trace: {seconds: 60}\n")
    workspace.doit("bundle:hello")
    running = workspace.start("trace:hello")
    end = time.monotonic() + 20
    while not any(log.stat().st_size for log in workspace.out.glob(".tmp/hello.trace.*/main.strace")):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(running.pid, number)
    running.communicate(timeout=30)
    if number == signal.SIGKILL:
        workspace.doit("seccomp:hello")
    assert wait_for_none(workspace.root) == []
    assert list((workspace.out / ".tmp").iterdir()) == []


def test_without_strace_it_says_how_to_get_it(workspace: Workspace, tmp_path: Path) -> None:
    workspace.doit("bundle:hello")
    for folder in [*os.environ["PATH"].split(os.pathsep), "/usr/local/sbin", "/usr/sbin", "/sbin"]:
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            link = tmp_path / program.name
            if program.name != "strace" and not link.exists():
                link.symlink_to(program)
    failed = workspace.doit("trace:hello", code=1, PATH=str(tmp_path))
    assert (
        "error[missing-tool]: strace, needed to see what a program calls, is not installed" in failed.stderr
    )
    assert "apt-get install strace" in failed.stderr


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        registry.push(f"oci:{layout()}:{REFERENCE}", "stremio:server")
        made = make_workspace()
        image = f"docker://{registry.address}/stremio:server"
        exercise = "x-trace: {http: ['http://:11470/selftest']}"
        made.spec("learnt", f"extends: stremio-server\nimage: {image}\n{exercise}\n")
        yield made
        remove_workspace(made)
        remove_tree(STATE_HOME / "volumes" / "learnt")


def test_the_stand_ins_proposal_passes_its_smoke_and_its_selftest(standin: Workspace) -> None:
    standin.doit("trace:learnt/runc")
    said = standin.doit("trace:learnt/runc").stdout
    assert len(trace_of(standin, "learnt")["runs"]) == 2
    assert re.search(r"proposal.yaml: (\d+) calls", said), said
    adopt(standin, "learnt")
    standin.doit("smoke:learnt/runc")
    spec = (standin.root / "specs" / "learnt.yaml").read_text()
    check = "healthcheck: {http: 'http://:11470/selftest', timeout: 120s, retries: 1}\n"
    standin.spec("learnt", spec + check)
    standin.doit("smoke:learnt/runc")
    record = json.loads((standin.out / "learnt" / "smoke" / "runc.json").read_text())
    assert record["result"] == "proven"
    assert record["ready"]["check"] == "GET http://127.0.0.1:11470/selftest"
    assert wait_for_none(standin.root) == []
