"""Two programs that need next to nothing of the kernel, so that what fails is the runtime's.

Each is one ELF segment of a few instructions (elf(5)); the numbers are those of syscalls(2).
"""

from __future__ import annotations

import os
import struct

from pipeline.errors import PipelineError

OWN_CALLS = ("exit_group", "ppoll")
"""All that the two programs call."""

_BASE = 0x400000
_HEADER_BYTES = 120
_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64
# exit_group(0)
_ENDS = {
    "x86_64": "31ff b8e7000000 0f05",
    "aarch64": "000080d2 c80b80d2 010000d4",
}
# ppoll(NULL, 0, NULL, NULL, 0), which waits for a signal; then as above.
_WAITS = {
    "x86_64": "31ff 31f6 31d2 4d31d2 4d31c0 b80f010000 0f05",
    "aarch64": "000080d2 010080d2 020080d2 030080d2 040080d2 280980d2 010000d4",
}


def ending() -> bytes:
    """Return a program that ends with status 0. Raises PipelineError `no-floor-program`."""
    return _elf(_ENDS[_machine()])


def waiting() -> bytes:
    """Return a program that waits to be killed. Raises PipelineError `no-floor-program`."""
    machine = _machine()
    return _elf(_WAITS[machine] + _ENDS[machine])


def _machine() -> str:
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise PipelineError("no-floor-program", f"floors can be measured on {', '.join(_MACHINES)} alone")
    return machine


def _elf(code: str) -> bytes:
    text = bytes.fromhex(code)
    size = _HEADER_BYTES + len(text)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,
        _MACHINES[_machine()],
        1,
        _BASE + _HEADER_BYTES,
        64,
        0,
        0,
        64,
        56,
        1,
        64,
        0,
        0,
    )
    # PT_LOAD, readable and executable.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    return head + segment + text
