"""Kill the whole process group of a build at random moments; one more run must mend everything.

    python -m tests.bench.kill 100 [SEED]

Each round starts from nothing, kills after a random part of the time that a whole build and smoke
takes, runs once more, and compares the tree digest and config.json with an undisturbed build.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from pipeline.files import remove_tree, scan_tree, tree_digest
from tests.conftest import Workspace, make_workspace, remove_workspace
from tests.leftovers import wait_for_none

TARGETS = ("bundle:hello", "smoke:hello/runc")
_SOME_STAGE = re.compile(r"^(\w+):hello", re.M)


def content(workspace: Workspace) -> tuple[str, bytes]:
    """What a bundle is: the digest of its tree, and its config.json."""
    bundle = workspace.out / "hello" / "bundle"
    return tree_digest(scan_tree(bundle / "rootfs")), (bundle / "config.json").read_bytes()


def reference(workspace: Workspace) -> tuple[tuple[str, bytes], float]:
    """An undisturbed build's content, and the seconds it took."""
    begun = time.monotonic()
    workspace.doit(*TARGETS)
    return content(workspace), time.monotonic() - begun


def kill_once(workspace: Workspace, after_s: float) -> str:
    """Build from nothing, kill after `after_s` seconds; return the last stage that had ended."""
    remove_tree(workspace.out)
    process = workspace.start(*TARGETS)
    time.sleep(after_s)
    # A group that has ended already is a round that interrupted nothing; it counts as such.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    stages = _SOME_STAGE.findall(said)
    return "finished" if process.returncode == 0 else f"after {stages[-1] if stages else 'nothing'}"


def mended(workspace: Workspace, expected: tuple[str, bytes]) -> list[str]:
    """Run once more; return what is wrong then."""
    again = workspace.doit(*TARGETS, code=None)
    wrong = [] if again.returncode == 0 else [f"exit {again.returncode}: {again.stdout}{again.stderr}"]
    if not wrong and content(workspace) != expected:
        wrong.append("the bundle differs from an undisturbed build")
    return wrong + wait_for_none(workspace.root)


def main(rounds: int, seed: int) -> int:
    """Run the rounds; return the number of those that were not mended."""
    chance = random.Random(seed)
    workspace = make_workspace()
    (Path(workspace.root) / "specs" / "stremio-server.yaml").unlink()
    where: Counter[str] = Counter()
    bad = 0
    try:
        expected, whole_s = reference(workspace)
        for number in range(rounds):
            where[kill_once(workspace, chance.uniform(0, whole_s))] += 1
            wrong = mended(workspace, expected)
            bad += bool(wrong)
            for line in wrong:
                print(f"round {number}: {line}", flush=True)
    finally:
        remove_workspace(workspace)
    print(f"seed {seed}: {rounds - bad} of {rounds} mended; killed {dict(where)}")
    return bad


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    count = words[0] if words else 100
    raise SystemExit(main(count, words[1] if len(words) > 1 else 1) > 0)
