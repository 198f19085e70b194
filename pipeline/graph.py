"""The table of stages: what each reads, runs and writes. The engine holds every stage to its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One row. `outputs` maps names in the work folder to paths below `out/NAME/`."""

    name: str
    keys: tuple[str, ...]
    tools: tuple[str, ...]
    reads: tuple[str, ...]
    outputs: Mapping[str, str]
    host: tuple[str, ...] = ()
    needs_root: bool = False

    @property
    def module(self) -> str:
        """The module whose `build(work)` does it."""
        return f"pipeline.stages.{self.name}"


RUNTIMES = ("runc", "crun")
"""The runtimes that `smoke` knows, in the order in which they are tried."""

_SHAPE = ("userns", "volumes", "tmpfs", "devices", "init", "read_only", "keep_privileged_files")
_PROCESS = ("entrypoint", "command", "user", "group_add", "environment", "working_dir", "ulimits")
_LIMITS = ("mem_limit", "memswap_limit", "cpus", "pids_limit", "shm_size")
_WORLD = ("hostname", "network_mode", "ports", "sysctls", "cap_add", "seccomp", "labels", "annotations")
_LIFE = ("healthcheck", "stop_signal", "stop_grace_period", "restart")

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "copy",
            keys=("image", "platform"),
            tools=("skopeo",),
            reads=(),
            outputs={"image": "image"},
        ),
        Stage(
            "unpack",
            keys=(*_SHAPE, "working_dir", "platform"),
            tools=("umoci",),
            reads=("copy",),
            outputs={"rootfs": "bundle/rootfs", "tree.json": "unpack/tree.json"},
            host=("bind_files",),
            needs_root=True,
        ),
        Stage(
            "seccomp",
            keys=("seccomp", "platform", "cap_add"),
            tools=("libseccomp",),
            reads=(),
            outputs={"seccomp": "seccomp"},
            host=("profile", "page", "floor"),
        ),
        Stage(
            "spec",
            keys=(
                *_SHAPE,
                *_PROCESS,
                *_LIMITS,
                *_WORLD,
                *_LIFE,
                "image",
                "platform",
                "oci_version",
                "hardening",
            ),
            tools=(),
            reads=("copy", "unpack", "seccomp"),
            outputs={"config.json": "bundle/config.json", "provenance.json": "spec/provenance.json"},
            host=("devices",),
            needs_root=True,
        ),
        Stage(
            "validate",
            keys=("healthcheck", "waive", "hardening", "ports", "seccomp"),
            tools=(*RUNTIMES, "libseccomp"),
            reads=("unpack", "seccomp", "spec"),
            outputs={"findings.json": "validate/findings.json"},
            host=("kernel", "limits", "ids", "binds", "devices", "way", "pin", "floor"),
            needs_root=True,
        ),
        Stage(
            "smoke",
            keys=("healthcheck", "stop_signal", "stop_grace_period", "ports", "init"),
            tools=(),
            reads=("unpack", "spec", "validate"),
            outputs={"{runtime}.json": "smoke/{runtime}.json", "{runtime}.log": "smoke/{runtime}.log"},
            host=("kernel", "limits"),
            needs_root=True,
        ),
    )
}


@dataclass(frozen=True)
class Step:
    """One stage of one bundle; for `smoke`, under one runtime."""

    stage: Stage
    bundle: str
    runtime: str = ""

    @property
    def task(self) -> str:
        """Its name on the command line."""
        return f"{self.stage.name}:{self.bundle}" + (f"/{self.runtime}" if self.runtime else "")

    @property
    def label(self) -> str:
        """Its name among the receipts, locks and logs of its bundle."""
        return self.stage.name + (f"-{self.runtime}" if self.runtime else "")

    @property
    def outputs(self) -> dict[str, str]:
        """`stage.outputs` with the runtime's name filled in."""
        return {
            k.format(runtime=self.runtime): v.format(runtime=self.runtime)
            for k, v in self.stage.outputs.items()
        }

    def tools(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """The tools it runs for this spec."""
        extra: tuple[str, ...] = (self.runtime,) if self.runtime else ()
        if self.stage.name == "copy" and spec["image"].startswith("demo:"):
            extra += ("umoci", "busybox")
        if self.stage.name == "spec" and spec["init"]:
            extra += ("tini",)
        return self.stage.tools + extra
