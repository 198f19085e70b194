"""A hardened bundle written by hand, and one container of it: for tests that need no pipeline."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.files import remove_tree
from pipeline.run import Result, run

HOST_ID = 2_000_000_000
IDS = 65536
VOLUME = "/home/nonroot/.stremio-server"
_CONTROLLERS = Path("/sys/fs/cgroup/unified/cgroup.controllers")
_NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "user", "uts")
_FLAGS = ("nosuid", "nodev", "noexec")
_FETCH = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=dict([a.split("=", 1) for a in
        sys.argv[3:]]), data=sys.argv[2].encode() or None), timeout=120)
except urllib.error.HTTPError as fault:
    answer = fault
print(answer.status)
sys.stdout.flush()
sys.stdout.buffer.write(answer.read())
"""


def unpack(layout: Path, reference: str, rootfs: Path) -> None:
    """Unpack an image with the ids of a user namespace."""
    mapping = f"0:{HOST_ID}:{IDS}"
    maps = ["--uid-map", mapping, "--gid-map", mapping]
    run(
        ["umoci", "raw", "unpack", *maps, "--image", f"{layout}:{reference}", rootfs],
        timeout_s=120,
    )


def write_config(
    bundle: Path,
    args: Sequence[str],
    env: Sequence[str],
    seccomp: dict[str, Any] | None,
    binds: Sequence[tuple[Path, str, str]] = (),
    init: bool = False,
) -> None:
    """Write config.json: user 65532, no capabilities, a read-only root, namespaces, limits."""
    mounts = [
        _mount("/proc", "proc", *_FLAGS),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/shm", "tmpfs", *_FLAGS, "mode=1777", "size=64m"),
        _mount("/sys", "sysfs", *_FLAGS, "ro"),
        _mount("/tmp", "tmpfs", *_FLAGS, "mode=1777", "size=64m"),
        *(_bind(source, target, mode, *_FLAGS[: 3 if mode == "rw" else 2]) for source, target, mode in binds),
    ]
    if init:
        mounts.append(_bind(Path("/usr/bin/tini-static"), "/dev/init", "ro", "nosuid", "nodev"))
        args = ["/dev/init", "--", *args]
    config = {
        "ociVersion": "1.1.0",
        "process": _process(list(args), list(env)),
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "linux": _linux(seccomp),
    }
    (bundle / "config.json").write_text(json.dumps(config))


def _mount(target: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind(source: Path, target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", *options]}


def _process(args: list[str], env: list[str]) -> dict[str, Any]:
    return {
        "user": {"uid": 65532, "gid": 65532},
        "args": args,
        "env": env,
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": {s: [] for s in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}],
    }


def _linux(seccomp: dict[str, Any] | None) -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": HOST_ID, "size": IDS}]
    return {
        "namespaces": [{"type": kind} for kind in _NAMESPACES],
        "uidMappings": mapping,
        "gidMappings": mapping,
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 1 << 30},
            "pids": {"limit": 512},
        },
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        **({"seccomp": seccomp} if seccomp is not None else {}),
    }


class Container:
    """One container of a bundle, from create to delete."""

    def __init__(self, bundle: Path, runtime: str) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.name = f"standin-test-{uuid.uuid4().hex[:8]}"
        self.log = bundle / f"{self.name}.log"
        self._pid_file = bundle / f"{self.name}.pid"

    def __enter__(self) -> Container:
        try:
            words = ("--bundle", self.bundle, "--pid-file", self._pid_file, self.name)
            created = self._run("create", *words, check=False, log=self.log)
            assert created.returncode == 0, self.log.read_text()
            self._run("start", self.name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run("delete", "--force", self.name, check=False)
        remove_tree(self._pid_file)

    @property
    def pid(self) -> int:
        """The container's first process, as the host numbers it."""
        return int(self._pid_file.read_text())

    def execute(self, *args: str) -> Result:
        """Run a program in the container, as a health check is run."""
        return self._run("exec", self.name, *args, check=False)

    def signal(self, name: str) -> None:
        """Send a signal to the first process."""
        self._run("kill", self.name, name)

    def stopped(self, within_s: float) -> bool:
        """Wait for the container's end; False when it still runs after `within_s`."""
        deadline = time.monotonic() + within_s
        while json.loads(self._run("state", self.name).stdout)["status"] != "stopped":
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def status(self) -> dict[str, str]:
        """/proc/PID/status of the first process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def fetch(self, url: str, body: str = "", **headers: str) -> tuple[int, bytes]:
        """Ask the server from inside the container's network namespace; return status and body."""
        said = run(
            ["nsenter", "-n", "-t", str(self.pid), sys.executable, "-I", "-c", _FETCH, url, body]
            + [f"{name}={value}" for name, value in headers.items()],
            timeout_s=150,
            check=False,
        )
        status, _, content = said.stdout.partition("\n")
        return int(status or 0), content.encode(errors="replace")

    def wait_for(self, url: str, within_s: float = 20) -> None:
        """Return once the server answers 200. Raises AssertionError with what the container said."""
        deadline = time.monotonic() + within_s
        while self.fetch(url)[0] != 200:
            assert time.monotonic() < deadline, (
                f"{url} is silent; the container said:\n{self.log.read_text()}"
            )
            time.sleep(0.2)

    def _run(self, verb: str, *words: str | Path, check: bool = True, log: Path | None = None) -> Result:
        argv: list[str | Path] = [self.runtime, verb, *words]
        if self.runtime == "crun" and verb == "create" and _CONTROLLERS.exists():
            # crun refuses hybrid cgroups; with cgroup2's controllers out of its sight it uses version 1.
            hide = f'mount --bind /dev/null {_CONTROLLERS} && exec "$@"'
            argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, "sh", *argv]
        return run(argv, timeout_s=60, check=check, log=log)


def own(path: Path, container_id: int = 0) -> None:
    """Give a file to an id of the container."""
    os.chown(path, HOST_ID + container_id, HOST_ID + container_id)
