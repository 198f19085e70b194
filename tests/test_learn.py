"""Learning a profile from traces: what counts, runs merged, the wider filter, the proposal, `x-trace`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineErrors
from pipeline.learn.exercise import Exercise, exercise_of
from pipeline.learn.proposal import Proposal, propose
from pipeline.learn.recorded import Trace, add_run, calls_after_filter, new_trace, program_calls
from pipeline.learn.widened import widened
from pipeline.model.bundle import HttpProbe
from pipeline.oci import bpf, verdicts
from pipeline.oci.seccomp import Profile
from pipeline.oci.seccomp_source import read_profile
from pipeline.oci.seccomp_tables import ESCAPES, MULTIPLEXED
from pipeline.paths import Project
from pipeline.profilesource import export, filters_of, syscall_table
from pipeline.tools.strace import Call, read_calls
from tests.conftest import PROJECT

X86_64 = "SCMP_ARCH_X86_64"
RUN = {"runtime": "runc 1.1.5", "recording": "strace 6.1", "architecture": "x86_64"}
# As strace 6.1 writes with -f --decode-pids=comm,pidns -q -s 0 -X raw.
MAIN = """\
7<runc:[2:INIT]> openat(-100, ""..., 0x2) = 3
7<runc:[2:INIT]> execve(""..., 0x7ffc /* 1 var */, 0x7ffd /* 4 vars */) = 0
7<serve> socket(0xa, 0x1|0x80000, 0) = 3
7<serve> socket(0x10, 0x80003, 0) = 4
7<serve> socket(0x26, 0x5, 0) = -1 EPERM (Operation not permitted)
7<serve> accept(3,  <unfinished ...>
8<worker> futex(0x7f, 0x80, 0, NULL) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
8<worker> --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=9} ---
7<serve> <... accept resumed>{sa_family=0x2, sin_port=1}, [16]) = 5
7<serve> clone(child_stack=NULL, flags=0x1200000|17, child_tidptr=0x7f) = 9
9<bad
7<serve> keyctl(0, 1) = -1 EPERM (Operation not permitted)
7<serve> futex_waitv(0x7f, 0, 0, NULL, 0) = -1 ENOSYS (Function not implemented)
7<serve> cachestat(3, 0x7f, 0x7f, 0) = -1 ENOSYS (Function not implemented)
7<serve> exit_group(0) = ?
7<serve> +++ exited with 0 +++
"""
EXEC = """\
20<runc> execve(""..., 0x7ffc, 0x7ffd) = 0
20<runc> clone(child_stack=NULL, flags=17) = 21
21<runc:[2:INIT]> seccomp(0x1, 0, {len=4, filter=0x7f}) = 0
21<runc:[2:INIT]> close_range(3, 4294967295, 0) = 0
21<runc:[2:INIT]> execve(""..., 0x7ffc, 0x7ffd) = 0
20<runc> wait4(21, NULL, 0, NULL) = 21
21<sh> vfork() = 22
22<sh> execve(""..., 0x7ffc, 0x7ffd) = 0
22<ps> sysinfo(0x7f) = 0
"""


def calls_of(text: str) -> list[Call]:
    return list(read_calls(text.splitlines(keepends=True)))


@cache
def shipped() -> list[Profile]:
    folder = PROJECT / "specs" / "seccomp"
    names = ("default", "node-server")
    return [read_profile((folder / f"{n}.yaml").read_bytes(), n, syscall_table()) for n in names]


def known(name: str) -> bool:
    return syscall_table().is_known(name)


def proposed(trace: Trace) -> tuple[Proposal, Profile]:
    made = propose(trace, shipped(), known)
    return made, read_profile(made.text.encode(), "proposal.yaml", syscall_table())


def test_what_counts_is_what_the_program_did_after_it_took_the_runtimes_place() -> None:
    names = [call.name for call in program_calls(calls_of(MAIN))]
    assert "openat" not in names
    assert names.count("accept") == 1
    assert {"futex", "clone", "exit_group"} <= set(names)
    assert program_calls(calls_of(MAIN.replace("execve", "read"))) == []


def test_of_an_exec_what_counts_is_what_started_under_the_filter_and_its_children() -> None:
    assert [call.name for call in calls_after_filter(calls_of(EXEC))] == ["vfork", "execve", "sysinfo"]


def test_runs_are_merged() -> None:
    calls = program_calls(calls_of(MAIN))
    once = add_run(new_trace("x"), RUN, calls)
    twice = add_run(once, RUN, calls)
    assert [run["calls"] for run in twice["runs"]] == [len(calls)] * 2
    socket = twice["calls"]["socket"]
    assert socket["count"] == 6
    assert socket["processes"] == {"serve": 6}
    assert socket["errors"] == {"EPERM": 2}
    # What was refused is no argument that is needed.
    assert socket["values"] == {
        "family": {"10": 2, "16": 2},
        "netlink": {"0": 2},
        "type": {"524289": 2, "524291": 2},
    }
    assert twice["calls"]["clone"]["values"] == {"flags": {str(0x1200011): 2}}
    assert once["calls"]["socket"]["count"] == 3


def test_the_proposal_of_a_run() -> None:
    made, profile = proposed(add_run(new_trace("x"), RUN, program_calls(calls_of(MAIN))))
    assert "# Seen and left out, since it was refused each time: keyctl." in made.text
    assert "        arguments: [{argument: 0, in: [AF_INET6]}]\n" in made.text
    assert "{argument: 0, eq: AF_NETLINK}, {argument: 2, in: [NETLINK_ROUTE]}" in made.text
    assert "AF_ALG" not in made.text
    assert "      - accept  # 1 by serve\n" in made.text
    groups = profile.calls_by_group()
    assert groups["network-server"]["calls"] == ["accept"]
    assert groups["network-server"]["reason"] == "wait for others to connect"
    assert groups["other-forms"]["calls"] == ["accept4", "fork", "vfork"]
    assert groups["always"]["calls"] == ["exit", "restart_syscall", "rt_sigreturn"]
    assert set(groups["vdso"]["calls"]) == {"clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time"}
    assert not profile.warnings


def test_newer_forms_follow_from_older_ones_and_no_obsolete_one_from_a_newer() -> None:
    seen = [Call(1, "x", name, (), 0) for name in ("utimes", "pipe2", "stat", "getdents64")]
    _, profile = proposed(add_run(new_trace("x"), RUN, seen))
    assert profile.calls_by_group()["other-forms"]["calls"] == ["newfstatat", "pipe", "statx", "utimensat"]


def test_what_this_kernel_has_not_goes_on_being_told_so() -> None:
    trace = add_run(new_trace("x"), RUN, [Call(1, "x", "mseal", (), -1, "ENOSYS")])
    made = propose(trace, shipped(), lambda name: True)
    assert "deny:\n  - errno: ENOSYS\n" in made.text
    assert "names: [mseal]" in made.text
    assert "mseal" not in made.calls


def test_a_call_of_no_group_is_in_a_group_of_its_own_and_a_name_is_no_yaml() -> None:
    calls = [Call(1, "a\n- bpf #é", "semget", (), 0), Call(1, "x", "read", (), 0)]
    made, profile = proposed(add_run(new_trace("x"), RUN, calls))
    assert profile.calls_by_group()["seen"]["calls"] == ["semget"]
    assert "- semget  # 1 by a?-?bpf???\n" in made.text


ENTRY = st.fixed_dictionaries(
    {
        "count": st.integers(1, 9),
        "processes": st.dictionaries(st.sampled_from(["sh", "node", "?"]), st.integers(1, 9), min_size=1),
        "errors": st.dictionaries(st.sampled_from(["EPERM", "ENOSYS", "ENOENT"]), st.integers(1, 9)),
        "values": st.fixed_dictionaries(
            {
                kind: st.dictionaries(st.integers(0, 70).map(str), st.integers(1, 9))
                for kind in ("family", "netlink", "persona", "flags")
            }
        ),
    }
)
NAMES = sorted({name for numbers in syscall_table().numbers.values() for name in numbers} | {"syscall_0x1ff"})


@given(st.dictionaries(st.sampled_from(NAMES), ENTRY, min_size=1, max_size=60))
def test_whatever_was_seen_the_proposal_is_a_source_that_compiles(calls: dict[str, Any]) -> None:
    trace = {"version": 1, "bundle": "x", "runs": [RUN], "calls": calls}
    made, profile = proposed(trace)
    assert made == proposed({**trace, "calls": dict(reversed(calls.items()))})[0]
    filters_of(profile)
    allowed = {rule.name for rule in profile.rules if rule.error is None}
    assert not allowed & ({*ESCAPES, *MULTIPLEXED, "clone3"})
    for name, entry in calls.items():
        refused = entry["errors"].get("EPERM", 0) + entry["errors"].get("ENOSYS", 0)
        fits = name not in ESCAPES and name not in MULTIPLEXED and name != "clone3" and known(name)
        if fits and refused < entry["count"]:
            assert name in allowed


def test_the_filter_meanwhile_is_wide_but_closes_the_ways_out() -> None:
    config: dict[str, Any] = {"root": {"path": "rootfs", "readonly": True}, "linux": {"namespaces": [1]}}
    made = widened(config, "/elsewhere/rootfs")
    assert made["root"] == {"path": "/elsewhere/rootfs", "readonly": True}
    assert made["linux"]["namespaces"] == [1]
    assert config["root"]["path"] == "rootfs"
    found = {**made["linux"]["seccomp"], "architectures": [X86_64]}
    (content,) = export({X86_64: found}).values()
    program = bpf.Filter.read(content)
    numbers = syscall_table().numbers[X86_64]

    def verdict(name: str, *arguments: int) -> int:
        return program.run(bpf.words(numbers[name], verdicts.AUDIT[X86_64], arguments))

    allow, eperm, enosys = 0x7FFF_0000, 0x5_0001, 0x5_0026
    assert verdict("personality") == allow
    assert verdict("keyctl") == verdict("unshare") == verdict("bpf") == verdict("ptrace") == eperm
    assert verdict("clone3") == enosys
    assert verdict("clone", 17) == allow
    assert verdict("clone", 17 | 0x1000_0000) == verdict("clone", 0x2_0000) == eperm
    assert verdict("socket", 2) == allow
    assert verdict("socket", 38) == verdict("socket", 40 | 1 << 32) == eperm
    assert verdict("ioctl", 1, 0x5401) == allow
    assert verdict("ioctl", 1, 0x5412 | 1 << 32) == eperm


def spec(tmp_path: Path, **texts: str) -> Project:
    (tmp_path / "specs").mkdir()
    for name, text in texts.items():
        (tmp_path / "specs" / f"{name}.yaml").write_text(text)
    return Project(tmp_path)


def test_an_exercise_is_the_specs_own_or_that_of_its_base(tmp_path: Path) -> None:
    words = "x-trace: {exec: [[ls, /]], http: ['http://:80/a?b'], seconds: 1.5}\n"
    project = spec(tmp_path, base="image: x\n" + words, one="extends: base\n", two="image: x\n")
    wanted = Exercise((("ls", "/"),), (HttpProbe(port=80, path="/a?b"),), 1.5)
    assert exercise_of(project, "one") == exercise_of(project, "base") == wanted
    assert exercise_of(project, "two") == Exercise()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected a mapping with exec, http, seconds, found a list"),
        ("{https: []}", "unknown key `https`"),
        ("{exec: [ls]}", "expected a command as a list of words, found the text `ls`"),
        ("{exec: [[]]}", "the command is empty"),
        ("{http: ['https://:8080/']}", "`https://:8080/` is not a URL that can be probed"),
        ("{seconds: -1}", "-1 seconds are not between 0 and 3600"),
        ("{seconds: long}", "expected a number of seconds, found the text `long`"),
    ],
)
def test_a_mistake_in_an_exercise_is_told_at_its_place(tmp_path: Path, text: str, said: str) -> None:
    project = spec(tmp_path, one=f"image: x\nx-trace: {text}\n")
    with pytest.raises(PipelineErrors) as caught:
        exercise_of(project, "one")
    assert said in str(caught.value)
    assert "specs/one.yaml:2:" in str(caught.value)
