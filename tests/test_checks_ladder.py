"""A config.json written by hand, as a careful person writes one: every fault that would show only after the
one before it was mended is found in one pass, and nothing is run for it."""

from __future__ import annotations

from typing import Any

from pipeline.model.nouns import Finding, Severity
from tests.judged import FOLDER, Case, elf, file, findings, folder

MAPPED = 100000
SAFE = ["nosuid", "noexec", "nodev"]
CALLS = (
    "accept accept4 bind brk clone close connect dup dup2 epoll_create1 epoll_ctl epoll_wait eventfd2 execve "
    "exit exit_group fcntl fstat futex getdents64 getpid ioctl listen lseek mmap mprotect munmap nanosleep "
    "open openat pipe2 poll read readlink recvfrom rt_sigaction rt_sigprocmask rt_sigreturn sched_yield "
    "sendto set_robust_list set_tid_address sigaltstack socket stat uname wait4 write writev"
).split()


def config() -> dict[str, Any]:
    """Seven namespaces, no capability, a read-only root, a small allow list: it looks well hardened."""
    mapping = [{"containerID": 0, "hostID": MAPPED, "size": 65536}]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "media",
        "process": {
            "cwd": "/app",
            "args": ["/app/media-server"],
            "env": ["PATH=/usr/bin:/bin", "NODE_ENV=production"],
            "user": {"uid": 65532, "gid": 65532},
            "noNewPrivileges": True,
            "capabilities": {k: [] for k in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=64m"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [*SAFE, "size=512m"]},
            {
                "destination": "/home/me/.media",
                "type": "bind",
                "source": "/var/lib/media",
                "options": ["rbind", "rw"],
            },
        ],
        "linux": {
            "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")],
            "uidMappings": mapping,
            "gidMappings": mapping,
            "resources": {
                "memory": {"limit": 1 << 30, "reservation": 1 << 29},
                "cpu": {"quota": 150000, "period": 100000},
                "pids": {"limit": 100},
            },
            "maskedPaths": [
                "/proc/kcore",
                "/proc/keys",
                "/proc/timer_list",
                "/proc/scsi",
                "/proc/acpi",
                "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": CALLS, "action": "SCMP_ACT_ALLOW"}],
            },
        },
    }


def bundle() -> Case:
    """That config over a rootfs as `umoci unpack` leaves it: root's, in a folder that only root may pass."""
    case = Case(config=config())
    case.tree.entries.clear()
    for path in ("/", "/proc", "/dev", "/sys", "/tmp", "/app", "/app/bin", "/home", "/home/me", "/lib64"):
        case.tree.entries[path] = folder(0o755, 0, 0)
    case.tree.entries["/app/bin/node"] = file(elf("/lib64/ld-linux-x86-64.so.2"), uid=0, gid=0)
    case.tree.entries["/lib64/ld-linux-x86-64.so.2"] = file(elf(), uid=0, gid=0)
    case.host.pop("/srv/data")
    case.host[FOLDER] = folder(0o700, 0, 0)
    case.change_facts(subordinate_ids=(("uid", "me", MAPPED, 65536), ("gid", "me", MAPPED, 65536)))
    return case


def by_rule(case: Case) -> dict[str, Finding]:
    return {finding.rule: finding for finding in findings(case)}


def test_every_rung_is_found_in_one_pass() -> None:
    found = by_rule(bundle())
    rungs = {
        "bind-source-missing",
        "program-missing",
        "seccomp-blocks-runtime",
        "seccomp-blocks-loader",
        "seccomp-blocks-program",
        "seccomp-blocks-work",
        "mount-point-missing",
        "way-closed",
    }
    assert rungs <= found.keys()
    high = [found[rule] for rule in rungs - {"seccomp-blocks-work"}]
    assert all(finding.severity is Severity.HIGH for finding in high)


def test_each_rung_says_what_to_write_instead() -> None:
    found = by_rule(bundle())
    assert found["bind-source-missing"].mend == "install -d -m 0750 -o 165532 -g 165532 /var/lib/media"
    assert found["program-missing"].message == "the program `/app/media-server` is not in the rootfs"
    assert found["program-missing"].mend == "the rootfs has `/app/bin/node`: name it, with its script"
    assert (
        found["seccomp-blocks-runtime"].message
        == "runc 1.1.5 itself needs fstatfs before it starts the program"
    )
    assert found["seccomp-blocks-loader"].mend == "allow arch_prctl, newfstatat, pread64"
    assert "socketpair" in found["seccomp-blocks-work"].message
    assert found["mount-point-missing"].mend.startswith("mkdir -p rootfs/home/me/.media")
    assert found["way-closed"].mend == f"chgrp {MAPPED} {FOLDER} && chmod 0710 {FOLDER}"


def test_the_rung_of_the_wrong_owner() -> None:
    case = bundle()
    case.host["/var/lib/media"] = folder(0o755, 65532, 65532)
    found = by_rule(case)["bind-source-closed"]
    assert found.message == (
        "the process cannot write the bind source `/var/lib/media`: it runs as 165532:165532 on the host "
        "(container 65532:65532), and that is 65532:65532 mode 0755"
    )
    assert found.mend == "chown 165532:165532 /var/lib/media"


def test_the_first_rung_does_not_hide_the_others() -> None:
    case = bundle()
    del case.host[f"{FOLDER}/rootfs"]
    case.tree.entries.clear()
    found = by_rule(case)
    assert found["rootfs-missing"].severity is Severity.CRITICAL
    assert {"bind-source-missing", "seccomp-blocks-runtime", "way-closed", "program-missing"} <= found.keys()


def test_what_is_weak_is_found_as_well() -> None:
    weak = {
        *(
            "host-cgroup-namespace",
            "bind-flags",
            "bind-exec",
            "devices-not-denied",
            "swap-unlimited",
            "core-dumps",
        ),
        *(
            "unmasked-path-recent",
            "pseudo-flags",
            "limits-invisible",
            "subordinate-ids-shared",
            "seccomp-clone3",
        ),
        *("seccomp-foreign-architecture", "seccomp-clone-flags", "seccomp-socket-families", "no-init"),
    }
    assert weak <= by_rule(bundle()).keys()
