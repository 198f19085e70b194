"""What layer 3 (bundle, image and host together) costs on a rootfs of 20,000 files.

    python -m tests.bench.judge20k [FILES]

prints the median of each way: with a tree record, as for a bundle of ours (read the record, compare the tree
with it, judge), and without one, as for a bundle from elsewhere (one walk, judge). The limit is 0.5 s.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.checks.form import read_form
from pipeline.checks.index import CHECKS, Layer
from pipeline.checks.subject import Subject, TreeFacts
from pipeline.files import changed_from, read_record, remove_tree, scan_tree, write_record
from pipeline.observe.host import host_facts
from pipeline.observe.rootfs import HostLook, RootfsLook
from pipeline.observe.tree import recorded_facts, walked_facts
from tests.judged import elf, good_config

_ROUNDS = 9
_LIMIT_S = 0.5
_FILES_IN_FOLDER = 40


def main(files: int) -> int:
    """Measure both ways; 1 when one is above the limit."""
    folder = Path(tempfile.mkdtemp(prefix="cooperage-bench-", dir="/var/tmp"))
    try:
        make_rootfs(folder / "rootfs", files)
        record = folder / "tree.json"
        write_record(record, scan_tree(folder / "rootfs"))
        ours = _median(lambda: with_record(folder, record))
        foreign = _median(lambda: layer_three(folder, walked_facts(folder / "rootfs", 0)))
    finally:
        remove_tree(folder)
    print(f"{files} files: with a record {ours * 1e3:.0f} ms, by a walk {foreign * 1e3:.0f} ms")
    return int(max(ours, foreign) > _LIMIT_S)


def make_rootfs(root: Path, files: int) -> None:
    """Make a rootfs with a program and so many files, a few dozen in each folder."""
    for path in ("bin", "proc", "dev", "sys", "tmp", "data"):
        (root / path).mkdir(parents=True)
    (root / "bin/serve").write_bytes(elf())
    (root / "bin/serve").chmod(0o755)
    for number in range(files):
        folder = root / "usr/share" / str(number // _FILES_IN_FOLDER)
        if number % _FILES_IN_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"file{number}").write_bytes(b"x" * (number % 997))


def with_record(folder: Path, record: Path) -> None:
    """Layer 3 as `validate` has it: the record is read once, for what changed and for what gives rights."""
    entries = read_record(record)
    changed_from(folder / "rootfs", entries)
    layer_three(folder, recorded_facts(entries, 0))


def layer_three(folder: Path, tree: TreeFacts) -> None:
    """Look at the host, and run every check of bundle and host."""
    form = read_form("config.json", json.dumps(good_config()))
    assert form.document and form.config
    subject = Subject(
        document=form.document,
        config=form.config,
        folder=str(folder),
        rootfs=RootfsLook(folder / "rootfs"),
        host_view=HostLook(),
        host=host_facts("runc", "1.1.5"),
        tree=tree,
    )
    for check in CHECKS:
        if check.layer in (Layer.BUNDLE, Layer.HOST):
            list(check.run(subject))


def _median(run: Callable[[], object]) -> float:
    spent = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        run()
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
