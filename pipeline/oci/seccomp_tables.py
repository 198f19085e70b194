"""What the seccomp language knows of the kernel: constants, argument widths, calls that need a reason."""

from __future__ import annotations

# socket(2), clone(2), personality(2), netlink(7), ioctl_tty(2); equal on x86_64 and aarch64.
CONSTANTS: dict[str, int] = {
    "AF_UNIX": 1,
    "AF_INET": 2,
    "AF_INET6": 10,
    "AF_NETLINK": 16,
    "AF_PACKET": 17,
    "AF_BLUETOOTH": 31,
    "AF_ALG": 38,
    "AF_VSOCK": 40,
    "NETLINK_ROUTE": 0,
    "CLONE_NEWNS": 0x0002_0000,
    "CLONE_NEWCGROUP": 0x0200_0000,
    "CLONE_NEWUTS": 0x0400_0000,
    "CLONE_NEWIPC": 0x0800_0000,
    "CLONE_NEWUSER": 0x1000_0000,
    "CLONE_NEWPID": 0x2000_0000,
    "CLONE_NEWNET": 0x4000_0000,
    "PER_LINUX": 0,
    "PER_QUERY": 0xFFFF_FFFF,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
    "TCGETS": 0x5401,
    "TIOCSTI": 0x5412,
    "TIOCGWINSZ": 0x5413,
    "TIOCLINUX": 0x541C,
}

# Every flag by which clone(2) makes a namespace; CLONE_NEWTIME exists in clone3 and unshare alone.
NAMESPACE_FLAGS = 0x7E02_0000

LOW_32_BITS = 0xFFFF_FFFF

# The arguments that the kernel reads as 32-bit integers (SYSCALL_DEFINEn in the kernel's sources; for
# clone `lower_32_bits()` in kernel/fork.c). A filter sees 64 bits, so comparing all of them could be
# walked around by setting a high bit: these are compared under a mask of 32 bits.
INTEGER_ARGUMENTS = frozenset(
    {
        ("clone", 0),
        ("fcntl", 1),
        ("ioctl", 1),
        ("madvise", 2),
        ("personality", 0),
        ("prctl", 0),
        ("socket", 0),
        ("socket", 1),
        ("socket", 2),
        ("socketpair", 0),
        ("socketpair", 1),
        ("socketpair", 2),
    }
)

_WAYS_OUT = {
    "works through a ring that no filter sees": ("io_uring_enter", "io_uring_register", "io_uring_setup"),
    "makes or enters namespaces": ("setns", "unshare"),
    "changes what is mounted where": (
        *("chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr"),
        *("move_mount", "open_tree", "pivot_root", "umount", "umount2"),
    ),
    "opens files past mounts and folders": ("name_to_handle_at", "open_by_handle_at"),
    "reads or steers other processes": (
        *("kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"),
    ),
    "runs programs inside the kernel": ("bpf",),
    "watches the whole machine": ("lookup_dcookie", "perf_event_open", "syslog"),
    "holds the kernel at a page fault of the attacker's choice": ("userfaultfd",),
    "reaches keys, which namespaces do not part": ("add_key", "keyctl", "request_key"),
    "changes the kernel that runs": (
        *("delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load", "reboot"),
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

# Calls younger than the libseccomp of Debian 12, with the kernel that brought them. A source may name
# them; where the library does not know one yet, the report says that the default action applies.
NEWER_CALLS: dict[str, str] = {
    "cachestat": "6.5",
    "fchmodat2": "6.6",
    "map_shadow_stack": "6.6",
    "futex_wake": "6.7",
    "futex_wait": "6.7",
    "futex_requeue": "6.7",
    "statmount": "6.8",
    "listmount": "6.8",
    "lsm_get_self_attr": "6.8",
    "lsm_set_self_attr": "6.8",
    "lsm_list_modules": "6.8",
    "mseal": "6.10",
    "setxattrat": "6.13",
    "getxattrat": "6.13",
    "listxattrat": "6.13",
    "removexattrat": "6.13",
    "open_tree_attr": "6.15",
    "file_getattr": "6.17",
    "file_setattr": "6.17",
}

# The OCI name (runtime-spec config-linux.md, seccomp) of each platform of the image specification.
# The platform's own architecture alone: listing x86 or x32 beside x86_64 opens a second set of numbers.
ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
