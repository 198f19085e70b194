"""What is typed for each runtime, the table of holes, records and locks, and what crashes mean."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import proc
from pipeline.errors import PipelineError
from pipeline.observe.bpf import attached_device_programs
from pipeline.paths import Project
from pipeline.run import ToolFailed
from pipeline.stages.smoke import signal_number
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime, default_root
from pipeline.tools.runtimes.crash import explain, explain_exit, plain, printable
from pipeline.tools.runtimes.crun import Crun
from pipeline.tools.runtimes.ending import call, readable
from pipeline.tools.runtimes.holes import known_holes
from pipeline.tools.runtimes.record import HeldRecord, Record, abandoned
from pipeline.tools.runtimes.runc import Runc

PROGRAM = Path("/opt/bin/runtime")
ROOT = Path("/run/states")
BUNDLE, PID_FILE, LOG = Path("/b"), Path("/p"), Path("/l")
LOGGING = ["--log", "/l", "--log-format", "json"]


def typed(words: list[str | os.PathLike[str]]) -> list[str]:
    """The words as the program gets them."""
    return [os.fspath(word) for word in words]


@pytest.mark.parametrize("adapter", [Runc, Crun])
def test_the_words_of_each_verb(adapter: type[Runtime]) -> None:
    """What is typed, in full."""
    runtime = adapter(PROGRAM, ROOT)
    top = ["/opt/bin/runtime", "--root", "/run/states"]
    assert typed(runtime.start("id", LOG)) == [*top, *LOGGING, "start", "id"]
    assert typed(runtime.state("id")) == [*top, "state", "id"]
    assert typed(runtime.kill("id", 15)) == [*top, "kill", "id", "15"]
    assert typed(runtime.delete("id", force=False)) == [*top, "delete", "id"]
    assert typed(runtime.delete("id", force=True)) == [*top, "delete", "--force", "id"]
    inner = ["exec", "--process", "/f", "--pid-file", "/p", "id"]
    assert typed(runtime.exec("id", Path("/f"), PID_FILE, LOG)) == [*top, *LOGGING, *inner]


def test_runc_creates_as_it_is() -> None:
    """runc has no quirk here."""
    words = typed(Runc(PROGRAM, ROOT).create("id", BUNDLE, PID_FILE, LOG))
    end = ["create", "--bundle", "/b", "--pid-file", "/p", "id"]
    assert words == ["/opt/bin/runtime", "--root", "/run/states", *LOGGING, *end]


def test_crun_creates_behind_a_mount_on_a_hybrid_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """cgroup2's list of controllers is hidden, in a mount namespace of its own."""
    unified = proc.Mount(
        2, 1, "0:2", "/", "/cg/unified", frozenset(), (), "cgroup2", "cgroup2", frozenset({"rw"})
    )
    monkeypatch.setattr(proc, "is_hybrid", lambda: True)
    monkeypatch.setattr(proc, "cgroup_roots", lambda: [unified])
    words = typed(Crun(PROGRAM, ROOT).create("id", BUNDLE, PID_FILE, LOG))
    assert words[:5] == ["unshare", "--mount", "--propagation", "private", "--"]
    hide = 'file=$1; shift; mount --bind /dev/null "$file" && exec "$@"'
    assert words[5:10] == ["sh", "-c", hide, "sh", "/cg/unified/cgroup.controllers"]
    assert words[10] == "/opt/bin/runtime"


def test_crun_creates_as_it_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pure v1 and pure v2 need nothing."""
    monkeypatch.setattr(proc, "is_hybrid", lambda: False)
    assert typed(Crun(PROGRAM, ROOT).create("id", BUNDLE, PID_FILE, LOG))[0] == "/opt/bin/runtime"


def test_the_state_lies_where_the_runtime_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root below /run whatever the login says, else below the login's own folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root("crun") == Path("/run/crun")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_root("crun") == Path("/run/user/1000/crun")


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_installed_runtimes_say_their_version(name: str) -> None:
    """The real programs, asked."""
    runtime = registry.get(name)
    assert runtime.path.name == name
    assert runtime.version().number[0].isdigit()


def test_a_runtime_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that installs it."""
    monkeypatch.setattr("pipeline.tools.runtimes.base.which", lambda _: None)
    monkeypatch.setattr("pipeline.run.which", lambda _: None)
    with pytest.raises(PipelineError) as caught:
        registry.get("crun")
    assert "crun, needed to run bundles, is not installed" in str(caught.value)
    assert "apt-get install crun" in str(caught.value)


OF_2025 = {"CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"}


@pytest.mark.parametrize(
    ("number", "build", "cves"),
    [
        ("1.1.5+ds1", "1.1.5+ds1-1+deb12u1", OF_2025),
        ("1.1.5", "", {*OF_2025, "CVE-2024-21626"}),
        ("1.1.11", "v1.1.11-0-g4bccb38c", {*OF_2025, "CVE-2024-21626"}),
        ("1.1.12", "", OF_2025),
        ("1.2.7", "", OF_2025),
        ("1.2.8", "", set()),
        ("1.3.2", "", OF_2025),
        ("1.3.3", "", set()),
        ("1.3.6", "", set()),
        ("1.4.0", "", set()),
        ("2.0.0", "", set()),
        ("unknown", "", {*OF_2025, "CVE-2024-21626"}),
    ],
)
def test_known_holes_of_runc(number: str, build: str, cves: set[str]) -> None:
    """A fix in one series says nothing of the others; a distribution may have carried it back."""
    assert {hole.cve for hole in known_holes("runc", number, build)} == cves


def test_crun_has_none_of_runcs_holes() -> None:
    """Each hole is of one runtime."""
    assert known_holes("crun", "1.0") == []


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("SIGRTMAX-1", 63), ("SIGRTMIN", 34)],
)
def test_signals(name: str, number: int) -> None:
    """The spellings of STOPSIGNAL."""
    assert signal_number(name) == number


@pytest.mark.parametrize(
    "name", ["SIGNOTHING", "0", "65", "", "SIGRTMIN+31", "SIGRTMIN-1", "-9", "SIGRTMIN+"]
)
def test_bad_signals(name: str) -> None:
    """Said with the word that is none."""
    with pytest.raises(PipelineError, match=f"`{name.replace('+', '.')}` is no signal"):
        signal_number(name)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("exec /app: exec format error", "another processor"),
        ("exec container process `/bin/odd`: Exec format error", "another processor"),
        ('exec: "nope": executable file not found in $PATH', "no such program on its PATH"),
        ('exec: "/nope": stat /nope: no such file or directory', "the interpreter or loader"),
        ("nsexec-0[9]: failed to open mount source /x: No such file or directory", "`volumes`"),
        ("node: error while loading shared libraries: libstdc++.so.6", "shared library"),
        ("error setting rlimit type 7: operation not permitted", "`ulimits`"),
        ("cgroups in hybrid mode not supported", "pure cgroup v2"),
        ("unable to apply caps: operation not permitted", "`cap_add`"),
        ("setup user: cannot set uid to unmapped user in user namespace", "`userns`"),
        ("Error: EROFS: read-only file system, mkdir '/x'", "`tmpfs` or a volume"),
        ("Error: listen EADDRINUSE: address already in use", "has the port"),
        ("Error: EMFILE: too many open files", "`ulimits.nofile`"),
        ("Error: spawn EPERM", "`seccomp`"),
        ("Error: EACCES: permission denied, open '/data/x'", "volume's owner"),
    ],
)
def test_what_last_words_mean(said: str, meaning: str) -> None:
    """The general never hides the particular."""
    assert meaning in (explain(said) or "")


def test_nothing_is_guessed() -> None:
    """Words that mean nothing to us are left alone."""
    assert explain("TypeError: x is not a function") is None
    assert explain_exit(1, None, False, ["TypeError"]) is None


@pytest.mark.parametrize(
    ("code", "signal_name", "oom_killed", "meaning"),
    [
        (None, "SIGKILL", True, "raise `mem_limit`"),
        (None, "SIGSYS", False, "see `seccomp`"),
        (159, None, False, "see `seccomp`"),
        (139, None, False, "bad memory access"),
        (126, None, False, "could not be executed"),
        (127, None, False, "did not find the program"),
        (0, None, False, "stay in the foreground"),
    ],
)
def test_what_an_ending_means(
    code: int | None, signal_name: str | None, oom_killed: bool, meaning: str
) -> None:
    """By code, by signal, by what an init makes of a signal."""
    assert meaning in (explain_exit(code, signal_name, oom_killed, []) or "")


def test_json_of_a_runtime_is_read() -> None:
    """crun writes its last words into the container's stderr in the form of its log."""
    assert plain('{"msg":"exec: no","level":"error","time":"2026"}') == "exec: no"
    assert plain('{"msg": 1}') == '{"msg": 1}'
    assert plain("{ braces }") == "{ braces }"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("back\rover\b", r"back\rover\x08"),
        ("\x9b2J", r"\x9b2J"),
        ("exe\u202etxt", r"exe\u202etxt"),
        ("two\n\tlines, ünï ✓", "two\n\tlines, ünï ✓"),
    ],
)
def test_what_a_terminal_gets_of_a_container(raw: str, shown: str) -> None:
    """Nothing that moves, colours or reverses; lines, tabs and letters as they are."""
    assert printable(raw) == shown


def test_a_call_that_prints_without_end_costs_no_memory() -> None:
    """The last words of each stream are kept, and the call is ended in time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flood = "head -c 300000000 /dev/zero; echo end; head -c 100000 /dev/zero >&2; echo worse >&2; exit 3"
    result = call(["sh", "-c", flood], 60.0)
    assert (result.returncode, len(result.stdout), len(result.stderr)) == (3, 16 << 10, 16 << 10)
    assert (result.stdout[-5:], result.stderr[-7:]) == ("\0end\n", "\0worse\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB more"


def test_a_call_with_little_to_say_is_kept_whole() -> None:
    """Both streams, apart, even when they come at the very end."""
    result = call(["sh", "-c", "echo out; echo err >&2"], 60.0)
    assert (result.stdout, result.stderr, result.returncode) == ("out\n", "err\n", 0)


def test_a_call_that_never_ends_is_ended() -> None:
    """However much it prints meanwhile."""
    with pytest.raises(ToolFailed, match="did not end within"):
        call(["yes"], 0.2)


def test_a_call_ends_when_its_process_does() -> None:
    """What that started may hold the pipe open for as long as it likes."""
    before = len(os.listdir("/proc/self/fd"))
    result = call(["sh", "-c", "sleep 1000 & echo $!"], 60.0)
    os.kill(int(result.stdout), 9)
    assert result.seconds < 30
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_wait_of_a_year_can_be_asked_for() -> None:
    """poll(2) takes no more than 24 days at once."""
    with subprocess.Popen(["true"]) as process:
        fd = os.pidfd_open(process.pid)
        assert readable(fd, 366 * 86400.0)
        os.close(fd)


def record(project: Path) -> Record:
    """A record of a container that is nowhere."""
    return Record("cooperage-x-00000000", "runc", "/bin/false", "/run/none", "/b", str(project))


def test_a_record_is_held_by_its_owner_alone(tmp_path: Path) -> None:
    """Locked while held, taken when released, gone when removed."""
    held = HeldRecord.create(tmp_path, record(tmp_path))
    with abandoned(held.path, tmp_path) as taken:
        assert taken is None
    held.release(remove=False)
    with abandoned(held.path, tmp_path) as taken:
        assert taken is not None
        assert taken.record == record(tmp_path)
        with abandoned(held.path, tmp_path) as again:
            assert again is None
        taken.release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_a_record_outlives_no_owner(tmp_path: Path) -> None:
    """The kernel gives the lock up with the process, however it ends."""
    script = (
        "import os, sys; from pathlib import Path; from tests.test_runtimes import *; "
        "HeldRecord.create(Path(sys.argv[1]), record(Path(sys.argv[1]))); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    with abandoned(tmp_path / "cooperage-x-00000000.json", tmp_path) as taken:
        assert taken is not None


def test_a_sweep_without_leftovers_imports_next_to_nothing(tmp_path: Path) -> None:
    """It runs at every start of doit."""
    Project(tmp_path).running.mkdir(parents=True)
    script = (
        "import sys; from pathlib import Path; from types import SimpleNamespace; "
        "from pipeline.tools.runtimes.sweep import sweep; "
        "root = Path(sys.argv[1]); running = root / 'out/.state/running'; "
        "assert sweep(SimpleNamespace(running=running, root=root)) == []; "
        "print(sorted({'json', 'subprocess', 'fcntl', 'ctypes'} & sys.modules.keys()))"
    )
    argv = [sys.executable, "-S", "-c", script, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_visible_mounts_leave_out_what_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second mount on one place hides the first and everything below it."""
    lines = [
        "1 0 8:1 / / ro,relatime - ext4 /dev/sda rw",
        "2 1 0:1 / /data rw - tmpfs old rw",
        "3 2 0:2 / /data/in rw - tmpfs hidden rw",
        "4 2 0:3 / /data ro,nosuid shared:7 - tmpfs new rw,size=16k",
        r"5 1 0:4 /a\040b /with\040space rw - ext4 x rw",
    ]
    monkeypatch.setattr(proc, "_lines", lambda pid, name: lines)
    seen = proc.visible_mounts(1)
    assert sorted(seen) == ["/", "/data", "/with space"]
    assert seen["/data"].source == "new"
    assert seen["/data"].propagation == ("shared:7",)
    assert seen["/"].read_only
    assert seen["/with space"].root == "/a b"


def test_this_process_in_proc() -> None:
    """Against what Python knows of itself."""
    me = os.getpid()
    assert proc.status(me)["Pid"] == str(me)
    assert not proc.is_zombie(me)
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert proc.is_zombie(child.pid)
    assert not proc.is_zombie(child.pid)
    assert set(proc.namespaces(me)) >= {"mnt", "net", "pid", "user"}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert proc.limits(me)["RLIMIT_NOFILE"] == (soft, hard)
    assert me in proc.processes()


@pytest.mark.root
def test_device_filters_of_a_cgroup_can_be_counted() -> None:
    """The root of cgroup2 has none."""
    unified = [Path(mount.target) for mount in proc.cgroup_roots() if mount.fstype == "cgroup2"]
    assert [attached_device_programs(folder) for folder in unified] == [0] * len(unified)
