"""How wide the kernel reads each argument of each system call.

A filter sees 64 bits of every argument (struct seccomp_data); the kernel reads an `int` from the lower 32 of
them and a `umode_t` from the lower 16. Comparing more than is read can be walked around with a high bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache


class Kind(Enum):
    """What the kernel takes an argument for; the value is its letter in the table."""

    INT = "i"  # 32 bits
    MODE = "h"  # umode_t: 16 bits
    LONG = "l"  # all 64 bits: sizes, offsets, addresses
    WORD = "w"  # unsigned long, of which some calls read only a part
    POINTER = "p"  # what it points at is out of a filter's reach

    @property
    def mask(self) -> int:
        """The bits that the kernel may look at."""
        return {Kind.INT: 0xFFFF_FFFF, Kind.MODE: 0xFFFF}.get(self, 0xFFFF_FFFF_FFFF_FFFF)


# The letters of a call's arguments, then the calls that have them. From the types of SYSCALL_DEFINE as
# Linux 6.18 itself tells them (events/syscalls/*/format of tracefs; tests/real/test_seccomp_arguments.py
# compares), but: clone reads lower_32_bits() of its flags (kernel/fork.c); mmap, mprotect and pkey_mprotect
# look at single bits of `prot` and `flags`, and mmap's descriptor is read as an int (mm/mmap.c,
# mm/mprotect.c). `unsigned long` is a word unless it is an address or a length. aarch64 has the same types.
_TABLE = """
- fork getegid geteuid getgid getpgrp getpid getppid gettid getuid inotify_init munlockall pause
    restart_syscall rt_sigreturn sched_yield setsid sync uretprobe vfork vhangup
i alarm close dup epoll_create epoll_create1 eventfd exit exit_group fchdir fdatasync fsync getpgid getsid
    inotify_init1 iopl memfd_secret mlockall personality pkey_free sched_get_priority_max
    sched_get_priority_min sched_getscheduler setfsgid setfsuid setgid setuid syncfs timer_delete
    timer_getoverrun umask userfaultfd
l brk io_destroy
p acct adjtimex chdir chroot get_thread_area mq_unlink pipe rmdir set_thread_area set_tid_address shmdt
    swapoff sysinfo time times uname unlink uselib
w unshare
ih fchmod
ii dup2 eventfd2 fanotify_init flock getpriority inotify_rm_watch ioprio_get kill landlock_restrict_self
    listen msgget pidfd_open process_mrelease setns setpgid setregid setreuid shutdown timerfd_create tkill
il ftruncate
ip clock_adjtime clock_getres clock_gettime clock_settime fremovexattr fstat fstatfs getgroups getitimer
    getrlimit getrusage io_setup io_uring_setup mq_notify sched_getparam sched_rr_get_interval
    sched_setparam setgroups setrlimit timer_gettime timerfd_gettime ustat
iw arch_prctl
ll mlock munlock munmap
ph chmod creat mkdir
pi access delete_module fsopen memfd_create pipe2 setdomainname sethostname swapon umount2
pl clone3 getcwd rt_sigpending rt_sigsuspend set_robust_list truncate
pp capget capset gettimeofday link lremovexattr lstat nanosleep pivot_root removexattr rename settimeofday
    sigaltstack stat statfs symlink utime utimes
ww pkey_alloc
iii close_range dup3 fchown fsmount ioprio_set membarrier pidfd_getfd semget setpriority setresgid setresuid
    socket tgkill
iip msgctl rt_sigqueueinfo sched_getaffinity sched_setaffinity sched_setscheduler seccomp shmctl
iiw fcntl ioctl
ili lseek shmget
ill readahead
iph fchmodat mkdirat
ipi bind bpf connect faccessat finit_module fspick getdents getdents64 inotify_add_watch open_by_handle_at
    open_tree recvmsg sched_setattr semop sendmsg shmat syslog unlinkat
ipl flistxattr read signalfd write
ipp accept futimesat get_robust_list getpeername getsockname mq_getsetattr setitimer timer_create
ipw modify_ldt set_mempolicy
iww sysfs
lli madvise mlock2 mprotect msync
llp mincore
lpl lookup_dcookie
lpp io_cancel
lwp io_submit
phi mknod
pih open
pii chown lchown poll
pip symlinkat
pli getrandom landlock_create_ruleset
ppi lsm_list_modules readlink
ppl listxattr llistxattr
ppp execve getcpu getresgid getresuid
pwp init_module
wlw mseal
wpw readv writev
wwi ioperm map_shadow_stack
iiip epoll_ctl quotactl_fd reboot rt_tgsigqueueinfo socketpair
iiiw semctl
iili tee
iill fallocate sync_file_range2
iipi io_uring_register landlock_add_rule pidfd_send_signal
iipl sendfile
iipp clock_nanosleep prlimit64 timer_settime timerfd_settime
illi fadvise64 sync_file_range
iphi fchmodat2 mknodat
ipih openat
ipii epoll_wait faccessat2 lsm_set_self_attr sched_getattr sendmmsg
ipip quotactl removexattrat renameat semtimedop wait4
ipli msgsnd signalfd4
ipll pread64 pwrite64
ippi accept4 cachestat lsm_get_self_attr newfstatat readlinkat utimensat
ippl fgetxattr openat2 rt_sigaction rt_sigprocmask
ipwi vmsplice
iwpp migrate_pages
llii pkey_mprotect
pihp mq_open
piii futex_requeue rseq
ppli listmount statmount
pppi request_key
pppl getxattr lgetxattr rt_sigtimedwait
pwii futex_wake
wwpw kexec_load
wwww ptrace set_mempolicy_home_node
iiipi setsockopt
iiipp getsockopt
iiiww kcmp
iilip fanotify_mark
iipip waitid
iippi fsconfig
iiwpw kexec_file_load
ipiii fchownat
ipiip recvmmsg statx
ipipi linkat move_mount renameat2
ipipl listxattrat mount_setattr open_tree_attr
iplii process_madvise
iplip mq_timedsend
iplpp mq_timedreceive
iplwi msgrcv
ippli file_getattr file_setattr fsetxattr
ipppi execveat name_to_handle_at
ipppp select
iwppw clone
iwwww keyctl prctl
lllwl mremap
lwwpp io_getevents
piiiw perf_event_open
piipi futex_waitv
pippl ppoll
pppli add_key lsetxattr setxattr
pppwp mount
ppwww get_mempolicy
wpwww preadv pwritev
wwwww remap_file_pages
iiiipl io_uring_enter
ipiipl epoll_pwait
ipipli copy_file_range splice
ipippl epoll_pwait2 getxattrat setxattrat
iplipi sendto
iplipp recvfrom
ippppp pselect6
ipwpww process_vm_readv process_vm_writev
iwpppi move_pages
lliiil mmap
llwpwi mbind
lwwppp io_pgetevents
piippi futex
pwwipi futex_wait
wpwwwi preadv2 pwritev2
"""


def kinds(syscall: str) -> tuple[Kind, ...] | None:
    """Return what each argument of a call is, or None where that is not known."""
    letters = _letters().get(syscall)
    return None if letters is None else tuple(Kind(letter) for letter in letters)


def known() -> Mapping[str, str]:
    """Return the letters of every call that the table has."""
    return _letters()


@cache
def _letters() -> dict[str, str]:
    found: dict[str, str] = {}
    letters = ""
    for line in _TABLE.strip().splitlines():
        words = line.split()
        if not line.startswith(" "):
            letters = words.pop(0).strip("-")
        found.update(dict.fromkeys(words, letters))
    return found
