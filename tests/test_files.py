"""Whole files, tree digests and records."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import (
    canonical_json,
    changed_entries,
    read_json,
    read_record,
    remove_tree,
    scan_tree,
    tree_digest,
    write_atomic,
    write_record,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/:\n")
    (root / "link").symlink_to("etc/passwd")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"odd\xff\nname")).write_bytes(b"x")
    return root


def digest(root: Path) -> str:
    return tree_digest(scan_tree(root))


def test_canonical_json_is_sorted_and_ends_in_a_newline() -> None:
    assert canonical_json({"b": 1, "a": ["é"]}) == '{\n  "a": [\n    "é"\n  ],\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["file"]


def test_read_json_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{\n  "a": 1,,\n}')
    with pytest.raises(PipelineError) as caught:
        read_json(path)
    assert (caught.value.code, str(caught.value.place)) == ("bad-json", f"{path}:2:10")


def test_a_digest_sees_content_mode_owner_link_and_name(tree: Path) -> None:
    seen = {digest(tree)}
    for change in (
        lambda: (tree / "etc" / "passwd").write_text("root:x:0:1::/:\n"),
        lambda: (tree / "etc" / "passwd").chmod(0o600),
        lambda: os.lchown(tree / "link", 12, 34) if os.geteuid() == 0 else (tree / "m").mkdir(),
        lambda: (tree / "fifo").rename(tree / "fifo2"),
        lambda: os.setxattr(tree / "etc", "user.note", b"x"),
        lambda: os.replace(_link(tree / "other"), tree / "link"),
    ):
        change()
        seen.add(digest(tree))
    assert len(seen) == 7


def _link(path: Path) -> Path:
    path.symlink_to("etc")
    return path


def test_a_digest_does_not_see_times(tree: Path) -> None:
    before = digest(tree)
    os.utime(tree / "etc" / "passwd", (1, 1))
    os.utime(tree, (1, 1))
    assert digest(tree) == before


def test_changed_entries_names_what_changed(tree: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    write_record(record, scan_tree(tree))
    assert read_record(record) == scan_tree(tree)
    assert changed_entries(tree, record) == []
    os.utime(tree / "etc" / "passwd", (1, 1))
    assert changed_entries(tree, record) == []
    (tree / "etc" / "passwd").write_text("root:x:0:0::/:!")
    os.utime(tree / "etc" / "passwd", (1, 1))
    (tree / "link").unlink()
    (tree / "new").write_text("")
    assert changed_entries(tree, record) == ["etc/passwd", "link", "new"]


def test_only_reread_sees_what_left_no_trace(tree: Path, tmp_path: Path) -> None:
    """A bit that flips on the disk changes neither times nor size; an altered record shows the same."""
    record = tmp_path / "record.json"
    entries = scan_tree(tree)
    passwd = next(index for index, entry in enumerate(entries) if entry.path == "etc/passwd")
    entries[passwd] = replace(entries[passwd], what="0" * 64)
    write_record(record, entries)
    assert changed_entries(tree, record) == []
    assert changed_entries(tree, record, reread=True) == ["etc/passwd"]


def test_what_became_something_else_is_changed_and_never_waited_for(tree: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    write_record(record, scan_tree(tree))
    (tree / "etc" / "passwd").unlink()
    os.mkfifo(tree / "etc" / "passwd")
    (tree / "link").unlink()
    (tree / "link").write_text("")
    assert changed_entries(tree, record, reread=True) == ["etc/passwd", "link"]


def test_a_record_is_plain_json(tree: Path, tmp_path: Path) -> None:
    write_record(tmp_path / "r", scan_tree(tree))
    assert len(json.loads((tmp_path / "r").read_text())) == 6


def test_remove_tree_follows_no_link_and_bears_depth(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    here = os.open(root, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d" * 30, dir_fd=here)
        below = os.open("d" * 30, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(root)
    assert not root.exists()
    assert outside.read_text() == "kept"
    remove_tree(root)
