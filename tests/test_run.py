"""The door to processes: what a child is given, and how it ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.run import ToolFailed, require, run, start

PROJECT = Path(__file__).resolve().parent.parent


def test_a_child_gets_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOPERAGE_SECRET", "planted")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    said = run(["env"], timeout_s=10, env={"EXTRA": "1"}).stdout.splitlines()
    assert "EXTRA=1" in said
    assert "LANG=C.UTF-8" in said
    assert not [line for line in said if "planted" in line]


def test_standard_input_is_closed_and_umask_fixed() -> None:
    assert run(["sh", "-c", "umask; cat"], timeout_s=10).stdout == "0022\n"


def test_a_failure_says_what_the_tool_said_last(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed) as caught:
        run(["sh", "-c", "echo first; echo no space left >&2; exit 3"], timeout_s=10)
    assert caught.value.message == "sh exited 3\n  no space left"
    assert caught.value.result.returncode == 3


def test_a_log_keeps_the_output_and_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ToolFailed) as caught:
        run(["sh", "-c", "echo kept; exit 1"], timeout_s=10, log=log)
    assert log.read_text() == "kept\n"
    assert caught.value.hint == f"the whole output is in {log}"


def test_a_signal_has_a_name() -> None:
    with pytest.raises(ToolFailed, match="was ended by SIGSEGV"):
        run(["sh", "-c", "kill -SEGV $$"], timeout_s=10)


def test_time_runs_out_for_the_whole_group() -> None:
    with pytest.raises(ToolFailed, match="was stopped"):
        run(["sh", "-c", "sleep 77.31 & sleep 77.31"], timeout_s=0.2)
    assert not _alive("sleep 77.31")


def test_a_missing_tool_names_the_way_to_get_it() -> None:
    with pytest.raises(PipelineError) as caught:
        require("no-such-tool", "copy images")
    assert str(caught.value) == ("error[missing-tool]: no-such-tool, needed to copy images, is not installed")


def test_a_missing_tool_of_ours_names_its_package_on_each_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.run.which", lambda name: None)
    with pytest.raises(PipelineError) as caught:
        require("newuidmap", "map ids")
    assert (caught.value.hint or "").splitlines() == [
        "./bootstrap installs it; or:",
        "sudo apt-get install uidmap",
        "sudo dnf install shadow-utils",
        "sudo pacman -S shadow",
        "sudo zypper install shadow",
    ]


def test_limits_hold() -> None:
    said = run(["sh", "-c", "ulimit -n"], timeout_s=10, limits={resource.RLIMIT_NOFILE: 99}).stdout
    assert said == "99\n"


def test_a_process_can_be_watched_and_stopped() -> None:
    with start(["sleep", "60"]) as process:
        assert process.poll() is None
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_dies_with_its_parent() -> None:
    code = "from pipeline.run import run; run(['sleep', '77.32'], timeout_s=60)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    _until(lambda: _alive("sleep 77.32"))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _until(lambda: not _alive("sleep 77.32"))


def _alive(command: str) -> bool:
    wanted = command.replace(" ", "\0").encode() + b"\0"
    return any(_cmdline(pid).endswith(wanted) for pid in os.listdir("/proc") if pid.isdigit())


def _cmdline(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


def _until(condition: Callable[[], bool], patience_s: float = 30) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
