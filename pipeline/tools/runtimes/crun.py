"""crun, a runtime in C."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline import proc
from pipeline.run import Argument
from pipeline.tools.runtimes.base import Runtime

# $1 is the file to hide; the rest is the command.
_HIDE = 'file=$1; shift; mount --bind /dev/null "$file" && exec "$@"'


@dataclass(frozen=True)
class Crun(Runtime):
    """crun refuses to create a container where cgroup2 lies beside v1 controllers."""

    name: ClassVar[str] = "crun"

    def create(self, container: str, bundle: Path, pid_file: Path, log: Path) -> list[Argument]:
        """The words that make a container; on a hybrid host, in a mount namespace that hides cgroup2.

        crun calls a host hybrid when `unified/cgroup.controllers` names any; hidden, it sees plain v1 and
        sets every limit there. Unmounting cgroup2 instead would let it leave folders below the mount point.
        """
        words = super().create(container, bundle, pid_file, log)
        return [*_without_cgroup2(), *words] if proc.is_hybrid() else words


def _without_cgroup2() -> list[Argument]:
    unified = next(mount.target for mount in proc.cgroup_roots() if mount.fstype == "cgroup2")
    namespace = ["unshare", "--mount", "--propagation", "private", "--"]
    return [*namespace, "sh", "-c", _HIDE, "sh", f"{unified}/cgroup.controllers"]
