"""What every object of config.json is, and the numbers and words that it may hold: closed sets."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

UINT64_MAX = 2**64 - 1

Uint16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# msgspec compares within int64, so the true upper bound travels in the JSON Schema keyword.
Uint64 = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": UINT64_MAX})]
Text = Annotated[str, Meta(min_length=1)]

NamespaceType = Literal["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]
Propagation = Literal["private", "shared", "slave", "unbindable"]
SeccompAction = Literal[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
]
SeccompOperator = Literal[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
]
SeccompArchitecture = Literal[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
]
SeccompFlag = Literal[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]
SchedulerPolicy = Literal[
    "SCHED_BATCH",
    "SCHED_DEADLINE",
    "SCHED_FIFO",
    "SCHED_IDLE",
    "SCHED_ISO",
    "SCHED_OTHER",
    "SCHED_RR",
]
SchedulerFlag = Literal[
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
]

MemoryPolicyMode = Literal[
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
]
MemoryPolicyFlag = Literal["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]


class Part(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """One object of config.json: frozen, camelCase, closed; what is None is not written."""
