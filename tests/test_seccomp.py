"""The seccomp language: each mistake at its place, and what a source means on each architecture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import Engine
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.graph import STAGES, Step
from pipeline.model.bundle import Bundle
from pipeline.model.nouns import Platform
from pipeline.oci.seccomp import Profile, SyscallTable, architectures, oci_profile, resolution
from pipeline.oci.seccomp_source import read_profile
from pipeline.oci.seccomp_tables import CONSTANTS, ESCAPES, LOW_32_BITS, NAMESPACE_FLAGS
from pipeline.paths import Project
from pipeline.stages.seccomp import syscall_table
from pipeline.tools import libseccomp
from pipeline.tools.libseccomp import Architecture
from tests.conftest import Workspace

GOLDEN = Path(__file__).parent / "golden" / "seccomp"
SOURCES = Path(__file__).parent.parent / "specs" / "seccomp"
X86_64, AARCH64 = "SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"
SHIPPED = ("default", "node-server")
# What a program on aarch64 calls instead; the older form does not exist there.
NEWER_FORMS = """
access:faccessat alarm:setitimer arch_prctl:prctl chmod:fchmodat chown:fchownat dup2:dup3
epoll_wait:epoll_pwait fork:clone getpgrp:getpgid lchown:fchownat
link:linkat lstat:newfstatat mkdir:mkdirat open:openat pause:ppoll pipe:pipe2 poll:ppoll
readlink:readlinkat rename:renameat rmdir:unlinkat select:pselect6 stat:newfstatat symlink:symlinkat
time:clock_gettime unlink:unlinkat vfork:clone
"""


@pytest.fixture(scope="module")
def table() -> SyscallTable:
    # Messages name the library's version; the cases were written with this one.
    return replace(syscall_table(), version="2.5.4")


def shipped(name: str, table: SyscallTable) -> Profile:
    return read_profile((SOURCES / f"{name}.yaml").read_bytes(), f"specs/seccomp/{name}.yaml", table)


def cases(expected: str) -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob(f"*/{expected}"))


def test_every_case_expects_something() -> None:
    every = {path.name for path in GOLDEN.iterdir()}
    assert every == {*cases("errors.txt"), *cases("profile.json")}


@pytest.mark.parametrize("case", cases("errors.txt"))
def test_a_mistake_is_said_at_its_place(case: str, table: SyscallTable) -> None:
    with pytest.raises(PipelineErrors) as caught:
        read_profile((GOLDEN / case / "source.yaml").read_bytes(), "source.yaml", table)
    assert f"{caught.value}\n" == (GOLDEN / case / "errors.txt").read_text()


@pytest.mark.parametrize("case", cases("profile.json"))
def test_a_source_becomes_an_oci_profile(case: str, table: SyscallTable) -> None:
    profile = read_profile((GOLDEN / case / "source.yaml").read_bytes(), "source.yaml", table)
    assert oci_profile(profile, (X86_64,), table) == json.loads((GOLDEN / case / "profile.json").read_bytes())


@pytest.mark.parametrize(("text", "archs"), [("linux/amd64", (X86_64,)), ("linux/arm64/v8", (AARCH64,))])
def test_a_bundle_has_the_calls_of_its_own_architecture_alone(text: str, archs: tuple[str, ...]) -> None:
    assert architectures(Platform.parse(text)) == archs


def test_an_architecture_without_profiles_is_refused() -> None:
    with pytest.raises(PipelineError) as caught:
        architectures(Platform.parse("linux/riscv64"))
    assert str(caught.value) == (
        "error[no-seccomp-architecture]: no seccomp profile can be made for linux/riscv64\n"
        "  help: profiles are made for amd64, arm64; `seccomp: unconfined` goes without one"
    )


def test_what_an_architecture_lacks_is_reported(table: SyscallTable) -> None:
    source = b"description: d\ngroups: {files: {reason: r, allow: [open, openat, sync_file_range2, mseal]}}\n"
    # A library that is older than mseal, whichever is installed.
    older = replace(table, is_known=lambda name: name != "mseal" and table.is_known(name))
    older = replace(older, numbers={arch: without(n, "mseal") for arch, n in table.numbers.items()})
    profile = read_profile(source, "source.yaml", older)
    intel, arm = (resolution(profile, arch, older) for arch in (X86_64, AARCH64))
    assert intel["allowed"] == {"open": 2, "openat": 257}
    assert arm["allowed"] == {"openat": 56}
    assert intel["absent"] == ["sync_file_range2"]
    assert arm["absent"] == ["open", "sync_file_range2"]
    assert intel["unknown"] == arm["unknown"] == ["mseal"]
    assert oci_profile(profile, (AARCH64,), older)["syscalls"] == [
        {"names": ["openat"], "action": "SCMP_ACT_ALLOW"}
    ]


def without(numbers: Any, name: str) -> dict[str, int]:
    return {key: value for key, value in numbers.items() if key != name}


def test_the_table_is_that_of_the_installed_library(table: SyscallTable) -> None:
    assert table.numbers[X86_64]["read"] == 0
    assert table.numbers[AARCH64]["read"] == 63
    assert libseccomp.number("clone3", Architecture.SCMP_ARCH_AARCH64) == 435
    assert libseccomp.number("open", Architecture.SCMP_ARCH_AARCH64) is None
    assert libseccomp.is_known("socketcall")
    assert not libseccomp.is_known("opneat")
    assert libseccomp.version().count(".") == 2


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("arch", [X86_64, AARCH64])
def test_a_shipped_profile_allows_little(name: str, arch: str, table: SyscallTable) -> None:
    profile = shipped(name, table)
    found = resolution(profile, arch, table)
    assert found["counts"]["allowed"] <= {"default": 170, "node-server": 150}[name]
    assert found["errors"]["clone3"] == "ENOSYS"
    assert set(found["errors"].values()) == {"ENOSYS"}
    assert found["unknown"] == []
    assert profile.escapes == {}
    assert {"clone", "socket"} <= found["conditional"].keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_lacks_nothing_on_the_newer_architecture(name: str, table: SyscallTable) -> None:
    """aarch64 has the calls relative to a folder alone: for each older one the newer must be there."""
    newer = dict(word.split(":") for word in NEWER_FORMS.split())
    found = resolution(shipped(name, table), AARCH64, table)
    there = {*found["allowed"], *found["conditional"]}
    assert {old: newer[old] for old in found["absent"] if newer[old] not in there} == {}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("arch", list(Architecture))
def test_a_shipped_profile_compiles(name: str, arch: Architecture, table: SyscallTable) -> None:
    document = oci_profile(shipped(name, table), (arch.name,), table)
    program = libseccomp.export_bpf(document, arch)
    assert len(program) % 8 == 0
    assert 50 < len(program) // 8 < 400


def test_every_integer_is_compared_in_32_bits(table: SyscallTable) -> None:
    """Comparing 64 bits of what the kernel reads as 32 can be walked around with a high bit."""
    for name in SHIPPED:
        for rule in oci_profile(shipped(name, table), (X86_64,), table)["syscalls"]:
            for test in rule.get("args", ()):
                assert test["op"] == "SCMP_CMP_MASKED_EQ"
                assert test["value"] in (LOW_32_BITS, NAMESPACE_FLAGS)


def test_the_namespace_flags_are_those_with_names() -> None:
    named = [value for name, value in CONSTANTS.items() if name.startswith("CLONE_NEW")]
    assert sum(named) == NAMESPACE_FLAGS


def test_the_ways_out_are_calls(table: SyscallTable) -> None:
    assert [name for name in ESCAPES if not table.is_known(name)] == []


class Silent:
    """A voice that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, task: str, line: str) -> None:
        self.lines.append(f"{task}: {line}")

    def progress(self, task: str, done_bytes: int, total_bytes: int, what: str) -> None:
        raise AssertionError("nothing here takes long")


def built(workspace: Workspace, name: str) -> tuple[dict[str, Any], Path, list[str]]:
    """Run the stage for a bundle that names the profile `name`; return facts, outputs and what was said."""
    project, voice = Project(workspace.root), Silent()
    project.open()
    specs = {"x": Bundle(image="oci:x", platform="linux/amd64", seccomp=name).to_values()}
    engine = Engine(project, specs, lambda spec: "", voice)
    engine.execute(Step(STAGES["seccomp"], "x"))
    receipt = engine.receipt("x", "seccomp")
    assert receipt is not None
    return receipt["facts"], project.bundle("x").seccomp, voice.lines


def test_the_stage_writes_the_profile_and_what_it_means(workspace: Workspace) -> None:
    facts, outputs, said = built(workspace, "default")
    assert sorted(path.name for path in outputs.iterdir()) == ["profile.json", "resolved.json"]
    document = json.loads((outputs / "profile.json").read_bytes())
    assert document["architectures"] == [X86_64]
    resolved = json.loads((outputs / "resolved.json").read_bytes())
    assert resolved["libseccomp"] == facts["libseccomp"] == libseccomp.version()
    counts = resolved["architectures"][X86_64]["counts"]
    assert facts["allowed"] == {X86_64: counts["allowed"]}
    assert "clone" in resolved["groups"]["processes"]["calls"]
    assert (facts["unconfined"], facts["profile"], facts["escapes"]) == (False, "default", {})
    of = f"{counts['allowed']} of {counts['native']}"
    assert said == [f"seccomp:x: default: {of} calls allowed on {X86_64}"]


def test_unconfined_is_a_fact_and_no_profile(workspace: Workspace) -> None:
    facts, outputs, _ = built(workspace, "unconfined")
    assert facts == {"unconfined": True}
    assert [path.name for path in outputs.iterdir()] == ["resolved.json"]


def test_a_profile_that_is_not_there_is_said_with_those_that_are(workspace: Workspace) -> None:
    with pytest.raises(PipelineError) as caught:
        built(workspace, "node-sever")
    assert str(caught.value) == (
        "error[unknown-profile]: there is no seccomp profile `node-sever` (specs/seccomp/node-sever.yaml)\n"
        "  help: did you mean `node-server`?"
    )
    with pytest.raises(PipelineError, match="there is no seccomp profile") as caught:
        built(workspace, "zzz")
    assert caught.value.hint == "there are: default, node-server"


def test_the_stage_names_the_file_of_a_mistake(workspace: Workspace) -> None:
    source = "description: d\ngroups: {files: {reason: r, allow: [raed]}}\n"
    (workspace.root / "specs" / "seccomp" / "mine.yaml").write_text(source)
    with pytest.raises(PipelineErrors) as caught:
        built(workspace, "mine")
    assert "--> specs/seccomp/mine.yaml:2:37" in str(caught.value)


def test_what_the_library_refuses_is_an_error_not_a_gap() -> None:
    twice = {"index": 0, "op": "SCMP_CMP_NE", "value": 1}
    rule = {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [twice, {**twice, "value": 2}]}
    document = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [rule]}
    with pytest.raises(PipelineError) as caught:
        libseccomp.export_bpf(document, Architecture.SCMP_ARCH_X86_64)
    assert str(caught.value) == (
        "error[bad-filter]: libseccomp could not add the rule for socket: Invalid argument"
    )
