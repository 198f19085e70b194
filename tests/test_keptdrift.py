"""What the judge is told of pin and floor: from the cache without loading a compiler, and by fingerprint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import seccomppins
from pipeline.checks.subject import ProfileDrift
from pipeline.hostfloor import known_floor
from pipeline.keptdrift import drift_kept
from pipeline.oci.floor import Floor, content
from pipeline.paths import Project

PARTS: dict[str, Any] = {
    "code": "c",
    "tools": {"libseccomp": "2.5.4 (aa)"},
    "upstream": {"seccomp": "s"},
    "host": {"pin": "p"},
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.cache.mkdir(parents=True)
    project.floors.parent.mkdir(parents=True, exist_ok=True)
    return project


def found_with(monkeypatch: pytest.MonkeyPatch, *found: ProfileDrift) -> list[ProfileDrift]:
    """Have the comparison answer these, one after the other; return those that are still to come."""
    waiting = list(found)
    monkeypatch.setattr(seccomppins, "drift", lambda _project, _name: waiting.pop(0))
    return waiting


def test_what_closed_is_kept_until_the_key_changes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ProfileDrift("a", True, (), ("x86_64: read",)), ProfileDrift("a", True, (), ())
    waiting = found_with(monkeypatch, first, second)
    assert drift_kept(project, "a", PARTS) == first
    assert drift_kept(project, "a", PARTS) == first
    assert waiting == [second]
    assert drift_kept(project, "a", {**PARTS, "host": {"pin": "other"}}) == second


def test_what_opened_is_found_out_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, closed = ProfileDrift("a", True, ("x86_64: bpf",), ()), ProfileDrift("a", True, (), ())
    found_with(monkeypatch, opened, closed)
    assert [drift_kept(project, "a", PARTS), drift_kept(project, "a", PARTS)] == [opened, closed]


def test_the_judge_is_loaded_without_the_compiler() -> None:
    code = (
        "import sys, pipeline.keptdrift, pipeline.hostfloor, pipeline.examine, pipeline.built\n"
        "print([m for m in ('pipeline.profiles', 'pipeline.oci.seccomp', 'pipeline.seccomppins')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_floor_is_exact_for_the_fingerprint_of_its_program(project: Project) -> None:
    measured = Floor("runc", "1.1.5", {True: {"futex": "needed"}, False: {}}, "ab" * 32)
    project.floors.write_bytes(content([measured]))
    exact = known_floor(project, "runc", f"1.1.5 ({'ab' * 6})")
    assert (exact.of, exact.exact, set(exact.needed[True])) == ("runc 1.1.5", True, {"futex"})
    assert not known_floor(project, "runc", f"1.1.5 ({'cd' * 6})").exact
    assert not known_floor(project, "runc", f"1.1.6 ({'ab' * 6})").exact
    assert not known_floor(project, "runc", "absent").exact
