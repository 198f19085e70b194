"""Profiles of others to compare with, as lists of facts: which calls they allow.

Only what x86_64 and aarch64 have; which of it a library does not know yet is left to its `numbers`.
"""

from __future__ import annotations

from typing import Any

DOCKER_SOURCE = "moby/profiles seccomp/default.json at 02e898b137ae, read on 2026-11-25, without capabilities"
SYSTEMD_SOURCE = "systemd 252.38 (Debian 12), `systemd-analyze syscall-filter`, read on 2026-11-25"

_EPERM, _ENOSYS = 1, 38
# clone(2): CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET.
_NEW_NAMESPACES = 0x7E02_0000
# socket(2): all families but AF_ALG, AF_VSOCK and those that have no use in a container.
_FAMILIES_BELOW = 12
_FAMILIES = (*range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, *range(41, 46))
# personality(2): PER_LINUX, PER_LINUX32, each with UNAME26, and the question for the present one.
_PERSONALITIES = (0, 8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)
_ONLY = {"SCMP_ARCH_X86_64": ("arch_prctl", "modify_ldt"), "SCMP_ARCH_AARCH64": ("sync_file_range2",)}

_DOCKER = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown clock_adjtime
clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark
fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork
fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv
futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid
getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr
listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier
memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv
msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause
pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64
preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages
removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg
sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr
setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat
statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
timerfd_settime times tkill truncate umask uname unlink unlinkat uretprobe utime utimensat utimes vfork
vmsplice wait4 waitid write writev
"""

# A word with @ is a group within a group.
_SYSTEMD = """
@aio: io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit io_uring_enter
  io_uring_register io_uring_setup
@basic-io: close close_range dup dup2 dup3 lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
  readv write writev
@chown: chown fchown fchownat lchown
@clock: adjtimex clock_adjtime clock_settime settimeofday
@cpu-emulation: modify_ldt
@debug: lookup_dcookie perf_event_open pidfd_getfd ptrace
@default: arch_prctl brk clock_getres clock_gettime clock_nanosleep execve exit exit_group futex
  futex_waitv get_robust_list get_thread_area getegid geteuid getgid getgroups getpgid getpgrp getpid
  getppid getrandom getresgid getresuid getrlimit getsid gettid gettimeofday getuid membarrier mmap
  mprotect munmap nanosleep pause prlimit64 restart_syscall rseq rt_sigreturn sched_getaffinity
  sched_yield set_robust_list set_thread_area set_tid_address time uretprobe
@file-system: access chdir chmod close creat faccessat faccessat2 fallocate fchdir fchmod fchmodat
  fchmodat2 fcntl fgetxattr flistxattr fremovexattr fsetxattr fstat fstatfs ftruncate futimesat getcwd
  getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lgetxattr
  link linkat listxattr llistxattr lremovexattr lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat
  open openat openat2 readlink readlinkat removexattr rename renameat renameat2 rmdir setxattr stat
  statfs statx symlink symlinkat truncate unlink unlinkat utime utimensat utimes
@io-event: epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
  epoll_wait_old eventfd eventfd2 poll ppoll pselect6 select
@ipc: memfd_create mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget
  msgrcv msgsnd pipe pipe2 process_madvise process_vm_readv process_vm_writev semctl semget semop
  semtimedop shmat shmctl shmdt shmget
@keyring: add_key keyctl request_key
@memlock: mlock mlock2 mlockall munlock munlockall
@module: delete_module finit_module init_module
@mount: chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root
  umount2
@network-io: accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg
  recvmsg sendmmsg sendmsg sendto setsockopt shutdown socket socketpair
@obsolete: _sysctl afs_syscall create_module get_kernel_syms getpmsg putpmsg query_module security sysfs
  tuxcall uselib ustat vserver
@pkey: pkey_alloc pkey_free pkey_mprotect
@privileged: @chown @clock @module @raw-io @reboot @swap _sysctl acct bpf capset chroot fanotify_init
  fanotify_mark nfsservctl open_by_handle_at pivot_root quotactl quotactl_fd setdomainname setfsuid
  setgroups sethostname setresuid setreuid setuid vhangup
@process: capget clone clone3 execveat fork getrusage kill pidfd_open pidfd_send_signal prctl
  rt_sigqueueinfo rt_tgsigqueueinfo setns tgkill times tkill unshare vfork wait4 waitid
@raw-io: ioperm iopl
@reboot: kexec_file_load kexec_load reboot
@resources: ioprio_set mbind migrate_pages move_pages sched_setaffinity sched_setattr sched_setparam
  sched_setscheduler set_mempolicy set_mempolicy_home_node setpriority setrlimit
@setuid: setgid setgroups setregid setresgid setresuid setreuid setuid
@signal: rt_sigaction rt_sigpending rt_sigprocmask rt_sigsuspend rt_sigtimedwait sigaltstack signalfd
  signalfd4
@swap: swapoff swapon
@sync: fdatasync fsync msync sync sync_file_range syncfs
@system-service: @aio @basic-io @chown @default @file-system @io-event @ipc @keyring @memlock
  @network-io @process @resources @setuid @signal @sync @timer capget capset copy_file_range fadvise64
  flock get_mempolicy getcpu getpriority ioctl ioprio_get kcmp madvise mremap name_to_handle_at
  personality readahead remap_file_pages sched_get_priority_max sched_get_priority_min sched_getattr
  sched_getparam sched_getscheduler sched_rr_get_interval sched_yield sendfile setfsgid setfsuid setpgid
  setsid splice sysinfo tee umask uname userfaultfd vmsplice
@timer: alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_settime
  timerfd_create timerfd_gettime timerfd_settime times
"""


def docker_default(architecture: str) -> dict[str, Any]:
    """Return Docker's profile of a container without capabilities as `linux.seccomp` of config.json."""
    outright = [*_DOCKER.split(), *_ONLY.get(architecture, ())]
    tests = [
        *(("personality", "SCMP_CMP_EQ", value) for value in _PERSONALITIES),
        *(("socket", "SCMP_CMP_EQ", value) for value in _FAMILIES),
        ("socket", "SCMP_CMP_LT", _FAMILIES_BELOW),
        ("clone", "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES),
    ]
    rules: list[dict[str, Any]] = [{"names": outright, "action": "SCMP_ACT_ALLOW"}]
    rules += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": [_first(*t)]} for name, *t in tests]
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return _document(architecture, rules)


def systemd_group(name: str, architecture: str) -> dict[str, Any]:
    """Return what `SystemCallFilter=@NAME` with EPERM allows; `@default` is always in it (systemd.exec(5)).

    Raises KeyError for a name that is no group.
    """
    names = sorted({*_members(name), *_members("@default")})
    return _document(architecture, [{"names": names, "action": "SCMP_ACT_ALLOW"}])


def systemd_groups() -> list[str]:
    """Return the names of the groups, each with its @."""
    return [*_groups()]


def _groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for word in _SYSTEMD.split():
        if word.endswith(":"):
            name = word.removesuffix(":")
            found[name] = []
        else:
            found[name].append(word)
    return found


def _members(name: str) -> set[str]:
    found: set[str] = set()
    for word in _groups()[name]:
        found |= _members(word) if word.startswith("@") else {word}
    return found


def _document(architecture: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    default = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": _EPERM}
    return {**default, "architectures": [architecture], "syscalls": rules}


def _first(operator: str, value: int) -> dict[str, Any]:
    return {"index": 0, "op": operator, "value": value, "valueTwo": 0}
