"""What is judged: a config.json, the rootfs beside it, the image it came from and the host it runs on."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from pipeline.checks.rawjson import Document
from pipeline.errors import Place
from pipeline.model.nouns import Finding, Severity
from pipeline.model.runtime import Capabilities, Mount, Process, RuntimeConfig, User
from pipeline.model.truths.nouns import FoundRuntime

Findings = Iterator[Finding]
CRITICAL, HIGH, MEDIUM, LOW, INFO = Severity


class RootfsView(Protocol):
    """Look-ups by paths of the container that no link leads out of; all raise OSError where nothing is."""

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """Return the status of what is there."""

    def realpath(self, path: str) -> str:
        """Return the path without links."""

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a regular file for reading; other kinds raise OSError."""

    def names(self, path: str) -> list[str]:
        """Return the names in a directory."""


class HostView(Protocol):
    """Look-ups on the host."""

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """Return the status of what is there, or None."""

    def realpath(self, path: str) -> str:
        """Return the absolute path without links, as far as it is there."""

    def flags(self, path: str) -> frozenset[str]:
        """Return with which of `ro`, `nosuid`, `nodev`, `noexec` the file system at a path is mounted."""


@dataclass(frozen=True)
class RuntimeFloor:
    """The calls that a runtime needs under a filter, by noNewPrivileges: always, and in some starts.

    `of` is the runtime and version that it was found with, empty where nothing is known; `exact` when that
    is the very program which this host has.
    """

    of: str = ""
    exact: bool = False
    needed: Mapping[bool, frozenset[str]] = field(default_factory=dict)
    sometimes: Mapping[bool, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class HostFacts:
    """What this host has. Sizes in bytes; `hard_limits` by name (`NOFILE`), 2**64-1 for none.

    What is empty or None at the end could not be seen, so nothing is judged by it. `listening` holds
    protocol, address and port. `runtimes` are those found; `cgroups` is v1, v2, hybrid (cgroup2 beside v1
    controllers), or "" if unknown.
    """

    cpus: int
    memory_bytes: int
    hard_limits: Mapping[str, int]
    capabilities: frozenset[str]
    has_swap_accounting: bool
    architecture: str
    subordinate_ids: tuple[tuple[str, str, int, int], ...] = ()
    thermal_cpus: int = 0
    pid_max: int = 4194304
    lsm: frozenset[str] = frozenset()
    runtime: str = ""
    runtime_version: str = ""
    runtimes: tuple[FoundRuntime, ...] = ()
    cgroups: str = ""
    namespaces: frozenset[str] = frozenset()
    seccomp_actions: frozenset[str] | None = None
    controllers: frozenset[str] | None = None
    filesystems: frozenset[str] = frozenset()
    kernel: tuple[int, ...] = ()
    apparmor_profiles: frozenset[str] | None = None
    listening: frozenset[tuple[str, str, int]] = frozenset()
    floor: RuntimeFloor | None = None


@dataclass(frozen=True)
class ImageFacts:
    """What the image's config says, as far as it can get lost on the way."""

    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    platform: str = ""
    healthcheck: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""


@dataclass(frozen=True)
class PublishedPort:
    """A port of the host that shall lead to one of the container."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"


@dataclass(frozen=True)
class TreeFacts:
    """What lies in the rootfs that gives rights, by paths of the container; `unread` was not looked at.

    `world_writable` are root's own, without the sticky bit.
    """

    set_id: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    world_writable: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrivilegedFile:
    """A file of the image with set-id bits (in `mode`, octal) or file capabilities (hex)."""

    path: str
    mode: str = ""
    capabilities: str = ""
    kept: bool = False


@dataclass(frozen=True)
class UnpackFacts:
    """What was taken from the image's files on their way into the rootfs, or kept on demand."""

    privileged: tuple[PrivilegedFile, ...] = ()
    devices: tuple[str, ...] = ()
    keep_not_found: tuple[str, ...] = ()
    xattrs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Intent:
    """What the bundle's author asked for, where it cannot be seen in config.json."""

    healthcheck: tuple[str, ...] = ()
    has_probe: bool = False
    waive: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PublishedPort, ...] = ()


@dataclass(frozen=True)
class ProfileDrift:
    """How a seccomp profile differs from its pin, by architecture and call; `place` is what opened first."""

    name: str
    pinned: bool
    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    place: Place | None = None


@dataclass(frozen=True)
class Subject:
    """One bundle under judgement; without `image` or `intent` it is a bundle from elsewhere."""

    document: Document
    config: RuntimeConfig
    folder: str
    rootfs: RootfsView
    host_view: HostView
    host: HostFacts
    image: ImageFacts | None = None
    intent: Intent = field(default_factory=Intent)
    unpacked: UnpackFacts = field(default_factory=UnpackFacts)
    changed: tuple[str, ...] = ()
    is_changed_config: bool = False
    is_syscall: Callable[[str], bool] | None = None
    cache: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    profile_drift: ProfileDrift | None = None
    tree: TreeFacts = field(default_factory=TreeFacts)

    @property
    def process(self) -> Process:
        """The process, or one that says nothing."""
        return self.config.process or Process(cwd="/", user=User(uid=0, gid=0))

    @property
    def mounts(self) -> tuple[tuple[str, Mount], ...]:
        """Every mount with its JSON path."""
        return tuple((f"mounts[{index}]", mount) for index, mount in enumerate(self.config.mounts or ()))

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that are the container's own."""
        linux = self.config.linux
        return frozenset(ns.type for ns in (linux.namespaces if linux else None) or () if not ns.path)

    @property
    def environment(self) -> dict[str, str]:
        """The process's variables; of duplicates the last."""
        return dict(entry.partition("=")[::2] for entry in self.process.env or ())

    @property
    def granted(self) -> frozenset[str]:
        """Every capability in any of the five sets."""
        sets = self.process.capabilities or Capabilities()
        return frozenset(
            name
            for group in (sets.bounding, sets.effective, sets.inheritable, sets.permitted, sets.ambient)
            for name in group or ()
        )

    def to_host(self, container_id: int, kind: str = "uid") -> int | None:
        """Return the host's id of a container's uid or gid, or None when it is not mapped."""
        linux = self.config.linux
        listed = (linux.uid_mappings if kind == "uid" else linux.gid_mappings) if linux else None
        if not listed:
            return container_id
        for entry in listed:
            if entry.container_id <= container_id < entry.container_id + entry.size:
                return entry.host_id + container_id - entry.container_id
        return None


_OPPOSITES = {"nosuid": "suid", "nodev": "dev", "noexec": "exec", "ro": "rw"}
_OPPOSITES |= {opposite: flag for flag, opposite in _OPPOSITES.items()}


def options(mount: Mount) -> frozenset[str]:
    """Return the options in force: of `ro` and `rw`, `nosuid` and `suid` and the like, the last one.

    Recursive ones (`rro`, `rsuid`) come after all others, with mount_setattr(2), whatever their place.
    """
    listed = mount.options or ()
    recursive = [option[1:] for option in listed if option[:1] == "r" and option[1:] in _OPPOSITES]
    found: set[str] = set()
    for option in (*listed, *recursive):
        found.discard(_OPPOSITES.get(option, ""))
        found.add(option)
    return frozenset(found)


def normal(path: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes; a relative one counts from `/`.

    POSIX lets two leading slashes mean something of their own, so normpath keeps them; Linux does not.
    """
    return posixpath.normpath("/" + path.lstrip("/"))


def is_bind(mount: Mount) -> bool:
    """True for a bind mount (config.md, mounts: type `bind`, or the option)."""
    return mount.type in ("bind", "rbind") or bool({"bind", "rbind"} & options(mount))


def covering(subject: Subject, path: str) -> tuple[str, str, bool] | None:
    """Return the mount that hides a path of the rootfs: its target, its source, and whether it is a bind."""
    found = cover_of(subject, path)
    return (normal(found.destination), found.source or "", is_bind(found)) if found else None


def cover_of(subject: Subject, path: str) -> Mount | None:
    """Return the mount that hides a path of the rootfs: the last whose target the path is or lies below."""
    best = None
    for _, mount in subject.mounts:
        target = normal(mount.destination)
        if path == target or path.startswith(target.rstrip("/") + "/"):
            best = mount
    return best
