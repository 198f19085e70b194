"""`smoke` with the real runtimes: what is right is proven, and each thing that is wrong is named."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.model.bundle import Healthcheck, Port
from pipeline.paths import Project
from pipeline.tools.runtimes import output
from tests.conftest import Workspace
from tests.real import shim
from tests.real.smoke_project import (
    NAME,
    SERVER,
    SHORT,
    Cell,
    Spec,
    make_cell,
    make_project,
    record_tree,
    write_config,
)
from tests.real.traces import assert_no_traces

pytestmark = [pytest.mark.real, pytest.mark.root]

RUNTIMES = ("runc", "crun")
QUIET = Spec(healthcheck=None)


@pytest.fixture
def project(workspace: Workspace) -> Iterator[Project]:
    """A project with one good bundle; whatever is left of its containers fails the test."""
    yield make_project(workspace.root)
    assert_no_traces(f"cooperage-{NAME}")


def config_of(project: Project) -> dict[str, Any]:
    """The bundle's config.json."""
    config: dict[str, Any] = json.loads(project.bundle(NAME).config.read_bytes())
    return config


def with_args(project: Project, *args: str) -> Project:
    """Let the bundle run something else."""
    config = config_of(project)
    config["process"]["args"] = list(args)
    write_config(project, config)
    return project


def failure(cell: Cell) -> PipelineError:
    """Run a cell that must fail and return how."""
    with pytest.raises(PipelineError) as caught:
        cell.build()
    return caught.value


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_good_bundle_is_proven(project: Project, runtime: str) -> None:
    """Every protection of the config is seen, the program stops when asked, and nothing is left."""
    cell = make_cell(project, runtime)
    made = cell.build()
    result = cell.result()
    assert result["result"] == "proven"
    assert result["runtime"]["name"] == runtime
    assert [fact for fact in result["facts"] if not fact["ok"]] == []
    assert made.facts == {"result": "proven", "facts": len(result["facts"])}
    assert result["ready"]["answer"] == "200 OK"
    assert result["stop"] == {"signal": "SIGTERM", "grace_s": 3.0, "ok": True}
    assert result["exit"] == {"code": 0, "signal": None, "oom_killed": False}
    assert result["leftovers"] == []
    assert {"create", "start", "ready", "look", "stop", "delete", "total"} <= result["timings_ms"].keys()
    assert list(project.running.iterdir()) == []


def test_the_facts_are_those_of_the_config(project: Project) -> None:
    """A sample in full: what was expected, what was seen, where."""
    cell = make_cell(project, "runc")
    cell.build()
    assert cell.fact("uid_map")["observed"] == "[(0, 2000000000, 65536)]"
    assert cell.fact("uid")["observed"] == ",".join(["2000065532"] * 4)
    assert cell.fact("groups")["observed"] == "2000001000"
    assert cell.fact("capabilities CapBnd") == {
        "name": "capabilities CapBnd",
        "expected": "none",
        "observed": "none",
        "ok": True,
        "where": "/proc/PID/status CapBnd",
    }
    assert cell.fact("seccomp")["observed"] == "2"
    assert cell.fact("masked /proc/keys")["observed"] == "/dev/null"
    assert cell.fact("masked /sys/firmware")["observed"] == "an empty folder"
    assert cell.fact("namespace network")["observed"] == "its own"


def test_equal_runs_have_equal_digests(project: Project) -> None:
    """Times, ids and counts are in the result and not in the digest."""
    first, second = (make_cell(project, "runc") for _ in range(2))
    assert first.build().digest == second.build().digest
    assert first.result()["timings_ms"] != second.result()["timings_ms"]


def test_runtimes_differ_in_their_digests(project: Project) -> None:
    """A proof under one runtime is none under another."""
    assert make_cell(project, "runc").build().digest != make_cell(project, "crun").build().digest


def test_two_smokes_of_one_bundle_at_once(project: Project) -> None:
    """Each has its own container, log and result."""
    cells = [make_cell(project, runtime) for runtime in RUNTIMES * 2]
    threads = [threading.Thread(target=cell.build) for cell in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cell.result()["result"] for cell in cells] == ["proven"] * 4


HEALTHCHECKS: dict[str, tuple[Spec, dict[str, Any] | None, list[str], str, str]] = {
    "of the spec, tcp": (
        Spec(healthcheck=Healthcheck(tcp=8080)),
        None,
        [],
        "connect to tcp port 8080",
        "connected",
    ),
    "of the image, CMD": (
        QUIET,
        {"test": ["CMD", "/bin/wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]},
        [],
        "exec /bin/wget -q -O - http://127.0.0.1:8080/",
        "exit 0",
    ),
    "of the image, CMD-SHELL": (
        QUIET,
        {"test": ["CMD-SHELL", "wget -q -O - http://127.0.0.1:8080/ | head -1"]},
        [],
        "exec /bin/sh -c wget -q -O - http://127.0.0.1:8080/ | head -1",
        "exit 0",
    ),
    "none, EXPOSE": (QUIET, None, ["53/udp", "8080/tcp"], "connect to tcp port 8080", "connected"),
    "none, ports": (
        Spec(healthcheck=None, ports=(Port(host_ip="127.0.0.1", host_port=80, container_port=8080),)),
        None,
        ["1/tcp"],
        "connect to tcp port 8080",
        "connected",
    ),
    "of the image, CMD-SHELL with its own SHELL": (
        QUIET,
        {"test": ["CMD-SHELL", "http://127.0.0.1:8080/"], "shell": ["/bin/wget", "-q", "-O", "-"]},
        [],
        "exec /bin/wget -q -O - http://127.0.0.1:8080/",
        "exit 0",
    ),
    "disabled": (
        Spec(healthcheck=Healthcheck(disable=True)),
        {"test": ["CMD", "/bin/false"]},
        ["81/tcp"],
        "still running after 0.5 s",
        "it runs",
    ),
    "NONE of the image": (QUIET, {"test": ["NONE"]}, ["81/tcp"], "still running after 0.5 s", "it runs"),
    "none at all": (QUIET, None, [], "still running after 0.5 s", "it runs"),
}


@pytest.mark.parametrize("case", HEALTHCHECKS.values(), ids=HEALTHCHECKS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_way_to_be_ready(project: Project, runtime: str, case: tuple[Any, ...]) -> None:
    """Asked inside the container's network, or by exec as the image says."""
    spec, image_check, exposed, check, answer = case
    cell = make_cell(project, runtime, spec=spec, image_check=image_check, exposed_ports=exposed)
    cell.build()
    ready = cell.result()["ready"]
    assert (ready["check"], ready["ok"], ready["answer"]) == (check, True, answer)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_init_and_its_child_are_both_looked_at(project: Project, runtime: str) -> None:
    """With `init: true` the first process is not the one that matters."""
    config = config_of(project)
    # busybox's httpd ignores SIGTERM as process 1; below an init it does not.
    config["process"]["args"] = ["/dev/init", "--", "/bin/httpd", "-f", "-p", "8080", "-h", "/www"]
    source = {"source": "/usr/bin/tini-static", "type": "bind", "options": ["bind", "ro", "nosuid", "nodev"]}
    config["mounts"].append({"destination": "/dev/init", **source})
    write_config(project, config)
    cell = make_cell(project, runtime)
    cell.build()
    assert cell.fact("capabilities CapEff of the init's child")["where"] == "/proc/CHILD/status CapEff"
    assert cell.fact("mount /dev/init")["observed"] == "bind of /usr/bin/tini-static"


CRASHES: dict[str, tuple[list[str], list[str]]] = {
    "exits at once": (
        ["/bin/sh", "-c", "echo starting; echo 'no settings' >&2; exit 7"],
        ["exited 7 before it was ready", "  | starting\n  | no settings", "look at what it printed"],
    ),
    "killed by seccomp": (
        ["/bin/busybox", "dmesg"],
        ["was ended by SIGSYS", "it printed nothing", "see `seccomp`"],
    ),
    "wants memory": (["/bin/tail", "/dev/zero"], ["was ended by SIGKILL", "raise `mem_limit`"]),
    "wants processes": (
        ["/bin/sh", "-c", "for i in $(busybox seq 30); do sleep 5 & done; wait"],
        ["can't fork", "than `pids_limit` allows"],
    ),
    "writes to its image": (
        ["/bin/sh", "-c", "echo x > /x"],
        ["Read-only file system", "`tmpfs` or a volume"],
    ),
    "ends well": (["/bin/true"], ["exited 0 before it was ready", "must stay in the foreground"]),
    "not for this processor": (["/bin/odd"], ["exited 1", "xec format error", "another processor"]),
}


@pytest.mark.parametrize("case", CRASHES.values(), ids=CRASHES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_kind_of_crash(project: Project, runtime: str, case: tuple[list[str], list[str]]) -> None:
    """The error has the last lines and says what to look at."""
    args, expected = case
    odd = project.bundle(NAME).rootfs / "bin/odd"
    odd.write_bytes(b"\x7fELF of nowhere")
    odd.chmod(0o755)
    record_tree(project)
    spec = Spec(healthcheck=Healthcheck(tcp=81, interval_s=10.0, retries=1))
    cell = make_cell(with_args(project, *args), runtime, spec=spec)
    error = failure(cell)
    assert error.code == "crashed"
    assert [part for part in expected if part not in str(error)] == [], str(error)
    assert cell.result()["failure"]["code"] == "crashed"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_program_is_refused_by_the_runtime(project: Project, runtime: str) -> None:
    """The runtime's own words, and ours to explain them."""
    error = failure(make_cell(with_args(project, "/bin/nothing"), runtime))
    assert error.code == "runtime-refused"
    assert f"{runtime} could not create the container: " in str(error)
    assert "/bin/nothing" in str(error)
    assert "`entrypoint`" in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_never_ready(project: Project, runtime: str) -> None:
    """Runs, and never answers."""
    error = failure(make_cell(project, runtime, spec=Spec(healthcheck=SHORT)))
    assert error.code == "not-ready"
    assert f"{NAME} was not ready after 0.4 s: connect to tcp port 81: Connection refused" in str(error)


def test_a_health_check_that_hangs_is_ended(project: Project) -> None:
    """Its process does not outlive the question."""
    check = Healthcheck(test=("CMD", "/bin/sleep", "1000"), timeout_s=0.3, interval_s=0.5, retries=1)
    error = failure(make_cell(project, "runc", spec=Spec(healthcheck=check)))
    assert "exec /bin/sleep 1000: no end within 0." in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_health_check_that_prints_without_end_costs_no_memory(project: Project, runtime: str) -> None:
    """Its last words are kept; the rest is read and dropped."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check = Healthcheck(test=("CMD", "/bin/yes"), timeout_s=1.5, interval_s=1.5, retries=1)
    error = failure(make_cell(project, runtime, spec=Spec(healthcheck=check)))
    assert "exec /bin/yes: no end within " in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB more"


def test_what_a_container_prints_is_fit_for_a_terminal(project: Project) -> None:
    """Its log has the bytes as they came."""
    cell = make_cell(
        with_args(project, "/bin/sh", "-c", r"printf '\033[31mred\tü\033]0;x\007\n'; exit 3"), "runc"
    )
    error = failure(cell)
    assert "\n  | \\x1b[31mred\tü\\x1b]0;x\\x07" in str(error)
    assert "\x1b" not in str(error)
    assert (cell.work / "runc.log").read_bytes() == b"\x1b[31mred\t\xc3\xbc\x1b]0;x\x07\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_says_of_an_image_is_fit_for_a_terminal(project: Project, runtime: str) -> None:
    """The name of a program is an image's to choose."""
    error = failure(make_cell(with_args(project, "/bin/no\x1b[31mthing"), runtime))
    assert error.code == "runtime-refused"
    assert "\x1b" not in str(error)
    assert "[31mthing" in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_program_that_ignores_the_stop_signal(project: Project, runtime: str) -> None:
    """Said, with what mends it, and killed."""
    spec = Spec(stop_grace_period=0.3)
    cell = make_cell(with_args(project, "/bin/httpd", "-f", "-p", "8080", "-h", "/www"), runtime, spec=spec)
    error = failure(cell)
    assert error.code == "did-not-stop"
    assert "SIGTERM did not end it within 0.3 s; it was killed" in str(error)
    assert "PID 1 ignores SIGTERM: set `init: true` or `stop_signal`" in str(error)
    assert cell.result()["exit"] == {"code": None, "signal": "SIGKILL", "oom_killed": False}


def test_the_stop_signal_of_the_image_is_sent(project: Project) -> None:
    """A program that ends by its own signal only."""
    script = SERVER[2].replace("trap 'exit 0' TERM", "trap 'exit 5' USR1; trap '' TERM")
    cell = make_cell(with_args(project, "/bin/sh", "-c", script), "runc", stop_signal="SIGUSR1")
    cell.build()
    assert cell.result()["exit"]["code"] == 5


# What the shim does to the config, and what must be said of it.
BROKEN_PROMISES = [
    (
        'process["noNewPrivileges"] = False',
        "no_new_privileges: expected 1; observed 0",
    ),
    (
        'process["capabilities"]["bounding"] = ["CAP_CHOWN"]',
        "capabilities CapBnd: expected none; observed CHOWN",
    ),
    (
        'process["user"]["uid"] = 1',
        "uid: expected 2000065532,2000065532,2000065532,2000065532; ",
    ),
    (
        'process["user"]["additionalGids"] = [1000, 27]',
        "groups: expected 2000001000; observed 2000000027,2000001000",
    ),
    (
        'process["rlimits"].pop(0)',
        "rlimit core: expected 0:0; observed ",
    ),
    (
        'process["oomScoreAdj"] = 0',
        "oom_score_adj: expected 100; observed 0",
    ),
    (
        'config["root"]["readonly"] = False',
        "root: expected read-only; observed writable",
    ),
    (
        'del linux["seccomp"]',
        "seccomp: expected 2; observed 0",
    ),
    (
        'linux["uidMappings"][0]["size"] = 65537',
        "uid_map: expected [(0, 2000000000, 65536)]",
    ),
    (
        'linux["namespaces"].remove({"type": "ipc"}); mounts.remove(mount("/dev/shm"))',
        "namespace ipc: expected its own",
    ),
    (
        'linux["namespaces"].remove({"type": "cgroup"})',
        "namespace cgroup: expected its own; observed the host's",
    ),
    (
        'linux["maskedPaths"].remove("/proc/keys")',
        "masked /proc/keys: expected hidden; observed readable as ever",
    ),
    (
        'linux["readonlyPaths"].remove("/proc/sys")',
        "read-only /proc/sys: expected read-only; observed writable",
    ),
    (
        'mount("/tmp")["options"].remove("noexec")',
        "mount /tmp options: expected nosuid,nodev,noexec; observed nosuid,nodev",
    ),
    (
        'mount("/tmp")["options"][-1] = "size=32m"',
        "tmpfs /tmp size: expected 16777216; observed 33554432",
    ),
    (
        'mount("/sys")["options"].remove("ro")',
        "mount /sys options: expected ro,nosuid,nodev,noexec; observed nosuid",
    ),
    (
        'mounts.remove(mount("/tmp"))',
        "mount /tmp: expected tmpfs; observed not mounted",
    ),
    (
        'mounts.append({**mount("/tmp"), "destination": "/data"})',
        "nothing else mounted: expected none; observed /data",
    ),
    (
        'limits["memory"]["limit"] *= 2; limits["memory"]["swap"] *= 2',
        "memory limit: expected 67108864; observed 134217728",
    ),
    (
        'limits["memory"]["swap"] *= 2',
        "memory and swap limit: expected 67108864; observed 134217728",
    ),
    (
        'limits["cpu"]["quota"] *= 2',
        "cpu quota: expected 50000; observed 100000",
    ),
    (
        'limits["pids"]["limit"] = 40',
        "pids limit: expected 20; observed 40",
    ),
    (
        'limits["devices"][0]["allow"] = True',
        "devices: expected only the default ones and the spec's; observed a *:* rwm",
    ),
]


@pytest.mark.parametrize(("edit", "expected"), BROKEN_PROMISES)
def test_each_protection_that_is_dropped_fails_the_cell(
    project: Project, monkeypatch: pytest.MonkeyPatch, edit: str, expected: str
) -> None:
    """A runtime that does less than it was told is caught, and the protection named."""
    shim.install(project.root / "bin", "runc", edit)
    monkeypatch.setenv("PATH", f"{project.root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    cell = make_cell(project, "runc")
    error = failure(cell)
    assert error.code == "not-as-configured", str(error)
    assert expected in error.message
    assert cell.result()["result"] == "failed"


def test_a_program_may_raise_its_soft_limits(project: Project) -> None:
    """As Node.js does at its start: the hard limit is what protects."""
    cell = make_cell(with_args(project, "/bin/sh", "-c", "ulimit -S -n 500; " + SERVER[2]), "runc")
    cell.build()
    assert cell.fact("rlimit nofile") == {
        "name": "rlimit nofile",
        "expected": "256:512",
        "observed": "500:512",
        "ok": True,
        "where": "/proc/PID/limits",
    }


@pytest.mark.parametrize(("uid", "effective"), [(0, "NET_BIND_SERVICE"), (65532, "none")])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_given_capability_becomes(project: Project, runtime: str, uid: int, effective: str) -> None:
    """execve(2) keeps it for root; for others only the bounding set remembers."""
    config = config_of(project)
    kinds = ("bounding", "effective", "permitted")
    config["process"]["capabilities"] |= {kind: ["CAP_NET_BIND_SERVICE"] for kind in kinds}
    config["process"]["user"] = {"uid": uid, "gid": uid}
    write_config(project, config)
    cell = make_cell(project, runtime)
    cell.build()
    assert cell.fact("capabilities CapEff")["observed"] == effective
    assert cell.fact("capabilities CapEff")["expected"] == effective
    assert cell.fact("capabilities CapBnd")["observed"] == "NET_BIND_SERVICE"


def test_an_ambient_capability_is_seen(project: Project) -> None:
    """The way to give one to a program that is not root."""
    config = config_of(project)
    for given in config["process"]["capabilities"].values():
        given.append("CAP_NET_BIND_SERVICE")
    write_config(project, config)
    cell = make_cell(project, "runc")
    cell.build()
    kinds = ("Eff", "Prm", "Inh", "Bnd", "Amb")
    seen = {cell.fact(f"capabilities Cap{kind}")["observed"] for kind in kinds}
    assert seen == {"NET_BIND_SERVICE"}


def test_a_program_that_crashes_when_it_is_stopped(project: Project) -> None:
    """A crash is one at any time."""
    script = SERVER[2].replace("exit 0", "kill -SEGV 1; busybox dmesg; exec busybox dmesg")
    error = failure(make_cell(with_args(project, "/bin/sh", "-c", script), "runc"))
    assert error.code == "crashed"
    assert "was ended by SIGSYS when it got SIGTERM" in str(error)


def bind(project: Project, source: Path) -> None:
    """Mount a folder of the host at /data."""
    config = config_of(project)
    options = ["rbind", "rw", "nosuid", "nodev", "noexec"]
    mount = {"destination": "/data", "type": "bind", "source": str(source), "options": options}
    config["mounts"].append(mount)
    write_config(project, config)


def test_crun_1_8_1_is_caught_dropping_options_of_a_writable_bind(project: Project) -> None:
    """A fault of that version under a user namespace; later ones must prove the same bundle."""
    (project.root / "data").mkdir()
    bind(project, project.root / "data")
    cell = make_cell(project, "crun")
    dropped = False
    try:
        cell.build()
    except PipelineError as error:
        dropped = "mount /data options: expected nosuid,nodev,noexec; observed none" in str(error)
    assert dropped == (cell.result()["runtime"]["version"] == "1.8.1")


def test_what_lies_below_a_bind_must_be_as_safe(project: Project) -> None:
    """`nosuid` of a recursive bind holds for its top only."""
    data = project.root / "data"
    (data / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "inner", data / "inner"], check=True)
    try:
        bind(project, data)
        error = failure(make_cell(project, "runc"))
        assert "mount /data options (/data/inner): expected nosuid,nodev,noexec; observed none" in str(error)
    finally:
        subprocess.run(["umount", data / "inner"], check=True)


Change = tuple[Callable[[Path], object], str]
CHANGES: dict[str, Change] = {
    "content": (lambda b: (b / "rootfs/www/index.html").write_text("hullo\n"), "rootfs/www/index.html"),
    "deleted": (lambda b: (b / "rootfs/bin/sleep").unlink(), "rootfs/bin/sleep"),
    "mode": (lambda b: (b / "rootfs/bin/busybox").chmod(0o4755), "rootfs/bin/busybox"),
    "added": (lambda b: (b / "rootfs/bin/extra").touch(), "rootfs/bin/extra"),
    "config": (lambda b: (b / "config.json").write_text("{}"), "config.json"),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_a_changed_bundle_is_not_started(project: Project, case: Change) -> None:
    """The proof would be of something that no stage has made."""
    change, path = case
    change(project.bundle(NAME).bundle)
    error = failure(make_cell(project, "runc"))
    assert error.code == "bundle-changed"
    assert path in error.message
    assert f"doit forget {'spec' if path == 'config.json' else 'unpack'}:{NAME} && doit" in str(error)


def test_a_bind_source_that_went_since_it_was_validated(project: Project) -> None:
    """The runtime refuses, and its words are explained with the key of the spec."""
    bind(project, project.root / "absent")
    error = failure(make_cell(project, "runc"))
    assert error.code == "runtime-refused"
    assert f"{project.root}/absent" in str(error)
    assert "the host's side of a volume does not exist: see `volumes`" in str(error)


def test_a_long_output_is_cut(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log stays small, the container is not held up, and the cut is said."""
    monkeypatch.setattr(output, "MAX_LOG_BYTES", 1 << 20)
    script = "busybox yes 0123456789abcde | busybox head -c 3000000; " + SERVER[2]
    cell = make_cell(with_args(project, "/bin/sh", "-c", script), "runc")
    cell.build()
    log = (cell.work / "runc.log").read_text()
    assert log.endswith("… cut: 1951424 more bytes after 1048576\n")
    assert cell.result()["log_dropped_bytes"] == 3_000_000 - (1 << 20)
    assert cell.said and "1951424 bytes more followed" in cell.said[0]


def test_the_log_has_both_streams_in_order(project: Project) -> None:
    """stdout and stderr go through one pipe."""
    script = "echo one; echo two >&2; echo three; " + SERVER[2]
    cell = make_cell(with_args(project, "/bin/sh", "-c", script), "crun")
    cell.build()
    assert (cell.work / "crun.log").read_text() == "one\ntwo\nthree\n"
