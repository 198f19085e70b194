"""What every OCI runtime has in common: a program, a state folder, and the words to type.

The verbs are those of the runtime specification (runtime.md, Operations); the flags are runc's, which
crun took over. Where a runtime differs, its own module says so.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.model.truths.nouns import Truth
from pipeline.model.truths.table import truths_of
from pipeline.run import Argument, run, which
from pipeline.tools.runtimes.holes import Hole, known_holes

_VERSION = re.compile(r"version ([0-9][^\s]*)")
_COMMIT = re.compile(r"^commit: (\S+)", re.MULTILINE)
_ASK_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Version:
    """What a runtime calls itself; `build` is the packager's name for it, or a commit."""

    number: str
    build: str = ""


@dataclass(frozen=True)
class Runtime:
    """One installed runtime: `path` is its program, `root` the folder where it keeps containers' state."""

    path: Path
    root: Path
    name: ClassVar[str] = ""

    @classmethod
    def find(cls) -> Runtime | None:
        """Return the runtime of this host, or None when it is not installed."""
        path = which(cls.name)
        return cls(path, default_root(cls.name)) if path else None

    def version(self) -> Version:
        """Ask the program for its version. Raises ToolFailed when it cannot be run."""
        said = run([self.path, "--version"], timeout_s=_ASK_TIMEOUT_S).stdout
        number, build = _VERSION.search(said), _COMMIT.search(said)
        return Version(number[1] if number else "unknown", build[1] if build else "")

    def features(self) -> dict[str, Any] | None:
        """Ask the program what it can do (runtime-spec, features.md); None when it has no such command.

        runc has it since 1.1.0, crun since 1.8.6. Raises ToolFailed when it cannot be run or does not end.
        """
        said = run([self.path, "features"], timeout_s=_ASK_TIMEOUT_S, check=False)
        try:
            features = json.loads(said.stdout) if said.returncode == 0 else None
        except ValueError:
            return None
        return features if isinstance(features, dict) else None

    def holes(self, version: Version) -> list[Hole]:
        """Return the published holes of this version."""
        return known_holes(self.name, version.number, version.build)

    def truths(self, version: Version) -> list[Truth]:
        """Return what is known of this version: what it ignores, refuses or does in its own way."""
        return truths_of(self.name, version.number)

    def state_folder(self, container: str) -> Path:
        """Where the runtime keeps what it knows of a container."""
        return self.root / container

    def create(self, container: str, bundle: Path, pid_file: Path, log: Path) -> list[Argument]:
        """The words that make a container, ready to start; its first process's id goes to `pid_file`."""
        return [*self._logging(log), "create", "--bundle", bundle, "--pid-file", pid_file, container]

    def start(self, container: str, log: Path) -> list[Argument]:
        """The words that let the container's program begin."""
        return [*self._logging(log), "start", container]

    def state(self, container: str) -> list[Argument]:
        """The words that print the container's state as JSON."""
        return [*self._program(), "state", container]

    def kill(self, container: str, signal_number: int) -> list[Argument]:
        """The words that send a signal to the container's first process."""
        return [*self._program(), "kill", container, str(signal_number)]

    def delete(self, container: str, *, force: bool) -> list[Argument]:
        """The words that remove a stopped container; with `force`, any container or half of one."""
        return [*self._program(), "delete", *(["--force"] if force else []), container]

    def exec(self, container: str, process_file: Path, pid_file: Path, log: Path) -> list[Argument]:
        """The words that run one more process, described by `process_file` as in config.json."""
        # All of `process` is given, since crun and runc fill what is missing in different ways.
        files: list[Argument] = ["--process", process_file, "--pid-file", pid_file]
        return [*self._logging(log), "exec", *files, container]

    def _program(self) -> list[Argument]:
        # crun honours XDG_RUNTIME_DIR even for root: its state would lie elsewhere after another login.
        return [self.path, "--root", self.root]

    def _logging(self, log: Path) -> list[Argument]:
        # The runtime's own words would else mix with the container's.
        return [*self._program(), "--log", log, "--log-format", "json"]


def default_root(name: str) -> Path:
    """Return where the runtime keeps its state by default, so that its own `list` shows our containers."""
    if os.geteuid() == 0:
        return Path("/run") / name
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / name
