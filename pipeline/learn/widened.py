"""The filter that a program runs under while it is watched: everything but the known ways out."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from pipeline.model.nouns import Platform
from pipeline.oci.seccomp import architectures
from pipeline.oci.seccomp_tables import ESCAPES, NAMESPACE_FLAGS

_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"
_LOW_WORD = 0xFFFF_FFFF
# sys/socket.h: AF_ALG (CVE-2026-31431) and AF_VSOCK, which no network namespace parts from the host's.
_FAMILIES = (38, 40)
_TIOCSTI = 0x5412  # ioctl_tty(2): types into the terminal of whoever started it


def widened(config: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Return a bundle's config with the widened filter and the absolute path of its rootfs; all else stays.

    clone3 is answered ENOSYS, since its flags cannot be seen: a libc uses clone then.
    """
    found = {
        "defaultAction": _ALLOW,
        "architectures": list(architectures(Platform.host())),
        "syscalls": [
            {"names": sorted(ESCAPES), **_refused(errno.EPERM)},
            {"names": ["clone3"], **_refused(errno.ENOSYS)},
            *(_where("clone", 0, 1 << bit, 1 << bit) for bit in range(32) if NAMESPACE_FLAGS >> bit & 1),
            *(_where("socket", 0, _LOW_WORD, family) for family in _FAMILIES),
            _where("ioctl", 1, _LOW_WORD, _TIOCSTI),
        ],
    }
    return {
        **config,
        "root": {**config["root"], "path": root},
        "linux": {**config["linux"], "seccomp": found},
    }


def _refused(number: int) -> dict[str, Any]:
    return {"action": _ERRNO, "errnoRet": number}


def _where(name: str, index: int, mask: int, value: int) -> dict[str, Any]:
    test = {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
    return {"names": [name], **_refused(errno.EPERM), "args": [test]}
