"""The seccomp language: each mistake at its place, and what a source means on each architecture."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import Engine
from pipeline.errors import PipelineError, PipelineErrors
from pipeline.graph import STAGES, Step
from pipeline.hostfacts import facts as host_facts
from pipeline.model.bundle import Bundle
from pipeline.model.nouns import Platform
from pipeline.oci.seccomp import Profile, SyscallTable, architectures, oci_profile, resolution
from pipeline.oci.seccomp_arguments import Kind, kinds, known
from pipeline.oci.seccomp_constants import constants, names
from pipeline.oci.seccomp_extends import extended
from pipeline.oci.seccomp_source import read_profile
from pipeline.oci.seccomp_tables import ESCAPES, NAMESPACE_FLAGS, NEWER_CALLS, NEWER_FORMS, PROBED
from pipeline.paths import Project
from pipeline.profilesource import read_named, syscall_table
from pipeline.tools import libseccomp
from pipeline.tools.libseccomp import Architecture
from pipeline.yamlnodes import parse
from tests.conftest import Workspace

OCI = Path(__file__).parent.parent / "pipeline" / "oci"
GOLDEN = Path(__file__).parent / "golden" / "seccomp"
SOURCES = Path(__file__).parent.parent / "specs" / "seccomp"
X86_64, AARCH64 = "SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"
SHIPPED = ("default", "node-server")
LOW_32_BITS = 0xFFFF_FFFF


@pytest.fixture(scope="module")
def table() -> SyscallTable:
    # Messages name the library's version; the cases were written with this one.
    return replace(syscall_table(), version="2.5.4")


def shipped(name: str, table: SyscallTable) -> Profile:
    """The profile as it is compiled: with what the runtimes need."""
    return read_named(name, SOURCES, SOURCES.parent.parent)


def cases(expected: str) -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob(f"*/{expected}"))


def test_every_case_expects_something() -> None:
    every = {path.name for path in GOLDEN.iterdir()}
    assert every == {*cases("errors.txt"), *cases("profile.json")}


def test_every_mistake_by_name_has_a_case() -> None:
    """And a warning a test: a code that nothing trips is a check that may not work."""
    sources = [path.read_text() for path in OCI.glob("seccomp_*.py")]
    calls = r"(?:PipelineError|fault|Unfit|_refused)\(\s*(?:reader,\s*)?\"([a-z0-9-]+)\""
    codes = {code for text in sources for code in re.findall(calls, text)}
    told = {
        code
        for path in GOLDEN.glob("*/errors.txt")
        for code in re.findall(r"error\[([a-z0-9-]+)\]", path.read_text())
    }
    # `unknown-architecture`, `unknown-capability`, `socket-unfiltered` and such are put together.
    assert codes - told == {"newer-syscall", "syscall-of-others"}
    assert {"unknown-architecture", "unknown-capability", "wide-compare", "tests-cancel"} <= told


def read_case(case: str, table: SyscallTable) -> Profile:
    others = {path.stem: path.read_bytes() for path in (GOLDEN / case).glob("*.yaml")}
    return read_profile(others["source"], "source.yaml", table, others)


@pytest.mark.parametrize("case", cases("errors.txt"))
def test_a_mistake_is_said_at_its_place(case: str, table: SyscallTable) -> None:
    with pytest.raises(PipelineErrors) as caught:
        read_case(case, table)
    assert f"{caught.value}\n" == (GOLDEN / case / "errors.txt").read_text()


@pytest.mark.parametrize("case", cases("profile.json"))
def test_a_source_becomes_an_oci_profile(case: str, table: SyscallTable) -> None:
    made = oci_profile(read_case(case, table), (X86_64,), table)
    assert made == json.loads((GOLDEN / case / "profile.json").read_bytes())
    # And the library takes it as it is.
    assert libseccomp.export_bpf(made, Architecture.SCMP_ARCH_X86_64)


def one(rules: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """What an OCI profile says of one call."""
    return [rule for rule in rules if name in rule["names"]]


def test_constants_and_conditions_are_those_of_the_architecture(table: SyscallTable) -> None:
    profile = read_case("only", table)
    made = {arch: oci_profile(profile, (arch,), table)["syscalls"] for arch in (X86_64, AARCH64)}
    masks = {
        arch: [arg["value"] for rule in one(made[arch], "openat") for arg in rule["args"]] for arch in made
    }
    assert masks == {X86_64: [0x4000], AARCH64: [0x10000, LOW_32_BITS]}
    assert [rule["args"][0].get("valueTwo") for rule in one(made[AARCH64], "openat")] == [0, 0x10000]
    assert (len(one(made[X86_64], "mmap")), len(one(made[AARCH64], "mmap"))) == (1, 0)
    assert [r["action"] for r in one(made[X86_64], "bpf")] == ["SCMP_ACT_ERRNO"]
    assert one(made[AARCH64], "bpf") == []


def test_what_programs_try_first_is_enosys_where_the_source_is_silent(table: SyscallTable) -> None:
    source = b"""description: d
groups:
  files:
    reason: r
    allow:
      - openat2
      - {name: statx, only: {architectures: [x86_64]}}
      - {name: execveat, only: {capabilities: [CHOWN]}}
deny: [{errno: EACCES, reason: r, names: [faccessat2]}]
"""
    profile = read_profile(source, "source.yaml", table)
    answers = {
        (arch, held, name): [
            rule.get("errnoRet", 0)
            for rule in one(oci_profile(profile, (arch,), table, [held])["syscalls"], name)
        ]
        for arch in (X86_64, AARCH64)
        for held in ("CAP_KILL", "CAP_CHOWN")
        for name in ("statx", "execveat", "openat2", "faccessat2", "clone3")
    }
    for held in ("CAP_KILL", "CAP_CHOWN"):
        assert answers[X86_64, held, "statx"] == [0]
        assert answers[AARCH64, held, "statx"] == [38]
        assert answers[AARCH64, held, "execveat"] == ([0] if held == "CAP_CHOWN" else [38])
        assert answers[X86_64, held, "openat2"] == [0]
        assert answers[X86_64, held, "faccessat2"] == [13]
        assert answers[X86_64, held, "clone3"] == [38]


def test_a_capability_opens_what_hangs_on_it(table: SyscallTable) -> None:
    profile = read_case("widened-by-capability", table)
    bare = oci_profile(profile, (X86_64,), table)["syscalls"]
    more = oci_profile(profile, (X86_64,), table, ["CAP_BPF", "CAP_NET_RAW"])["syscalls"]
    assert [rule["action"] for rule in one(bare, "bpf")] == ["SCMP_ACT_ERRNO"]
    assert [rule["action"] for rule in one(more, "bpf")] == ["SCMP_ACT_ALLOW"]
    assert [bool(rule.get("args")) for rule in one(bare, "socket")] == [True]
    # One outright allowance: libseccomp is not asked which of two it would keep.
    assert [bool(rule.get("args")) for rule in one(more, "socket")] == [False]
    assert one(oci_profile(read_case("only", table), (X86_64,), table)["syscalls"], "chroot") == []
    held = oci_profile(read_case("only", table), (X86_64,), table, ["CAP_SYS_CHROOT"])["syscalls"]
    assert [rule["action"] for rule in one(held, "chroot")] == ["SCMP_ACT_ALLOW"]


def test_what_is_compiled_for_another_architecture_is_about_its_calls(table: SyscallTable) -> None:
    """libseccomp takes numbers of this machine and translates; taken as the other's they mean other calls."""
    for arch in Architecture:
        for name in ("read", "openat", "mkdirat"):
            rule = {"names": [name], "action": "SCMP_ACT_ALLOW"}
            bpf = libseccomp.export_bpf(
                {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [rule]}, arch
            )
            compared = {k for code, _, _, k in struct.iter_unpack("<HBBI", bpf) if code == 0x15}
            assert compared - {arch.value, 0xFFFF_FFFF} == {table.numbers[arch.name][name]}


def test_the_document_does_not_depend_on_what_the_library_knows(table: SyscallTable) -> None:
    """Whatever libseccomp is newer or older: the document is the same, and what it lacks is told."""
    source = b"description: d\ngroups: {files: {reason: r, allow: [openat, mseal, file_getattr]}}\n"
    newer = {"mseal": 462, "file_getattr": 468}
    tables = [replace(table, version="2.5.4"), with_names(table, newer, "9.0.0")]
    read = [read_profile(source, "source.yaml", t) for t in tables]
    for arch in (X86_64, AARCH64):
        old, new = (oci_profile(p, (arch,), t) for p, t in zip(read, tables, strict=True))
        assert old == new
        assert {"mseal", "file_getattr"} <= set(one(new["syscalls"], "openat")[0]["names"])
    if not table.is_known("mseal"):
        assert [(w.code, w.message) for w in read[0].warnings] == [
            (
                "newer-syscall",
                "`mseal` needs Linux 6.10 and libseccomp 2.5.6, and this is 2.5.4: it stays refused here",
            ),
            (
                "newer-syscall",
                "`file_getattr` needs Linux 6.17 and libseccomp newer than 2.6.0, and this is 2.5.4: "
                "it stays refused here",
            ),
        ]
        found = resolution(read[0], X86_64, tables[0])["unknown"]
        assert found == {
            "file_getattr": "Linux 6.17, no libseccomp yet",
            "mseal": "Linux 6.10, libseccomp 2.5.6",
        }
    assert read[1].warnings == ()
    assert resolution(read[1], AARCH64, tables[1])["unknown"] == {}


def with_names(table: SyscallTable, more: dict[str, int], version: str) -> SyscallTable:
    numbers = {arch: {**known, **more} for arch, known in table.numbers.items()}
    return SyscallTable(version, numbers, lambda name: name in more or table.is_known(name))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_means_the_same_under_every_library(name: str, table: SyscallTable) -> None:
    profile = shipped(name, table)
    assert {rule.name for rule in profile.rules} & NEWER_CALLS.keys() == set()
    assert set(PROBED) & NEWER_CALLS.keys() == set()
    assert profile.warnings == ()
    same = with_names(table, dict.fromkeys(NEWER_CALLS, 999), "9.0.0")
    for arch in (X86_64, AARCH64):
        assert oci_profile(profile, (arch,), same) == oci_profile(profile, (arch,), table)


# What a hand can put where something else belongs.
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 5, 2**64, 1.5, "", "read", "a b", "AF_UNIX|", "|", "0x", "x86_64", "a\nb", [], {}),
    *(["read"], {"name": "read"}, {"a": 1}, [[]], [None], [{"argument": 0, "eq": 1}]),
)


def steps_in(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each part of a value."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*way, key)
        if isinstance(part, dict | list):
            yield from steps_in(part, (*way, key))


def test_whatever_is_written_is_read_or_refused_with_a_place(table: SyscallTable) -> None:
    """No value in no place ends in anything but a profile that compiles, or mistakes that can be found."""
    whole = """{description: d, extends: base, drop: {groups: [old], names: [write]},
    default: {action: errno, errno: EPERM, probed: [statx]}, groups: {files: {reason: r, only: {architectures:
    [x86_64], capabilities: [CAP_CHOWN]}, allow: [read, {name: chmod, reason: r, only: {architectures:
    [x86_64]}, arguments: [{argument: 1, masked_eq: {mask: S_ISUID, value: 0}}, {argument: 2, in: [1]}]}]}},
    deny: [{errno: ENOSYS, reason: r, names: [sync, {name: socket, arguments: [{argument: 0, eq: 1}]}]}]}"""
    base = b"description: b\ngroups: {old: {reason: r, allow: [write, {name: kill, reason: r}]}}\n"
    parsed = parse(whole.encode(), "source.yaml").value
    refused = 0
    for way in list(steps_in(parsed)):
        for odd in ODD:
            changed = json.loads(json.dumps(parsed))
            place = changed
            for step in way[:-1]:
                place = place[step]
            place[way[-1]] = odd
            try:
                read = read_profile(json.dumps(changed).encode(), "source.yaml", table, {"base": base})
                oci_profile(read, (X86_64,), table)
            except PipelineErrors as fault:
                refused += 1
                assert all(e.place is not None and e.place.line >= 1 for e in fault.errors)
    assert refused > 800


@pytest.mark.parametrize(
    ("allow", "warning"),
    [
        ("socket", "socket-unfiltered"),
        ("personality", "personality-unfiltered"),
        ("mmap2", "syscall-of-others"),
        ("{name: socket, arguments: [{argument: 0, in: [AF_UNIX]}]}", None),
        ("{name: personality, arguments: [{argument: 0, in: [PER_LINUX]}]}", None),
        ("mmap", None),
    ],
)
def test_what_is_open_wider_than_it_looks_is_said(
    allow: str, warning: str | None, table: SyscallTable
) -> None:
    source = f"description: d\ngroups: {{files: {{reason: r, allow: [{allow}]}}}}\n".encode()
    found = [w.code for w in read_profile(source, "source.yaml", table).warnings]
    assert found == ([warning] if warning else [])


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("[base]", "`extends` names another profile"),
        ("*name", "`extends` must be a plain name"),
        ('"b\\x61se"', "`extends` must be a plain name"),
        ("../base", "`extends` must be a plain name"),
    ],
)
def test_what_is_extended_can_be_found_without_a_parser(
    extends: str, message: str, table: SyscallTable
) -> None:
    """The stage depends on those files, and a start that has nothing to do loads no YAML."""
    source = f"x-name: &name base\nextends: {extends}\ndescription: d\n".encode()
    with pytest.raises(PipelineErrors, match=message):
        read_profile(source, "source.yaml", table, {"base": b""})
    assert extended(b"extends: base\n'extends': \"other-one.2\"\n") == ["base", "other-one.2"]


def test_a_group_can_be_added_for_the_runtime(table: SyscallTable) -> None:
    profile = read_case("conditions", table).with_group("runtime", "why", ["socket", "execve", "execve"])
    rules = oci_profile(profile, (X86_64,), table)["syscalls"]
    assert one(rules, "execve") == [{"names": ["execve", "socket"], "action": "SCMP_ACT_ALLOW"}]
    assert one(rules, "socket") == one(rules, "execve")
    assert profile.calls_by_group()["runtime"] == {"reason": "why", "calls": ["execve", "socket"]}


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
    assert intel["unknown"] == arm["unknown"] == {"mseal": "Linux 6.10, libseccomp 2.5.6"}
    assert (intel["lacking"], arm["lacking"]) == ({}, {})
    assert one(oci_profile(profile, (AARCH64,), older)["syscalls"], "openat") == [
        {"names": ["mseal", "openat"], "action": "SCMP_ACT_ALLOW"}
    ]


def test_an_older_form_without_its_newer_one_is_told(table: SyscallTable) -> None:
    source = b"description: d\ngroups: {files: {reason: r, allow: [mkdir, open, openat]}}\n"
    profile = read_profile(source, "source.yaml", table)
    assert resolution(profile, AARCH64, table)["lacking"] == {"mkdir": "mkdirat"}
    assert resolution(profile, X86_64, table)["lacking"] == {}


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
    assert found["unknown"] == {}
    assert profile.escapes == {}
    assert {"clone", "socket"} <= found["conditional"].keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_lacks_nothing_on_the_newer_architecture(name: str, table: SyscallTable) -> None:
    """aarch64 has the calls relative to a folder alone: for each older one the newer must be there."""
    found = resolution(shipped(name, table), AARCH64, table)
    assert found["lacking"] == {}
    assert set(found["absent"]) <= NEWER_FORMS.keys()


def test_what_the_node_profile_says_of_itself_is_true(table: SyscallTable) -> None:
    text = (SOURCES / "node-server.yaml").read_text()
    counts = [resolution(shipped("node-server", table), a, table)["counts"] for a in (X86_64, AARCH64)]
    assert f"{counts[0]['allowed']} allowed of the" in text
    assert f"({counts[1]['allowed']} of" in text
    if libseccomp.version() == "2.5.4":
        assert f"of the {counts[0]['native']} that libseccomp 2.5.4 knows on x86_64" in text
        assert f"of {counts[1]['native']} on aarch64" in text


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
    known = constants(X86_64).items()
    named = [v for name, v in known if name.startswith("CLONE_NEW") and name != "CLONE_NEWTIME"]
    assert sum(named) == NAMESPACE_FLAGS


def test_the_ways_out_are_calls(table: SyscallTable) -> None:
    assert [name for name in ESCAPES if not table.is_known(name) and name not in NEWER_CALLS] == []


def test_the_newer_forms_are_calls_and_the_older_ones_are_not_there(table: SyscallTable) -> None:
    intel, arm = table.numbers[X86_64], table.numbers[AARCH64]
    assert {old for old in NEWER_FORMS if old in arm or old not in intel} == set()
    assert {new for new in NEWER_FORMS.values() if new not in arm} == set()


def test_the_arguments_of_every_call_are_known(table: SyscallTable) -> None:
    every = {name for numbers in table.numbers.values() for name in numbers}
    # Numbers that the kernel keeps for what it never had, or has no more (syscalls(2)).
    gone = """_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg
    nfsservctl putpmsg query_module security tuxcall vserver""".split()
    assert every - known().keys() == set(gone)
    assert kinds("socket") == (Kind.INT,) * 3
    assert [k.mask.bit_length() for k in kinds("chmod") or ()] == [64, 16]
    assert kinds("getpid") == ()
    assert kinds("getpmsg") is None


def test_a_constant_that_differs_is_not_taken_for_equal() -> None:
    intel, arm = constants(X86_64), constants(AARCH64)
    assert (intel["O_DIRECTORY"], arm["O_DIRECTORY"]) == (0o200000, 0o40000)
    assert (intel["O_DIRECT"], arm["O_DIRECT"]) == (0o40000, 0o200000)
    assert names() - intel.keys() == {"PROT_BTI", "PROT_MTE", "PTRACE_PEEKMTETAGS", "PTRACE_POKEMTETAGS"}
    assert {name for name in names() - arm.keys() if not name.startswith("ARCH_")} == {"MAP_32BIT"}


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
    made = ["aarch64.bpf", "profile.json", "resolved.json", "verdicts.html", "verdicts.json", "x86_64.bpf"]
    assert sorted(path.name for path in outputs.iterdir()) == made
    answers = json.loads((outputs / "verdicts.json").read_bytes())["architectures"]
    assert {arch: found["calls"]["read"] for arch, found in answers.items()} == {
        "SCMP_ARCH_AARCH64": "allow",
        "SCMP_ARCH_X86_64": "allow",
    }
    page = (outputs / "verdicts.html").read_text()
    assert "<h1>Verdicts of default</h1>" in page
    assert "<h2>file-names</h2>" in page
    document = json.loads((outputs / "profile.json").read_bytes())
    assert document["architectures"] == [X86_64]
    resolved = json.loads((outputs / "resolved.json").read_bytes())
    assert resolved["libseccomp"] == facts["libseccomp"] == libseccomp.version()
    counts = resolved["architectures"][X86_64]["counts"]
    assert facts["allowed"][X86_64] == counts["allowed"]
    assert facts["allowed"][AARCH64] == resolved["architectures"][AARCH64]["counts"]["allowed"]
    assert "clone" in resolved["groups"]["child-processes"]["calls"]
    bpf = (outputs / "x86_64.bpf").read_bytes()
    assert bpf == libseccomp.export_bpf(document, Architecture.SCMP_ARCH_X86_64)
    assert resolved["architectures"][X86_64]["filter"]["instructions"] == len(bpf) // 8
    assert (facts["unconfined"], facts["profile"], facts["escapes"]) == (False, "default", {})
    arm = resolved["architectures"][AARCH64]
    of, others = (f"{c['allowed']} of {c['native']} calls allowed on" for c in (counts, arm["counts"]))
    assert said == [
        f"seccomp:x: default: {of} x86_64",
        f"seccomp:x: default: {others} aarch64; it has no {', '.join(arm['absent'][:8])} "
        f"and {len(arm['absent']) - 8} more",
    ]


def test_the_stage_warns_of_what_a_reader_may_not_see(workspace: Workspace) -> None:
    source = "description: d\ngroups: {files: {reason: r, allow: [mkdir, socket]}}\n"
    (workspace.root / "specs" / "seccomp" / "mine.yaml").write_text(source)
    facts, _, said = built(workspace, "mine")
    assert said[2:] == [
        "seccomp:x: mine: warning: aarch64 has no mkdir, only mkdirat, which is not allowed there",
        "seccomp:x: mine: warning[socket-unfiltered]: specs/seccomp/mine.yaml:2:44: "
        "`socket` is open whatever its arguments: AF_ALG, AF_VSOCK and whatever the kernel has",
    ]
    assert [w["rule"] for w in facts["warnings"]] == ["socket-unfiltered"]


def test_a_change_of_what_is_extended_makes_the_stage_run(workspace: Workspace) -> None:
    folder = workspace.root / "specs" / "seccomp"
    (folder / "mine.yaml").write_text("extends: base\ndescription: d\nfloor: none\n")
    (folder / "base.yaml").write_text("description: d\ngroups: {files: {reason: r, allow: [read]}}\n")
    assert built(workspace, "mine")[0]["allowed"][X86_64] == 1
    project = Project(workspace.root)
    before = host_facts(("profile",), project, "x", {"seccomp": "mine"})
    changed = "description: d\ngroups: {files: {reason: r, allow: [read, write]}}\n"
    (folder / "base.yaml").write_text(changed)
    assert host_facts(("profile",), project, "x", {"seccomp": "mine"}) != before


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
