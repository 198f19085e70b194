"""The shipped profiles in force: what they refuse, seen by processes, and that the server works under one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.nouns import Platform
from pipeline.oci.seccomp import architectures, oci_profile
from pipeline.profilesource import Sources, read_named, read_with_floor, sources_in, syscall_table
from pipeline.run import Result, run
from pipeline.tools.libseccomp import Architecture, number
from tests.conftest import PROJECT, Workspace
from tests.standin import build, bundle
from tests.standin.bundle import Container

pytestmark = [pytest.mark.real, pytest.mark.root]

PROFILES = ("default", "node-server")
RUNTIMES = ("runc", "crun")
(ARCH,) = architectures(Platform.host())
HTTP = "http://127.0.0.1:11470"

# Flags and families by number: these tests must not believe the tables that the profiles are made with.
NEWUSER, SIGCHLD, HIGH = 0x10000000, 17, 1 << 32
AF_UNIX, AF_INET, AF_NETLINK, AF_ALG, AF_VSOCK, AF_PACKET = 1, 2, 16, 38, 40, 17
RAW_NETLINK, NETLINK_AUDIT = 3, 9

REFUSED: dict[str, tuple[int, ...]] = {
    "add_key": (),
    "bpf": (),
    "finit_module": (2**32 - 1,),
    "init_module": (),
    "io_uring_setup": (8,),
    "kexec_load": (0, 2**32 - 1),
    "keyctl": (0, 0, 0),
    "mount": (),
    "move_mount": (),
    "open_by_handle_at": (),
    "open_tree": (),
    "perf_event_open": (),
    "pidfd_getfd": (),
    "pivot_root": (),
    "process_vm_readv": (1,),
    "ptrace": (0,),
    "setns": (2**32 - 1,),
    "umount2": (),
    "unshare": (NEWUSER,),
    "userfaultfd": (1,),
}
SOCKETS = {
    "socket of AF_ALG": ("socket", (AF_ALG, 5, 0)),
    "socket of AF_VSOCK": ("socket", (AF_VSOCK, 1, 0)),
    "socket of AF_VSOCK, a high bit set": ("socket", (AF_VSOCK | HIGH, 1, 0)),
    "socket of AF_PACKET": ("socket", (AF_PACKET, 3, 0)),
    "netlink to audit": ("socket", (AF_NETLINK, RAW_NETLINK, NETLINK_AUDIT)),
    "netlink to audit, a high bit set": ("socket", (AF_NETLINK | HIGH, RAW_NETLINK, NETLINK_AUDIT | HIGH)),
    "clone with a user namespace": ("clone", (NEWUSER | SIGCHLD,)),
    "clone with a user namespace, a high bit set": ("clone", (NEWUSER | SIGCHLD | HIGH,)),
}
GRANTED = {
    "socket of AF_INET": ("socket", (AF_INET, 1, 0)),
    "socket of AF_INET, a high bit set": ("socket", (AF_INET | HIGH, 1, 0)),
    "getpid": ("getpid", ()),
}

# Runs anywhere with a Python: under a filter of ours, or in a container under the runtime's.
PROBE = """
import ctypes, json, os, sys, threading
call = ctypes.CDLL(None, use_errno=True).syscall
call.restype = ctypes.c_long
def ask(number, arguments):
    ctypes.set_errno(0)
    padded = [*arguments, *[0] * (6 - len(arguments))]
    answer = call(ctypes.c_long(number), *[ctypes.c_uint64(a) for a in padded])
    if answer == 0 and number == CLONE:
        os._exit(0)
    return ctypes.get_errno() if answer == -1 else 0
CLONE, questions = json.loads(sys.argv[1])
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
child = os.fork()
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(json.dumps({name: ask(*question) for name, question in questions.items()}))
"""
LOAD = """
import json, sys
sys.path.insert(0, sys.argv[2])
from pipeline.tools import libseccomp
libseccomp.load(json.loads(sys.argv[3]), libseccomp.Architecture[sys.argv[4]])
"""


# What a small server of Python's standard library does, each step alone; prints those that were refused.
PYTHON_SERVER = """
import fcntl, glob, http.server, json, mmap, os, shutil, signal, socket, sqlite3, subprocess, sys, tempfile
import threading, time, urllib.request
folder = tempfile.mkdtemp()
os.chdir(folder)
def serve():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/a") as answer:
            assert answer.read() == b"a" * 9999
        server.shutdown()
def write():
    with open("a", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.posix_fallocate(file.fileno(), 0, 9999)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        file.write(b"a" * 10_000)
        os.fsync(file.fileno())
    os.truncate("a", 9999)
def copy():
    os.makedirs("d/e")
    shutil.copy2("a", "d/e/a")
    shutil.copytree("d", "f")
    os.listxattr("a")
    os.chown("f/e/a", os.getuid(), os.getgid())
    os.lchown("f/e/a", -1, os.getgid())
    shutil.rmtree("f")
def fchdir():
    fd = os.open(".", os.O_RDONLY)
    os.fchdir(fd)
    os.close(fd)
def database():
    with sqlite3.connect("x.db") as base:
        base.execute("pragma journal_mode=wal")
        base.execute("create table t (n)")
        base.execute("insert into t values (1)")
def memory():
    fd = os.memfd_create("x")
    os.ftruncate(fd, 4096)
    with mmap.mmap(fd, 4096) as area:
        area[0] = 1
        area.flush()
def names():
    socket.if_nameindex()
    socket.getaddrinfo("localhost", 80)
def child():
    assert subprocess.check_output(["/bin/sh", "-c", "echo $(echo x)"], timeout=9) == b"x\\n"
    os.getsid(0)
def signals():
    signal.sigpending()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.raise_signal(signal.SIGUSR1)
refused = []
for step in (write, serve, copy, fchdir, database, memory, names, child, signals):
    try:
        step()
    except Exception as fault:
        refused.append(f"{step.__name__}: {fault!r}")
os.chdir("/")
shutil.rmtree(folder)
print(json.dumps(refused))
"""


SOURCES = PROJECT / "specs" / "seccomp"


def document(name: str) -> dict[str, Any]:
    return oci_profile(read_named(name, SOURCES, PROJECT), (ARCH,), syscall_table())


# The default profile with one test of each kind, on descriptor -1: EBADF is the kernel's own answer.
OPERATORS = b"""
extends: default
description: every operator
drop: {names: [ftruncate, flock, fchmod, fadvise64, pwrite64, socket]}
groups:
  tests:
    reason: asked for below
    allow:
      - {name: ftruncate, arguments: [{argument: 1, ne: 5}]}
      - {name: pwrite64, arguments: [{argument: 3, ge: 100}, {argument: 2, le: 7}]}
      - {name: pwrite64, arguments: [{argument: 3, lt: 50}, {argument: 2, gt: 7}]}
      - {name: flock, arguments: [{argument: 1, eq: LOCK_SH|LOCK_NB}]}
      - {name: fchmod, arguments: [{argument: 1, masked_eq: {mask: S_ISUID|S_ISVTX, value: S_ISVTX}}]}
      - {name: fadvise64, arguments: [{argument: 3, in: [POSIX_FADV_RANDOM, POSIX_FADV_DONTNEED]}]}
      - {name: socket, arguments: [{argument: 0, eq: AF_UNIX}, {argument: 1, without: [SOCK_NONBLOCK]}]}
deny:
  - errno: EAFNOSUPPORT
    reason: by argument
    names: [{name: socket, arguments: [{argument: 0, in: [AF_ALG, AF_VSOCK]}]}]
"""
BAD = 2**64 - 1
OPERATOR_QUESTIONS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "ne, another": ("ftruncate", (BAD, 6), 9),
    "ne, the same": ("ftruncate", (BAD, 5), 1),
    "ne, all 64 bits count": ("ftruncate", (BAD, 5 | HIGH), 9),
    "ge and le": ("pwrite64", (BAD, 0, 7, 100), 9),
    "ge alone": ("pwrite64", (BAD, 0, 8, 100), 1),
    "lt and gt": ("pwrite64", (BAD, 0, 8, 49), 9),
    "lt and not gt": ("pwrite64", (BAD, 0, 7, 49), 1),
    "neither": ("pwrite64", (BAD, 0, 8, 50), 1),
    "eq": ("flock", (BAD, 5), 9),
    "eq, a high bit set": ("flock", (BAD, 5 | HIGH), 9),
    "eq, another": ("flock", (BAD, 6), 1),
    "masked_eq": ("fchmod", (BAD, 0o1777), 9),
    "masked_eq, a bit too many": ("fchmod", (BAD, 0o5777), 1),
    "masked_eq, a bit too few": ("fchmod", (BAD, 0o777), 1),
    "in": ("fadvise64", (BAD, 0, 0, 1), 9),
    "in, the other": ("fadvise64", (BAD, 0, 0, 4 | HIGH), 9),
    "in, none of them": ("fadvise64", (BAD, 0, 0, 3), 1),
    "without": ("socket", (AF_UNIX, 1, 0), 0),
    "without, with it": ("socket", (AF_UNIX, 0o4001, 0), 1),
    "errno by argument": ("socket", (AF_ALG, 5, 0), 97),
    "errno by argument, a high bit set": ("socket", (AF_VSOCK | HIGH, 1, 0), 97),
    "no argument fits": ("socket", (AF_INET, 1, 0), 1),
}


def operators() -> tuple[dict[str, Any], str]:
    """The profile of every operator, and what to ask under it."""
    shipped = sources_in(SOURCES)
    beside = Sources(
        ("x", *shipped), lambda name: OPERATORS if name == "x" else shipped[name], shipped.floors
    )
    made = oci_profile(read_with_floor("x", "x.yaml", beside), (ARCH,), syscall_table())
    asked = {what: [call_number(call), args] for what, (call, args, _) in OPERATOR_QUESTIONS.items()}
    return made, json.dumps([call_number("clone"), asked])


def questions() -> str:
    every = {**{name: (name, args) for name, args in REFUSED.items()}, **SOCKETS, **GRANTED}
    asked = {what: [call_number(call), args] for what, (call, args) in every.items()}
    asked["clone3"] = [call_number("clone3"), (0, 0)]
    return json.dumps([call_number("clone"), asked])


def call_number(name: str) -> int:
    found = number(name, Architecture[ARCH])
    assert found is not None
    return found


def expected() -> dict[str, int]:
    return {
        **dict.fromkeys((*REFUSED, *SOCKETS), 1),
        **dict.fromkeys(GRANTED, 0),
        "clone3": 38,
    }


def under_filter(name: str, program: str) -> Result:
    words = [questions(), str(PROJECT), json.dumps(document(name)), ARCH]
    return run([sys.executable, "-c", LOAD + program, *words], timeout_s=30, check=False)


@pytest.mark.parametrize("name", PROFILES)
def test_a_process_is_refused_what_leads_out(name: str) -> None:
    """As root with every capability: whatever is refused, the filter refuses."""
    result = under_filter(name, PROBE)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == expected()


@pytest.mark.parametrize(
    ("names", "refused"),
    [((), []), (("flock",), ["write", "serve"]), (("memfd_create", "fchdir"), ["fchdir", "memory"])],
    ids=["the profile", "without flock", "without memfd_create and fchdir"],
)
def test_a_small_python_server_works_under_the_default_profile(
    names: tuple[str, ...], refused: list[str]
) -> None:
    """And where a call is taken away, the step that makes it says so."""
    profile = document("default")
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in names]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    words = ["", str(PROJECT), json.dumps(profile), ARCH]
    result = run([sys.executable, "-c", LOAD + PYTHON_SERVER, *words], timeout_s=60, check=False)
    assert result.returncode == 0, result.stderr
    assert [step.partition(":")[0] for step in json.loads(result.stdout)] == refused, result.stdout


def test_without_a_filter_the_same_questions_are_answered_otherwise() -> None:
    """Or the test above would prove nothing."""
    # Of the calls that change something, none: their arguments are nonsense, but `unshare` and such are not.
    asked = json.loads(questions())
    harmless = {k: v for k, v in asked[1].items() if k not in ("ptrace", "unshare") and "clone with" not in k}
    words = json.dumps([asked[0], harmless])
    said = json.loads(run([sys.executable, "-c", PROBE, words], timeout_s=30).stdout)
    same = {what for what, error in said.items() if error == expected()[what] and what not in GRANTED}
    assert same <= {"io_uring_setup"}, "only io_uring may be off on this machine for everyone"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 exists beside x86_64 alone")
@pytest.mark.parametrize("name", PROFILES)
def test_the_numbers_of_x32_are_no_way_around(name: str) -> None:
    x32_getpid = 0x40000000 + 39
    result = under_filter(name, f"import ctypes; ctypes.CDLL(None).syscall({x32_getpid})")
    assert result.returncode == -signal.SIGSYS


@pytest.fixture
def python_bundle(workspace: Workspace) -> Path:
    """A bundle whose rootfs is the host's /usr, read-only: somewhere to run PROBE in."""
    folder = workspace.root / "python"
    for name in ("dev", "proc", "sys", "tmp", "usr"):
        (folder / "rootfs" / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (folder / "rootfs" / name).symlink_to(f"usr/{name}")
    for path in [folder / "rootfs", *(folder / "rootfs").iterdir()]:
        if not path.is_symlink():
            bundle.own(path)
    return folder


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", PROFILES)
def test_a_container_is_refused_what_leads_out(name: str, runtime: str, python_bundle: Path) -> None:
    # The system's Python, since what runs the tests may lie in a home that no container sees.
    args = ["/usr/bin/python3", "-I", "-c", PROBE, questions()]
    binds = [(Path("/usr"), "/usr", "ro")]
    bundle.write_config(python_bundle, args, ["PATH=/usr/bin"], document(name), binds)
    with Container(python_bundle, runtime) as container:
        assert container.stopped(within_s=20)
        said = container.log.read_text()
    assert json.loads(said) == expected(), said


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_operator_holds_in_a_container(runtime: str, python_bundle: Path) -> None:
    made, asked = operators()
    args = ["/usr/bin/python3", "-I", "-c", PROBE, asked]
    bundle.write_config(python_bundle, args, ["PATH=/usr/bin"], made, [(Path("/usr"), "/usr", "ro")])
    with Container(python_bundle, runtime) as container:
        assert container.stopped(within_s=20)
        said = container.log.read_text()
    assert json.loads(said) == {what: answer for what, (_, _, answer) in OPERATOR_QUESTIONS.items()}, said


@pytest.fixture(scope="module")
def standin(shared_workspace: Workspace) -> Path:
    """The stand-in image, unpacked."""
    folder = shared_workspace.root / "standin"
    folder.mkdir()
    bundle.unpack(build.layout(), build.REFERENCE, folder / "rootfs")
    return folder


@pytest.fixture
def volume(standin: Path) -> Iterator[Path]:
    """An empty volume that belongs to the server's user."""
    folder = standin / "volume"
    folder.mkdir()
    bundle.own(folder, build.USER)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("asks_for_io_uring", [False, True])
def test_the_server_does_all_it_does_under_the_node_profile(
    runtime: str, asks_for_io_uring: bool, standin: Path, volume: Path
) -> None:
    image = json.loads((build.HERE / "image.json").read_bytes())
    env = [*image["Env"], f"UV_USE_IO_URING={int(asks_for_io_uring)}"]
    binds = [(volume, bundle.VOLUME, "rw")]
    bundle.write_config(standin, image["Entrypoint"], env, document("node-server"), binds, init=True)
    with Container(standin, runtime) as server:
        server.wait_for(f"{HTTP}/health")
        status, said = server.fetch(f"{HTTP}/selftest")
        assert status == 200, said.decode()
        assert server.execute("/app/bin/node", "-e", "process.exit(0)").returncode == 0
        facts = server.status()
        assert (facts["Seccomp"], facts["NoNewPrivs"], int(facts["CapEff"], 16)) == ("2", "1", 0)
        # With an init as PID 1 the program that ignores SIGTERM ends.
        server.signal("TERM")
        assert server.stopped(within_s=5)
