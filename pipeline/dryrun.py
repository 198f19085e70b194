"""The runtime's dry run of a bundle: when it may run beside the judge, and when its verdict is known.

`create` makes a container and `delete` removes it; the program does not start. What `create` itself may do
to the host, it does before the judge has spoken when both run at once, so that is only for a config which
by its plain shape can reach nothing of the host: see `is_harmless`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.files import compact_json, sha256_bytes, write_atomic

_NAMESPACES = frozenset(("cgroup", "ipc", "mount", "network", "pid", "user", "uts"))
_LINUX_KEYS = frozenset(
    "namespaces uidMappings gidMappings resources seccomp maskedPaths readonlyPaths rootfsPropagation".split()
)
_KEYS = frozenset("ociVersion process root hostname mounts linux annotations".split())
# Host ids below this belong to the system or to its users (login.defs(5), UID_MAX).
_FIRST_FOREIGN_ID = 100_000
# What runtimes obey: their own words are judged first (crun.1, annotations; runc, systemd properties).
_ORDERS = ("run.oci.", "org.systemd.")
_SWITCHES = (
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/self/uid_map",
)


def is_harmless(content: bytes) -> bool:
    """True when `create` can do nothing to the host by this config.json, whatever else is wrong with it.

    That is: every namespace its own, ids that are nobody's, private propagation, no hooks, no cgroup path,
    no device, no sysctl, and no key that is not known to be harmless. Anything odd counts as harmful.
    """
    try:
        config = json.loads(content)
        linux = config["linux"]
        spaces = {space["type"] for space in linux["namespaces"] if not space.get("path")}
        lowest = [min(entry["hostID"] for entry in linux[kind]) for kind in ("uidMappings", "gidMappings")]
        return (
            config.keys() <= _KEYS
            and linux.keys() <= _LINUX_KEYS
            and config["root"]["path"] == "rootfs"
            and spaces >= _NAMESPACES
            and len(linux["namespaces"]) == len(spaces)
            and min(lowest) >= _FIRST_FOREIGN_ID
            and linux["rootfsPropagation"] in ("private", "rprivate")
            and not any(
                "shared" in option for mount in config["mounts"] for option in mount.get("options", ())
            )
            and not any(key.startswith(_ORDERS) for key in config.get("annotations", ()))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


class Beside:
    """Something done by another thread while the `with` block goes on; the block ends when both are done."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._result: Any = None
        self._fault: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def result(self) -> Any:
        """Wait for it, and return what it returned or raise what it raised."""
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._action()
        except BaseException as fault:
            self._fault = fault


class Verdict:
    """Whether exactly this bundle was created and deleted without a fault, here and since the last boot.

    Only success is remembered: what failed is tried again. The cache is disposable.
    """

    def __init__(self, cache: Path, name: str, depends: Mapping[str, Any]) -> None:
        self._file = cache / f"dryrun-{name}"
        self._key = sha256_bytes(compact_json(depends))

    @property
    def is_good(self) -> bool:
        """True when it is known to work."""
        try:
            return self._file.read_bytes() == self._key.encode()
        except OSError:
            return False

    def remember(self) -> None:
        """Keep that it works."""
        write_atomic(self._file, self._key.encode())


def depends(config: bytes, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that a dry run's result depends on, given the content of config.json.

    `parts` are those of the stage's key, less the spec's own words: they hold the rootfs's digest, the
    runtime's hash, this code, the kernel, limits, ids, bind sources, devices and the way to the bundle.
    """
    return {
        "config": sha256_bytes(config),
        "rootfs": parts["upstream"]["unpack"],
        "parts": {name: parts[name] for name in ("tools", "code", "host")},
        "switches": {path: _content(path) for path in _SWITCHES},
    }


def _content(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as fault:
        return fault.strerror or "unreadable"
