"""The rooms of `pipeline/`: who may import whom, who may start a process, what a start may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "pipeline"

# Lower ranks know nothing of higher ones. A folder's rank is that of all its modules.
RANKS = {
    "errors": 0,
    "run": 1,
    "packages": 1,
    "files": 1,
    "model": 1,
    "source": 1,
    "paths": 2,
    "proc": 2,
    "yamlnodes": 2,
    "yamlscalars": 2,
    "speclang": 2,
    "specfile": 2,
    "lock": 2,
    "oci": 3,
    "tools": 3,
    "checks": 3,
    "observe": 3,
    "registry": 3,
    "netns": 3,
    "probe": 3,
    "trial": 4,
    "graph": 4,
    "fingerprint": 4,
    "hostfacts": 4,
    "hostfloor": 4,
    "keptdrift": 4,
    "receipts": 4,
    "runtimefacts": 4,
    "work": 4,
    "engine": 4,
    "examine": 4,
    "profiles": 4,
    "profilesource": 4,
    "seccomppins": 4,
    "seccompdiff": 5,
    "built": 4,
    "dryrun": 4,
    "origins": 4,
    "pins": 4,
    "newspec": 4,
    "stages": 5,
    "verify": 6,
    "clean": 6,
    "update": 6,
    "floor": 6,
    "learn": 6,
    "doctor": 6,
    "report": 5,
    "selection": 5,
    "interrupts": 6,
    "preflight": 6,
    "check": 6,
    "commands": 7,
    "profilecommands": 7,
    "tasks": 7,
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether that is done when the file is loaded."""
    tree = ast.parse(path.read_text())
    top = {
        id(node)
        for statement in tree.body
        if not isinstance(statement, ast.If)
        for node in _loaded(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in top
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in top


def _loaded(statement: ast.stmt) -> Iterator[ast.AST]:
    if not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield from ast.walk(statement)


def room(module: str) -> str:
    """The room of a dotted name below `pipeline`."""
    return module.split(".")[1]


def test_every_room_has_a_rank() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert rooms == set(RANKS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_the_ranks(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":
        return
    upward = {
        module
        for module, _ in imports(path)
        if module.startswith("pipeline.") and RANKS[room(module)] > RANKS[here]
    }
    assert not upward


def test_the_judge_shares_nothing_with_the_accused() -> None:
    shared = {
        m for p in (PACKAGE / "checks").rglob("*.py") for m, _ in imports(p) if m.startswith("pipeline.oci")
    }
    # Looking things up inside a rootfs is no constant that both could have wrong.
    assert {m.split(".")[2] for m in shared if m.count(".") >= 2} <= {"rootfs"}


def test_stages_do_not_import_each_other() -> None:
    for path in (PACKAGE / "stages").glob("*.py"):
        assert not [m for m, _ in imports(path) if m.startswith("pipeline.stages")]


def test_one_door_for_processes() -> None:
    users = {str(p.relative_to(PACKAGE)) for p in MODULES if "subprocess" in {m for m, _ in imports(p)}}
    assert users == {"run.py"}
    assert not [p for p in MODULES if "shell=True" in p.read_text() or "os.system(" in p.read_text()]


def test_doit_is_known_to_its_rooms_alone() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(module.split(".")[0] == "doit" for module, _ in imports(path))
    }
    assert users == {"tasks.py", "commands.py", "profilecommands.py"}


def test_a_start_loads_no_heavy_library() -> None:
    """A `doit` that has nothing to do must not pay for what only work needs."""
    code = "import sys; import pipeline.tasks, pipeline.profilecommands, pipeline.pins; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in said.stdout.split()}
    heavy = {
        "yaml",
        "msgspec",
        "jsonschema",
        "rich",
        "jinja2",
        "isal",
        "zstandard",
        "elftools",
        "sqlite3",
        "uuid",
    }
    assert not loaded & heavy
