"""Every rule has a bundle that trips it, and a near miss that does not."""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pipeline.checks
from pipeline.checks.subject import (
    ImageFacts,
    Intent,
    PrivilegedFile,
    ProfileDrift,
    PublishedPort,
    TreeFacts,
    UnpackFacts,
)
from pipeline.checks.text import render_findings
from pipeline.model.nouns import Severity
from tests.judged import (
    BASE,
    CRUN_FLOOR,
    FLOOR,
    FOLDER,
    USER,
    Case,
    device,
    elf,
    file,
    findings,
    folder,
    good_config,
    link,
    rules,
    socket,
)

Change = Callable[[Case], object]
CHECKS = Path(pipeline.checks.__file__).parent
GLIBC = "/lib64/ld-linux-x86-64.so.2"
LOADER_CALLS = "arch_prctl close mmap mprotect newfstatat openat pread64 read".split()


def put(path: str, value: Any) -> Change:
    """Set a value in config.json; numbers in the path index lists."""

    def change(case: Case) -> None:
        *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        place: Any = case.config
        for part in way:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
        place[last] = value

    return change


def drop(path: str) -> Change:
    """Remove a value from config.json."""

    def change(case: Case) -> None:
        *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        place: Any = case.config
        for part in way:
            place = place[part]
        del place[last]

    return change


def add(path: str, *values: Any) -> Change:
    """Append to a list in config.json."""

    def change(case: Case) -> None:
        place: Any = case.config
        for part in path.split("."):
            place = place[int(part)] if part.isdecimal() else place.setdefault(part, [])
        place.extend(values)

    return change


def mount(target: str, *, add: tuple[str, ...] = (), without: tuple[str, ...] = (), **values: Any) -> Change:
    """Change one mount."""

    def change(case: Case) -> None:
        found = case.mount(target)
        found["options"] = [option for option in found["options"] if option not in without] + list(add)
        found.update(values)

    return change


def new_mount(target: str, kind: str | None = None, source: str | None = None, *options: str) -> Change:
    """Add a mount whose place is in the rootfs and whose source is on the host."""

    def change(case: Case) -> None:
        case.tree.put(target, folder())
        if source and source not in case.host:
            case.host[source] = folder(0o755, BASE + USER, BASE + USER)
        value = {"destination": target, "options": list(options)}
        value |= {"type": kind} if kind else {}
        case.mounts.append(value | ({"source": source} if source else {}))

    return change


def program(content: bytes = b"", **values: Any) -> Change:
    """Replace the program."""
    return lambda case: case.tree.put("/bin/serve", file(content, **values))


def dynamic(*needed: str, **values: Any) -> Change:
    """Make the program a dynamic one whose loader is there, and whose loader may make its calls."""

    def change(case: Case) -> None:
        case.tree.put(GLIBC, file(elf()))
        case.calls.extend(LOADER_CALLS)
        case.tree.put("/bin/serve", file(elf(GLIBC, needed, **values)))

    return change


def host(path: str, entry: Any) -> Change:
    """Put something on the host."""
    return lambda case: case.host.update({path: entry})


def tree(path: str, entry: Any) -> Change:
    """Put something into the rootfs."""
    return lambda case: case.tree.put(path, entry)


def facts(**values: Any) -> Change:
    """Change what is known of the host."""
    return lambda case: case.change_facts(**values)


def without_namespace(name: str) -> Change:
    """Take a namespace out."""
    return lambda case: case.linux.update(
        namespaces=[n for n in case.linux["namespaces"] if n["type"] != name]
    )


def join_namespace(name: str) -> Change:
    """Join another's namespace."""
    return lambda case: next(n for n in case.linux["namespaces"] if n["type"] == name).update(
        path="/proc/1/ns/x"
    )


def grant(
    *names: str, uid: int = USER, kinds: tuple[str, ...] = ("bounding", "effective", "permitted")
) -> Change:
    """Give capabilities."""

    def change(case: Case) -> None:
        case.process["user"]["uid"] = uid
        for kind in kinds:
            case.process["capabilities"][kind] = list(names)

    return change


def allow(*names: str) -> Change:
    """Allow calls."""
    return lambda case: case.calls.extend(names)


def refuse(*names: str) -> Change:
    """Take calls out of the profile."""

    def change(case: Case) -> None:
        for name in names:
            case.calls.remove(name)

    return change


def image(**values: Any) -> Change:
    """Say what the image's config says."""
    return lambda case: setattr(case, "image", ImageFacts(**values))


def check(*words: str) -> Change:
    """Set the health check."""
    return lambda case: setattr(case, "intent", Intent(healthcheck=words))


def extra(**values: Any) -> Change:
    """Set what `validate` looked up."""
    return lambda case: case.extra.update(values)


def drifted(pinned: bool = True, **values: Any) -> Change:
    """Set how the profile differs from its pin."""
    return extra(profile_drift=ProfileDrift("mine", pinned, **values))


def both(*changes: Change) -> Change:
    """Make several changes."""
    return lambda case: [change(case) for change in changes]


def conditional(name: str, *args: dict[str, Any]) -> Change:
    """Replace what the profile says of a call by one rule with conditions."""

    def change(case: Case) -> None:
        profile = case.linux["seccomp"]
        profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"] != [name]]
        profile["syscalls"].append({"names": [name], "action": "SCMP_ACT_ALLOW", "args": list(args)})

    return change


def eq(index: int, value: int) -> dict[str, Any]:
    """An argument that equals a value, in 64 bits."""
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def masked(mask: int, value: int = 0) -> dict[str, Any]:
    """The first argument, masked."""
    return {"index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def device_rule(**values: Any) -> Change:
    """Allow devices."""
    return add("linux.resources.devices", {"allow": True, **values})


def unified(key: str, value: str) -> Change:
    """Write a file of cgroup v2."""
    return put("linux.resources.unified", {key: value})


def unpacked(**values: Any) -> Change:
    """Say what `unpack` did."""
    return extra(unpacked=UnpackFacts(**values))


def without_mask(path: str) -> Change:
    """Show a path."""
    return lambda case: case.linux["maskedPaths"].remove(path)


def intent(**values: Any) -> Change:
    """Say what the author asked for."""
    return lambda case: setattr(case, "intent", Intent(**values))


def rights(**values: Any) -> Change:
    """Say what lies in the rootfs."""
    return extra(tree=TreeFacts(**values))


def host_mount(path: str, *flags: str) -> Change:
    """Mount a file system of the host."""
    return lambda case: case.host.mounted.update({path: frozenset(flags)})


def listens(protocol: str, address: str, port: int) -> Change:
    """Have somebody listen on the host."""
    return facts(listening=frozenset({(protocol, address, port)}))


def follows(date: str) -> Change:
    """Say which baseline the bundle follows."""
    return put("annotations", {"org.cooperage.baseline": date})


def ld_cache(paths: dict[str, str]) -> bytes:
    """An /etc/ld.so.cache in the new format."""
    start = 48 + 24 * len(paths)
    entries, texts = b"", b""
    for name, path in paths.items():
        key = start + len(texts)
        texts += name.encode() + b"\0"
        value = start + len(texts)
        texts += path.encode() + b"\0"
        entries += struct.pack("<iIIIQ", 3, key, value, 0, 0)
    header = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI3I", len(paths), len(texts), 2, 0, 0, 0, 0)
    return header + entries + texts


nothing: Change = both()
# The table of the old format, with one entry that points nowhere, up to where the new one is aligned.
OLD_TABLE = b"ld.so-1.7.0\0" + struct.pack("<I", 1) + bytes(12) + bytes(4)
APPARMOR = facts(lsm=frozenset({"apparmor"}), apparmor_profiles=frozenset({"box"}))
SELINUX = facts(lsm=frozenset({"selinux"}))
ALL_CONTROLLERS = facts(controllers=frozenset({"memory", "cpu", "pids"}))
READONLY_DATA: Change = mount("/data", add=("ro",), without=("rw",))
KEEPS_SU = unpacked(privileged=(PrivilegedFile("/bin/su", "4755", kept=True),))
MQUEUE = new_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "nodev", "noexec")
TOOL: Change = tree("/bin/tool", file(elf()))
RECENT_MASKS = (
    *("/proc/asound", "/proc/interrupts", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/dev/block", "/sys/fs/selinux"),
)
OLD_MASKS = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/scsi", "/proc/timer_list", "/sys/firmware")
MASK = 0xFFFFFFFF
TINI: Change = tree("/sbin/tini", file(elf()))
SHELL: Change = tree("/bin/sh", file(elf()))
NODE_CALLS = (
    "accept4 bind connect epoll_create1 epoll_ctl epoll_pwait eventfd2 exit fcntl fstat getrandom getsockopt "
    "listen munmap pipe2 rt_sigaction rt_sigprocmask setsockopt socket uname writev"
).split()
node = both(tree("/usr/bin/node", file(elf())), put("process.args", ["/usr/bin/node"]), allow(*LOADER_CALLS))
rlimit = "process.rlimits.1"
memory = "linux.resources.memory"

# rule, what trips it, what nearly does.
TABLE: list[tuple[str, Change, Change]] = [
    # meaning of process
    ("oci-version-unknown", put("ociVersion", "2.0.0"), put("ociVersion", "1.2.0")),
    ("no-program", put("process.args", []), put("process.args", ["/bin/serve", ""])),
    ("cwd-relative", put("process.cwd", "data"), put("process.cwd", "/data")),
    ("env-malformed", add("process.env", "NAME"), add("process.env", "NAME=")),
    ("env-duplicate", add("process.env", "PATH=/x"), add("process.env", "path=/x")),
    ("capability-unknown", grant("CAP_CHOWNN"), grant("CAP_CHOWN")),
    ("capability-inconsistent", grant("CAP_CHOWN", kinds=("effective",)), grant("CAP_CHOWN")),
    ("rlimit-unknown", put(f"{rlimit}.type", "RLIMIT_NOFILES"), put(f"{rlimit}.type", "RLIMIT_NPROC")),
    ("rlimit-duplicate", put(f"{rlimit}.type", "RLIMIT_CORE"), put(f"{rlimit}.type", "RLIMIT_CPU")),
    ("rlimit-soft-above-hard", put(f"{rlimit}.soft", 1025), put(f"{rlimit}.soft", 1024)),
    (
        "namespace-duplicate",
        add("linux.namespaces", {"type": "pid"}),
        add("linux.namespaces", {"type": "time"}),
    ),
    (
        "namespace-path-relative",
        put("linux.namespaces.3.path", "net"),
        put("linux.namespaces.3.path", "/run/netns/a"),
    ),
    ("mapping-without-userns", without_namespace("user"), nothing),
    ("userns-without-mapping", drop("linux.gidMappings"), nothing),
    ("mapping-empty", put("linux.uidMappings.0.size", 0), put("linux.uidMappings.0.size", 65533)),
    (
        "mapping-overlap",
        add("linux.uidMappings", {"containerID": 65535, "hostID": 5, "size": 1}),
        add("linux.uidMappings", {"containerID": 65536, "hostID": BASE + 65536, "size": 1}),
    ),
    ("hostname-without-uts", without_namespace("uts"), both(without_namespace("uts"), drop("hostname"))),
    ("hostname-bad", put("hostname", "my box"), put("hostname", "my-box.example")),
    (
        "sysctl-of-host",
        put("linux.sysctl", {"vm.swappiness": "1"}),
        put("linux.sysctl", {"net.core.somaxconn": "1"}),
    ),
    (
        "sysctl-without-namespace",
        both(put("linux.sysctl", {"kernel.shmmax": "1"}), without_namespace("ipc")),
        both(put("linux.sysctl", {"kernel.shmmax": "1"}), without_namespace("pid")),
    ),
    # meaning of mounts, limits and the rest
    ("root-path", put("root.path", "../rootfs"), put("root.path", f"{FOLDER}/rootfs")),
    ("root-path", put("root.path", "rootfs/../rootfs"), put("root.path", "./rootfs/")),
    ("mount-target-relative", mount("/tmp", destination="tmp"), nothing),
    ("mount-duplicate", new_mount("/data", "tmpfs"), new_mount("/data2", "tmpfs")),
    (
        "mount-order",
        both(new_mount("/a/b", "tmpfs"), new_mount("/a", "tmpfs")),
        both(new_mount("/a", "tmpfs"), new_mount("/ab", "tmpfs"), new_mount("/a/b", "tmpfs")),
    ),
    ("mount-option-unknown", mount("/tmp", add=("no-suid",)), mount("/tmp", add=("nr_inodes=9", "noatime"))),
    (
        "bind-without-source",
        new_mount("/x", "bind", None, "bind"),
        new_mount("/x", "bind", "/srv/data", "bind"),
    ),
    ("bind-source-relative", mount("/data", source="data"), nothing),
    ("mount-without-type", new_mount("/x"), new_mount("/x", None, "/srv/data", "rbind")),
    ("path-not-absolute", add("linux.maskedPaths", "proc/x"), add("linux.maskedPaths", "/proc/x")),
    ("swap-below-limit", put(f"{memory}.swap", 1 << 20), put(f"{memory}.swap", 64 << 20)),
    (
        "reservation-above-limit",
        put(f"{memory}.reservation", 65 << 20),
        put(f"{memory}.reservation", 64 << 20),
    ),
    ("memory-too-small", put(f"{memory}.limit", 512), put(f"{memory}.limit", 6 << 20)),
    ("tmpfs-above-memory", mount("/tmp", add=("size=65m",), without=("size=16m",)), nothing),
    ("cpu-period", put("linux.resources.cpu.period", 999), put("linux.resources.cpu.period", 1000)),
    ("cpu-quota", put("linux.resources.cpu.quota", 999), put("linux.resources.cpu.quota", 1000)),
    (
        "device-path",
        put("linux.devices", [{"type": "c", "path": "dev/x", "major": 1, "minor": 3}]),
        put("linux.devices", [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3}]),
    ),
    (
        "device-numbers",
        put("linux.devices", [{"type": "c", "path": "/dev/x", "major": 1}]),
        put("linux.devices", [{"type": "p", "path": "/dev/x"}]),
    ),
    (
        "device-duplicate",
        put("linux.devices", [{"type": "p", "path": "/dev/x"}] * 2),
        put("linux.devices", [{"type": "p", "path": "/dev/x"}, {"type": "p", "path": "/dev/y"}]),
    ),
    ("hook-path", put("hooks", {"poststop": [{"path": "x"}]}), put("hooks", {"poststop": [{"path": "/x"}]})),
    ("annotation-name", put("annotations", {"name": "x"}), put("annotations", {"org.example/name": "x"})),
    ("seccomp-unknown-call", extra(is_syscall="write".__ne__), extra(is_syscall="mseal".__ne__)),
    # bundle
    ("rootfs-missing", lambda case: case.host.pop(f"{FOLDER}/rootfs"), nothing),
    ("rootfs-link", lambda case: setattr(case.host[f"{FOLDER}/rootfs"], "mode", 0o120777), nothing),
    ("rootfs-changed", extra(changed=("bin/serve",)), extra(changed=())),
    ("config-changed", extra(is_changed_config=True), extra(is_changed_config=False)),
    ("program-missing", put("process.args", ["serv"]), put("process.args", ["serve"])),
    ("program-not-executable", program(elf(), mode=0o644), program(elf(), mode=0o755)),
    ("program-not-executable", program(elf(), mode=0o700), program(elf(), mode=0o700, uid=BASE + USER)),
    ("program-format", program(b"echo hi\n"), program(elf())),
    (
        "program-architecture",
        program(elf(machine=183)),
        both(program(elf(machine=183)), facts(architecture="arm64")),
    ),
    ("program-loader", program(elf(GLIBC)), dynamic()),
    (
        "program-interpreter",
        program(b"#!/bin/sh\n"),
        both(program(b"#!/bin/sh\n"), tree("/bin/sh", file(elf()))),
    ),
    (
        "program-interpreter",
        both(program(b"#!/usr/bin/env node\n"), tree("/usr/bin/env", file(elf()))),
        both(
            program(b"#!/usr/bin/env tool\n"),
            tree("/usr/bin/env", file(elf())),
            tree("/bin/tool", file(elf())),
        ),
    ),
    (
        "library-missing",
        dynamic("libx.so.1"),
        both(dynamic("libx.so.1"), tree("/usr/lib/libx.so.1", file(elf()))),
    ),
    (
        "library-missing",
        both(dynamic("libx.so.1"), tree("/app/lib/libx.so.1", file(elf()))),
        both(dynamic("libx.so.1", runpath="$ORIGIN/../app/lib"), tree("/app/lib/libx.so.1", file(elf()))),
    ),
    (
        "library-missing",
        both(dynamic("libx.so.1"), tree("/lib/libx.so.1", file(elf(machine=183)))),
        both(
            dynamic("libx.so.1"),
            tree("/app/lib/libx.so.1", file(elf())),
            add("process.env", "LD_LIBRARY_PATH=/app/lib"),
        ),
    ),
    (
        "library-missing",
        both(dynamic("liba.so"), tree("/lib/liba.so", file(elf(needed=("libb.so",))))),
        both(
            dynamic("liba.so"),
            tree("/lib/liba.so", file(elf(needed=("libb.so",)))),
            tree("/etc/ld.so.cache", file(ld_cache({"libb.so": "/opt/lib/libb.so"}))),
            tree("/opt/lib/libb.so", file(elf())),
        ),
    ),
    (
        "library-missing",
        both(
            dynamic("libx.so.1"),
            tree("/data/libx.so.1", file(elf())),
            add("process.env", "LD_LIBRARY_PATH=/data"),
        ),
        both(
            dynamic("libx.so.1"),
            host("/srv/data/libx.so.1", file()),
            add("process.env", "LD_LIBRARY_PATH=/data"),
        ),
    ),
    (
        "argument-missing",
        add("process.args", "/app/server.js"),
        add("process.args", "--x=/app/server.js", "/app/new"),
    ),
    (
        "argument-unreadable",
        both(add("process.args", "/s.js"), tree("/s.js", file(mode=0o600))),
        both(add("process.args", "/s.js"), tree("/s.js", file(mode=0o644))),
    ),
    ("id-unmapped", put("process.user.uid", 65536), put("process.user.uid", 65535)),
    ("id-unmapped", put("process.user.additionalGids", [70000]), put("process.user.additionalGids", [44])),
    ("cwd-missing", put("process.cwd", "/srv"), put("process.cwd", "/data/below/a/mount")),
    (
        "cwd-closed",
        both(put("process.cwd", "/box"), tree("/box", folder(0o700))),
        both(put("process.cwd", "/box"), tree("/box", folder(0o700, BASE + USER))),
    ),
    (
        "home-missing",
        put("process.env", ["PATH=/bin", "HOME=/home/x"]),
        put("process.env", ["PATH=/bin", "HOME=/data/x"]),
    ),
    (
        "mount-point-missing",
        both(add("mounts", {"destination": "/new", "type": "tmpfs"}), tree("/", folder(0o755, 0, 0))),
        both(add("mounts", {"destination": "/dev/new", "type": "tmpfs"}), tree("/", folder(0o755, 0, 0))),
    ),
    ("mount-point-kind", tree("/data", file()), tree("/data", folder())),
    (
        "healthcheck-vacuous",
        check("CMD", "/bin/node", "-e", "process.exit(0)"),
        check("CMD", "serve", "-e", "process.exit(1)"),
    ),
    ("healthcheck-vacuous", check("CMD-SHELL", "exit 0"), check("CMD-SHELL", "curl x || exit 0")),
    (
        "healthcheck-no-shell",
        check("CMD-SHELL", "serve --check"),
        both(check("CMD-SHELL", "serve --check"), tree("/bin/sh", file())),
    ),
    ("healthcheck-no-program", check("CMD", "curl", "x"), check("CMD", "serve", "x")),
    ("env-lost", image(environment=("LD_LIBRARY_PATH=/x",)), image(environment=("PATH=/other",))),
    ("volume-uncovered", image(volumes=("/var/x",)), image(volumes=("/data/x",))),
    # host
    ("platform-foreign", image(platform="linux/arm64/v8"), image(platform="linux/amd64")),
    ("bind-source-missing", mount("/data", source="/srv/none"), nothing),
    ("bind-source-closed", host("/srv/data", folder(0o750, USER, USER)), nothing),
    (
        "bind-source-closed",
        both(mount("/data", add=("ro",), without=("rw",)), host("/srv/data", folder(0o700, 0, 0))),
        both(mount("/data", add=("ro",), without=("rw",)), host("/srv/data", folder(0o755, 0, 0))),
    ),
    ("way-closed", host("/srv", folder(0o700, 0, 0)), host("/srv", folder(0o701, 0, 0))),
    ("way-closed", host(FOLDER, folder(0o700, 0, 0)), host(FOLDER, folder(0o710, 0, BASE))),
    (
        "way-closed",
        both(put("root.path", "/var/x/rootfs"), host("/var/x", folder(0o700, 0, 0))),
        both(
            put("root.path", "/var/x/rootfs"),
            host("/var/x", folder(0o711, 0, 0)),
            host(FOLDER, folder(0o700, 0, 0)),
        ),
    ),
    ("bundle-open", host(FOLDER, folder(0o755, 0, 0)), nothing),
    ("rlimit-above-host", put(f"{rlimit}.hard", 20001), put(f"{rlimit}.hard", 20000)),
    ("oom-score-below-host", put("process.oomScoreAdj", -1), put("process.oomScoreAdj", 0)),
    (
        "capability-not-held",
        both(without_namespace("user"), grant("CAP_BPF")),
        both(without_namespace("user"), grant("CAP_CHOWN")),
    ),
    ("memory-above-host", facts(memory_bytes=63 << 20), facts(memory_bytes=64 << 20)),
    ("cpus-above-host", put("linux.resources.cpu.quota", 400_001), put("linux.resources.cpu.quota", 400_000)),
    (
        "swap-not-accounted",
        facts(has_swap_accounting=False),
        both(facts(has_swap_accounting=False), drop(f"{memory}.swap")),
    ),
    (
        "subordinate-ids-shared",
        facts(subordinate_ids=(("uid", "ann", BASE + 65535, 65536),)),
        facts(subordinate_ids=(("uid", "ann", BASE + 65536, 65536),)),
    ),
    (
        "sysfs-host-network",
        without_namespace("network"),
        both(without_namespace("network"), drop("mounts.2")),
    ),
    ("seccomp-blocks-runtime", refuse("fstatfs"), nothing),
    (
        "seccomp-blocks-runtime",
        put("process.noNewPrivileges", False),
        both(refuse("fstatfs"), facts(runtime="crun", runtime_version="1.8.1", floor=CRUN_FLOOR)),
    ),
    ("seccomp-blocks-runtime-sometimes", refuse("futex"), nothing),
    ("floor-unmeasured", facts(floor=replace(FLOOR, exact=False)), nothing),
    ("seccomp-blocks-loader", both(dynamic(), refuse("arch_prctl")), dynamic()),
    ("seccomp-blocks-program", node, both(node, allow(*NODE_CALLS))),
    (
        "seccomp-blocks-work",
        node,
        both(node, allow(*"getsockname mkdir rename socketpair statx unlink wait4".split())),
    ),
    (
        "seccomp-architecture",
        put("linux.seccomp.architectures", ["SCMP_ARCH_AARCH64"]),
        put("linux.seccomp.architectures", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X86_64"]),
    ),
    ("seccomp-foreign-architecture", add("linux.seccomp.architectures", "SCMP_ARCH_X32"), nothing),
    # hardening
    ("runs-as-root", put("process.user", {"uid": 0, "gid": 0}), put("process.user", {"uid": 1, "gid": 1})),
    ("root-group", put("process.user.gid", 0), put("process.user.gid", 1)),
    *(
        (f"host-{name}-namespace", without_namespace(name), nothing)
        for name in "pid network ipc mount uts cgroup user".split()
    ),
    *(
        (f"joined-{name}-namespace", join_namespace(name), nothing)
        for name in ("pid", "network", "ipc", "user")
    ),
    ("low-host-ids", put("linux.uidMappings.0.hostID", 1000), put("linux.uidMappings.0.hostID", 65536)),
    ("new-privileges", drop("process.noNewPrivileges"), nothing),
    ("capabilities-unset", drop("process.capabilities"), nothing),
    ("capability-root-like", grant("CAP_SYS_ADMIN"), grant("CAP_CHOWN")),
    ("capability-added", grant("CAP_CHOWN"), grant("CAP_NET_BIND_SERVICE")),
    ("capability-bind", grant("CAP_NET_BIND_SERVICE"), nothing),
    (
        "capability-inherited",
        grant("CAP_CHOWN", uid=0, kinds=("bounding", "permitted", "inheritable")),
        grant("CAP_CHOWN", uid=0),
    ),
    ("writable-root", put("root.readonly", False), nothing),
    (
        "privileged-file",
        unpacked(privileged=(PrivilegedFile("/bin/su", "4755", kept=True),)),
        unpacked(privileged=(PrivilegedFile("/bin/su", "4755"),)),
    ),
    (
        "privilege-dropped",
        unpacked(privileged=(PrivilegedFile("/bin/su", "4755"),)),
        unpacked(privileged=(PrivilegedFile("/bin/su", "4755", kept=True),)),
    ),
    ("privileged-file-not-found", unpacked(keep_not_found=("/bin/x",)), nothing),
    ("device-dropped", unpacked(devices=("/dev/x (c)",)), nothing),
    ("xattr-dropped", unpacked(xattrs=("trusted.x (1)",)), nothing),
    ("hook", put("hooks", {"prestart": [{"path": "/bin/x"}]}), put("hooks", {"prestart": []})),
    ("env-preload", add("process.env", "LD_PRELOAD=/x.so"), add("process.env", "LD_LIBRARY_PATH=/x")),
    (
        "env-secret",
        add("process.env", "DB_PASSWORD=hunter2"),
        add("process.env", "DB_PASSWORD_FILE=/data/password"),
    ),
    ("memory-unlimited", put(memory, {}), nothing),
    ("swap-unlimited", drop(f"{memory}.swap"), nothing),
    ("swap-allowed", put(f"{memory}.swap", 65 << 20), nothing),
    ("oom-killer-off", put(f"{memory}.disableOOMKiller", True), put(f"{memory}.disableOOMKiller", False)),
    ("pids-unlimited", put("linux.resources.pids.limit", 0), put("linux.resources.pids.limit", 1)),
    ("cpu-unlimited", drop("linux.resources.cpu"), nothing),
    ("core-dumps", put("process.rlimits.0.hard", 1), nothing),
    ("nofile-unset", put("process.rlimits", []), nothing),
    (
        "no-lsm-profile",
        APPARMOR,
        both(APPARMOR, put("process.apparmorProfile", "box")),
    ),
    ("no-lsm-profile", SELINUX, both(SELINUX, put("process.selinuxLabel", "a:b:container_t:s0"))),
    ("unmasked-path", drop("linux.maskedPaths.3"), nothing),
    ("unmasked-path-recent", drop("linux.maskedPaths.2"), both(drop("linux.maskedPaths"), put("mounts", []))),
    (
        "unmasked-thermal",
        facts(thermal_cpus=1),
        both(
            facts(thermal_cpus=1), add("linux.maskedPaths", "/sys/devices/system/cpu/cpu0/thermal_throttle")
        ),
    ),
    (
        "writable-proc",
        drop("linux.readonlyPaths"),
        both(drop("linux.readonlyPaths"), mount("/proc", add=("ro",))),
    ),
    ("engine-socket", new_mount("/x", "bind", "/run/docker.sock", "bind", "ro"), nothing),
    (
        "sensitive-bind",
        new_mount("/x", "bind", "/etc", "bind", "ro"),
        new_mount("/x", "bind", "/etc/ssl/certs", "bind", "ro"),
    ),
    (
        "sensitive-bind",
        new_mount("/x", "bind", "/", "bind", "ro"),
        new_mount("/x", "bind", "/etcetera", "bind", "ro"),
    ),
    ("bind-exec", mount("/data", without=("noexec",)), mount("/data", without=("noexec", "rw"), add=("ro",))),
    ("bind-flags", mount("/data", without=("nodev",)), nothing),
    ("tmpfs-flags", mount("/tmp", without=("nodev",)), mount("/tmp", without=("noexec",))),
    ("tmpfs-unsized", mount("/tmp", without=("size=16m",)), nothing),
    ("tmpfs-exec", mount("/tmp", without=("noexec",)), nothing),
    ("pseudo-flags", mount("/proc", without=("noexec",)), nothing),
    ("cgroup-writable", mount("/sys/fs/cgroup", without=("ro",)), nothing),
    ("sysfs-writable", mount("/sys", without=("ro",)), nothing),
    ("limits-invisible", drop("mounts.3"), both(drop("mounts.3"), put(memory, {}))),
    ("shared-propagation", mount("/data", add=("rshared",)), mount("/data", add=("rslave",))),
    ("shared-propagation", put("linux.rootfsPropagation", "shared"), put("linux.rootfsPropagation", "slave")),
    (
        "device-added",
        put("linux.devices", [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3}]),
        put("linux.devices", []),
    ),
    (
        "device-added",
        new_mount("/dev/dri", "bind", "/dev/dri", "bind"),
        new_mount("/dri", "bind", "/srv/dri", "bind"),
    ),
    (
        "devices-not-denied",
        put("linux.resources.devices", []),
        put("linux.resources.devices", [{"allow": False}]),
    ),
    (
        "devices-open",
        add("linux.resources.devices", {"allow": True, "access": "rwm"}),
        add("linux.resources.devices", {"allow": True, "type": "c", "major": 1, "minor": 3}),
    ),
    ("seccomp-widened", drifted(opened=("x86_64: mount",)), drifted(closed=("x86_64: mount",))),
    ("seccomp-narrowed", drifted(closed=("x86_64: mount",)), drifted()),
    ("seccomp-unpinned", drifted(pinned=False), nothing),
    ("seccomp-missing", drop("linux.seccomp"), nothing),
    ("seccomp-default-allows", put("linux.seccomp.defaultAction", "SCMP_ACT_LOG"), nothing),
    (
        "seccomp-kills-thread",
        put("linux.seccomp.defaultAction", "SCMP_ACT_KILL"),
        put("linux.seccomp.defaultAction", "SCMP_ACT_KILL_PROCESS"),
    ),
    ("seccomp-escape", allow("bpf"), both(allow("bpf"), grant("CAP_SYS_ADMIN"))),
    ("seccomp-clone3", drop("linux.seccomp.syscalls.2"), put("linux.seccomp.syscalls.2.errnoRet", 38)),
    ("seccomp-clone3", allow("clone3"), allow("clone3", "clone")),
    ("seccomp-clone-flags", allow("clone"), nothing),
    ("seccomp-socket-families", allow("socket"), nothing),
    # what was found by changing a good config in every way that loosens it
    ("bind-flags", mount("/data", add=("suid",)), mount("/data", add=("suid", "nosuid"))),
    ("bind-flags", mount("/data", add=("rdev",)), mount("/data", without=("nodev",), add=("rnodev",))),
    ("bind-exec", mount("/data", add=("exec",)), mount("/data", add=("exec", "noexec"))),
    ("cgroup-writable", mount("/sys/fs/cgroup", add=("rw",)), mount("/sys/fs/cgroup", add=("rw", "ro"))),
    ("sysfs-writable", mount("/sys", add=("rrw", "ro")), mount("/sys", add=("rw", "rro"))),
    ("seccomp-escape", conditional("unshare", eq(0, 0)), allow("getcwd")),
    ("seccomp-escape", allow("chroot"), nothing),
    ("seccomp-clone-flags", conditional("clone", eq(1, 0)), conditional("clone", masked(0x7E020000))),
    ("seccomp-clone-flags", conditional("clone", masked(0x10000000)), conditional("clone", masked(MASK))),
    (
        "seccomp-clone-flags",
        conditional("clone", masked(0x7E020000), masked(0x1)),
        conditional("clone", masked(0x7E020000), eq(2, 0)),
    ),
    ("seccomp-clone-flags", conditional("clone", masked(MASK, 0x10000000)), nothing),
    ("seccomp-clone3", conditional("clone3", eq(1, 88)), nothing),
    (
        "seccomp-socket-families",
        conditional("socket", {"index": 0, "value": 38, "op": "SCMP_CMP_NE"}),
        conditional("socket", masked(MASK, 2)),
    ),
    ("seccomp-socket-families", conditional("socket", masked(MASK, 38)), conditional("socket", eq(0, 1))),
    ("seccomp-socket-families", conditional("socket", masked(0xFFFF, 2)), nothing),
    ("seccomp-wide-compare", conditional("socket", eq(0, 2)), conditional("socket", masked(MASK, 2))),
    (
        "seccomp-decided-elsewhere",
        put("linux.seccomp.syscalls.2.action", "SCMP_ACT_TRACE"),
        put("linux.seccomp.syscalls.2.action", "SCMP_ACT_TRAP"),
    ),
    ("seccomp-decided-elsewhere", put("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY"), nothing),
    ("seccomp-listener", put("linux.seccomp.listenerPath", "/run/x"), nothing),
    (
        "seccomp-spec-allow",
        put("linux.seccomp.flags", ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        put("linux.seccomp.flags", ["SECCOMP_FILTER_FLAG_LOG"]),
    ),
    ("seccomp-architecture", put("linux.seccomp.architectures", ["SCMP_ARCH_X32"]), nothing),
    *(
        ("devices-open", device_rule(**loose), device_rule(**tight))
        for loose, tight in (
            ({"type": "c", "major": -1}, {"type": "c", "major": 1, "minor": 3}),
            ({"type": "c", "minor": 3}, {"type": "c", "access": "m"}),
            ({"type": "a", "major": 1, "minor": 3}, {"type": "c", "major": 136}),
            ({"major": 1, "minor": 3}, {"type": "c", "major": 5, "minor": 2}),
        )
    ),
    (
        "device-rule-without-device",
        device_rule(type="c", major=10, minor=200),
        both(
            device_rule(type="c", major=10, minor=200),
            put("linux.devices", [{"type": "c", "path": "/dev/net/tun", "major": 10, "minor": 200}]),
        ),
    ),
    (
        "device-rule-without-device",
        device_rule(type="b", major=1, minor=3),
        both(
            device_rule(type="c", major=10, minor=229),
            host("/dev/fuse", device(10, 229)),
            new_mount("/dev/fuse", "bind", "/dev/fuse", "bind"),
        ),
    ),
    *(
        ("cgroups-path", put("linux.cgroupsPath", loose), put("linux.cgroupsPath", tight))
        for loose, tight in (("/", "/boxes/one"), ("//.", "boxes.slice:a:b"), ("/a/../..", "/a..b"))
    ),
    *(
        ("unified-contradicts", unified(key, loose), unified(key, tight))
        for key, loose, tight in (
            ("memory.max", "max", "67108864"),
            ("memory.max", "65M", "64M"),
            ("memory.swap.max", "1", "0"),
            ("pids.max", "max", "64"),
            ("cpu.max", "max 100000", "50000 100000"),
            ("cpu.max", "50001", "50000"),
        )
    ),
    ("mount-type", new_mount("/x", "ext4", "/dev/x"), new_mount("/x", "none", "/srv/x", "bind")),
    ("mount-type", new_mount("/x", "proc", "/srv/x", "bind"), new_mount("/x", "bind", "/srv/x", "rbind")),
    ("pseudo-elsewhere", new_mount("/x", "proc", "proc"), mount("/proc", destination="//proc/")),
    ("pseudo-elsewhere", new_mount("/x", "sysfs", "sysfs"), nothing),
    ("proc-missing", drop("mounts.0"), nothing),
    ("tmpfs-unsized", mount("/tmp", add=("size=0",)), mount("/tmp", add=("size=0", "size=0x10m"))),
    ("tmpfs-unsized", mount("/tmp", add=("size=0%",)), nothing),
    ("tmpfs-percent", mount("/tmp", add=("size=10%",)), mount("/tmp", add=("size=10",))),
    ("tmpfs-size-bad", mount("/tmp", add=("size=banana",)), mount("/tmp", add=("size=1G",))),
    (
        "mount-maps-root",
        mount("/data", uidMappings=[{"containerID": 0, "hostID": 0, "size": 1}]),
        mount("/data", uidMappings=[{"containerID": 0, "hostID": BASE, "size": 1}]),
    ),
    *(
        (
            "mount-over-system",
            new_mount(bad, "bind", "/srv/x", "bind"),
            new_mount(good, "bind", "/srv/x", "bind"),
        )
        for bad, good in (
            ("/sys/fs/cgroup", "/system"),
            ("/proc/sys", "/process"),
            ("/sys/fs/bpf", "/proc/meminfo"),
        )
    ),
    ("mount-over-system", mount("/data", destination="//dev"), mount("/data", destination="//data")),
    ("mount-over-system", new_mount("/", "tmpfs", "tmpfs"), nothing),
    ("mount-over-system", tree("/data", link("/proc")), tree("/data", link("/home"))),
    *(
        (
            "sensitive-bind",
            new_mount("/x", "bind", bad, "bind", mode),
            new_mount("/x", "bind", good, "bind", mode),
        )
        for bad, good, mode in (
            ("//etc", "/etc/hosts", "ro"),
            ("/etc/hosts", "/srv/etc", "rw"),
            ("/var", "/var/lib/box", "ro"),
            ("/home", "/home/me/music", "ro"),
            ("/home/me", "/home/me/box/data", "ro"),
            ("/home/me/.ssh", "/home/me/ssh", "ro"),
            ("/usr/bin", "/srv/bin", "rw"),
            ("/lib64", "/library", "rw"),
            ("/var/lib/kubelet/pods", "/var/lib/kube", "ro"),
            ("/dev/../etc", "/srv/../srv/x", "ro"),
        )
    ),
    (
        "sensitive-bind",
        both(host("/srv/way", link("/etc")), host("/etc", folder()), mount("/data", source="/srv/way")),
        both(host("/srv/way", link("/srv/data")), mount("/data", source="/srv/way")),
    ),
    ("sensitive-bind", new_mount("/x", "bind", "/etc/tini", "bind", "ro"), nothing),
    (
        "socket-bind",
        both(host("/srv/s", socket()), tree("/s", file()), new_mount("/s", "bind", "/srv/s", "bind")),
        both(host("/srv/s", file()), tree("/s", file()), new_mount("/s", "bind", "/srv/s", "bind")),
    ),
    (
        "engine-socket",
        both(host("/srv/s", link("/run/docker.sock")), mount("/data", source="/srv/s")),
        mount("/data", source="/srv/docker.socks"),
    ),
    (
        "device-added",
        both(host("/srv/disk", device(8, 0, 0o060000)), mount("/data", source="/srv/disk")),
        both(host("/srv/disk", file()), mount("/data", source="/srv/disk")),
    ),
    *(
        ("annotation-obeyed", put("annotations", {bad: "x"}), put("annotations", {good: "x"}))
        for bad, good in (
            ("run.oci.keep_original_groups", "run.ocis.x"),
            ("org.criu.config", "org.criu.configuration"),
            ("bundle", "org.example.bundle"),
            ("org.systemd.property.ExecStart", "org.systemd.x"),
            ("module.wasm.image/variant", "org.example/module.wasm"),
        )
    ),
    ("lsm-unconfined", put("process.apparmorProfile", "unconfined"), put("process.apparmorProfile", "x")),
    (
        "lsm-unconfined",
        put("process.selinuxLabel", "system_u:system_r:spc_t:s0"),
        put("process.selinuxLabel", "system_u:system_r:container_t:s0"),
    ),
    (
        "id-unmapped",
        put("linux.gidMappings", [{"containerID": 1, "hostID": BASE + 1, "size": 65535}]),
        put("linux.gidMappings", [{"containerID": 0, "hostID": BASE, "size": 65533}]),
    ),
    ("terminal", put("process.terminal", True), put("process.terminal", False)),
    ("umask-open", put("process.user.umask", 0), put("process.user.umask", 0o022)),
    *(
        ("loose-propagation", put("linux.rootfsPropagation", bad), put("linux.rootfsPropagation", "rprivate"))
        for bad in ("slave", "unbindable")
    ),
    ("loose-propagation", drop("linux.rootfsPropagation"), nothing),
    ("unmasked-path-recent", without_mask("/sys/dev/block"), nothing),
    (
        "personality",
        put("linux.personality", {"domain": "LINUX32"}),
        put("linux.personality", {"domain": "LINUX"}),
    ),
    ("intel-rdt", put("linux.intelRdt", {"closID": "x"}), nothing),
    ("hostname-bad", put("domainname", "a b"), put("domainname", "example.org")),
    (
        "pids-above-host",
        put("linux.resources.pids.limit", 2**22 + 1),
        put("linux.resources.pids.limit", 2**22),
    ),
    ("env-control", add("process.env", "A=\x1b[2J"), add("process.env", "A=b\n\tc")),
    *(
        ("sysctl-of-host", put("linux.sysctl", {bad: "1"}), put("linux.sysctl", {good: "1"}))
        for bad, good in (
            ("kernel.shm_next_id", "kernel.shm_rmid_forced"),
            ("kernel.msg_next_id", "kernel/msgmax"),
            ("net/../kernel/core_pattern", "net/ipv4/conf/eth0.1/forwarding"),
        )
    ),
    (
        "sysctl-hostname",
        put("linux.sysctl", {"kernel/hostname": "x"}),
        put("linux.sysctl", {"kernel.domainname": "x"}),
    ),
    (
        "env-writable-library",
        both(add("process.env", "LD_LIBRARY_PATH=/app:/data/lib"), mount("/data", add=("exec",))),
        add("process.env", "LD_LIBRARY_PATH=/app:/data/lib"),
    ),
    (
        "env-writable-library",
        both(add("process.env", "LD_PRELOAD=/tmp/x.so"), mount("/tmp", add=("exec",))),
        both(add("process.env", "LD_PRELOAD=/tmp/x.so"), mount("/tmp", add=("exec", "ro"))),
    ),
    (
        "env-secret",
        add("process.env", "DB=postgres://me:hunter2@db/x"),
        add("process.env", "DB=postgres://me@db:5432/x"),
    ),
    # programs that start others, and scripts as the kernel reads them
    (
        "program-missing",
        put("process.args", ["/sbin/tini", "-e", "143", "-p", "SIGKILL", "--", "gone"]),
        both(TINI, put("process.args", ["/sbin/tini", "-e", "143", "-p", "SIGKILL", "--", "serve"])),
    ),
    (
        "program-missing",
        both(TINI, put("process.args", ["/sbin/tini", "-x", "1", "--", "gone"])),
        both(TINI, put("process.args", ["/sbin/tini", "-x", "1", "gone"])),
    ),
    (
        "program-missing",
        both(tree("/bin/dumb-init", file(elf())), put("process.args", ["dumb-init", "-r", "15:3", "gone"])),
        both(tree("/bin/dumb-init", file(elf())), put("process.args", ["dumb-init", "-r", "15:3", "serve"])),
    ),
    (
        "program-missing",
        both(tree("/bin/env", file(elf())), put("process.args", ["/bin/env", "-u", "A", "B=1", "gone"])),
        both(tree("/bin/env", file(elf())), put("process.args", ["/bin/env", "-u", "A", "B=1", "serve"])),
    ),
    (
        "program-interpreter",
        both(program(b"#!/bin/env -S -u BAR A=1 gone\n"), tree("/bin/env", file(elf()))),
        both(program(b"#!/bin/env -S A=1 -u BAR sh\n"), tree("/bin/env", file(elf())), SHELL),
    ),
    (
        "program-interpreter",
        both(program(b"#!/bin/sh\r\n"), SHELL),
        both(program(b"#! \t/bin/sh \t-e \n"), SHELL),
    ),
    ("program-interpreter", both(program(b"#!sh\n"), SHELL), both(program(b"#!bin/sh\n"), SHELL)),
    (
        "program-interpreter",
        both(program(b"#!/bin/env tool --fast\n"), tree("/bin/env", file(elf())), TOOL),
        both(program(b"#!/bin/env -S tool --fast\n"), tree("/bin/env", file(elf())), TOOL),
    ),
    (
        "program-interpreter",
        both(program(b"#!/" + b"b" * 300 + b"/sh\n"), tree(f"/{'b' * 300}/sh", file(elf()))),
        both(program(b"#!/" + b"b" * 240 + b"/sh\n"), tree(f"/{'b' * 240}/sh", file(elf()))),
    ),
    (
        "program-line-cut",
        both(program(b"#!/bin/sh " + b"x" * 300 + b"\n"), SHELL),
        both(program(b"#!/bin/sh " + b"x" * 240 + b"\n"), SHELL),
    ),
    ("program-set-id", program(elf(), mode=0o4755), program(elf(), mode=0o1755)),
    (
        "program-set-id",
        both(program(b"#!/bin/sh\n"), tree("/bin/sh", file(elf(), mode=0o2755))),
        both(program(b"#!/bin/sh\n"), SHELL),
    ),
    (
        "library-missing",
        both(
            dynamic("libx.so.1"),
            tree("/etc/ld.so.conf", file(b"/opt/lib\n")),
            tree("/opt/lib/libx.so.1", file(elf())),
        ),
        both(
            dynamic("libx.so.1"),
            tree("/etc/ld.so.cache", file(OLD_TABLE + ld_cache({"libx.so.1": "/opt/lib/libx.so.1"}))),
            tree("/opt/lib/libx.so.1", file(elf())),
        ),
    ),
    (
        "library-missing",
        both(
            dynamic("libx.so.1"),
            tree("/etc/ld.so.cache", file(ld_cache({"libx.so.1": "/gone/libx.so.1"}))),
        ),
        both(
            dynamic("libx.so.1"),
            tree("/etc/ld.so.cache", file(ld_cache({"libx.so.1": "/gone/libx.so.1"}))),
            tree("/usr/lib/libx.so.1", file(elf())),
        ),
    ),
    (
        "library-missing",
        both(
            program(elf("/lib/ld-musl-x86_64.so.1", ("libx.so",))),
            tree("/lib/ld-musl-x86_64.so.1", file(elf())),
            tree("/lib64/libx.so", file(elf())),
        ),
        both(
            program(elf("/lib/ld-musl-x86_64.so.1", ("libx.so",))),
            tree("/lib/ld-musl-x86_64.so.1", file(elf())),
            tree("/etc/ld-musl-x86_64.path", file(b"/lib:/opt/x\n")),
            tree("/opt/x/libx.so", file(elf())),
        ),
    ),
    # the user, its home, the image's own words
    (
        "user-unnamed",
        tree("/etc/passwd", file(b"root:x:0:0::/:/bin/sh\n")),
        tree("/etc/passwd", file(b"root:x:0:0::/:\nbox:x:65532:65532::/:\n")),
    ),
    (
        "home-readonly",
        put("process.env", ["PATH=/bin", "HOME=/home/box"]),
        both(
            put("process.env", ["PATH=/bin", "HOME=/home/box"]),
            put("root.readonly", False),
            tree("/home/box", folder(0o700, BASE + USER)),
        ),
    ),
    ("home-readonly", mount("/data", add=("ro",)), put("process.env", ["PATH=/bin", "HOME=/tmp"])),
    ("home-readonly", put("process.env", ["PATH=/bin", "HOME=/proc"]), put("process.env", ["PATH=/bin"])),
    ("image-program", image(entrypoint=("/app/run",)), image(entrypoint=("/bin/serve",), command=("-v",))),
    (
        "image-program",
        image(command=("/app/run", "x")),
        both(
            TINI, put("process.args", ["/sbin/tini", "--", "/bin/serve"]), image(entrypoint=("/bin/serve",))
        ),
    ),
    ("image-user", image(user="1000:1000"), image(user="65532:0")),
    (
        "image-user",
        both(image(user="www"), put("process.user", {"uid": 0, "gid": 0})),
        both(image(user="root"), put("process.user", {"uid": 0, "gid": 0})),
    ),
    ("image-cwd", image(working_dir="/app"), image(working_dir="//")),
    ("env-shorter", image(environment=("PATH=/bin:/app/bin",)), image(environment=("PATH=/bin",))),
    (
        "healthcheck-dropped",
        image(healthcheck=("CMD", "/bin/x")),
        both(image(healthcheck=("CMD", "/bin/x")), intent(has_probe=True)),
    ),
    ("healthcheck-dropped", image(healthcheck=("CMD-SHELL", "x")), image(healthcheck=("NONE",))),
    (
        "stop-signal-lost",
        image(stop_signal="SIGQUIT"),
        both(
            image(stop_signal="SIGQUIT"),
            put("annotations", {"org.opencontainers.image.stopSignal": "SIGQUIT"}),
        ),
    ),
    (
        "port-unpublished",
        both(image(exposed_ports=("80/tcp",)), intent(ports=(PublishedPort("127.0.0.1", 80, 8080),))),
        both(image(exposed_ports=("80/tcp",)), intent(ports=(PublishedPort("127.0.0.1", 8080, 80),))),
    ),
    ("port-unpublished", image(exposed_ports=("53/udp",)), image(exposed_ports=("a-name",))),
    # what lies in the rootfs
    ("rootfs-set-id", rights(set_id=("/bin/su",)), both(rights(set_id=("/bin/su",)), KEEPS_SU)),
    (
        "rootfs-file-capability",
        rights(capabilities=("/bin/su",)),
        both(rights(capabilities=("/bin/su",)), KEEPS_SU),
    ),
    ("rootfs-device", rights(devices=("/dev/sda",)), nothing),
    (
        "rootfs-world-writable",
        both(rights(world_writable=("/etc",)), put("root.readonly", False)),
        rights(world_writable=("/etc",)),
    ),
    ("rootfs-unread", rights(unread=("/deep",)), nothing),
    # the sources of binds
    (
        "bind-source-link",
        both(host("/srv/way", link("/srv/data")), mount("/data", source="/srv/way")),
        mount("/data", source="/srv/../srv/data"),
    ),
    ("bind-source-readonly", host_mount("/srv", "ro"), both(host_mount("/srv", "ro"), READONLY_DATA)),
    (
        "bind-source-noexec",
        both(host_mount("/srv", "noexec"), mount("/data", without=("noexec",))),
        both(host_mount("/srv", "noexec", "nosuid"), host_mount("/srv/dat", "ro")),
    ),
    (
        "bind-source-in-bundle",
        new_mount("/x", "bind", f"{FOLDER}/data", "bind"),
        new_mount("/x", "bind", f"{FOLDER}-data", "bind"),
    ),
    ("bind-source-in-bundle", new_mount("/x", "bind", "/srv", "bind", "ro"), nothing),
    (
        "bind-source-foreign",
        host("/srv/data", folder(0o777, 1000, 1000)),
        both(host("/srv/data", folder(0o775, 1000, BASE + USER)), READONLY_DATA),
    ),
    # the host
    ("cpuset-above-host", put("linux.resources.cpu.cpus", "0-4"), put("linux.resources.cpu.cpus", "0-2,3")),
    (
        "port-taken",
        both(intent(ports=(PublishedPort("127.0.0.1", 80, 8080),)), listens("tcp", "::", 80)),
        both(intent(ports=(PublishedPort("127.0.0.1", 80, 8080),)), listens("tcp", "10.0.0.1", 80)),
    ),
    (
        "port-taken",
        both(without_namespace("network"), image(exposed_ports=("53/udp",)), listens("udp", "::", 53)),
        both(without_namespace("network"), image(exposed_ports=("53/udp",)), listens("tcp", "::", 53)),
    ),
    (
        "kernel-namespace",
        facts(namespaces=frozenset({"pid", "mount"})),
        facts(namespaces=frozenset("cgroup ipc mount network pid user uts".split())),
    ),
    (
        "kernel-seccomp",
        facts(seccomp_actions=frozenset({"allow", "trap"})),
        facts(seccomp_actions=frozenset({"allow", "errno"})),
    ),
    ("kernel-seccomp", facts(seccomp_actions=frozenset()), facts(seccomp_actions=None)),
    (
        "kernel-controller",
        facts(controllers=frozenset({"memory", "cpu"})),
        facts(controllers=frozenset({"memory", "cpu", "pids"})),
    ),
    *(
        ("kernel-controller", both(ALL_CONTROLLERS, asked), ALL_CONTROLLERS)
        for asked in (
            put("linux.resources.cpu.cpus", "0"),
            put("linux.resources.blockIO", {"weight": 10}),
            put("linux.resources.hugepageLimits", [{"pageSize": "2MB", "limit": 0}]),
        )
    ),
    (
        "kernel-filesystem",
        both(facts(filesystems=frozenset("proc sysfs tmpfs cgroup2".split())), MQUEUE),
        both(facts(filesystems=frozenset("proc sysfs tmpfs cgroup2 mqueue".split())), MQUEUE),
    ),
    (
        "kernel-idmap",
        both(facts(kernel=(5, 10)), mount("/data", add=("idmap",))),
        both(facts(kernel=(6, 1)), mount("/data", add=("idmap",))),
    ),
    (
        "lsm-absent",
        put("process.apparmorProfile", "box"),
        both(APPARMOR, put("process.apparmorProfile", "box")),
    ),
    (
        "lsm-absent",
        put("process.selinuxLabel", "a:b:c:s0"),
        both(SELINUX, put("process.selinuxLabel", "a:b:c:s0")),
    ),
    (
        "lsm-absent",
        put("linux.mountLabel", "a:b:c:s0"),
        both(put("linux.mountLabel", "a:b:c:s0"), facts(lsm=frozenset({"apparmor", "selinux"}))),
    ),
    (
        "lsm-profile-missing",
        both(APPARMOR, put("process.apparmorProfile", "bocks")),
        both(APPARMOR, put("process.apparmorProfile", "bocks"), facts(apparmor_profiles=None)),
    ),
    # the forty, where they had no row of their own
    ("root-group", put("process.user.additionalGids", [0]), put("process.user.additionalGids", [44])),
    ("joined-time-namespace", add("linux.namespaces", {"type": "time", "path": "/proc/1/ns/time"}), nothing),
    ("nproc-unset", drop("process.rlimits.2"), both(drop("process.rlimits.2"), without_namespace("user"))),
    ("nofile-unset", put(f"{rlimit}.hard", (1 << 20) + 1), put(f"{rlimit}.hard", 1 << 20)),
    ("capability-inherited", grant("CAP_CHOWN", kinds=("permitted", "ambient", "inheritable")), nothing),
    ("baseline-old", follows("2023-10"), follows("2026-11")),
    ("baseline-old", follows("1999-01"), nothing),
    *(("unmasked-path-recent", without_mask(path), nothing) for path in RECENT_MASKS),
    *(("unmasked-path", without_mask(path), nothing) for path in OLD_MASKS),
    *(("writable-proc", drop(f"linux.readonlyPaths.{index}"), nothing) for index in range(5)),
    *(
        ("sensitive-bind", new_mount("/x", "bind", path, "bind", "ro"), nothing)
        for path in (
            *("/", "/etc", "/proc", "/sys", "/dev", "/var/run", "/run", "/root", "/root/.ssh", "/boot"),
            *("/home/me/.ssh", "/var/lib/kubelet", "/var/lib/docker", "/var/lib/containers", "/var/lib/crio"),
            *("/etc/kubernetes", "/var/spool/cron", "/var/lib/rancher", "/run/containerd"),
        )
    ),
    *(
        ("engine-socket", new_mount("/x", "bind", path, "bind", "ro"), nothing)
        for path in (
            *("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock"),
            *("/run/podman/podman.sock", "/run/crio/crio.sock", "/run/user/1000/podman/podman.sock"),
            *("/run/buildkit/buildkitd.sock", "/run/cri-dockerd.sock"),
        )
    ),
]
EXCEPT = {
    "no-init": "every good case has it; see test_a_program_without_init_is_told",
    "not-json": "form, see test_checks_form.py",
    "waiver-unused": "see test_checks_waivers.py",
}


@pytest.mark.parametrize(
    ("rule", "trip", "miss"), TABLE, ids=[f"{n}-{row[0]}" for n, row in enumerate(TABLE)]
)
def test_each_rule_trips_and_lets_the_near_miss_pass(rule: str, trip: Change, miss: Change) -> None:
    tripped, missed = Case(), Case()
    trip(tripped)
    miss(missed)
    assert rule in rules(tripped)
    assert rule not in rules(missed)


def test_a_good_bundle_deserves_no_finding() -> None:
    assert rules(Case()) == set()


def test_image_content_cannot_speak_to_the_terminal() -> None:
    case = Case()
    case.process["args"] = ["/bin/\x1b[2Jserve\u202e"]
    case.process["env"] += ["\x9b31mX"]
    case.extra["unpacked"] = UnpackFacts(privileged=(PrivilegedFile("/bin/su\n\x07", "4755"),))
    found = findings(case)
    text = render_findings(found)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "the program `/bin/\\x1b[2Jserve\\u202e` is not in the rootfs" in text
    (dropped,) = [f for f in found if f.rule == "privilege-dropped"]
    assert dropped.message == "took set-id bits or file capabilities from /bin/su\\n\\x07 (4755)"


def test_a_secret_is_not_shown_with_its_finding() -> None:
    case = Case()
    case.process["env"] += ["DB_PASSWORD=hunter2"]
    text = render_findings(findings(case))
    assert "medium[env-secret]: `DB_PASSWORD` looks like a secret" in text
    assert "hunter2" not in text


def test_a_link_of_the_host_is_named_with_what_it_leads_to() -> None:
    case = Case()
    case.host |= {"/srv/way": link("/etc"), "/etc": folder()}
    case.mount("/data")["source"] = "/srv/way"
    (found,) = [f for f in findings(case) if f.rule == "sensitive-bind"]
    assert found.message == "the bind shows `/srv/way` (really `/etc`) of the host to the program"
    assert found.severity is Severity.CRITICAL
    case = Case()
    case.host |= {"/etc/resolv.conf": link("/run/connman/resolv.conf"), "/run/connman/resolv.conf": file()}
    case.tree.put("/r", file())
    case.mounts.append({"destination": "/r", "type": "bind", "source": "/etc/resolv.conf", "options": ["ro"]})
    assert "sensitive-bind" not in rules(case)


def test_a_script_with_windows_line_ends_is_told_so() -> None:
    case = Case()
    case.tree.put("/bin/serve", file(b"#!/bin/sh\r\necho\r\n"))
    (found,) = [f for f in findings(case) if f.rule == "program-interpreter"]
    assert found.message == (
        "the script `/bin/serve` has Windows line ends: its first line asks for `/bin/sh\\r`, "
        "carriage return included"
    )


def test_a_host_without_a_security_module_is_told_too() -> None:
    (found,) = [f for f in findings(Case()) if f.rule == "no-lsm-profile"]
    assert found.severity is Severity.INFO
    assert found.message.startswith("no security module confines the program: neither is one named")


def test_the_good_config_is_made_anew_each_time() -> None:
    first = good_config()
    first["linux"]["maskedPaths"].clear()
    assert good_config()["linux"]["maskedPaths"]


def test_a_program_without_init_is_told() -> None:
    (found,) = [f for f in findings(Case()) if f.rule == "no-init"]
    assert found.message == "`/bin/serve` will be PID 1, where a signal without a handler does nothing"
    assert found.mend == "if `smoke` reports that it does not stop: `init: true`"
    case = Case()
    case.process["args"] = ["/dev/init", "--", "/bin/serve"]
    assert "no-init" not in {f.rule for f in findings(case)}


def test_every_rule_is_in_the_table() -> None:
    named: set[str] = set()
    for path in CHECKS.glob("*.py"):
        if path.name not in ("form.py", "text.py"):
            named |= {rule for rule in _first_words(ast.parse(path.read_text())) if rule}
    from tests import test_checks_meaning, test_checks_meaning_host, test_checks_seccomp

    others = (test_checks_meaning, test_checks_meaning_host, test_checks_seccomp)
    listed = {rule for table in (TABLE, *(other.TABLE for other in others)) for rule, _, _ in table}
    dynamic_rules = {rule for rule in listed if re.fullmatch(r"(host|joined)-[a-z]+-namespace", rule)}
    assert named == listed - dynamic_rules | EXCEPT.keys() - {"not-json"}


def _first_words(source: ast.AST) -> list[str]:
    calls = [
        n for n in ast.walk(source) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Finding"
    ]
    words = [call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)]
    return [str(word) for word in words]
