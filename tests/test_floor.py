"""What a floor is: read, merged, looked up, added to profiles; and strace's words read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.floor import program
from pipeline.floor.command import Answer, chosen
from pipeline.oci.floor import (
    Floor,
    content,
    floor_of,
    merged,
    read_floors,
    read_wanted,
    relevant,
    union,
    with_floor,
)
from pipeline.oci.seccomp import Profile
from pipeline.oci.seccomp_source import read_profile
from pipeline.profilesource import read_named, syscall_table
from pipeline.tools.strace import between_filter_and_program, read_calls, wait_until_written
from tests.conftest import PROJECT

OLD = Floor("runc", "1.1.5", {True: {"futex": "sometimes", "fstatfs": "needed", "epoll_ctl": "seen"}}, "aa")
NEW = Floor("runc", "1.3.6", {True: {"openat2": "needed"}, False: {"capset": "needed"}}, "bb")
OTHER = Floor("crun", "1.8.1", {True: {"write": "needed"}}, "cc")
FLOORS = (OLD, NEW, OTHER)
KNOWN = ("runc", "crun")

SOURCE = b"description: d\ngroups: {files: {reason: r, allow: [read, write]}}\n"

TRACE = """\
10<runc:[2:INIT]> seccomp(0x1, 0x1, NULL <unfinished ...>
11<runc:[2:INIT]> nanosleep({tv_sec=0, tv_nsec=20000},  <unfinished ...>
10<runc:[2:INIT]> <... seccomp resumed>) = -1 EFAULT (Bad address)
10<runc:[2:INIT]> umask(0)                         = 022
10<runc:[2:INIT]> prctl(0x16, 0x2, {len=9, filter=0xc00011} <unfinished ...>
11<runc:[2:INIT]> <... nanosleep resumed>NULL) = 0
10<runc:[2:INIT]> <... prctl resumed>) = 0
11<runc:[2:INIT]> sched_yield() = 0
10<runc:[2:INIT]> openat(-100, "/proc/self/fd, x) = 3"..., 0x80001) = 3
10<runc:[2:INIT]> clone(0x3d0f00, 0x1) = 5<runc:[2:INIT]> /* 12 in strace's PID NS */
12<runc:[2:INIT]> futex(0xc, 0x81, 1) = 1
10<runc:[2:INIT]> epoll_ctl(7, 0x1, 4, {events=0x5}) = -1 EPERM (Operation not permitted)
10<runc:[2:INIT]> execve("/a", [...], 0xc0 /* 2 vars */ <unfinished ...>
10<end> <... execve resumed>) = 0
10<end> brk(NULL) = 0x29c9e000
10<end> exit_group(0) = ?
10<end> +++ exited with 0 +++
"""


def profile(source: bytes) -> Profile:
    return read_profile(source, "s.yaml", syscall_table())


def floored(source: bytes) -> Profile:
    return with_floor(profile(source), FLOORS, read_wanted(source, "s.yaml", KNOWN))


def allowed(found: Profile) -> dict[str, str]:
    return {rule.name: rule.group for rule in found.rules if rule.error is None}


def test_a_profile_takes_in_what_any_runtime_needs() -> None:
    found = floored(SOURCE)
    files, runtime = "files", "runtime"
    assert allowed(found) == {
        "read": files,
        "write": files,
        "futex": runtime,
        "fstatfs": runtime,
        "openat2": runtime,
    }
    assert found.groups["runtime"] == (
        "what crun 1.8.1, runc 1.1.5, runc 1.3.6 call between loading the filter and starting a program"
    )


def test_what_was_only_seen_and_what_no_bundle_of_ours_needs_stays_out() -> None:
    assert not {"epoll_ctl", "capset"} & allowed(floored(SOURCE)).keys()


def test_a_source_can_name_the_runtimes_it_is_for() -> None:
    assert "openat2" not in allowed(floored(SOURCE + b"floor: [crun]\n"))
    assert "futex" in allowed(floored(SOURCE + b"floor: [runc]\n"))
    assert set(allowed(floored(SOURCE + b"floor: none\n"))) == {"read", "write"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            b"floor: [rnc]\n",
            "error[unknown-runtime]: there is no runtime `rnc`\n  --> s.yaml:3:9\n"
            " 3 | floor: [rnc]\n   |         ^^^ help: did you mean `runc`?",
        ),
        (
            b"floor: all\n",
            "error[wrong-type]: `floor` is `none`, or a list of the runtimes that the profile is for\n"
            "  --> s.yaml:3:8\n 3 | floor: all\n   |        ^^^",
        ),
        (
            b"deny: [{errno: EPERM, reason: r, names: [fstatfs]}]\n",
            "error[floor-denied]: `fstatfs` is denied, and runc 1.1.5 cannot start a program without it\n"
            "  --> s.yaml:3:42\n"
            " 3 | deny: [{errno: EPERM, reason: r, names: [fstatfs]}]\n"
            "   |                                          ^^^^^^^ help: remove the denial, or say which "
            "runtimes the profile is for, as in `floor: [crun]`",
        ),
    ],
)
def test_mistakes_have_a_place(more: bytes, said: str) -> None:
    with pytest.raises(PipelineErrors) as caught:
        floored(SOURCE + more)
    assert str(caught.value) == said


def test_the_groups_name_is_taken() -> None:
    source = b"description: d\ngroups: {runtime: {reason: r, allow: [read]}}\n"
    with pytest.raises(PipelineErrors, match="the group `runtime` is what runtimes need"):
        floored(source)
    assert allowed(floored(source + b"floor: none\n")) == {"read": "runtime"}


def test_a_runtime_that_was_never_measured_is_said() -> None:
    source = SOURCE + b"floor: [youki]\n"
    with pytest.raises(PipelineErrors) as caught:
        with_floor(profile(source), FLOORS, read_wanted(source, "s.yaml", (*KNOWN, "youki")))
    assert "error[no-floor]: what youki needs was never measured" in str(caught.value)
    assert "doit floor youki" in str(caught.value)


def test_which_runtime_wants_which_call() -> None:
    wanted = union(FLOORS, read_wanted(SOURCE, "s.yaml", KNOWN))
    assert wanted["openat2"] == ["runc 1.3.6"]
    assert wanted["write"] == ["crun 1.8.1"]


def test_the_file_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"
    path.write_bytes(content(FLOORS))
    again = read_floors(path)
    assert {f.label: f.calls for f in again} == {f.label: f.calls for f in FLOORS}
    assert content(again) == content(FLOORS)
    assert read_floors(tmp_path / "none.json") == ()


@pytest.mark.parametrize("text", ["[]", '{"version": 2, "floors": []}', '{"version": 1, "floors": [{}]}'])
def test_a_damaged_file_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "floors.json"
    path.write_text(text)
    with pytest.raises(PipelineError, match="the file of floors is damaged") as caught:
        read_floors(path)
    assert caught.value.code == "bad-floors"


def test_measuring_again_replaces_one_program_alone() -> None:
    again = Floor("runc", "1.1.5", {True: {"futex": "needed"}}, "aa")
    found = merged(FLOORS, again)
    assert [f.calls for f in found if f.version == "1.1.5"] == [again.calls]
    assert len(found) == 3
    assert len(merged(FLOORS, Floor("runc", "1.1.5", {}, "zz"))) == 4


def test_a_runtime_is_judged_by_its_own_floor_or_the_nearest() -> None:
    assert floor_of(FLOORS, "runc", "1.1.5", "aa") == (OLD, True)
    assert floor_of(FLOORS, "runc", "1.1.5", "a") == (OLD, True)
    assert floor_of(FLOORS, "runc", "1.1.5", "") == (OLD, False)
    assert floor_of(FLOORS, "runc", "1.1.5", "other build") == (OLD, False)
    assert floor_of(FLOORS, "runc", "1.2.0", "x") == (OLD, False)
    assert floor_of(FLOORS, "runc", "1.10.0", "x") == (NEW, False)
    assert floor_of(FLOORS, "runc", "1.0.0", "x") == (OLD, False)
    assert floor_of(FLOORS, "youki", "0.5", "x") == (None, False)


def test_notes_do_not_make_a_profile_stale() -> None:
    noted = Floor("runc", "1.1.5", OLD.calls, "aa", kernel="9.9")
    assert relevant((noted, NEW, OTHER)) == relevant(FLOORS)
    assert relevant((NEW, OTHER)) != relevant(FLOORS)


def test_the_calls_between_filter_and_program() -> None:
    """Probes load nothing; a thread that was there before is not bound; one made after it is."""
    found = between_filter_and_program(read_calls(TRACE.splitlines()))
    assert [call.name for call in found] == ["openat", "clone", "futex", "epoll_ctl", "execve"]
    assert [call.error for call in found] == ["", "", "", "EPERM", ""]
    assert found[0].integer(2) == 0x80001


def test_a_filter_for_all_threads_binds_all() -> None:
    whole = TRACE.replace("prctl(0x16, 0x2, {len", "seccomp(0x1, 0x1, {len").replace(
        "<... prctl", "<... seccomp"
    )
    assert "sched_yield" in [c.name for c in between_filter_and_program(read_calls(whole.splitlines()))]


def test_a_log_is_whole_when_all_have_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(TRACE)
    assert not wait_until_written(log, 0)
    log.write_text(TRACE + "11<x> +++ exited with 0 +++\n12<x> +++ exited with 0 +++\n")
    assert wait_until_written(log, 0)


def test_the_programs_are_elf() -> None:
    assert program.ending()[:4] == program.waiting()[:4] == b"\x7fELF"


def test_a_runtime_without_an_adapter_is_refused() -> None:
    with pytest.raises(PipelineError, match="there is no runtime `rkt`") as caught:
        chosen(("rkt",))
    assert caught.value.hint == "there are runc, crun"


def test_an_answer_tells_old_and_new() -> None:
    lines = list(Answer(NEW, OLD, 9, 2.4).lines())
    assert lines[0] == "runc 1.3.6: 9 starts in 2 s"
    assert lines[2] == "    2 -> 1 calls: -fstatfs -futex +openat2"


@pytest.mark.parametrize("name", ["default", "node-server"])
def test_the_shipped_profiles_hold_every_floor(name: str) -> None:
    folder = PROJECT / "specs" / "seccomp"
    found = read_named(name, folder, PROJECT)
    floors = read_floors(folder / "floors.json")
    assert {f.runtime for f in floors} == {"runc", "crun"}
    for floor in floors:
        assert floor.wanted(no_new_privileges=True) <= allowed(found).keys(), floor.label
    assert "runtime" in found.groups


def test_the_shipped_floors_are_canonical() -> None:
    path = PROJECT / "specs" / "seccomp" / "floors.json"
    assert content(read_floors(path)) == path.read_bytes()
    assert json.loads(path.read_bytes())["version"] == 1
