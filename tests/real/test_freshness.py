"""For each kind of change, exactly which stages run. Real tools, the shipped `hello` bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.model.bundle import Bundle
from pipeline.run import which
from tests.conftest import Workspace, make_workspace, remove_workspace

pytestmark = pytest.mark.real

RAN = re.compile(r"^([a-z]+):hello(?:/runc)? +\d+\.\d\d s ", re.M)
TARGETS = ("bundle:hello", "smoke:hello/runc")
ALL = ["copy", "unpack", "seccomp", "spec", "validate", "smoke"]
FROM_UNPACK = ["unpack", "spec", "validate", "smoke"]
FROM_SPEC = ["spec", "validate", "smoke"]
FROM_VALIDATE = ["validate", "smoke"]

Change = Callable[[Workspace], object]


@pytest.fixture(scope="module")
def built() -> Iterator[Workspace]:
    made = make_workspace()
    (made.root / "specs" / "stremio-server.yaml").unlink()
    made.doit(*TARGETS)
    yield made
    remove_workspace(made)


@pytest.fixture
def hello(built: Workspace) -> Iterator[Workspace]:
    """The built workspace, fresh before the test and put back after it."""
    assert ran(built) == []
    keep = built.root.parent / f"{built.root.name}.keep"
    for part in ("specs", "pipeline"):
        shutil.copytree(built.root / part, keep / part)
    yield built
    for part in ("specs", "pipeline"):
        shutil.rmtree(built.root / part)
        shutil.move(keep / part, built.root / part)
    keep.rmdir()
    built.doit(*TARGETS)


def ran(workspace: Workspace, path: str = os.environ["PATH"]) -> list[str]:
    """The stages that one `doit` ran, in order; `seccomp` is put before `spec`."""
    said = workspace.doit(*TARGETS, PATH=path).stdout
    return sorted(RAN.findall(said), key=ALL.index)


def add_key(text: str) -> Change:
    def change(workspace: Workspace) -> None:
        path = workspace.root / "specs" / "hello.yaml"
        key = text.partition(":")[0]
        rest = re.sub(rf"(?ms)^{key}:.*?(?=^\S|\Z)", "", path.read_text())
        path.write_text(f"{rest}\n{text}\n")

    return change


def append(part: str, text: str) -> Change:
    def change(workspace: Workspace) -> None:
        with open(workspace.root / part, "a") as stream:
            stream.write(text)

    return change


# One row a spec key: what to write, and what must run then. A key that leaves config.json as it was
# (`restart` is for whatever starts containers) runs `spec` alone: its output is equal, which ends it.
KEYS: dict[str, tuple[str, list[str]]] = {
    "image": ("image: oci:IMAGE:other", ALL[:2] + ALL[3:]),
    "platform": ("platform: linux/amd64", []),
    "entrypoint": ("entrypoint: [/bin/sh, /bin/serve]\ncommand: [-p, '8080']", FROM_SPEC),
    "command": ("command: [-p, '8080', -v]", FROM_SPEC),
    "user": ('user: "65532"', FROM_SPEC),
    "group_add": ("group_add: [3000]", FROM_SPEC),
    "environment": ("environment: {A: b}", FROM_SPEC),
    "env_file": ("env_file: [hello.env]", FROM_SPEC),
    "working_dir": ("working_dir: /www", FROM_UNPACK),
    "hostname": ("hostname: other", FROM_SPEC),
    "read_only": ("read_only: false\nwaive: {writable-root: tested here}", FROM_UNPACK),
    "tmpfs": ("tmpfs: ['/tmp:size=1m']", FROM_UNPACK),
    "volumes": ("volumes: ['/usr/share/zoneinfo:/zone:ro']", FROM_UNPACK),
    "devices": ("devices: ['/dev/null:/dev/nil:r']\nwaive: {device-added: tested here}", FROM_UNPACK),
    "cap_add": ("cap_add: [NET_BIND_SERVICE]", ["seccomp", *FROM_SPEC]),
    "network_mode": ("network_mode: none", ["spec"]),
    "ports": ("ports: ['18080:8080']", FROM_SPEC),
    "sysctls": ("sysctls: {net.ipv4.ip_forward: '0'}", FROM_SPEC),
    "ulimits": ("ulimits: {nofile: 100}", FROM_SPEC),
    "mem_limit": ("mem_limit: 100m\nmemswap_limit: 100m", FROM_SPEC),
    "memswap_limit": ("memswap_limit: 1g", FROM_SPEC),
    "cpus": ("cpus: 0.25", FROM_SPEC),
    "pids_limit": ("pids_limit: 99", FROM_SPEC),
    "shm_size": ("shm_size: 2m", FROM_SPEC),
    "init": ("init: true", FROM_UNPACK),
    "stop_signal": ("stop_signal: SIGKILL", FROM_SPEC),
    "stop_grace_period": ("stop_grace_period: 9s", FROM_SPEC),
    "healthcheck": ("healthcheck: {tcp: 8080}", FROM_SPEC),
    "restart": ("restart: always", ["spec"]),
    "labels": ("labels: {a: b}", FROM_SPEC),
    "annotations": ("annotations: {org.example.a: b}", FROM_SPEC),
    "seccomp": ("seccomp: unconfined\nwaive: {seccomp-missing: tested here}", ["seccomp", *FROM_SPEC]),
    "userns": ("userns: '2000100000:65536'", FROM_UNPACK),
    "keep_privileged_files": ("keep_privileged_files: [/bin/busybox]", ["unpack", "spec"]),
    "oci_version": ("oci_version: 1.0.2", FROM_SPEC),
    "waive": ("waive: {waiver-unused: not needed but tried}", FROM_VALIDATE),
    "hardening": ("hardening: {baseline: 2023-10}", FROM_SPEC),
}


def test_every_key_has_a_row() -> None:
    assert set(KEYS) == set(Bundle.__struct_fields__)


@pytest.mark.parametrize("key", KEYS)
def test_a_changed_key_runs_what_reads_it(hello: Workspace, key: str) -> None:
    text, expected = KEYS[key]
    (hello.root / "specs" / "hello.env").write_text("A=b\n")
    if key == "image":
        text = text.replace("IMAGE", str(other_image(hello)))
    add_key(text)(hello)
    assert_ran(hello, key, expected)


def assert_ran(workspace: Workspace, key: str, expected: list[str]) -> None:
    done = workspace.doit(*TARGETS, code=None)
    assert sorted(RAN.findall(done.stdout), key=ALL.index) == expected, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


def other_image(workspace: Workspace) -> Path:
    """The demo image under another digest: one more label."""
    layout = workspace.root / "other"
    subprocess.run(["cp", "-r", workspace.out / "hello" / "image", layout], check=True)
    name = subprocess.run(
        ["umoci", "list", "--layout", layout], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    argv = ["umoci", "config", "--image", f"{layout}:{name}", "--tag", "other", "--config.label", "a=b"]
    subprocess.run([*argv, "--no-history"], check=True)
    return layout


OTHER_CHANGES: dict[str, tuple[Change, list[str]]] = {
    "a comment in the spec": (append("specs/hello.yaml", "# nothing\n"), []),
    "an x- key": (append("specs/hello.yaml", "x-note: nothing\n"), []),
    "a comment in the profile": (append("specs/seccomp/default.yaml", "# nothing\n"), ["seccomp"]),
    "a comment in a stage": (append("pipeline/stages/unpack.py", "# nothing\n"), []),
    "the code of validate": (append("pipeline/stages/validate.py", "_ADDED = 1\n"), ["validate"]),
    "the code of spec, with equal output": (append("pipeline/stages/spec.py", "_ADDED = 1\n"), ["spec"]),
    "the code of unpack, with equal output": (
        append("pipeline/stages/unpack.py", "_ADDED = 1\n"),
        ["unpack"],
    ),
    "the code of smoke": (append("pipeline/stages/smoke.py", "_ADDED = 1\n"), ["smoke"]),
    "doit's database and all caches gone": (lambda w: shutil.rmtree(w.out / ".state"), []),
    "the clock moved by a year": (lambda w: shift_times(w.root, 365 * 86400), []),
    "the clock moved back by a year": (lambda w: shift_times(w.root, -365 * 86400), []),
    "config.json edited": (append("out/hello/bundle/config.json", " "), ["spec"]),
    "findings.json removed": (lambda w: (w.out / "hello/validate/findings.json").unlink(), ["validate"]),
    "rootfs removed": (lambda w: shutil.rmtree(w.out / "hello/bundle/rootfs"), ["unpack"]),
    "image removed": (lambda w: shutil.rmtree(w.out / "hello/image"), ["copy"]),
    "a receipt removed": (lambda w: (w.out / "hello/stages/unpack.json").unlink(), ["unpack"]),
    "a receipt cut off": (lambda w: os.truncate(w.out / "hello/stages/spec.json", 100), ["spec"]),
}


@pytest.mark.parametrize("what", OTHER_CHANGES)
def test_another_change(hello: Workspace, what: str) -> None:
    change, expected = OTHER_CHANGES[what]
    change(hello)
    assert_ran(hello, what, expected)


def shift_times(root: Path, by_s: int) -> None:
    for path in (root / "specs", root / "pipeline", root / "dodo.py"):
        for file in [path, *path.rglob("*")]:
            status = file.stat()
            os.utime(file, (status.st_atime + by_s, status.st_mtime + by_s))


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("skopeo", ["copy"]),
        ("umoci", ["copy", "unpack"]),
        ("runc", ["validate", "smoke"]),
        # `validate` says what becomes of the bundle under each runtime that is here.
        ("crun", ["validate"]),
    ],
)
def test_another_build_of_a_tool(hello: Workspace, tmp_path: Path, tool: str, expected: list[str]) -> None:
    """The same program with one more byte at its end: same version, another file."""
    real = which(tool)
    assert real is not None
    other = tmp_path / tool
    shutil.copy(real, other)
    with open(other, "ab") as stream:
        stream.write(b"\0")
    assert ran(hello, f"{tmp_path}:{os.environ['PATH']}") == expected


def test_a_second_run_does_nothing_and_says_so(hello: Workspace) -> None:
    said = hello.doit(*TARGETS).stdout
    assert re.fullmatch(r"0 run, 6 cached, \d+\.\d\d s\n", said)


def test_status_and_explain_name_the_change(hello: Workspace) -> None:
    add_key("hostname: other")(hello)
    said = hello.doit("status", "hello").stdout
    assert re.search(r"^spec:hello +stale +spec hostname: \S+ -> other$", said, re.M), said
    assert re.search(r"^validate:hello +stale +spec may change$", said, re.M), said
    assert re.search(r"^unpack:hello +fresh$", said, re.M), said
    told = hello.doit("explain", "spec:hello").stdout
    assert re.search(r'^ +spec hostname +\S+ -> "other"$', told, re.M), told
    hello.doit("status", "--check", "hello", code=1)
    assert ran(hello) == FROM_SPEC
    hello.doit("status", "--check", "hello")


def test_forget_builds_again_and_nothing_downstream_follows(hello: Workspace) -> None:
    hello.doit("forget", "unpack:hello")
    assert ran(hello) == ["unpack"]


def test_always_builds_again(hello: Workspace) -> None:
    said = hello.doit("-a", "-s", "seccomp:hello").stdout
    assert RAN.findall(said) == ["seccomp"]
