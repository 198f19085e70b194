"""A hardened bundle written by hand: busybox, one mapping, every protection that `smoke` looks for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

BASE = 2_000_000_000
USER = 65532
LINKS = ("sh", "httpd", "sleep", "wget", "true", "cat", "yes", "head", "tail", "dd", "kill", "mkdir", "touch")
SERVER = ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"]
_KINDS = ("bounding", "effective", "inheritable", "permitted", "ambient")
_SAFE = ["nosuid", "noexec", "nodev"]


def make_rootfs(rootfs: Path) -> None:
    """Make a tree with a static busybox and a page to serve, owned by the mapped root."""
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "data", "www"):
        (rootfs / folder).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", rootfs / "bin/busybox")
    for link in LINKS:
        (rootfs / "bin" / link).symlink_to("busybox")
    (rootfs / "www/index.html").write_text("hello\n")
    (rootfs / "tmp").chmod(0o1777)
    for folder, folders, files in os.walk(rootfs):
        for name in [".", *folders, *files]:
            os.lchown(Path(folder) / name, BASE, BASE)


def make_config(args: list[str]) -> dict[str, Any]:
    """Return a config.json with every protection in it; callers change what they test."""
    tmpfs = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    return {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": False,
            "user": {"uid": USER, "gid": USER, "additionalGids": [1000]},
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in _KINDS},
            "rlimits": [
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
                {"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256},
            ],
            "oomScoreAdj": 100,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": _SAFE},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": [*_SAFE, "mode=1777", "size=8m"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_SAFE, "ro"]},
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": [*_SAFE, "relatime", "ro"],
            },
            {**tmpfs, "options": [*_SAFE, "mode=1777", "size=16m"]},
        ],
        "linux": _linux(),
    }


def _linux() -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": BASE, "size": 65536}]
    return {
        "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "cgroup", "network", "user")],
        "uidMappings": mapping,
        "gidMappings": mapping,
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 64 << 20, "swap": 64 << 20},
            "cpu": {"quota": 50000, "period": 100000, "shares": 512},
            "pids": {"limit": 20},
        },
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "rootfsPropagation": "rprivate",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": [f"SCMP_ARCH_{os.uname().machine.upper()}"],
            "syscalls": [
                {"names": ["unshare", "mount", "ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
                {"names": ["syslog"], "action": "SCMP_ACT_KILL_PROCESS"},
            ],
        },
    }


def make_bundle(folder: Path, args: list[str] | None = None) -> dict[str, Any]:
    """Make a whole bundle in `folder` and return its config, written there too."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    make_rootfs(folder / "rootfs")
    config = make_config(args or SERVER)
    write_config(folder, config)
    return config


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write a changed config into a bundle."""
    (folder / "config.json").write_text(json.dumps(config, indent=1))
