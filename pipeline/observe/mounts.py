"""What the kernel shows of a container's mounts: /proc/PID/mountinfo against config.json."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline import proc
from pipeline.observe.fact import Config, Fact, equal, words
from pipeline.oci import rootfs as inside
from pipeline.proc import Mount

_WHERE = "/proc/PID/mountinfo"
_PROTECTIONS = ("ro", "nosuid", "nodev", "noexec")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"size=(\d+)([bkmg]?)")
# What a runtime may show for `type: cgroup`: v2 itself, or on v1 a tmpfs with the hierarchies below it.
_CGROUP = frozenset({"cgroup", "cgroup2", "tmpfs"})
_NULL_DEVICE = os.makedev(1, 3)  # null(4)


def mount_facts(config: Config, rootfs: Path, pid: int) -> Iterator[Fact]:
    """Yield root, each mount with its options, masked and read-only paths, and that nothing else is there."""
    seen = proc.visible_mounts(pid)
    yield _root(config, seen)
    yield _propagation(config, seen)
    asked = {_target(rootfs, mount["destination"]): mount for mount in config.get("mounts", [])}
    for target, mount in asked.items():
        yield from _mount_facts(target, mount, seen, asked.keys(), pid)
    linux = config["linux"]
    for path in linux.get("maskedPaths", []):
        yield _masked(_target(rootfs, path), path, pid, seen)
    for path in linux.get("readonlyPaths", []):
        yield _read_only(_target(rootfs, path), path, pid, seen)
    yield _nothing_else(config, asked, rootfs, seen)


def _target(rootfs: Path, destination: str) -> str:
    """Where a path of config.json lies once the links of the rootfs are followed, as mountinfo shows it."""
    with suppress(OSError):
        return inside.resolve(rootfs, destination)
    return os.path.normpath("/" + destination)


def _root(config: Config, seen: dict[str, Mount]) -> Fact:
    wanted = bool(config["root"].get("readonly"))
    state, observed = {True: "read-only", False: "writable"}, seen["/"].read_only
    return Fact("root", state[wanted], state[observed], observed or not wanted, f"{_WHERE} /")


def _propagation(config: Config, seen: dict[str, Mount]) -> Fact:
    """No mount may be in a peer group with the host's, or a mount made inside would appear outside."""
    wanted = config["linux"].get("rootfsPropagation", "")
    shared = sorted(t for t, mount in seen.items() if any(p.startswith("shared:") for p in mount.propagation))
    ok = not shared or wanted in ("shared", "rshared")
    return Fact("propagation", wanted or "not shared", words(f"shared {t}" for t in shared), ok, _WHERE)


def _mount_facts(
    target: str, asked: Config, seen: dict[str, Mount], targets: Collection[str], pid: int
) -> Iterator[Fact]:
    mount, options = seen.get(target), asked.get("options", [])
    name = f"mount {asked['destination']}"
    if mount is None:
        yield Fact(name, asked.get("type", "bind"), "not mounted", False, _WHERE)
        return
    yield _kind(name, asked, mount, pid)
    covered = [mount]
    if asked.get("type") == "cgroup":
        covered = [m for t, m in seen.items() if t.startswith(target + "/")] or covered
    elif "rbind" in options:
        # The options of a recursive bind hold for its top only: whatever came along must be as safe.
        covered += [m for t, m in seen.items() if t.startswith(target + "/") and t not in targets]
    wanted = [option for option in _PROTECTIONS if option in options]
    for one in sorted(covered, key=lambda mount: mount.target):
        missing = [option for option in wanted if not _has(one, option)]
        kept = [option for option in wanted if option not in missing]
        title = f"{name} options" + ("" if one.target == target else f" ({one.target})")
        yield Fact(title, words(wanted), words(kept), not missing, f"{_WHERE} {one.target}")
    if asked.get("type") == "tmpfs":
        yield from _tmpfs(asked, mount)


def _has(mount: Mount, option: str) -> bool:
    return mount.read_only if option == "ro" else option in mount.options


def _kind(name: str, asked: Config, mount: Mount, pid: int) -> Fact:
    kind = asked.get("type") or "bind"
    options = asked.get("options", [])
    if kind == "bind" or "bind" in options or "rbind" in options:
        return _bind(name, asked["source"], mount, pid)
    fits = mount.fstype == kind or (kind == "cgroup" and mount.fstype in _CGROUP)
    return Fact(name, kind, mount.fstype, fits, f"{_WHERE} {mount.target}")


def _bind(name: str, source: str, mount: Mount, pid: int) -> Fact:
    """A bind mount is right when the container finds at the target the very file that the source is."""
    status = _status(pid, mount.target)
    ok = status is not None and os.path.samestat(status, Path(source).stat())
    where = f"/proc/PID/root{mount.target}"
    return Fact(name, f"bind of {source}", f"bind of {source if ok else mount.root}", ok, where)


def _tmpfs(asked: Config, mount: Mount) -> Iterator[Fact]:
    given = dict(option.split("=", 1) for option in asked.get("options", []) if "=" in option)
    name, where = f"tmpfs {asked['destination']}", f"{_WHERE} {mount.target}"
    size = _SIZE.fullmatch(f"size={given.get('size', '').lower()}")
    if size:
        seen = [bytes_ for option in mount.super_options if (bytes_ := _bytes(option)) is not None]
        yield equal(f"{name} size", _bytes(size[0]), words(seen), where)
    if "mode" in given:
        # The kernel leaves the mode out when it is the default of tmpfs(5), 1777.
        modes = [option[5:] for option in mount.super_options if option.startswith("mode=")] or ["1777"]
        yield equal(f"{name} mode", f"{int(given['mode'], 8):o}", f"{int(modes[0], 8):o}", where)


def _bytes(option: str) -> int | None:
    match = _SIZE.fullmatch(option)
    return int(match[1]) * _UNITS[match[2]] if match else None


def _masked(target: str, path: str, pid: int, seen: dict[str, Mount]) -> Fact:
    """A masked path is /dev/null, or an empty tmpfs that nobody can write; or it is not there at all."""
    name, where = f"masked {path}", f"{_WHERE} {target}"
    status = _status(pid, target)
    if status is None:
        return Fact(name, "hidden", "absent", True, f"/proc/PID/root{target}")
    mount = seen.get(target)
    if mount is None:
        return Fact(name, "hidden", "readable as ever", False, where)
    if stat.S_ISDIR(status.st_mode):
        empty = mount.fstype == "tmpfs" and mount.read_only and not _listing(pid, target)
        observed = "an empty folder" if empty else f"a folder of {mount.fstype}"
        return Fact(name, "hidden", observed, empty, where)
    null = stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE
    return Fact(name, "hidden", "/dev/null" if null else "something else than /dev/null", null, where)


def _read_only(target: str, path: str, pid: int, seen: dict[str, Mount]) -> Fact:
    name, where = f"read-only {path}", f"{_WHERE} {target}"
    if _status(pid, target) is None:
        return Fact(name, "read-only", "absent", True, f"/proc/PID/root{target}")
    mount = _mount_of(target, seen)
    return Fact(name, "read-only", "read-only" if mount.read_only else "writable", mount.read_only, where)


def _mount_of(target: str, seen: dict[str, Mount]) -> Mount:
    """The mount that a path lies on."""
    while target not in seen:
        target = str(Path(target).parent)
    return seen[target]


def _status(pid: int, target: str) -> os.stat_result | None:
    """The status of a path as the container sees it; no link of the container's is followed on the host."""
    try:
        return inside.stat(Path(f"/proc/{pid}/root"), target)
    except OSError:
        return None


def _listing(pid: int, target: str) -> list[str]:
    with inside.opened(Path(f"/proc/{pid}/root"), target, os.O_DIRECTORY) as fd:
        return os.listdir(f"/proc/self/fd/{fd}")


def _nothing_else(config: Config, asked: dict[str, Config], rootfs: Path, seen: dict[str, Mount]) -> Fact:
    """Whatever is mounted that config.json does not name: by a hook, a patched runtime, a host's default."""
    linux = config["linux"]
    known = {"/", *asked}
    for key in ("maskedPaths", "readonlyPaths"):
        known |= {_target(rootfs, path) for path in linux.get(key, [])}
    known |= {_target(rootfs, device["path"]) for device in linux.get("devices", [])}
    trees = [t for t, m in asked.items() if m.get("type") == "cgroup" or "rbind" in m.get("options", [])]
    extra = sorted(
        target
        for target, mount in seen.items()
        if target not in known
        and not _is_default_device(target, mount)
        and not any(target.startswith(tree + "/") for tree in trees)
    )
    return Fact("nothing else mounted", "none", words(extra), not extra, _WHERE)


# config-linux.md, Default Devices: without mknod, in a user namespace, runtimes bind the host's.
_DEVICES = frozenset({"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"})


def _is_default_device(target: str, mount: Mount) -> bool:
    folder, name = os.path.split(target)
    return folder == "/dev" and name in _DEVICES and mount.fstype in ("devtmpfs", "devpts", "tmpfs")
