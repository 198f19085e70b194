"""A project with one hand-made bundle, and the stage `smoke` run on it as the engine would."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pipeline.files import scan_tree, sha256_file, write_record
from pipeline.model.bundle import Healthcheck, HttpProbe, Port
from pipeline.paths import BundlePaths, Project
from pipeline.stages import smoke
from pipeline.work import Output, Work
from tests.real import busybox_bundle as busybox

# Drivers inherit it; two suites at once on one machine do not see each other's containers.
NAME = os.environ.setdefault("SMOKE_TEST_NAME", f"box-{os.urandom(3).hex()}")
# busybox's sh waits for its child and so can die of a trap; busybox's httpd alone would ignore SIGTERM.
SERVER = ["/bin/sh", "-c", "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"]
HTTP = Healthcheck(http=HttpProbe(port=8080), interval_s=2.0, timeout_s=2.0, retries=3)
SHORT = Healthcheck(tcp=81, interval_s=0.4, timeout_s=0.4, retries=1)


@dataclass
class Spec:
    """The keys of a spec that smoke reads."""

    healthcheck: Healthcheck | None = HTTP
    ports: tuple[Port, ...] = ()
    stop_grace_period: float = 3.0
    stop_signal: str | None = None
    init: bool = False


@dataclass
class Cell:
    """One run of the stage: stands where the engine's Work does."""

    project: Project
    runtime: str
    work: Path
    spec: Spec = field(default_factory=Spec)
    stop_signal: str = "SIGTERM"
    image_check: dict[str, Any] | None = None
    exposed_ports: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    name: str = NAME

    @property
    def paths(self) -> BundlePaths:
        """The bundle's paths."""
        return self.project.bundle(NAME)

    def facts(self, stage: str) -> dict[str, Any]:
        """The receipt of `spec`, as far as smoke reads it."""
        assert stage == "spec"
        image = {"healthcheck": self.image_check, "exposed_ports": self.exposed_ports}
        return {"stop_signal": self.stop_signal, "image": image}

    def say(self, line: str) -> None:
        """Remember a line."""
        self.said.append(line)

    def build(self) -> Output:
        """Run the stage."""
        return smoke.build(cast(Work, self))

    def result(self) -> dict[str, Any]:
        """What the stage wrote."""
        found: dict[str, Any] = json.loads((self.work / f"{self.runtime}.json").read_bytes())
        return found

    def fact(self, name: str) -> dict[str, Any]:
        """One fact that the stage wrote."""
        return next(fact for fact in self.result()["facts"] if fact["name"] == name)


def make_project(root: Path, args: list[str] | None = None, **changes: Any) -> Project:
    """Make a project with a bundle in it; `changes` go into the config's process."""
    project = Project(root)
    project.open()
    config = busybox.make_bundle(project.bundle(NAME).bundle, args or SERVER)
    config["process"].update(changes)
    write_config(project, config)
    record_tree(project)
    return project


def record_tree(project: Project) -> None:
    """Record the rootfs as it is now, as `unpack` does."""
    paths = project.bundle(NAME)
    write_record(paths.tree_record, scan_tree(paths.rootfs))


def write_config(project: Project, config: dict[str, Any]) -> None:
    """Write config.json and its receipt, as `spec` does."""
    paths = project.bundle(NAME)
    busybox.write_config(paths.bundle, config)
    outputs = {"bundle/config.json": f"sha256:{sha256_file(paths.config)}"}
    paths.stages.mkdir(exist_ok=True)
    paths.receipt("spec").write_text(json.dumps({"outputs": outputs}))


def make_cell(project: Project, runtime: str, **options: Any) -> Cell:
    """A run with a work folder of its own."""
    work = project.tmp / f"smoke.{os.urandom(4).hex()}"
    work.mkdir(mode=0o700)
    return Cell(project, runtime, work, **options)
