"""What a conversion reads: everything that decides config.json, gathered before and handed in whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.bundle import Bundle
from pipeline.model.image import ImageConfig
from pipeline.model.nouns import IdMap
from pipeline.oci.users import Account


@dataclass(frozen=True)
class DeviceNode:
    """A device of the host: `kind` is c or b, `mode` its permission bits."""

    kind: str
    major: int
    minor: int
    mode: int


@dataclass(frozen=True)
class Inputs:
    """The image config, the spec and what was looked up for them.

    `volume_path` gives the host folder of a named volume, `bind_path` makes a bind's source absolute,
    `devices` holds each host device that the spec names, `seccomp` is linux.seccomp or None (unconfined).
    """

    name: str
    bundle: Bundle
    image: ImageConfig
    digest: str
    id_map: IdMap
    user: Account
    volume_path: Callable[[str], str]
    bind_path: Callable[[str], str]
    seccomp: Mapping[str, Any] | None = None
    devices: Mapping[str, DeviceNode] = field(default_factory=dict)
    init_path: str = ""
