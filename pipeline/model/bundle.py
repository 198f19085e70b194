"""What one bundle shall be: a spec file after `extends`, defaults and normalisation.

Field names are the keys of the spec file. Sizes are bytes, durations seconds, lists are tuples.
`None` means "as the image says" for every key that an image config can also set.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal

import msgspec

from pipeline.model.baselines import NEWEST

MIB = 1024 * 1024
UNLIMITED = 2**64 - 1  # RLIM_INFINITY of getrlimit(2) on 64-bit Linux, as config.json writes it
DEFAULT_MEMORY_BYTES = 512 * MIB
DEFAULT_SECCOMP = "default"
UNCONFINED = "unconfined"


class VolumeType(Enum):
    """Where the files of a volume live."""

    BIND = "bind"  # a path of the host
    VOLUME = "volume"  # a named volume, kept below the volume root of this machine


class Noun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value that is built once, compared by its fields and never changed."""


class Volume(Noun, frozen=True):
    """Files of the host that the container sees at `target`; always nosuid and nodev.

    `source` is an absolute path, a path relative to the project, or the name of a volume.
    """

    type: VolumeType
    source: str
    target: str
    read_only: bool = False
    exec: bool = False


class Tmpfs(Noun, frozen=True):
    """A file system in memory at `target`, charged to the memory limit; always nosuid and nodev.

    `uid` and `gid` are ids inside the container; None is the user that the process runs as.
    """

    target: str
    size_bytes: int = 64 * MIB
    mode: int = 0o1777
    uid: int | None = None
    gid: int | None = None
    read_only: bool = False
    exec: bool = False


class Device(Noun, frozen=True):
    """A device node of the host, with a subset of the letters r, w and m as cgroup permissions."""

    host: str
    container: str
    permissions: str = "rw"


class Port(Noun, frozen=True):
    """One port of the host that shall lead to one port of the container."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: Literal["tcp", "udp"] = "tcp"


class Ulimit(Noun, frozen=True):
    """A resource limit of setrlimit(2); `UNLIMITED` is no limit."""

    soft: int
    hard: int


class HttpProbe(Noun, frozen=True):
    """Ready when GET of `path` on the container's loopback answers with 200 to 399."""

    port: int
    path: str = "/"


class Healthcheck(Noun, frozen=True):
    """How to see that the container is ready. What is None comes from the image, then from Docker's defaults.

    At most one of `test`, `http`, `tcp` is set. `test` starts with CMD or CMD-SHELL.
    `disable` means: there is no health check, whatever the image says.
    """

    test: tuple[str, ...] | None = None
    http: HttpProbe | None = None
    tcp: int | None = None
    interval_s: float | None = None
    timeout_s: float | None = None
    start_period_s: float | None = None
    retries: int | None = None
    disable: bool = False


class Hardening(Noun, frozen=True):
    """How strictly the bundle is judged, and the date (YYYY-MM) of the baseline that it follows."""

    profile: Literal["baseline", "strict"] = "baseline"
    baseline: str = NEWEST


def hardened_ulimits() -> dict[str, Ulimit]:
    """The limits of a bundle that names none: few open files, and no core dump that could hold a secret."""
    return {"core": Ulimit(soft=0, hard=0), "nofile": Ulimit(soft=1024, hard=1024)}


class Bundle(Noun, frozen=True):
    """One bundle, complete: what the stages read."""

    image: str  # normalised, with transport: docker://docker.io/library/busybox:latest
    platform: str  # linux/amd64, linux/arm64/v8
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    user: str | None = None  # USER[:GROUP], names or numbers, as in the image config
    group_add: tuple[int | str, ...] = ()
    environment: dict[str, str] = {}  # env_file first, then environment
    env_file: tuple[str, ...] = ()  # relative to the project, or absolute
    working_dir: str | None = None
    hostname: str | None = None
    read_only: bool = True
    tmpfs: tuple[Tmpfs, ...] = ()  # also those written as volumes of type tmpfs
    volumes: tuple[Volume, ...] = ()
    devices: tuple[Device, ...] = ()
    cap_add: tuple[str, ...] = ()  # sorted, each with CAP_
    network_mode: Literal["none", "private", "host"] = "private"
    ports: tuple[Port, ...] = ()  # ranges are expanded
    sysctls: dict[str, str] = {}
    ulimits: dict[str, Ulimit] = msgspec.field(default_factory=hardened_ulimits)
    mem_limit: int = DEFAULT_MEMORY_BYTES
    memswap_limit: int = DEFAULT_MEMORY_BYTES  # memory and swap together; -1 is no limit
    cpus: float = 1.0
    pids_limit: int = 256
    shm_size: int = 64 * MIB
    init: bool = False
    stop_signal: str | None = None  # SIGTERM, SIGRTMIN+3
    stop_grace_period: float = 10.0
    healthcheck: Healthcheck | None = None
    restart: str = "no"  # no, always, unless-stopped, on-failure, on-failure:N
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    seccomp: str = DEFAULT_SECCOMP  # name of a profile, or UNCONFINED
    userns: str = "private"  # private, host, BASE:SIZE
    oci_version: str = "1.1.0"
    keep_privileged_files: tuple[str, ...] = ()  # sorted
    waive: dict[str, str] = {}  # rule id -> reason
    hardening: Hardening = Hardening()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Bundle:
        """The bundle whose `to_values` is `values`; raises msgspec.ValidationError on anything else."""
        return msgspec.convert(values, cls)

    def to_values(self) -> dict[str, Any]:
        """The same as plain dicts, lists, strings and numbers: what JSON can hold."""
        values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return values


KEYS = frozenset(Bundle.__struct_fields__)
