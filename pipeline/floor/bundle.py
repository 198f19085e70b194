"""The bundle that floors are measured with: this project's own hardened config around a tiny program."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.files import canonical_json
from pipeline.floor.program import ending, waiting
from pipeline.model.bundle import Bundle
from pipeline.model.image import ImageConfig
from pipeline.model.nouns import Platform
from pipeline.oci.convert import convert
from pipeline.oci.idmap import PRIVATE
from pipeline.oci.inputs import Inputs
from pipeline.oci.users import Account

ENDS, WAITS = "/end", "/wait"
"""The two programs in the rootfs."""

_USER = 65532
_GROUP = 3000
_FOLDERS = ("dev", "proc", "sys", "tmp")
# For recording: everything may be called, but a filter without a rule would not be loaded at all.
_RECORDING = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
_EPERM = 1


def make_bundle(folder: Path) -> None:
    """Make the rootfs below `folder`, owned by the mapped root; config.json comes with `write_config`."""
    rootfs = folder / "rootfs"
    for path in (folder, rootfs, *(rootfs / name for name in _FOLDERS)):
        path.mkdir(mode=0o755)
        path.chmod(0o755)
    for name, program in ((ENDS, ending()), (WAITS, waiting())):
        path = rootfs / name.lstrip("/")
        path.write_bytes(program)
        path.chmod(0o755)
    for path in (rootfs, *rootfs.iterdir()):
        os.lchown(path, PRIVATE.host_id, PRIVATE.host_id)


def write_config(folder: Path, profile: dict[str, Any], *, no_new_privileges: bool) -> None:
    """Write config.json: what a bundle gets by default, with this profile, and a group of its own."""
    platform = Platform.host()
    inputs = Inputs(
        name="floor",
        bundle=Bundle(image="oci:floor", platform=str(platform)),
        image=ImageConfig(platform=platform, entrypoint=(WAITS,)),
        digest="",
        id_map=PRIVATE,
        # A group more, since a runtime has a call for that.
        user=Account(_USER, _USER, (_GROUP,), "/", ""),
        volume_path=str,
        bind_path=str,
        seccomp=profile,
    )
    config = convert(inputs).config.to_json()
    config["process"]["noNewPrivileges"] = no_new_privileges
    (folder / "config.json").write_bytes(canonical_json(config))


def recording(harmless: str = "reboot") -> dict[str, Any]:
    """Return a profile that allows all but a call nobody makes: without a rule none is loaded."""
    return {**_RECORDING, "syscalls": [_refusal([harmless])]}


def all_but(call: str) -> dict[str, Any]:
    """Return a profile that allows everything but one call, which fails with EPERM."""
    return {**_RECORDING, "syscalls": [_refusal([call])]}


def only(calls: Iterable[str]) -> dict[str, Any]:
    """Return a profile that allows these calls; all others fail with EPERM."""
    allow = {"names": sorted(calls), "action": "SCMP_ACT_ALLOW"}
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": _EPERM, "syscalls": [allow]}


def _refusal(names: list[str]) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM}
