"""Every path below `specs/` and `out/`, and where `out/` itself lies."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import remove_tree, sha256_bytes

STATE_HOME = Path("/var/lib/cooperage")
"""Where what must not lie in a checkout lies: named volumes, and `out/` of a checkout in a closed home."""


class BundlePaths:
    """The paths of one bundle: `out/NAME/…`; made when asked for, since a start needs few of them."""

    def __init__(self, out: Path, name: str) -> None:
        self.name = name
        self.dir = out / name
        self.stages = self.dir / "stages"

    @cached_property
    def image(self) -> Path:
        """The image as an OCI layout."""
        return self.dir / "image"

    @cached_property
    def bundle(self) -> Path:
        """The bundle: config.json and rootfs."""
        return self.dir / "bundle"

    @cached_property
    def config(self) -> Path:
        """config.json of the bundle."""
        return self.bundle / "config.json"

    @cached_property
    def rootfs(self) -> Path:
        """The root file system."""
        return self.bundle / "rootfs"

    @cached_property
    def seccomp(self) -> Path:
        """The compiled profile."""
        return self.dir / "seccomp"

    @cached_property
    def findings(self) -> Path:
        """What the judge found."""
        return self.dir / "validate" / "findings.json"

    @cached_property
    def provenance(self) -> Path:
        """Where each field of config.json came from."""
        return self.dir / "spec" / "provenance.json"

    @cached_property
    def tree_record(self) -> Path:
        """Every entry of rootfs as it was unpacked."""
        return self.dir / "unpack" / "tree.json"

    @cached_property
    def smoke(self) -> Path:
        """What was seen of runs."""
        return self.dir / "smoke"

    @cached_property
    def trace(self) -> Path:
        """What traces saw of it, and the profile that they propose."""
        return self.dir / "trace"

    def receipt(self, stage: str) -> Path:
        """The receipt of a stage; smoke has one for each runtime (`smoke-runc`)."""
        return self.stages / f"{stage}.json"

    def log(self, stage: str) -> Path:
        """What a stage's tools said."""
        return self.dir / "log" / f"{stage}.log"

    def error(self, stage: str) -> Path:
        """What was wrong when a stage failed last; gone once it has succeeded."""
        return self.dir / "log" / f"{stage}.error"

    def volume(self, name: str) -> Path:
        """The host folder of a named volume."""
        return STATE_HOME / "volumes" / self.name / name


class Project:
    """The paths of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.specs = root / "specs"
        self.lock_file = self.specs / "lock.json"
        self.seccomp_sources = self.specs / "seccomp"
        self.floors = self.seccomp_sources / "floors.json"
        self.out = root / "out"
        self.report = self.out / "report"
        self.state = self.out / ".state"
        self.cache = self.state / "cache"
        self.locks = self.state / "locks"
        self.running = self.state / "running"
        self.store = self.out / ".store"
        self.blobs = self.store / "blobs"
        self.tmp = self.out / ".tmp"
        self._bundles: dict[str, BundlePaths] = {}

    def bundle(self, name: str) -> BundlePaths:
        """The paths of the bundle `name`."""
        if name not in self._bundles:
            self._bundles[name] = BundlePaths(self.out, name)
        return self._bundles[name]

    def open(self) -> str | None:
        """Make `out/` ready for use; return a line to say when it was made somewhere else.

        Raises PipelineError `not-yours` when another user made it, `bad-out` when it cannot be used.
        """
        if self.out.is_symlink() and not self.out.exists():
            _drop_dangling(self.out)
        said = None if self.out.exists() else _make_out(self.out)
        self.check_owner()
        for folder in (self.cache, self.locks, self.running, self.tmp, self.blobs):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return said

    def check_owner(self) -> None:
        """Refuse an `out/` that is not ours to change: PipelineError `not-yours`, or `bad-out`."""
        if not self.out.is_dir():
            raise PipelineError(
                "bad-out", f"{self.out} is no folder", hint=f"move it away: `mv {self.out} {self.out}.old`"
            )
        owner, ours = self.out.stat().st_uid, os.geteuid()
        if owner != ours:
            message = f"{self.out} belongs to user {owner} and you are user {ours}"
            raise PipelineError("not-yours", message, hint=_for_other_user(self.out, owner, ours))

    @property
    def is_ours(self) -> bool:
        """True when `out/` is there and this user's, so that caches can be kept in it."""
        try:
            return self.state.is_dir() and self.out.stat().st_uid == os.geteuid()
        except OSError:
            return False

    def without_spec(self, known: Collection[str]) -> list[str]:
        """The bundles that were built and are none of the `known`: their specs are gone."""
        try:
            folders = sorted(path for path in self.out.iterdir() if path.name not in known)
        except OSError:
            return []
        return [path.name for path in folders if (path / "stages").is_dir() and not path.is_symlink()]


def closed_ancestor(path: Path, uid: int = -1, gid: int = -1) -> Path | None:
    """Return the first folder on the way to `path` that host user uid:gid cannot pass, or None.

    A container's root under a user namespace is such a user: it has no capability over the host's
    folders (user_namespaces(7)), so a runtime cannot reach a bundle below a folder of mode 0700.
    """
    for folder in [*reversed(path.parents), path]:
        status = os.stat(folder)
        bit = stat.S_IXOTH
        if status.st_uid == uid:
            bit = stat.S_IXUSR
        elif status.st_gid == gid:
            bit = stat.S_IXGRP
        if not status.st_mode & bit:
            return folder
    return None


def _for_other_user(out: Path, owner: int, ours: int) -> str:
    if ours == 0:
        return f"`sudo rm -rf {out}`, then `sudo ./bootstrap doit`: out/ holds only what can be built again"
    if owner == 0:
        return "run it with sudo, or use another checkout"
    return "one checkout's out/ has one owner: run as that user, or use another checkout"


def _drop_dangling(out: Path) -> None:
    """Remove a link to a folder that is gone, if this project made the link."""
    target = Path(os.readlink(out))
    if not target.is_relative_to(STATE_HOME):
        raise PipelineError(
            "bad-out",
            f"{out} is a link to {target}, which is not there",
            hint=f"make that folder, or remove the link: `rm {out}`",
        )
    out.unlink()


def _make_out(out: Path) -> str | None:
    """Make `out`; below a closed folder, make it under STATE_HOME and link to it (root only)."""
    closed = closed_ancestor(out.parent.resolve()) if os.geteuid() == 0 else None
    if closed is None:
        out.mkdir(mode=0o755, exist_ok=True)
        out.chmod(0o755)
        return None
    checkout = str(out.parent.resolve())
    place = STATE_HOME / "out" / f"{out.parent.name}-{sha256_bytes(checkout.encode())[:12]}"
    # A user who removed `out` asked for a fresh one.
    remove_tree(place)
    for folder in (STATE_HOME, place.parent, place):
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
    (place / ".checkout").write_text(checkout + "\n")
    if out.is_symlink():
        out.unlink()
    out.symlink_to(place)
    return f"out -> {place} ({closed} is closed to others: a container could not reach a bundle below it)"
