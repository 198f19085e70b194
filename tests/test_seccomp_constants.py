"""The constants of the seccomp language against the headers of this machine, by its C compiler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.oci.seccomp_constants import AARCH64, X86_64, constants

# Read one by one, since headers of the kernel and of the C library declare the same types.
HEADERS = """
asm/fcntl.h asm/ioctls.h asm/mman.h asm/prctl.h asm/socket.h asm/termbits.h linux/close_range.h
linux/eventpoll.h linux/falloc.h linux/fadvise.h linux/fs.h linux/futex.h linux/in.h linux/inotify.h
linux/ioctl.h linux/kcmp.h linux/keyctl.h linux/landlock.h linux/membarrier.h linux/memfd.h
linux/mempolicy.h linux/mount.h linux/netlink.h linux/openat2.h linux/pidfd.h linux/prctl.h linux/ptrace.h
linux/random.h linux/resource.h linux/sched.h linux/seccomp.h linux/sockios.h linux/stat.h linux/tcp.h
linux/time.h linux/timerfd.h linux/userfaultfd.h linux/wait.h netinet/in.h netinet/tcp.h sched.h signal.h
sys/eventfd.h sys/file.h sys/mount.h sys/personality.h sys/ptrace.h sys/socket.h sys/stat.h sys/timerfd.h
sys/wait.h fcntl.h sys/ioctl.h sys/mman.h sys/random.h sys/resource.h sys/prctl.h stdio.h sys/uio.h
sys/epoll.h sys/inotify.h time.h unistd.h sys/time.h
""".split()
ARCHITECTURE = {"x86_64": X86_64, "aarch64": AARCH64}.get(os.uname().machine)
# glibc says 0 where off_t has 64 bits anyway, and hides the kernel's bit.
HIDDEN = {"O_LARGEFILE"}
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc): gcc and libc6-dev bring one"),
    pytest.mark.skipif(ARCHITECTURE is None, reason="the language has no constants for this architecture"),
]


def values(header: str, names: set[str], folder: Path) -> dict[str, int]:
    """What a header makes of each name that it defines; of the rest nothing."""
    include = f"#include <{header}>\n"
    said = subprocess.run(
        ["cc", "-D_GNU_SOURCE", "-E", "-dD", "-x", "c", "-"], input=include, text=True, capture_output=True
    )
    if said.returncode:
        return {}
    # Macros by their definition, enumerators as words of the preprocessed text.
    found = names & set(re.findall(r"[A-Z][A-Za-z0-9_]+", said.stdout))
    while found:
        lines = [f"const unsigned int v_{name} = (unsigned int)({name});" for name in sorted(found)]
        source = "#include <stddef.h>\n" + include + "\n".join(lines)
        # A file, since the compiler quotes a line that is wrong from nothing else.
        (folder / "values.c").write_text(source)
        made = subprocess.run(
            ["cc", "-D_GNU_SOURCE", "-w", "-S", "-o", "-", "values.c"],
            text=True,
            capture_output=True,
            cwd=folder,
        )
        if made.returncode == 0:
            pairs = re.findall(r"^v_(\w+):\s+\.(?:long|word|zero)\s+(-?\d+)$", made.stdout, re.M)
            zero = set(re.findall(r"^v_(\w+):\s+\.zero", made.stdout, re.M))
            return {name: 0 if name in zero else int(number) & 0xFFFF_FFFF for name, number in pairs}
        wrong = set(re.findall(r"v_(\w+) = ", made.stderr)) & found
        if not wrong:
            return {}
        found -= wrong
    return {}


def test_constants_are_those_of_the_headers(tmp_path: Path) -> None:
    assert ARCHITECTURE is not None
    ours = constants(ARCHITECTURE)
    seen: dict[str, int] = {}
    wrong: dict[str, tuple[str, int, int]] = {}
    for header in HEADERS:
        for name, value in values(header, ours.keys() - HIDDEN, tmp_path).items():
            seen[name] = value
            if value != ours[name]:
                wrong[name] = (header, value, ours[name])
    assert wrong == {}
    # Older headers lack the youngest; if nearly all are missing, nothing was compared.
    missing = sorted(ours.keys() - HIDDEN - seen.keys())
    assert len(missing) < 60, missing


def test_a_wrong_value_would_be_seen(tmp_path: Path) -> None:
    assert values("sys/socket.h", {"AF_ALG", "AF_NOTHING"}, tmp_path) == {"AF_ALG": 38}
