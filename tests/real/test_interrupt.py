"""Two runs at once, Ctrl-C, SIGTERM and kill -9: nothing is done twice, nothing is left."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from pipeline.files import remove_tree
from tests.bench.kill import TARGETS, content, kill_once, mended, reference
from tests.conftest import Workspace, make_workspace, remove_workspace
from tests.leftovers import wait_for_none

pytestmark = pytest.mark.real

_PAIRS = 5
_KILLS = 8
_RAN = re.compile(r"^([a-z]+):hello(?:/runc)? +\d+\.\d\d s ", re.M)


@pytest.fixture(scope="module")
def hello() -> Iterator[Workspace]:
    made = make_workspace()
    (made.root / "specs" / "stremio-server.yaml").unlink()
    yield made
    remove_workspace(made)


def test_two_at_once_run_each_stage_once(hello: Workspace) -> None:
    for _ in range(_PAIRS):
        remove_tree(hello.out)
        both = [hello.start(*TARGETS) for _ in range(2)]
        said = [process.communicate() for process in both]
        assert [process.returncode for process in both] == [0, 0], said
        ran = Counter(stage for out, _ in said for stage in _RAN.findall(out))
        assert ran == dict.fromkeys(("copy", "unpack", "seccomp", "spec", "validate", "smoke"), 1), said
    assert wait_for_none(hello.root) == []


def test_kill_9_at_any_moment_is_mended_by_one_run(hello: Workspace) -> None:
    remove_tree(hello.out)
    expected, whole_s = reference(hello)
    chance = random.Random(20261123)
    for _ in range(_KILLS):
        kill_once(hello, chance.uniform(0, whole_s))
        assert mended(hello, expected) == []


def wait_until_it_builds(process: subprocess.Popen[str], workspace: Workspace) -> None:
    """Wait for the first work folder. What comes before is Python loading doit: not ours to end."""
    folder = workspace.out / ".tmp"
    while process.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupt_is_one_line_and_leaves_nothing(
    hello: Workspace, number: signal.Signals, code: int
) -> None:
    """As a terminal does it: the signal goes to the whole foreground group."""
    for after_s in (0.0, 0.2, 0.4):
        hello.doit("forget", "unpack:hello", "smoke:hello/runc", code=None)
        process = hello.start("-a", *TARGETS)
        wait_until_it_builds(process, hello)
        time.sleep(after_s)
        if process.poll() is None:
            os.killpg(process.pid, number)
        out, err = process.communicate(timeout=30)
        if process.returncode != 0:
            assert process.returncode == code, out + err
            assert err.splitlines() == [
                f"interrupted by {number.name}; what was finished is kept, `doit` goes on from there"
            ]
        assert wait_for_none(hello.root) == []
    hello.doit(*TARGETS)


def test_an_interrupt_of_doit_alone_ends_its_tools_too(hello: Workspace) -> None:
    remove_tree(hello.out)
    process = hello.start(*TARGETS)
    wait_until_it_builds(process, hello)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode in (0, 143), out + err
    assert wait_for_none(hello.root) == []


def test_the_bundle_is_the_same_after_all_that(hello: Workspace) -> None:
    hello.doit(*TARGETS)
    first = content(hello)
    remove_tree(hello.out)
    hello.doit(*TARGETS)
    assert content(hello) == first


def test_a_damaged_state_folder_is_mended(hello: Workspace) -> None:
    hello.doit(*TARGETS)
    for path in (hello.out / ".state" / "cache").iterdir():
        path.write_bytes(b"\0garbage{")
    said = hello.doit(*TARGETS).stdout
    assert re.match(r"0 run, 6 cached", said)
    assert subprocess.run(["ls", hello.out / ".tmp"], capture_output=True, text=True).stdout == ""
