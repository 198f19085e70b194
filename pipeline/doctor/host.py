"""Checks of the host's files and limits: room, access, credentials, subordinate ids, small traps."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.doctor.asking import ask, can_run
from pipeline.doctor.check import Check, State, everywhere
from pipeline.doctor.kernel import failed
from pipeline.oci.idmap import PRIVATE
from pipeline.paths import STATE_HOME, Project, closed_ancestor

_MIB = 1 << 20
# A build of `hello` needs less than the first; one of a large image more than the second.
_LEAST_BYTES, _ENOUGH_BYTES = 256 * _MIB, 4096 * _MIB
# Docker's and systemd's default for services; a torrent server wants thousands of files.
_ENOUGH_FILES = 4096
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_RESOLV = Path("/etc/resolv.conf")


def checks(project: Project) -> Iterator[Check]:
    """All of them."""
    yield _disk(project)
    yield _owner(project)
    yield _way(project)
    yield _xattr(project)
    yield _authfile()
    yield from _subordinate_ids()
    yield _open_files()
    yield _umask()
    yield _binfmt()
    yield _resolver()


def _standing(project: Project) -> Path:
    """`out/`, or the folder in which it will be made."""
    return project.out.resolve() if project.out.exists() else project.root


def _disk(project: Project) -> Check:
    place = _standing(project)
    free = shutil.disk_usage(place).free
    fact = f"{free // _MIB} MiB free at {place}"
    if free >= _ENOUGH_BYTES:
        return Check("disk", State.OK, fact)
    state = State.WARN if free >= _LEAST_BYTES else State.FAIL
    return Check(
        "disk", state, fact, "copy, unpack", everywhere("make room, or `doit clean` bundles you do not need")
    )


def _owner(project: Project) -> Check:
    """The engine wants one owner for `out/`; an absent one must be makeable."""
    if not project.out.exists():
        if os.access(project.root, os.W_OK):
            return Check("out/", State.OK, "will be made at the first build")
        fact = f"{project.root} cannot be written, and there is no out/ yet"
        mend = everywhere("make a checkout that you own: git clone")
        return Check("out/", failed(), fact, "every stage", mend)
    owner = project.out.stat().st_uid
    if owner == os.geteuid():
        return Check("out/", State.OK, f"{_standing(project)} is yours")
    mend = everywhere("run as its owner, or use another checkout")
    return Check("out/", failed(), f"belongs to user {owner}", "every stage", mend)


def _way(project: Project) -> Check:
    place = _standing(project)
    closed = closed_ancestor(place, PRIVATE.host_id, PRIVATE.host_id)
    if closed is None:
        return Check("way to out/", State.OK, "a container's mapped root can pass every folder")
    fact = f"{closed} lets no mapped root pass (runtimes then say `permission denied`)"
    if os.geteuid() == 0 and not project.out.exists():
        return Check("way to out/", State.OK, f"{fact}, so out/ will be a link into {STATE_HOME}")
    mend = everywhere(f"chmod o+x {closed}, or keep the checkout elsewhere, for example below /srv")
    return Check("way to out/", failed(), fact, "validate, smoke", mend)


def _xattr(project: Project) -> Check:
    place = _standing(project)
    if not os.access(place, os.W_OK):
        return Check("extended attributes", State.INFO, f"{place} cannot be written, so it was not tried")
    if not can_run():
        return Check("extended attributes", State.INFO, "not tried, without setpriv")
    answer = ask("xattr", str(place))
    if answer.refused is None:
        return Check("extended attributes", State.OK, f"kept at {place}")
    fact = f"not kept at {place}: {answer.refused}; file capabilities of an image would be lost unseen"
    mend = everywhere("keep the checkout on ext4, xfs or btrfs")
    return Check("extended attributes", State.WARN, fact, "unpack", mend)


def authfiles(env: Mapping[str, str], home: Path) -> list[Path]:
    """Return where skopeo looks for credentials, in its order (containers-auth.json(5))."""
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.geteuid()}"
    named = [Path(env["REGISTRY_AUTH_FILE"])] if env.get("REGISTRY_AUTH_FILE") else []
    return [*named, Path(runtime) / "containers/auth.json", home / ".docker/config.json"]


def _authfile() -> Check:
    home = Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
    for path in authfiles(os.environ, home):
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            mend = everywhere(f"chmod 600 {path}")
            return Check(
                "authfile", State.WARN, f"{path} has mode {mode}: others may read it", "copy, update", mend
            )
        return Check("authfile", State.OK, str(path))
    return Check(
        "authfile", State.INFO, "none; registries are asked without credentials (`skopeo login` makes one)"
    )


def subordinate_ranges(kind: str, folder: Path = Path("/etc")) -> list[tuple[int, int]]:
    """Return this user's ranges (first host id, count) of subuid(5) or subgid(5)."""
    entry = pwd.getpwuid(os.geteuid())
    owners = {entry.pw_name, str(entry.pw_uid)}
    return [(base, size) for owner, base, size in _ranges(folder / f"sub{kind}") if owner in owners]


def _ranges(path: Path) -> Iterator[tuple[str, int, int]]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for fields in (line.split(":") for line in lines):
        if len(fields) == 3 and fields[1].isdecimal() and fields[2].strip().isdecimal():
            yield fields[0], int(fields[1]), int(fields[2])


def overlapping(folder: Path = Path("/etc")) -> list[str]:
    """Return the lines of subuid(5) and subgid(5) that share host ids with the default mapping."""
    end = PRIVATE.host_id + PRIVATE.size
    return [
        f"{folder}/sub{kind}: {owner}:{base}:{size}"
        for kind in ("uid", "gid")
        for owner, base, size in _ranges(folder / f"sub{kind}")
        if base < end and PRIVATE.host_id < base + size
    ]


def _subordinate_ids() -> Iterator[Check]:
    shared = overlapping()
    words = f"{PRIVATE.host_id}:{PRIVATE.size}"
    if shared:
        told = "; ".join(shared)
        fact = f"{told} shares ids with the default mapping {words}: that user owns what containers own"
        mend = everywhere("give bundles another range (`userns: BASE:SIZE`), or that user")
        yield Check("subordinate ids", State.WARN, fact, "unpack", mend)
        return
    ours = subordinate_ranges("uid")
    own = ", ".join(f"{base}:{size}" for base, size in ours) or "none"
    yield Check("subordinate ids", State.OK, f"no user has any of the default mapping {words}; yours: {own}")


def _open_files() -> Check:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= _ENOUGH_FILES:
        return Check(
            "open files", State.OK, f"hard limit {hard}; a bundle's `ulimits: nofile` must not be above it"
        )
    mend = everywhere(
        f"ulimit -Hn {_ENOUGH_FILES * 16} in root's shell, or LimitNOFILE= in the unit that starts it"
    )
    return Check(
        "open files", State.WARN, f"hard limit {hard}", "smoke of bundles with ulimits: nofile", mend
    )


def _umask() -> Check:
    mask = os.umask(0o022)
    os.umask(mask)
    return Check("umask", State.INFO, f"{mask:04o}; tools are run with 0022, so it does not matter")


def _binfmt() -> Check:
    try:
        names = sorted(e.name for e in _BINFMT.iterdir() if e.name.startswith("qemu-"))
    except OSError:
        names = []
    fact = f"run by {', '.join(names)}" if names else "built, not run: binfmt_misc has no qemu"
    return Check("other platforms", State.INFO, f"bundles for them are {fact}")


def _resolver() -> Check:
    try:
        local = "127.0.0.53" in _RESOLV.read_text()
    except OSError:
        return Check("name resolution", State.INFO, "no /etc/resolv.conf")
    if local:
        fact = "127.0.0.53 (systemd-resolved): a container with its own network cannot ask it"
        return Check("name resolution", State.INFO, fact)
    return Check("name resolution", State.INFO, "/etc/resolv.conf names servers that containers can ask too")
