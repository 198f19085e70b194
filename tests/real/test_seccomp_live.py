"""Simulated verdicts against real ones: of this kernel in processes, and in containers of runc and crun."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pipeline.model.nouns import Platform
from pipeline.oci import bpf
from pipeline.oci.bpf import (
    ABS,
    ALU,
    IMM,
    JMP,
    LD,
    LDX,
    MEM,
    MISC,
    RET,
    ST,
    STX,
    TAX,
    TXA,
    A,
    BadFilter,
    K,
    X,
)
from pipeline.oci.seccomp import architectures
from pipeline.oci.verdicts import AUDIT, verdict
from pipeline.tools import libseccomp
from pipeline.tools.libseccomp import Architecture
from tests.conftest import Workspace
from tests.random_profiles import CALLS, DEFAULT_ERROR, LAST_ERROR, documents, questions
from tests.standin import bundle
from tests.standin.bundle import Container
from tests.test_bpf import REFUSED, assembled

pytestmark = [pytest.mark.real, pytest.mark.root]

(ARCH,) = architectures(Platform.host())
NUMBERS = libseccomp.numbers(Architecture[ARCH])
OTHERS = tuple(name for name in NUMBERS if name not in CALLS)
# A number that no call has: what a filter answers to it is all that happens.
NO_CALL = 900
_RET_ERRNO, _ALLOW = 0x0005_0000, 0x7FFF_0000
_SET_MODE_FILTER, _NO_NEW_PRIVS = 1, 38
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def ask(number: int, arguments: Sequence[int]) -> int:
    """Make a call; return its errno, or 0. A descriptor that it made is closed."""
    ctypes.set_errno(0)
    answer = _libc.syscall(ctypes.c_long(number), *[ctypes.c_uint64(a) for a in arguments])
    if answer == -1:
        return ctypes.get_errno()
    if number in _DESCRIPTORS and answer > 2:
        _libc.syscall(ctypes.c_long(NUMBERS["close"]), ctypes.c_long(answer))
    return 0


_DESCRIPTORS = {
    NUMBERS[name]
    for name in ("socket", "epoll_create1", "eventfd2", "inotify_init1", "timerfd_create", "dup")
}


def in_child(work: Callable[[], list[int]]) -> list[int]:
    """Do it in a child, which may put itself under a filter, and return its numbers."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found: list[int] = json.loads(said)
    return found


def load(content: bytes) -> int:
    """Put this process under a filter; return the errno, or 0."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    program = Program(len(content) // 8, content)
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    number = ctypes.c_long(NUMBERS["seccomp"])
    failed = _libc.syscall(number, _SET_MODE_FILTER, 0, ctypes.byref(program))
    return ctypes.get_errno() if failed else 0


def under(content: bytes, asked: Sequence[Sequence[int]]) -> list[int]:
    """What loading the filter says, and then what NO_CALL does with each list of arguments."""
    return [load(content), *(ask(NO_CALL, arguments) for arguments in asked)]


@pytest.mark.parametrize("name", REFUSED)
def test_the_kernel_refuses_what_we_refuse(name: str) -> None:
    content = assembled(*REFUSED[name][0])
    assert in_child(partial(under, content, [])) == [errno.EINVAL]


# Random instructions ------------------------------------------------------------------------------


def random_body(dice: random.Random, length: int) -> list[bpf.Instruction]:
    """Instructions that compute with the call's number and arguments, and jump about, forward."""
    body: list[bpf.Instruction] = []
    stored: set[int] = set()
    for left in range(length - 1, -1, -1):
        kind = dice.choice("load load load memory store arithmetic arithmetic arithmetic jump move".split())
        source, k = dice.choice((K, X)), dice.choice((0, 1, 2, 31, 0xFFFF, 0x8000_0000, dice.getrandbits(32)))
        if kind == "load":
            word = dice.choice((0, 1, *range(4, 16)))
            body.append(dice.choice(((LD | ABS, 0, 0, word * 4), (LD | IMM, 0, 0, k), (LDX | IMM, 0, 0, k))))
        elif kind == "memory" and stored:
            body.append((dice.choice((LD, LDX)) | MEM, 0, 0, dice.choice(sorted(stored))))
        elif kind == "store" and not any(op & 7 == JMP for op, *_ in body):
            # Only before the first jump: what is stored behind one is not stored on every way.
            word = dice.randrange(16)
            stored.add(word)
            body.append((dice.choice((ST, STX)), 0, 0, word))
        elif kind == "jump" and left:
            what = dice.choice(sorted(bpf.COMPARE))
            body.append((JMP | what | source, dice.randrange(left), dice.randrange(left), k))
        elif kind == "arithmetic":
            what = dice.choice(sorted(bpf.ARITHMETIC))
            shift = what in (bpf.LSH, bpf.RSH) and source == K
            k = k & 31 if shift else max(k, 1)
            body.append((ALU | bpf.NEG, 0, 0, 0) if what == bpf.NEG else (ALU | what | source, 0, 0, k))
        else:
            body.append((MISC | dice.choice((TAX, TXA)), 0, 0, 0))
    return body


def around(body: list[bpf.Instruction]) -> list[bpf.Instruction]:
    """The body, for NO_CALL alone; its A becomes an errno, every bit of which counts."""
    start = [(LD | ABS, 0, 0, 0), (JMP | bpf.JEQ | K, 1, 0, NO_CALL), (RET | K, 0, 0, _ALLOW)]
    fold = [(MISC | TAX, 0, 0, 0), (ALU | bpf.RSH | K, 0, 0, 13), (ALU | bpf.XOR | X, 0, 0, 0)]
    end = [(ALU | bpf.AND | K, 0, 0, 0xFFF), (ALU | bpf.OR | K, 0, 0, _RET_ERRNO), (RET | A, 0, 0, 0)]
    return [*start, *body, *fold, *end]


def test_random_filters_answer_as_in_the_kernel() -> None:
    dice = random.Random(20261125)
    filters = answers = 0
    while filters < 400:
        content = assembled(*around(random_body(dice, dice.randint(1, 40))))
        try:
            program = bpf.Filter.read(content)
        except BadFilter:
            assert in_child(partial(under, content, [])) == [errno.EINVAL]
            continue
        asked = [[dice.choice((0, 1, dice.getrandbits(64))) for _ in range(6)] for _ in range(8)]
        simulated = [program.run(bpf.words(NO_CALL, AUDIT[ARCH], a)) for a in asked]
        if 0 in simulated:
            # A division by zero: the answer kills, and says no more.
            continue
        live = in_child(partial(under, content, asked))
        # Errnos above 4095 do not exist (linux/err.h), so twelve bits are all kept.
        assert live == [0, *(answer & 0xFFF for answer in simulated)], content.hex()
        filters, answers = filters + 1, answers + len(asked)
    print(f"{filters} random filters, {answers} answers of the kernel, 0 disagreements")
    assert answers == 3200


def test_random_bytes_are_refused_by_both_or_by_neither() -> None:
    dice = random.Random(7)
    codes = [op for op in range(0x100) if op & 7 != RET] + [RET | K] * 60
    accepted = Counter[bool]()
    for _ in range(400):
        small = [(dice.choice(codes), dice.randrange(3), dice.randrange(3), dice.randrange(20)) for _ in "12"]
        content = b"".join(struct.pack("<HBBI", *i) for i in (*small, (RET | K, 0, 0, _ALLOW)))
        try:
            bpf.Filter.read(content)
            ours = 0
        except BadFilter:
            ours = errno.EINVAL
        assert kernel_takes(content) is (ours == 0), content.hex()
        accepted[ours == 0] += 1
    print(f"{accepted[True]} taken and {accepted[False]} refused, 0 disagreements")
    assert min(accepted.values()) > 40


def kernel_takes(content: bytes) -> bool:
    """True when the kernel loads the filter.

    A first instruction leads past it, or it could refuse the child its last words.
    """
    guarded = b"".join([struct.pack("<HBBI", JMP | bpf.JEQ | K, 0, len(content) // 8 - 1, 1), content])
    return in_child(partial(under, guarded, [])) == [0]


# Random profiles ------------------------------------------------------------------------------------

counted: Counter[str] = Counter()


def simulated(document: dict[str, Any], asked: list[tuple[str, tuple[int, ...]]]) -> list[int]:
    """The errno of the profile for each question; 0 for allowed. From the exported filter alone."""
    program = bpf.Filter.read(libseccomp.export_bpf(document, Architecture[ARCH]))
    found = [program.run(bpf.words(NUMBERS[name], AUDIT[ARCH], arguments)) for name, arguments in asked]
    return [0 if verdict(answer) == "allow" else answer & 0xFFFF for answer in found]


def only_ours(errors: Sequence[int]) -> list[int]:
    """Errnos that a filter gave; what the call itself said counts as allowed."""
    return [error if DEFAULT_ERROR <= error <= LAST_ERROR else 0 for error in errors]


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(documents(keep=OTHERS))
def _compare_with_the_kernel(document: dict[str, Any]) -> None:
    asked = questions(document)

    def live() -> list[int]:
        libseccomp.load(document, Architecture[ARCH])
        return [ask(NUMBERS[name], arguments) for name, arguments in asked]

    assert only_ours(in_child(live)) == simulated(document, asked)
    counted["kernel"] += len(asked)


def test_random_profiles_are_enforced_as_simulated() -> None:
    _compare_with_the_kernel()
    print(f"{counted['kernel']} calls of real processes, 0 disagreements")
    assert counted["kernel"] >= 5_000


PROBE = """
import ctypes, json, sys
call = ctypes.CDLL(None, use_errno=True).syscall
call.restype = ctypes.c_long
close, makers, questions = json.loads(sys.argv[1])
said = []
for number, arguments in questions:
    ctypes.set_errno(0)
    answer = call(ctypes.c_long(number), *[ctypes.c_uint64(a) for a in arguments])
    said.append(ctypes.get_errno() if answer == -1 else 0)
    if number in makers and answer > 2:
        call(ctypes.c_long(close), ctypes.c_long(answer))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def python_bundle(shared_workspace: Workspace) -> Path:
    """A bundle whose rootfs is the host's /usr, read-only: somewhere to run PROBE in."""
    folder = shared_workspace.root / "python"
    for name in ("dev", "proc", "sys", "tmp", "usr"):
        (folder / "rootfs" / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (folder / "rootfs" / name).symlink_to(f"usr/{name}")
    for path in [folder / "rootfs", *(folder / "rootfs").iterdir()]:
        if not path.is_symlink():
            bundle.own(path)
    return folder


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_runtimes_enforce_random_profiles_as_simulated(runtime: str, python_bundle: Path) -> None:
    @settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(documents(keep=OTHERS))
    def compare(document: dict[str, Any]) -> None:
        document = {**document, "architectures": [ARCH]}
        asked = questions(document, most=30)
        about = [NUMBERS["close"], sorted(_DESCRIPTORS), [[NUMBERS[n], list(a)] for n, a in asked]]
        args = ["/usr/bin/python3", "-I", "-S", "-c", PROBE, json.dumps(about)]
        bundle.write_config(python_bundle, args, ["PATH=/usr/bin"], document, [(Path("/usr"), "/usr", "ro")])
        with Container(python_bundle, runtime) as container:
            assert container.stopped(within_s=20)
            said = container.log.read_text()
        assert only_ours(json.loads(said)) == simulated(document, asked), said
        counted[runtime] += len(asked)

    compare()
    print(f"{counted[runtime]} calls in containers of {runtime}, 0 disagreements")
    assert counted[runtime] >= 300
