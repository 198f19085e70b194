"""The rootfs against config.json: what must be in it, of which kind, and for whom.

Sources: runtime-spec bundle.md and config.md; user_namespaces(7) for what a mapped root cannot make.
"""

from __future__ import annotations

import posixpath
import stat

from pipeline.checks.access import EXECUTE, READ, WRITE, process_credentials
from pipeline.checks.subject import (
    CRITICAL,
    HIGH,
    INFO,
    LOW,
    MEDIUM,
    Findings,
    Subject,
    cover_of,
    covering,
    is_bind,
    normal,
    options,
)
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Mount

_SHOWN = 5
_PASSWD_BYTES = 1 << 20
_PSEUDO = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"})


def present(subject: Subject) -> Findings:
    """The rootfs is a directory beside config.json and no link (bundle.md)."""
    path = posixpath.join(subject.folder, subject.config.root.path)
    status = subject.host_view.stat(path, follow=False)
    if status is None:
        message = f"there is no rootfs beside config.json ({path})"
        mend = "umoci unpacks to BUNDLE/rootfs: run the runtime with --bundle BUNDLE"
        yield Finding("rootfs-missing", CRITICAL, message, "root.path", mend, "bundle.md")
    elif stat.S_ISLNK(status.st_mode):
        message = f"{path} is a symbolic link, which runc refuses"
        yield Finding(
            "rootfs-link", CRITICAL, message, "root.path", "put the folder itself there", "bundle.md"
        )
    elif not stat.S_ISDIR(status.st_mode):
        yield Finding("rootfs-missing", CRITICAL, f"{path} is not a directory", "root.path", "", "bundle.md")


def intact(subject: Subject) -> Findings:
    """The rootfs is as `unpack` left it, and config.json as `spec` wrote it."""
    if subject.changed:
        listed = ", ".join(f"/{path}".replace("/./", "/") for path in subject.changed[:_SHOWN])
        more = f" and {len(subject.changed) - _SHOWN} more" if len(subject.changed) > _SHOWN else ""
        message = f"the rootfs was changed after it was unpacked: {listed}{more}"
        mend = "unpack it again: doit forget unpack:NAME && doit"
        yield Finding("rootfs-changed", HIGH, message, "root.path", mend, "tree record of unpack")
    if subject.is_changed_config:
        message = "config.json is not as `spec` wrote it"
        yield Finding(
            "config-changed",
            HIGH,
            message,
            "",
            "change the spec instead; doit writes it again",
            "receipt of spec",
        )


def ids(subject: Subject) -> Findings:
    """The process's user and groups are mapped (user_namespaces(7): setuid of an unmapped id is EINVAL)."""
    user = subject.process.user
    wanted = [
        ("uid", user.uid, "process.user.uid"),
        ("gid", user.gid, "process.user.gid"),
        *(
            ("gid", gid, f"process.user.additionalGids[{n}]")
            for n, gid in enumerate(user.additional_gids or ())
        ),
    ]
    for kind, number, path in wanted:
        if subject.to_host(number, kind) is None:
            message = f"{kind} {number} is not mapped: the runtime cannot become it"
            mend = f"map at least {number + 1} ids: `userns: BASE:{max(65536, number + 1)}`"
            yield Finding("id-unmapped", HIGH, message, path, mend, "user_namespaces(7)")
    for kind in ("uid", "gid"):
        if subject.to_host(0, kind) is None:
            message = f"{kind} 0 is not mapped: runc insists on it"
            yield Finding(
                "id-unmapped",
                HIGH,
                message,
                f"linux.{kind}Mappings",
                "map container id 0",
                "runc, as measured",
            )


def working_directory(subject: Subject) -> Findings:
    """The working directory is there and the process may enter it (chdir(2))."""
    cwd = normal(subject.process.cwd)
    if not subject.process.cwd.startswith("/") or covering(subject, cwd):
        return
    try:
        status = subject.rootfs.stat(cwd)
    except OSError:
        message = f"the working directory `{cwd}` is not in the rootfs"
        mend = "runtimes would make it, which a read-only or mapped root cannot: `working_dir: /`"
        yield Finding("cwd-missing", HIGH, message, "process.cwd", mend, "config.md, process.cwd")
        return
    credentials = process_credentials(subject)
    if not stat.S_ISDIR(status.st_mode):
        message = f"the working directory `{cwd}` is no directory"
        yield Finding("cwd-missing", HIGH, message, "process.cwd", "", "chdir(2), ENOTDIR")
    elif credentials and not credentials.may(status, EXECUTE):
        message = f"user {subject.process.user.uid} may not enter the working directory `{cwd}`"
        yield Finding("cwd-closed", HIGH, message, "process.cwd", "", "chdir(2), EACCES")


def home(subject: Subject) -> Findings:
    """HOME is there, and can be written: programs keep their settings and caches below it."""
    path = normal(subject.environment.get("HOME", "/"))
    cover = cover_of(subject, path)
    if cover is None and not _is_there(subject, path):
        message = f"HOME is `{path}`, which is not in the rootfs"
        yield Finding("home-missing", LOW, message, "process.env", "set HOME in `environment`", "environ(7)")
    elif "HOME" in subject.environment and not _is_writable(subject, path, cover):
        message = f"HOME is `{path}`, where user {subject.process.user.uid} cannot write"
        mend = "if the program keeps files there: a volume or tmpfs on it, or another HOME in `environment`"
        yield Finding("home-readonly", INFO, message, "process.env", mend, "environ(7)")


def _is_writable(subject: Subject, path: str, cover: Mount | None) -> bool:
    if cover is not None:
        # Whether a bind's source lets the process write is asked of the source (`bind-source-closed`).
        return "ro" not in options(cover) and cover.type not in _PSEUDO
    credentials = process_credentials(subject)
    if subject.config.root.readonly or credentials is None:
        return not subject.config.root.readonly
    try:
        return credentials.may(subject.rootfs.stat(path), WRITE + EXECUTE)
    except OSError:
        return False


def user_name(subject: Subject) -> Findings:
    """The user has a name in the rootfs, where the image has any: ssh, git, postgres and java ask for it."""
    uid = subject.process.user.uid
    try:
        with subject.rootfs.open("/etc/passwd") as stream:
            lines = stream.read(_PASSWD_BYTES).splitlines()
    except OSError:
        return
    known = {fields[2] for line in lines if len(fields := line.split(b":")) > 2}
    if known and str(uid).encode() not in known:
        message = (
            f"user {uid} has no entry in the rootfs's /etc/passwd: programs that ask for a name get none"
        )
        mend = "if the program asks: a user that the image names, or HOME and USER in `environment`"
        yield Finding("user-unnamed", INFO, message, "process.user.uid", mend, "getpwuid(3); passwd(5)")


def mount_points(subject: Subject) -> Findings:
    """Each mount point is there: a mapped root cannot make one in a rootfs that it does not own."""
    for path, mount in subject.mounts:
        target = normal(mount.destination)
        if not target.startswith("/") or target == "/" or _inside_another(subject, target):
            continue
        try:
            status = subject.rootfs.stat(target)
        except OSError:
            yield from _absent(subject, path, target)
            continue
        source = subject.host_view.stat(mount.source or "") if is_bind(mount) else None
        wants_file = source is not None and not stat.S_ISDIR(source.st_mode)
        if wants_file == stat.S_ISDIR(status.st_mode) and (source is not None or not is_bind(mount)):
            kinds = ("a directory", "a file") if wants_file else ("a file", "a directory")
            message = f"the mount point `{target}` is {kinds[0]}, and {kinds[1]} shall be mounted on it"
            yield Finding("mount-point-kind", HIGH, message, f"{path}.destination", "", "mount(2), ENOTDIR")


def _inside_another(subject: Subject, target: str) -> bool:
    """True when the place lies in what is mounted before, where the runtime can make it."""
    others = (normal(mount.destination) for _, mount in subject.mounts)
    return any(target.startswith(other.rstrip("/") + "/") for other in others)


def _absent(subject: Subject, path: str, target: str) -> Findings:
    is_mapped = subject.to_host(0) != 0
    try:
        root = subject.rootfs.stat("/")
    except OSError:
        return
    if is_mapped and root.st_uid != subject.to_host(0):
        message = f"the mount point `{target}` is not in the rootfs, and the mapped root cannot make it there"
        mend = f"mkdir -p rootfs{target}   # `unpack` does so for the mounts of the spec"
        yield Finding("mount-point-missing", HIGH, message, f"{path}.destination", mend, "user_namespaces(7)")
    else:
        message = f"the mount point `{target}` is not in the rootfs: the runtime will make it there"
        yield Finding("mount-point-missing", LOW, message, f"{path}.destination", f"mkdir -p rootfs{target}")


def healthcheck(subject: Subject) -> Findings:
    """The health check can fail, and what it runs is there."""
    test = subject.intent.healthcheck
    if not test or test[0] == "NONE":
        return
    words = " ".join(test[1:]).strip()
    if _is_vacuous(words):
        message = f"the health check `{words}` never looks at the program: it always says healthy"
        mend = "in the spec: `healthcheck: {http: …}` or `{tcp: PORT}`"
        yield Finding("healthcheck-vacuous", MEDIUM, message, "", mend, "image-spec, config.md (Healthcheck)")
    elif test[0] == "CMD-SHELL" and not _is_there(subject, "/bin/sh"):
        message = "the health check needs /bin/sh, which the image does not have"
        mend = 'in the spec: `healthcheck: {test: ["CMD", …]}`, `{http: …}` or `{tcp: PORT}`'
        yield Finding(
            "healthcheck-no-shell", MEDIUM, message, "", mend, "image-spec, config.md (Healthcheck)"
        )
    elif test[0] == "CMD" and len(test) > 1 and not _finds(subject, test[1]):
        message = f"the health check runs `{test[1]}`, which is not in the rootfs"
        yield Finding("healthcheck-no-program", MEDIUM, message, "", "`healthcheck:` in the spec replaces it")


def _is_vacuous(words: str) -> bool:
    bare = words.rstrip("; )").replace('"', "").replace("'", "")
    last = bare.split()[-1] if bare.split() else ""
    always = {"true", "/bin/true", "/usr/bin/true", ":", "exit 0", "sh -c true", "/bin/sh -c true"}
    no_look = not any(
        word in words for word in ("http", "net.", "connect", "fetch", "fs.", "require", "import")
    )
    return bare in always or (no_look and last.startswith(("process.exit(0", "sys.exit(0")))


def _finds(subject: Subject, name: str) -> bool:
    if "/" in name:
        return _is_there(subject, posixpath.join(subject.process.cwd, name))
    folders = subject.environment.get("PATH", "").split(":")
    return any(_is_there(subject, posixpath.join("/", folder, name)) for folder in folders)


def _is_there(subject: Subject, path: str) -> bool:
    try:
        subject.rootfs.stat(path)
    except OSError:
        return covering(subject, normal(path)) is not None
    return True


def readable_config(subject: Subject) -> Findings:
    """A script or settings file next to the program is not judged; said once, so that nobody relies on it."""
    credentials = process_credentials(subject)
    args = subject.process.args or ()
    for index, word in enumerate(args[1:], 1):
        if not word.startswith("/") or covering(subject, normal(word)):
            continue
        try:
            status = subject.rootfs.stat(word)
        except OSError:
            if word.endswith((".js", ".mjs", ".cjs", ".py", ".sh", ".jar")):
                message = f"the argument `{word}` looks like a file and is not in the rootfs"
                yield Finding("argument-missing", MEDIUM, message, f"process.args[{index}]")
            continue
        if stat.S_ISREG(status.st_mode) and credentials and not credentials.may(status, READ):
            message = f"user {subject.process.user.uid} may not read `{word}`"
            yield Finding("argument-unreadable", INFO, message, f"process.args[{index}]")
