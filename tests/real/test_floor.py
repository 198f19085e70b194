"""`doit floor` on the installed runtimes: real starts, watched and with calls forbidden; nothing is left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from pipeline.files import sha256_file
from pipeline.floor import bundle
from pipeline.floor.measure import Bench, is_go, measure, watch
from pipeline.floor.program import OWN_CALLS
from pipeline.oci.floor import floor_of, read_floors
from pipeline.paths import Project
from pipeline.tools.runtimes import registry
from tests.conftest import PROJECT, Workspace
from tests.leftovers import wait_for_none
from tests.real.traces import assert_no_traces

pytestmark = [pytest.mark.real, pytest.mark.root]

RUNTIMES = ("runc", "crun")
Benches = Callable[[str], Bench]


@pytest.fixture
def benches(workspace: Workspace) -> Iterator[Benches]:
    """Makes a place for starts of a runtime."""
    project = Project(workspace.root)
    project.open()

    def make(name: str) -> Bench:
        folder = project.tmp / f"floor.{name}"
        folder.mkdir(mode=0o755)
        bundle.make_bundle(folder / "bundle")
        return Bench(registry.get(name), project, folder, lambda line: None)

    yield make
    assert list(project.running.iterdir()) == []
    assert_no_traces("cooperage-floor-")


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_floor_found_here_is_the_one_written_down(name: str, benches: Benches) -> None:
    """For the very program that floors.json has; of another, `measure` itself proves that it holds."""
    bench = benches(name)
    found = measure(bench, quiet=True)
    floors = read_floors(PROJECT / "specs" / "seccomp" / "floors.json")
    sha256 = sha256_file(bench.runtime.path)
    known, exact = floor_of(floors, name, bench.runtime.version().number, sha256)
    assert found["execve"] == "needed"
    if known is not None and exact:
        now = {call for call, how in found.items() if how != "seen"}
        assert now == known.wanted(no_new_privileges=True)


@pytest.mark.parametrize("name", RUNTIMES)
def test_without_any_one_needed_call_it_does_not_start(name: str, benches: Benches) -> None:
    bench = benches(name)
    floors = read_floors(PROJECT / "specs" / "seccomp" / "floors.json")
    sha256 = sha256_file(bench.runtime.path)
    known, _ = floor_of(floors, name, bench.runtime.version().number, sha256)
    assert known is not None
    wanted = {*known.wanted(no_new_privileges=True), *OWN_CALLS}
    assert bench.start(bundle.only(wanted), quiet=True)
    needed = known.of_kind("needed", no_new_privileges=True)
    # A Go program is not refused futex in every start.
    for call in sorted(needed - {"futex"}):
        assert not bench.start(bundle.only(wanted - {call}), quiet=True), call


def test_without_no_new_privileges_more_is_called_under_the_filter(benches: Benches) -> None:
    bench = benches("crun")
    assert {"capset", "setresuid"} <= watch(bench, quiet=False) - watch(bench, quiet=True)


def test_an_exec_that_fails_halfway_holds_nothing_up(benches: Benches) -> None:
    """crun leaves its half-made process in the container; unreaped, that would keep it from ending."""
    bench = benches("crun")
    begun = time.monotonic()
    assert not bench.start(bundle.all_but("write"), quiet=True)
    assert time.monotonic() - begun < 5


def test_runc_is_known_for_a_go_program() -> None:
    assert is_go(registry.get("runc").path)
    assert not is_go(registry.get("crun").path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupt_leaves_nothing(number: signal.Signals, code: int, workspace: Workspace) -> None:
    """What kill -9 leaves, the next run sweeps."""
    before = (workspace.root / "specs" / "seccomp" / "floors.json").read_bytes()
    process = workspace.start("floor", "crun")
    folder = workspace.out / ".state" / "running"
    while process.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    if number == signal.SIGKILL:
        # A runtime that was just being started ends by itself; what it has made is swept then.
        wait_for_none(workspace.root)
        workspace.doit("seccomp:hello")
    assert_no_traces("cooperage-floor-", 10)
    assert wait_for_none(workspace.root) == []
    assert list((workspace.out / ".tmp").iterdir()) == []
    assert (workspace.root / "specs" / "seccomp" / "floors.json").read_bytes() == before


def test_the_command_writes_what_it_found_and_keeps_the_rest(workspace: Workspace) -> None:
    path = workspace.root / "specs" / "seccomp" / "floors.json"
    before = read_floors(path)
    said = json.loads(workspace.doit("floor", "crun", "--json").stdout)
    (answer,) = said["floors"]
    assert answer["new"]["runtime"] == "crun"
    after = read_floors(path)
    others = [f for f in before if f.runtime == "runc"]
    assert [f for f in after if f.runtime == "runc"] == others
    assert answer["new"] in [f.to_json() for f in after]


def test_a_profile_is_stale_when_a_floor_changes(workspace: Workspace) -> None:
    workspace.doit("seccomp:hello")
    path = workspace.root / "specs" / "seccomp" / "floors.json"
    path.write_text(path.read_text().replace('"close_range": "needed"', '"close_range": "seen"'))
    assert "seccomp:hello" in workspace.doit("seccomp:hello").stdout
    resolved = json.loads((workspace.out / "hello" / "seccomp" / "resolved.json").read_bytes())
    assert "close_range" not in resolved["groups"]["runtime"]["calls"]
    assert resolved["groups"]["runtime"]["calls"]
