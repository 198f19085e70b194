"""Nothing of a container is left: not after interrupts, and after a kill not once the next run has swept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.paths import Project
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.container import Container
from pipeline.tools.runtimes.record import HeldRecord, Record
from pipeline.tools.runtimes.sweep import sweep
from tests.conftest import Workspace
from tests.real.smoke_project import NAME, make_project
from tests.real.traces import assert_no_traces, container_processes, traces

pytestmark = [pytest.mark.real, pytest.mark.root]

DRIVER = Path(__file__).with_name("smoke_driver.py")
MOMENTS = 20
LONGEST_S = 0.2
# Never ends by itself and is never ready within the tests: interrupts arrive while it runs.
BOTH = ("smoke:hello/runc", "smoke:hello/crun")
PATIENT = ["/bin/sh", "-c", "trap '' TERM; sleep 1000 & wait"]


@pytest.fixture
def project(workspace: Workspace) -> Iterator[Project]:
    """A project with one bundle; whatever is left of its containers fails the test."""
    yield make_project(workspace.root)
    assert_no_traces(f"cooperage-{NAME}")


def start_driver(project: Project, runtime: str, rounds: int = 1) -> subprocess.Popen[str]:
    """Start the stage in a process group of its own and wait until it is about to begin."""
    driver = subprocess.Popen(
        [sys.executable, str(DRIVER), str(project.root), runtime],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "ROUNDS": str(rounds)},
    )
    assert driver.stdout is not None
    for line in driver.stdout:
        if line == "ready\n":
            return driver
    raise AssertionError(driver.communicate()[1])


def running(project: Project) -> list[str]:
    """The records of containers."""
    return sorted(entry.name for entry in project.running.iterdir())


def wait_for(condition: Callable[[], object], patience_s: float = 10.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_an_interrupt_leaves_nothing(project: Project, runtime: str, number: int) -> None:
    """At 5 moments, the signal arrives; when the process has ended, so has everything."""
    for step in range(5):
        driver = start_driver(project, runtime, rounds=100)
        time.sleep(0.01 + step * 0.05)
        os.killpg(driver.pid, number)
        _, errors = driver.communicate(timeout=30)
        assert driver.returncode == 130, errors
        assert running(project) == []
        assert traces(f"cooperage-{NAME}") == []


def test_a_second_interrupt_does_not_stop_the_removal(project: Project) -> None:
    """Impatient fingers: a signal every 5 ms until the process has ended."""
    driver = start_driver(project, "runc", rounds=100)
    wait_for(lambda: container_processes(NAME))
    while driver.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(driver.pid, signal.SIGINT)
        time.sleep(0.005)
    assert running(project) == []
    assert traces(f"cooperage-{NAME}") == []


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_kill_at_any_moment_leaves_nothing_once_swept(project: Project, runtime: str) -> None:
    """kill -9 of the process group at 20 moments of a smoke; the next sweep removes what there is."""
    swept = 0
    for step in range(MOMENTS):
        driver = start_driver(project, runtime, rounds=100)
        time.sleep(LONGEST_S * step / MOMENTS)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate(timeout=30)
        swept += len(sweep(project))
        assert running(project) == []
        assert_no_traces(f"cooperage-{NAME}")
        assert sweep(project) == []
    assert swept > MOMENTS // 4, "the kills all came too late or too early to test anything"


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_killed_runtime_leaves_nothing(project: Project, runtime: str) -> None:
    """kill -9 of the runtime itself, at 20 moments: the stage fails or not, and cleans up at once."""
    killed = 0
    for step in range(MOMENTS):
        driver = start_driver(project, runtime)
        time.sleep(LONGEST_S * step / MOMENTS)
        killed += kill_children(driver.pid)
        _, errors = driver.communicate(timeout=60)
        assert driver.returncode in (0, 1), errors
        assert "Traceback" not in errors
        assert running(project) == []
        assert_no_traces(f"cooperage-{NAME}")
    assert killed > MOMENTS // 4, "the kills all came too late or too early to test anything"


def kill_children(pid: int) -> int:
    """Kill the child processes of a process; return how many there were."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir() if Path(f"/proc/{pid}").exists() else ():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                count += 1
    return count


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_runtime_killed_in_create_leaves_nothing(project: Project, runtime: str) -> None:
    """The narrowest moments: 1 ms steps through `create`, the whole group killed."""
    for step in range(MOMENTS):
        driver = start_driver(project, runtime)
        wait_for(lambda: running(project), 5)
        time.sleep(step * 0.002)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate(timeout=30)
        sweep(project)
        assert running(project) == []
        assert_no_traces(f"cooperage-{NAME}")


@pytest.fixture
def stray(project: Project) -> Iterator[Callable[[Container, str], subprocess.Popen[bytes]]]:
    """Run a line of shell on the host, in the network of a container only; ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def join(container: Container, script: str) -> subprocess.Popen[bytes]:
        argv = ["nsenter", f"--net=/proc/{container.pid}/ns/net", "sh", "-c", script]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
        output = started[0].stdout
        assert output is not None
        assert output.readline() == b"in\n"
        return started[0]

    yield join
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_that_stays_in_a_namespace_is_named(
    project: Project, stray: Callable[[Container, str], subprocess.Popen[bytes]]
) -> None:
    """Nothing of ours would end it: it is no member of the container's cgroups."""
    runtime = registry.get("runc")
    with Container(runtime, bundle(project), name=NAME, project=project, scratch=project.tmp) as container:
        container.start()
        process = stray(container, "echo in; exec sleep 1000")
    assert container.left == [f"process {process.pid} in a namespace of the container"]
    assert len(running(project)) == 1
    process.kill()
    process.wait()
    assert ["whose owner had died" in line for line in sweep(project)] == [True]


def test_a_process_that_is_just_ending_is_no_leftover(
    project: Project, stray: Callable[[Container, str], subprocess.Popen[bytes]]
) -> None:
    """On a busy host, the kernel takes a moment to take a killed process apart."""
    runtime = registry.get("runc")
    with Container(runtime, bundle(project), name=NAME, project=project, scratch=project.tmp) as container:
        container.start()
        process = stray(container, "echo in; sleep 0.7")
        assert process.poll() is None
    assert container.left == []


def test_sweep_leaves_the_living_alone(project: Project) -> None:
    """A container whose owner lives is no leftover."""
    runtime = registry.get("runc")
    with Container(runtime, bundle(project), name=NAME, project=project, scratch=project.tmp) as container:
        container.start()
        assert sweep(project) == []
        assert container.wait(0) is None
    assert container.left == []


def test_sweep_leaves_the_containers_of_a_copied_checkout_alone(project: Project) -> None:
    """A copy of `out/` holds copies of records; the containers are the original's."""
    runtime = registry.get("runc")
    copied = Project(project.root / "copy")
    with Container(runtime, bundle(project), name=NAME, project=project, scratch=project.tmp) as container:
        shutil.copytree(project.running, copied.running)
        assert sweep(copied) == []
        assert container.wait(0) is None
        assert list(copied.running.iterdir()) == []


def test_sweep_removes_a_container_of_a_moved_checkout(project: Project) -> None:
    """A record that was moved along is still the one that was locked."""
    driver = start_driver(project, "runc", rounds=100)
    wait_for(lambda: container_processes(NAME))
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    moved = Project(project.root / "moved")
    moved.state.mkdir(parents=True)
    project.running.rename(moved.running)
    assert ["whose owner had died" in line for line in sweep(moved)] == [True]


def test_sweep_removes_halves_of_records(project: Project) -> None:
    """What a process left that died while writing: not a record, so no container yet."""
    (project.running / f"cooperage-{NAME}-00000000.tmp").write_text('{"version": 1')
    (project.running / f"cooperage-{NAME}-00000001.json").write_text("")
    assert sweep(project) == []
    assert running(project) == []


def test_sweep_removes_cgroups_and_state_that_the_runtime_has_lost(project: Project) -> None:
    """The runtime knows nothing of the container, yet its folders and a process are there."""
    container = f"cooperage-{NAME}-0000000a"
    record = Record(container, "runc", "/usr/sbin/runc", "/run/runc", "/nowhere", str(project.root.resolve()))
    HeldRecord.create(project.running, record).release(remove=False)
    cgroup = Path("/sys/fs/cgroup/pids") / container
    (cgroup / "inner").mkdir(parents=True)
    state = Path("/run/runc") / container
    state.mkdir()
    (state / "mounted").touch()
    subprocess.run(["mount", "--bind", "/bin/true", state / "mounted"], check=True)
    with subprocess.Popen(["sleep", "1000"]) as process:
        (cgroup / "inner/cgroup.procs").write_text(str(process.pid))
        assert sweep(project) == [f"removed container {container}, whose owner had died"]
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_sweep_ends_a_create_that_outlived_its_owner(project: Project, runtime: str) -> None:
    """Killed right after fork, an owner leaves a child that does not yet die with it."""
    container = f"cooperage-{NAME}-0000000b"
    adapter = registry.get(runtime)
    record = Record(
        container, runtime, str(adapter.path), str(adapter.root), str(bundle(project)), str(project.root)
    )
    HeldRecord.create(project.running, record).release(remove=False)
    words = adapter.create(container, bundle(project), project.tmp / "pid", project.tmp / "log")
    late = ["sh", "-c", 'sleep 0.2; exec "$@"', "sh", *[os.fspath(word) for word in words]]
    with subprocess.Popen(late, stdout=subprocess.DEVNULL, start_new_session=True) as call:
        assert sweep(project) == [f"removed container {container}, whose owner had died"]
        assert call.wait() == -signal.SIGKILL
    time.sleep(0.3)
    assert traces(container) == []


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_sweep_removes_what_was_killed_while_frozen(project: Project, runtime: str) -> None:
    """No signal reaches a frozen process, and `delete` would wait for it."""
    driver = start_driver(project, runtime, rounds=100)
    wait_for(lambda: container_processes(NAME))
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    for state in Path("/sys/fs/cgroup").glob(f"freezer/cooperage-{NAME}-*/freezer.state"):
        state.write_text("FROZEN")
    begun = time.monotonic()
    assert ["whose owner had died" in line for line in sweep(project)] == [True]
    assert time.monotonic() - begun < 5, "waited for a frozen process"


def test_records_are_made_while_others_sweep(project: Project) -> None:
    """A sweep never takes a record from a living owner, nor breaks its making."""
    done = threading.Event()

    def sweep_on() -> None:
        while not done.is_set():
            sweep(project)

    sweeper = threading.Thread(target=sweep_on)
    sweeper.start()
    try:
        for number in range(300):
            container = f"cooperage-{NAME}-{number:08x}"
            held = HeldRecord.create(
                project.running, Record(container, "runc", "/bin/false", "/run/none", "/b", str(project.root))
            )
            assert held.path.exists()
            held.release(remove=True)
    finally:
        done.set()
        sweeper.join()


def test_a_program_that_ignores_sigterm_is_gone_too(workspace: Workspace) -> None:
    """Removal needs no consent."""
    project = make_project(workspace.root, PATIENT)
    driver = start_driver(project, "runc")
    wait_for(lambda: container_processes(NAME))
    os.killpg(driver.pid, signal.SIGTERM)
    driver.communicate(timeout=30)
    assert running(project) == []
    assert traces(f"cooperage-{NAME}") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_doit_itself(shared_workspace: Workspace, number: int) -> None:
    """The whole command, at 6 moments: interrupted, it leaves nothing; killed, the next one sweeps."""
    workspace = shared_workspace
    force = ("-a", "-s", "smoke:hello/runc")
    workspace.doit("smoke:hello/runc")
    caught = 0
    for step in range(6):
        process = workspace.start(*force)
        wait_for(partial(has_begun, workspace, process))
        time.sleep(step * 0.01)
        os.killpg(process.pid, number)
        process.communicate(timeout=30)
        caught += process.returncode != 0
        if number != signal.SIGKILL:
            assert containers(workspace) == []
        workspace.doit(*force)
        assert containers(workspace) == []
        assert list((workspace.out / ".tmp").iterdir()) == []
    assert caught >= 3, "the signals came too late to test anything"


def test_two_runtimes_at_once(shared_workspace: Workspace) -> None:
    """`doit -n 2 -P thread`: each cell has its own container, and both prove the same bundle."""
    workspace = shared_workspace
    workspace.doit("bundle:hello")
    forget_smokes(workspace)
    workspace.doit("-n", "2", "-P", "thread", *BOTH)
    for runtime in ("runc", "crun"):
        found = json.loads((workspace.out / f"hello/smoke/{runtime}.json").read_bytes())
        assert (found["result"], found["leftovers"]) == ("proven", [])
    assert containers(workspace) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_two_at_once_leaves_nothing(shared_workspace: Workspace, number: int) -> None:
    """The containers belong to other threads than the one that is interrupted: no sweep is needed.

    One line and no other: that a container was removed is not a failure of its stage.
    """
    workspace = shared_workspace
    workspace.doit("bundle:hello")
    caught = 0
    for step in range(12):
        forget_smokes(workspace)
        process = workspace.start("-n", "2", "-P", "thread", *BOTH)
        wait_for(partial(has_begun, workspace, process))
        time.sleep(step * 0.015)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        out, errors = process.communicate(timeout=30)
        assert containers(workspace) == []
        assert [line for line in traces("cooperage-hello") if str(os.getpid()) not in line] == []
        # A run that is over has nothing more to end politely.
        if process.returncode not in (0, -number):
            caught += 1
            assert process.returncode == 128 + number, out + errors
            name = signal.Signals(number).name
            assert errors == f"interrupted by {name}; what was finished is kept, `doit` goes on from there\n"
    assert caught >= 4, "the signals came too late to test anything"


def forget_smokes(workspace: Workspace) -> None:
    """Let the next run prove the bundle anew."""
    for receipt in (workspace.out / "hello/stages").glob("smoke-*.json"):
        receipt.unlink()


def has_begun(workspace: Workspace, process: subprocess.Popen[str]) -> bool:
    """There is a container, or there will be none any more."""
    return bool(containers(workspace)) or process.poll() is not None


def containers(workspace: Workspace) -> list[str]:
    """The records of a workspace, and the containers that hold its bundles."""
    records = [entry.name for entry in (workspace.out / ".state/running").iterdir()]
    listed = subprocess.run(["runc", "list", "--format", "json"], capture_output=True, text=True, check=True)
    bundles = [container["bundle"] for container in json.loads(listed.stdout) or []]
    return records + [found for found in bundles if found.startswith(str(workspace.out.resolve()))]


def bundle(project: Project) -> Path:
    """Where the bundle is."""
    return project.bundle(NAME).bundle
