"""The widths of arguments against what this kernel itself says of its system calls (tracefs)."""

from __future__ import annotations

import re

import pytest

from pipeline.oci.seccomp_arguments import Kind, known
from pipeline.run import run

pytestmark = [pytest.mark.real, pytest.mark.root]

# Mounted in a mount namespace of its own, which goes with the process.
SHOW = """
mount -t tracefs none /sys/kernel 2>/dev/null || exit 0
cd /sys/kernel/events/syscalls 2>/dev/null || exit 0
for folder in sys_enter_*; do
    echo "= ${folder#sys_enter_}"
    cat "$folder/format"
done
"""
# What tracefs calls the functions of the kernel, and what the calls are called.
NAMES = {
    "newfstat": "fstat",
    "newlstat": "lstat",
    "newstat": "stat",
    "newuname": "uname",
    "sendfile64": "sendfile",
    "umount": "umount2",
}
NO_CALLS = {"uprobe"}
INTS = "int|unsigned int|unsigned|pid_t|u32|__u32|__s32|uid_t|gid_t|clockid_t|timer_t|mqd_t|key_t|rwf_t|qid_t"
INTS += "|key_serial_t|enum landlock_rule_type"
KINDS = (
    (re.compile(r".*\*( ?const)?|cap_user_\w+_t"), {Kind.POINTER}),
    (re.compile(INTS), {Kind.INT}),
    (re.compile("umode_t"), {Kind.MODE}),
    (re.compile("size_t|loff_t|off_t|aio_context_t|__u64|u64"), {Kind.LONG}),
    (re.compile("(unsigned )?long"), {Kind.LONG, Kind.WORD}),
)
# unsigned long, and read as an int or bit by bit (see the table's comment).
NARROWER = {("clone", 0), ("mmap", 2), ("mmap", 3), ("mmap", 4), ("mprotect", 2), ("pkey_mprotect", 2)}


def signatures() -> dict[str, list[str]]:
    said = run(["unshare", "-m", "sh", "-c", SHOW], timeout_s=60).stdout
    found: dict[str, list[str]] = {}
    for block in said.split("= ")[1:]:
        name, _, text = block.partition("\n")
        fields = re.findall(r"\tfield:(.*?)(\w+);\toffset:(\d+);", text)
        # What comes before offset 16 is common to all events, and the call's own number.
        types = [kind.strip().removeprefix("const ") for kind, _, offset in fields if int(offset) >= 16]
        found[NAMES.get(name, name)] = types
    return {name: types for name, types in found.items() if name not in NO_CALLS}


def fits(syscall: str, index: int, written: str, kind: Kind) -> bool:
    if (syscall, index) in NARROWER:
        return kind is Kind.INT
    return any(form.fullmatch(written) and kind in kinds for form, kinds in KINDS)


def test_every_argument_is_as_wide_as_the_kernel_says() -> None:
    said = signatures()
    if not said:
        pytest.skip("this kernel does not tell of its system calls (CONFIG_FTRACE_SYSCALLS)")
    table = known()
    wrong = {
        name: (types, table[name])
        for name, types in said.items()
        if name in table
        and not (
            len(types) == len(table[name])
            and all(
                fits(name, n, t, Kind(letter))
                for n, (t, letter) in enumerate(zip(types, table[name], strict=True))
            )
        )
    }
    assert wrong == {}
    assert len(said.keys() & table.keys()) > 300
