"""What identifies the tools and the code that made an output; cached by what they are on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.files import compact_json, sha256_bytes, sha256_file, write_atomic
from pipeline.paths import Project
from pipeline.run import run, which

_PACKAGE = Path(__file__).parent
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")
_OTHER_NAMES = {"tini": ("tini-static", "tini"), "busybox": ("busybox", "busybox-static")}


class Fingerprints:
    """Fingerprints of tools and modules; each is computed once and kept in `out/.state/cache/`."""

    def __init__(self, project: Project) -> None:
        self._file = project.cache / "fingerprints.json"
        self._kept: dict[str, Any] = _read(self._file)
        self._new = False

    def save(self) -> None:
        """Write the cache if it has grown; a read-only checkout or a full disk does without."""
        if self._new and os.access(self._file.parent, os.W_OK):
            try:
                write_atomic(self._file, compact_json(self._kept))
            except OSError:
                return
            self._new = False

    @cache  # noqa: B019 - one instance a process
    def tool(self, name: str) -> str:
        """Return `VERSION (first digits of its SHA-256)`, or `absent`.

        The hash counts since distributions mend a tool without a new version number.
        """
        path = _locate(name)
        if path is None:
            return "absent"
        status = os.stat(path)
        mark = f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        return str(self._once("tool", mark, lambda: f"{_version(name, path)} ({sha256_file(path)[:12]})"))

    @cache  # noqa: B019
    def code(self, module: str) -> str:
        """Return the digest of a module and of all of `pipeline` that it imports; comments are free."""
        seen: dict[str, str] = {}
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            tree, imports = self._source(name)
            seen[name] = tree
            waiting += imports
        return sha256_bytes(compact_json(seen))

    @cache  # noqa: B019
    def _source(self, module: str) -> tuple[str, list[str]]:
        content = _module_file(module).read_bytes()
        tree, imports = self._once("code", sha256_bytes(content), lambda: _parse(content))
        return tree, imports

    def _once(self, kind: str, mark: str, compute: Any) -> Any:
        known = self._kept.setdefault(kind, {})
        if mark not in known:
            known[mark] = compute()
            self._new = True
        return known[mark]


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    # A cache from elsewhere, or a damaged one, is no cache.
    return kept if isinstance(kept, dict) and all(isinstance(v, dict) for v in kept.values()) else {}


def _locate(name: str) -> Path | None:
    if name == "libseccomp":
        return next(_libraries("libseccomp.so.2"), None)
    # Distributions name the static ones differently.
    return next(filter(None, map(which, _OTHER_NAMES.get(name, (name,)))), None)


def _libraries(name: str) -> Iterator[Path]:
    machine = os.uname().machine
    for folder in _LIBRARY_FOLDERS:
        for path in (Path(folder, f"{machine}-linux-gnu", name), Path(folder, name)):
            if path.exists():
                yield path.resolve()


def _version(name: str, path: Path) -> str:
    if name == "libseccomp":
        return path.name.removeprefix("libseccomp.so.")
    if name == "busybox":
        said = run([path], timeout_s=10, check=False).stdout
        return said.split()[1] if said.startswith("BusyBox v") else "unknown"
    said = run([path, "--version"], timeout_s=10, check=False).stdout
    words = said.split("\n", 1)[0].replace("version", " ").split()
    return next((word for word in words if word[0].isdigit()), "unknown")


def _module_file(module: str) -> Path:
    relative = Path(*module.split(".")[1:])
    file = (_PACKAGE / relative).with_suffix(".py")
    return file if file.exists() else _PACKAGE / relative / "__init__.py"


def _parse(content: bytes) -> tuple[str, list[str]]:
    """Return the digest of the syntax tree without docstrings, and the `pipeline` modules it imports."""
    import ast

    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(content)
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from pipeline.oci import layout` names a module, `from pipeline.files import run` does not.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            imports |= {name if _is_module(name) else node.module for name in names}
        elif isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    ours = sorted(name for name in imports if name.startswith("pipeline."))
    return sha256_bytes(ast.dump(tree).encode()), ours


def _is_module(name: str) -> bool:
    return name.startswith("pipeline.") and _module_file(name).exists()
