"""What the seccomp language knows of calls: ways out, newcomers, those that programs try first."""

from __future__ import annotations

# Every flag by which clone(2) makes a namespace; CLONE_NEWTIME exists in clone3 and unshare alone.
NAMESPACE_FLAGS = 0x7E02_0000

_WAYS_OUT = {
    "works through a ring that no filter sees": ("io_uring_enter", "io_uring_register", "io_uring_setup"),
    "makes or enters namespaces": ("setns", "unshare"),
    "changes what is mounted where": (
        *("chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr"),
        *("move_mount", "open_tree", "open_tree_attr", "pivot_root", "umount", "umount2"),
    ),
    "opens files past mounts and folders": ("name_to_handle_at", "open_by_handle_at"),
    "reads or steers other processes": (
        *("kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"),
    ),
    "runs programs inside the kernel": ("bpf",),
    "watches the whole machine": ("fanotify_init", "lookup_dcookie", "perf_event_open", "syslog"),
    "holds the kernel at a page fault of the attacker's choice": ("userfaultfd",),
    "reaches keys, which namespaces do not part": ("add_key", "keyctl", "request_key"),
    "changes the kernel that runs": (
        *("create_module", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load"),
        *("reboot", "uselib"),
    ),
    "reaches the hardware": ("ioperm", "iopl"),
    "changes the machine for everyone": (
        *("acct", "clock_adjtime", "clock_settime", "quotactl", "quotactl_fd", "setdomainname"),
        *("sethostname", "settimeofday", "swapoff", "swapon", "vhangup"),
    ),
}

# Calls by which programs have left containers or reached other processes, or that open a large part of the
# kernel which no ordinary server needs, each with what it does. Capabilities and namespaces guard most of
# them too; a filter keeps their code, and the mistakes in it, out of reach.
ESCAPES: dict[str, str] = {name: why for why, names in _WAYS_OUT.items() for name in names}

# Calls younger than libseccomp 2.5.4, the oldest that the language is made for: the kernel that brought each
# (its arch/*/entry/syscalls tables), and the libseccomp that first knew it (its CHANGELOG: 2.5.5 up to
# Linux 6.7, 2.5.6 and 2.6.0 up to 6.13; "" = none yet). A source may name them; where the library does not
# know one, that is reported, and the default action applies under runtimes that use it.
_SINCE = {
    ("6.5", "2.5.5"): "cachestat",
    ("6.6", "2.5.5"): "fchmodat2 map_shadow_stack",
    ("6.7", "2.5.5"): "futex_requeue futex_wait futex_wake",
    ("6.8", "2.5.6"): "listmount lsm_get_self_attr lsm_list_modules lsm_set_self_attr statmount",
    ("6.10", "2.5.6"): "mseal",
    ("6.13", "2.5.6"): "getxattrat listxattrat removexattrat setxattrat",
    ("6.15", ""): "open_tree_attr",
    ("6.17", ""): "file_getattr file_setattr",
}
NEWER_CALLS: dict[str, tuple[str, str]] = {
    name: since for since, names in _SINCE.items() for name in names.split()
}

# What a program tries first and does without when it is told ENOSYS, "no such call", while EPERM makes it
# give up or complain; answered so unless a source says otherwise. Evidence: glibc falls back on ENOSYS alone
# from clone3 (clone-internal.c), faccessat2, statx, execveat (fexecve.c), preadv2 and pwritev2; musl from
# faccessat2 and execveat; runc#2737 and moby#42871 tell how EPERM broke them. crun before 0.16 fell back from
# openat2 on ENOSYS but not on EPERM (crun#546). landlock(7) reads ENOSYS as "not built in". The others are
# probed by programs that have an older form (libuv, Go, systemd, Wine).
# Only calls that libseccomp 2.5.4 knows, or the answer would depend on the library.
PROBED = tuple(
    "clone3 close_range copy_file_range epoll_pwait2 execveat faccessat2 futex_waitv landlock_create_ruleset "
    "openat2 pidfd_open pidfd_send_signal preadv2 pwritev2 statx".split()
)

# Calls of 32-bit conventions that hold many others, whose arguments lie behind a pointer (socketcall(2),
# ipc(2)): allowing one allows all, AF_ALG too (CVE-2026-31431).
MULTIPLEXED = {"socketcall": "every call of sockets", "ipc": "every call of System V IPC"}

# What a program on aarch64 calls instead of what does not exist there (asm-generic/unistd.h).
NEWER_FORMS: dict[str, str] = dict(
    pair.split(":")
    for pair in """
access:faccessat alarm:setitimer arch_prctl:prctl chmod:fchmodat chown:fchownat creat:openat dup2:dup3
epoll_create:epoll_create1 epoll_wait:epoll_pwait eventfd:eventfd2 fork:clone futimesat:utimensat
getdents:getdents64 getpgrp:getpgid inotify_init:inotify_init1 lchown:fchownat link:linkat lstat:newfstatat
mkdir:mkdirat mknod:mknodat open:openat pause:ppoll pipe:pipe2 poll:ppoll readlink:readlinkat rename:renameat
rmdir:unlinkat select:pselect6 signalfd:signalfd4 stat:newfstatat symlink:symlinkat time:clock_gettime
unlink:unlinkat utime:utimensat utimes:utimensat vfork:clone
""".split()
)

# The OCI name (runtime-spec config-linux.md, seccomp) of each platform of the image specification.
# The platform's own architecture alone: listing x86 or x32 beside x86_64 opens a second set of numbers.
ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
# How a source writes them, and what a hasty writer may write instead.
ARCHITECTURE_NAMES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
