"""Ask the kernel which device filters a cgroup v2 has: they are BPF programs and in no file."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

# linux/bpf.h
_BPF_PROG_QUERY = 16
_BPF_CGROUP_DEVICE = 6
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351, "armv7l": 386}
_MAX_PROGRAMS = 64


def attached_device_programs(cgroup: Path) -> int:
    """Return how many device filters are attached to a cgroup v2 folder. Raises OSError."""
    number = _SYS_BPF[os.uname().machine]
    identifiers = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # struct { u32 target_fd, attach_type, query_flags, attach_flags; u64 prog_ids; u32 prog_cnt; … }
        words = (fd, _BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(identifiers), _MAX_PROGRAMS)
        query = ctypes.create_string_buffer(struct.pack("=IIIIQI", *words), 64)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(number, _BPF_PROG_QUERY, query, len(query)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(cgroup))
        return int(struct.unpack_from("=I", query.raw, 24)[0])
    finally:
        os.close(fd)
