"""A fresh copy of the project in a folder that a mapped root can pass, and doit run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.files import remove_tree
from pipeline.paths import STATE_HOME

PROJECT = Path(__file__).resolve().parent.parent
_PARTS = ("dodo.py", "pipeline", "specs", "schema")


class Workspace:
    """A copy of the project with its own `out/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "out"

    def doit(
        self, *words: str, code: int | None = 0, timeout_s: float = 300, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run doit to its end; fail the test unless it exits with `code` (None: whatever)."""
        done = subprocess.run(
            self.argv(*words),
            cwd=self.root,
            env={**self.env(), **env},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert code is None or done.returncode == code, (
            f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start doit in a process group of its own."""
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.root,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def argv(self, *words: str) -> list[str]:
        """The command line of doit in this copy."""
        return [sys.executable, "-m", "doit", *words]

    def env(self) -> dict[str, str]:
        """The environment: without what would colour the output or keep Python from caching its code."""
        unwanted = ("NO_COLOR", "FORCE_COLOR", "CI", "PYTHONDONTWRITEBYTECODE")
        return {k: v for k, v in os.environ.items() if k not in unwanted}

    def spec(self, name: str, text: str) -> Path:
        """Write specs/NAME.yaml."""
        path = self.root / "specs" / f"{name}.yaml"
        path.write_text(text)
        return path


def make_workspace(specs: bool = True) -> Workspace:
    """Copy the project to a new folder of mode 0755 below /var/tmp; the caller removes it."""
    root = Path(tempfile.mkdtemp(prefix="cooperage-test-", dir="/var/tmp"))
    root.chmod(0o755)
    for part in _PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, root / part)
    if not specs:
        for path in (root / "specs").glob("*.yaml"):
            path.unlink()
    return Workspace(root)


def remove_workspace(workspace: Workspace) -> None:
    """Remove the copy, and the named volumes that its bundles were given."""
    remove_tree(workspace.root)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A copy of the project for one test."""
    made = make_workspace()
    yield made
    remove_workspace(made)


@pytest.fixture(scope="module")
def shared_workspace() -> Iterator[Workspace]:
    """A copy of the project for the tests of one module, which may build upon each other's outputs."""
    made = make_workspace()
    yield made
    remove_workspace(made)


@pytest.fixture
def volumes() -> Iterator[Path]:
    """The folder of named volumes; whatever a test adds to it is removed."""
    home = STATE_HOME / "volumes"
    before = set(home.iterdir()) if home.is_dir() else set()
    yield home
    for path in set(home.iterdir()) - before if home.is_dir() else ():
        remove_tree(path)
