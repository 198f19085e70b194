"""A bundle to be judged, in memory: a good config, a small tree, a host, and ways to spoil each of them."""

from __future__ import annotations

import copy
import errno
import io
import json
import os
import posixpath
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from pipeline.checks.form import read_form
from pipeline.checks.index import judge
from pipeline.checks.subject import HostFacts, ImageFacts, Intent, RuntimeFloor, Subject
from pipeline.model.nouns import Finding, Severity

BASE = 2_000_000_000
USER = 65532
FOLDER = "/srv/box"
ALL_CAPABILITIES = frozenset(
    {"CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SETUID"}
)


FLOOR = RuntimeFloor(
    of="runc 1.1.5",
    exact=True,
    needed={
        True: frozenset("close execve fstatfs getdents64 openat write".split()),
        False: frozenset("capset close execve fstatfs getdents64 openat prctl setuid write".split()),
    },
    sometimes=dict.fromkeys((True, False), frozenset("futex mmap rt_sigreturn sigaltstack".split())),
)
"""What runc needs of a filter, as far as the tests go."""
CRUN_FLOOR = RuntimeFloor("crun 1.8.1", True, dict.fromkeys((True, False), frozenset({"execve"})), {})
"""What crun needs."""


@dataclass
class Entry:
    """A file, folder, link or device node of a tree; ids are the host's."""

    mode: int
    uid: int = BASE
    gid: int = BASE
    content: bytes = b""
    link: str = ""
    device: int = 0

    @property
    def status(self) -> os.stat_result:
        """What stat(2) would say."""
        values = (self.mode, 1, 1, 1, self.uid, self.gid, len(self.content), 0, 0, 0)
        return os.stat_result((*values, *(0,) * 3, *(0,) * 3, 4096, 0, self.device))


class Tree:
    """A rootfs in memory; see `checks.subject.RootfsView`."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {"/": folder()}

    def put(self, path: str, entry: Entry) -> None:
        """Add an entry, and the folders above it."""
        parent = posixpath.dirname(path)
        if parent not in self.entries:
            self.put(parent, folder())
        self.entries[path] = entry

    def realpath(self, path: str) -> str:
        """Follow links by name."""
        done = "/"
        for part in posixpath.normpath("/" + path.lstrip("/")).strip("/").split("/"):
            done = posixpath.join(done, part)
            if done in self.entries and self.entries[done].link:
                done = self.realpath(posixpath.join(posixpath.dirname(done), self.entries[done].link))
        if done not in self.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return done

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """Return the status of an entry."""
        return self.entries[self.realpath(path)].status

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file."""
        entry = self.entries[self.realpath(path)]
        if not stat.S_ISREG(entry.mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield io.BytesIO(entry.content)

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        top = self.realpath(path).rstrip("/") + "/"
        return [
            name[len(top) :] for name in self.entries if name.startswith(top) and "/" not in name[len(top) :]
        ]


class Host(dict[str, Entry]):
    """The host's files by path; see `checks.subject.HostView`."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.mounted: dict[str, frozenset[str]] = {}

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """Return the status of what is there, or None."""
        entry = self.get(self.realpath(path) if follow else posixpath.normpath(path))
        return entry.status if entry else None

    def realpath(self, path: str) -> str:
        """Follow links, which are absolute here."""
        path = posixpath.normpath("/" + path.lstrip("/"))
        for name, entry in self.items():
            if entry.link and (path == name or path.startswith(name + "/")):
                return self.realpath(entry.link + path[len(name) :])
        return path

    def flags(self, path: str) -> frozenset[str]:
        """Return the flags of the nearest mount above, as `mounted` gives them."""
        places = [top for top in self.mounted if path == top or path.startswith(top.rstrip("/") + "/")]
        return self.mounted[max(places, key=len)] if places else frozenset()


def folder(mode: int = 0o755, uid: int = BASE, gid: int = BASE) -> Entry:
    """A directory."""
    return Entry(stat.S_IFDIR | mode, uid, gid)


def link(target: str) -> Entry:
    """A symbolic link to an absolute path."""
    return Entry(stat.S_IFLNK | 0o777, link=target)


def socket() -> Entry:
    """A socket."""
    return Entry(stat.S_IFSOCK | 0o666, 0, 0)


def device(major: int, minor: int, kind: int = stat.S_IFCHR) -> Entry:
    """A device node."""
    return Entry(kind | 0o666, 0, 0, device=os.makedev(major, minor))


def file(content: bytes = b"", mode: int = 0o755, uid: int = BASE, gid: int = BASE) -> Entry:
    """A regular file."""
    return Entry(stat.S_IFREG | mode, uid, gid, content)


def elf(
    interpreter: str = "", needed: tuple[str, ...] = (), runpath: str = "", rpath: str = "", machine: int = 62
) -> bytes:
    """The headers of a 64-bit ELF file, enough for a loader to know what it needs."""
    names = b"\0"
    entries = []
    for tag, text in [
        *((1, n) for n in needed),
        *(((29, runpath),) if runpath else ()),
        *(((15, rpath),) if rpath else ()),
    ]:
        entries.append((tag, len(names)))
        names += text.encode() + b"\0"
    dynamic = (
        b"".join(struct.pack("<qQ", *entry) for entry in [*entries, (5, 0x1000), (0, 0)]) if entries else b""
    )
    loader = interpreter.encode() + b"\0" if interpreter else b""
    kinds = [
        (1, 0x1000, names),
        *([(3, 0, loader)] if loader else []),
        *([(2, 0, dynamic)] if dynamic else []),
    ]
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, machine, 1, 0, 64, 0, 0, 64, 56, len(kinds), 0, 0, 0
    )
    at = 64 + 56 * len(kinds)
    table, body = b"", b""
    for kind, address, content in kinds:
        size = len(content)
        table += struct.pack("<IIQQQQQQ", kind, 4, at + len(body), address, address, size, size, 1)
        body += content
    return head + table + body


def good_tree() -> Tree:
    """A rootfs with one static program and every mount point."""
    tree = Tree()
    for path in ("/proc", "/sys", "/dev", "/tmp", "/data", "/home/box"):
        tree.put(path, folder())
    tree.put("/bin/serve", file(elf()))
    return tree


def good_host() -> Host:
    """The way to the bundle, and one bind source that the process owns."""
    return Host(
        {
            "/": folder(uid=0, gid=0),
            "/srv": folder(uid=0, gid=0),
            FOLDER: folder(0o710, 0, BASE),
            f"{FOLDER}/rootfs": folder(),
            "/srv/data": folder(0o750, BASE + USER, BASE + USER),
        }
    )


def good_config() -> dict[str, Any]:
    """A config.json that deserves no finding."""
    safe = ["nosuid", "nodev", "noexec"]
    mapping = [{"containerID": 0, "hostID": BASE, "size": 65536}]
    masked = "acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats".split()
    allowed = "close execve exit_group fstatfs futex getdents64 getpid madvise mmap nanosleep openat".split()
    allowed += ["rt_sigreturn", "sched_yield", "sigaltstack", "write"]
    masked_clone = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "process": {
            "cwd": "/",
            "args": ["/bin/serve"],
            "env": ["PATH=/bin", "HOME=/data"],
            "user": {"uid": USER, "gid": USER},
            "noNewPrivileges": True,
            "capabilities": {k: [] for k in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024},
                {"type": "RLIMIT_NPROC", "soft": 64, "hard": 64},
            ],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": safe},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["mode=755", "nosuid", "noexec", "size=64k"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*safe, "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*safe, "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [*safe, "size=16m"]},
            {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["bind", *safe, "rw"]},
        ],
        "annotations": {"org.example.name": "box"},
        "linux": {
            "namespaces": [{"type": t} for t in ("cgroup", "ipc", "mount", "network", "pid", "user", "uts")],
            "uidMappings": mapping,
            "gidMappings": copy.deepcopy(mapping),
            "rootfsPropagation": "private",
            "maskedPaths": [
                *(f"/proc/{m}" for m in masked),
                "/sys/dev/block",
                "/sys/devices/virtual/powercap",
                "/sys/firmware",
                "/sys/fs/selinux",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "memory": {"limit": 64 << 20, "swap": 64 << 20},
                "cpu": {"quota": 50000, "period": 100000},
                "pids": {"limit": 64},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [
                    {"names": allowed, "action": "SCMP_ACT_ALLOW"},
                    {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [masked_clone]},
                    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                ],
            },
        },
    }


@dataclass
class Case:
    """Everything that is judged; a test changes what it is about."""

    config: dict[str, Any] = field(default_factory=good_config)
    tree: Tree = field(default_factory=good_tree)
    host: Host = field(default_factory=good_host)
    facts: HostFacts = field(
        default_factory=lambda: HostFacts(
            cpus=4,
            memory_bytes=8 << 30,
            hard_limits={"NOFILE": 20000},
            capabilities=ALL_CAPABILITIES,
            has_swap_accounting=True,
            architecture="amd64",
            runtime="runc",
            runtime_version="1.1.5",
            floor=FLOOR,
        )
    )
    image: ImageFacts | None = None
    intent: Intent = field(default_factory=Intent)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def process(self) -> dict[str, Any]:
        """`process` of the config."""
        found: dict[str, Any] = self.config["process"]
        return found

    @property
    def linux(self) -> dict[str, Any]:
        """`linux` of the config."""
        found: dict[str, Any] = self.config["linux"]
        return found

    @property
    def resources(self) -> dict[str, Any]:
        """`linux.resources` of the config."""
        found: dict[str, Any] = self.linux["resources"]
        return found

    @property
    def mounts(self) -> list[dict[str, Any]]:
        """`mounts` of the config."""
        found: list[dict[str, Any]] = self.config["mounts"]
        return found

    @property
    def calls(self) -> list[str]:
        """The names of calls that the seccomp profile allows."""
        found: list[str] = self.linux["seccomp"]["syscalls"][0]["names"]
        return found

    def mount(self, target: str) -> dict[str, Any]:
        """The mount on a target."""
        return next(mount for mount in self.mounts if mount["destination"] == target)

    def change_facts(self, **values: Any) -> None:
        """Replace facts of the host."""
        self.facts = replace(self.facts, **values)


def findings(case: Case) -> list[Finding]:
    """What the judge says of a case."""
    form = read_form("config.json", json.dumps(case.config, indent=2))
    assert form.document is not None
    assert form.config is not None, form.findings
    subject = Subject(
        document=form.document,
        config=form.config,
        folder=FOLDER,
        rootfs=case.tree,
        host_view=case.host,
        host=case.facts,
        image=case.image,
        intent=case.intent,
        **case.extra,
    )
    return [*form.findings, *judge(subject)]


def rules(case: Case) -> set[str]:
    """The rules that speak in a case, but for what every good case has to bear.

    A profile and a user namespace are what runsc and Kata, which are not here, would pass over.
    """
    found = (f for f in findings(case) if (f.rule, f.severity) != ("no-lsm-profile", Severity.INFO))
    return {finding.rule for finding in found} - {"no-init", "drops-seccomp", "drops-user-namespace"}
