"""Where things lie, and who can reach them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import remove_tree
from pipeline.paths import STATE_HOME, Project, closed_ancestor


@pytest.fixture
def open_folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cooperage-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    remove_tree(path)


def test_the_first_closed_folder_is_named(open_folder: Path) -> None:
    inner = open_folder / "a" / "b"
    inner.mkdir(parents=True)
    assert closed_ancestor(inner, 2000000000, 2000000000) is None
    (open_folder / "a").chmod(0o700)
    inner.chmod(0o700)
    assert closed_ancestor(inner, 2000000000, 2000000000) == open_folder / "a"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which only root can")
def test_owner_and_group_count_before_others(open_folder: Path) -> None:
    for mode, uid, gid, reachable in (
        (0o710, 5, 7, True),
        (0o701, 5, 7, False),
        (0o700, 6, 8, True),
        (0o077, 6, 7, False),
        (0o701, 5, 8, True),
    ):
        os.chown(open_folder, 6, 7)
        open_folder.chmod(mode)
        assert (closed_ancestor(open_folder, uid, gid) is None) == reachable, oct(mode)


def test_out_is_a_plain_folder_where_others_can_pass(open_folder: Path) -> None:
    project = Project(open_folder)
    assert project.open() is None
    assert project.out.is_dir() and not project.out.is_symlink()
    assert project.open() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps files below /var/lib")
def test_out_of_a_checkout_in_a_closed_folder_lies_elsewhere(open_folder: Path) -> None:
    checkout = open_folder / "home" / "checkout"
    checkout.mkdir(parents=True)
    checkout.parent.chmod(0o700)
    project = Project(checkout)
    said = project.open()
    place = project.out.resolve()
    try:
        assert place.is_relative_to(STATE_HOME / "out")
        assert said == (
            f"out -> {place} ({checkout.parent} is closed to others: "
            "a container could not reach a bundle below it)"
        )
        assert closed_ancestor(place, 2000000000, 2000000000) is None
        (place / "old").write_text("")
        project.out.unlink()
        project.open()
        assert not (project.out / "old").exists()
    finally:
        remove_tree(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which only root can")
def test_another_users_out_is_refused(open_folder: Path) -> None:
    project = Project(open_folder)
    project.open()
    os.chown(project.out, 1234, 1234)
    with pytest.raises(PipelineError, match="not-yours") as caught:
        project.open()
    assert "belongs to user 1234 and you are user 0" in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which only root can")
def test_root_is_told_how_to_go_on_with_another_users_out(open_folder: Path) -> None:
    project = Project(open_folder)
    project.open()
    os.chown(project.out, 1234, 1234)
    with pytest.raises(PipelineError) as caught:
        project.check_owner()
    assert caught.value.hint == (
        f"`sudo rm -rf {project.out}`, then `sudo ./bootstrap doit`: out/ holds only what can be built again"
    )
    assert not project.is_ours


def test_a_link_to_nowhere_is_refused(open_folder: Path) -> None:
    project = Project(open_folder)
    project.out.symlink_to(open_folder / "gone")
    with pytest.raises(PipelineError, match="bad-out") as caught:
        project.open()
    assert caught.value.message == f"{project.out} is a link to {open_folder}/gone, which is not there"
    assert caught.value.hint == f"make that folder, or remove the link: `rm {project.out}`"


def test_a_link_of_ours_to_nowhere_is_made_anew(open_folder: Path) -> None:
    project = Project(open_folder)
    project.out.symlink_to(STATE_HOME / "out" / "cooperage-test-gone")
    assert project.open() is None
    assert project.out.is_dir() and not project.out.is_symlink()


def test_a_file_in_the_place_of_out_is_refused(open_folder: Path) -> None:
    project = Project(open_folder)
    project.out.write_text("")
    with pytest.raises(PipelineError, match="bad-out") as caught:
        project.open()
    assert caught.value.message == f"{project.out} is no folder"


def test_bundles_without_a_spec_are_those_that_were_built(open_folder: Path) -> None:
    project = Project(open_folder)
    assert project.without_spec([]) == []
    project.open()
    for name in ("kept", "gone"):
        project.bundle(name).stages.mkdir(parents=True)
    project.report.mkdir()
    (project.out / "link").symlink_to(project.out / "gone")
    assert project.without_spec(["kept"]) == ["gone"]
