"""Comparing profiles by their filters, and the pins that hold growth back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.oci.seccomp_builtin import docker_default, systemd_group, systemd_groups
from pipeline.oci.verdict_summary import Summary, changes, count
from pipeline.paths import Project
from pipeline.profiles import ARCHITECTURES, compiled, names, of_name
from pipeline.run import run, which
from pipeline.seccompdiff import compare, in_words
from pipeline.seccomppins import accept, drift, pin_path
from pipeline.tools import libseccomp
from pipeline.tools.libseccomp import Architecture
from tests.conftest import PROJECT
from tests.judged import Case, findings
from tests.test_verdicts import NUMBERS, rule

X86_64, AARCH64 = "SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"
SHIPPED = Project(PROJECT)
SOURCE = """\
description: for tests
groups:
  files:
    reason: read and write
    allow:
      - read
      - write
{more}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with one small profile, `mine`."""
    made = Project(tmp_path)
    made.seccomp_sources.mkdir(parents=True)
    write(made)
    return made


def write(project: Project, *more: str, name: str = "mine") -> None:
    lines = "\n".join(f"      - {line}" for line in more)
    (project.seccomp_sources / f"{name}.yaml").write_text(SOURCE.format(more=lines))


def summary(*rules: dict[str, Any], arch: str = X86_64, default: int = 1) -> Summary:
    document = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": default, "syscalls": [*rules]}
    content = libseccomp.export_bpf(document, Architecture[arch])
    return Summary.of_filter(content, arch, NUMBERS[arch])


def told(old: Summary, new: Summary) -> list[str]:
    return list(map(str, changes(old, new)))


def family(value: int) -> dict[str, Any]:
    return rule("socket", (0, "MASKED_EQ", 0xFFFF_FFFF, value))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_is_gained_and_lost(arch: str) -> None:
    old, new = summary(rule("read"), rule("mount"), arch=arch), summary(rule("read"), rule("bpf"), arch=arch)
    assert told(old, new) == ["+ bpf", "− mount"]
    assert count(changes(old, new)) == "+1 −1"
    assert told(old, old) == []


def test_differences_of_arguments_are_named() -> None:
    assert told(summary(family(2), family(38)), summary(family(2))) == ["− socket: AF_ALG now refused"]
    assert told(summary(family(2)), summary(rule("socket")))[0].startswith("+ socket: AF_ALG, ")
    two, three = rule("prctl", (0, "EQ", 2, 0)), rule("prctl", (0, "EQ", 3, 0))
    assert told(summary(two), summary(two, three)) == [
        "+ prctl: now allowed when argument 0 == 0x3, as prctl(0x3)"
    ]
    assert told(summary(), summary(two)) == ["+ prctl: now allowed when argument 0 == 0x2, as prctl(0x2)"]
    assert told(summary(two), summary(rule("prctl"))) == [
        "+ prctl: now allowed for other arguments, as prctl(0x0)"
    ]
    ranges = rule("prctl", (1, "GT", 5, 0)), rule("prctl", (1, "GT", 3, 0))
    assert told(summary(ranges[0]), summary(ranges[1]))[0].endswith("as prctl(0x0, 0x4)")


def test_a_hole_in_the_upper_bits_is_a_hole() -> None:
    """`socket != AF_ALG` in 64 bits: with a high bit set AF_ALG passes, and the kernel reads 32 bits."""
    tight = summary(rule("socket", (0, "MASKED_EQ", 0xFFFF_FFFF, 2)))
    leaky = summary(rule("socket", (0, "NE", 38, 0)))
    (said,) = told(tight, leaky)
    assert said.startswith("+ socket: AF_ALG, ")
    # Bits that the kernel does not read make no call more open.
    assert told(summary(rule("socket", (0, "EQ", 2, 0))), tight) == [
        "~ socket: in upper 32 bits alone, which the kernel does not read"
    ]


def test_what_is_refused_in_another_way_is_told() -> None:
    assert told(summary(), summary(rule("clone3", error=38))) == ["~ clone3: EPERM -> ENOSYS"]


def test_what_lies_beside_the_calls_counts() -> None:
    closed = summary()
    opened = Summary(closed.open, closed.refused, {**closed.beside, "x32": "allow or kill thread"})
    assert told(closed, opened) == ["+ (x32): kill thread -> allow or kill thread"]
    assert told(opened, closed) == ["− (x32): allow or kill thread -> kill thread"]


@pytest.mark.parametrize("name", names(SHIPPED))
def test_the_shipped_profiles_are_strict_subsets_of_dockers_default(name: str) -> None:
    found = compare(SHIPPED, "docker-default", name)["architectures"]
    assert found.keys() == set(ARCHITECTURES)
    for arch in found.values():
        assert arch["gained"] == []
        assert len(arch["lost"]) > 100


def test_dockers_default_is_as_measured() -> None:
    """300 of the calls that libseccomp 2.5.4 knows on x86_64, three of them on conditions."""
    content = libseccomp.export_bpf(docker_default(X86_64), Architecture.SCMP_ARCH_X86_64)
    found = Summary.of_filter(content, X86_64, NUMBERS[X86_64])
    # A newer library knows more of its names.
    assert len(found.open) == 300 if libseccomp.version() == "2.5.4" else len(found.open) > 300
    assert {name for name, ways in found.open.items() if () not in ways} == {"clone", "personality", "socket"}
    assert found.refused["clone3"] == "ENOSYS"


def test_systemds_groups_hold_their_groups_and_what_is_always_allowed() -> None:
    assert {"@system-service", "@default", "@io-event"} <= set(systemd_groups())
    opened = compiled(SHIPPED, "systemd:@io-event").summaries()[X86_64].open
    assert {"epoll_wait", "poll", "execve", "exit_group"} <= set(opened)
    assert "mount" not in opened
    service = compiled(SHIPPED, "systemd:system-service").summaries()[X86_64].open
    assert set(opened) < set(service)
    for group in systemd_groups():
        assert compiled(SHIPPED, f"systemd:{group}").summaries()[X86_64].open, group


@pytest.mark.parametrize("group", systemd_groups())
def test_systemds_groups_are_as_it_says_itself(group: str) -> None:
    if not which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    version = run(["systemd-analyze", "--version"], timeout_s=30).stdout.split()[1]
    if version != "252":
        pytest.skip(f"the facts are those of systemd 252, and this is {version}")
    said = run(["systemd-analyze", "--no-pager", "syscall-filter", group], timeout_s=30).stdout
    words = {line.strip() for line in said.splitlines() if not line.strip().startswith("#")} - {group}
    document = systemd_group(group, X86_64)
    own = {word for word in words if word in NUMBERS[X86_64]}
    assert own <= set(document["syscalls"][0]["names"])


def test_the_words_of_a_comparison(project: Project) -> None:
    write(project, "getpid", "{name: socket, arguments: [{argument: 0, in: [AF_UNIX]}]}", name="other")
    said = "\n".join(in_words(compare(project, "mine", "other")))
    assert said == (
        "mine -> other\n"
        "  mine: specs/seccomp/mine.yaml\n"
        "  other: specs/seccomp/other.yaml\n"
        "x86_64: +2 −0\n"
        "aarch64: +2 −0\n"
        "\nx86_64, gained:\n  + getpid\n  + socket: AF_UNIX now allowed\n"
        "\naarch64, gained:\n  + getpid\n  + socket: AF_UNIX now allowed"
    )
    assert not compare(project, "mine", "mine")["differ"]


def test_a_revision_of_a_source_by_git(project: Project) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        run(["git", "-C", project.root, *identity, *words], timeout_s=30)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    write(project, "getpid")
    found = compare(project, "HEAD:mine", "mine")
    assert found["architectures"][AARCH64]["gained"] == [{"call": "getpid", "what": ""}]
    assert found["old"]["source"] == "specs/seccomp/mine.yaml of HEAD"
    for word, path in (("HEAD:nope", "nope"), ("v9:mine", "mine"), ("--help:mine", "mine")):
        with pytest.raises(PipelineError) as caught:
            compiled(project, word)
        revision = word.partition(":")[0]
        assert caught.value.message == f"there is no specs/seccomp/{path}.yaml in `{revision}`"


def test_a_source_that_extends_another_finds_it_wherever_it_lies(project: Project) -> None:
    write(project, "getpid", name="base")
    own = "extends: base\ndescription: more\ngroups: {more: {reason: tests, allow: [mlock]}}\n"
    path = project.seccomp_sources / "more.yaml"
    path.write_text(own)
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t", "commit", "-qm", "1"],
    ):
        run(["git", "-C", project.root, *words], timeout_s=30)
    for word in ("more", str(path), "HEAD:more"):
        opened = compiled(project, word).summaries()[X86_64].open
        assert sorted(opened) == ["getpid", "mlock", "read", "write"], word
    # The base of a revision is that of the revision.
    write(project, name="base")
    assert "getpid" in compiled(project, "HEAD:more").summaries()[X86_64].open
    assert "getpid" not in compiled(project, "more").summaries()[X86_64].open


def test_what_a_capability_opens_shows_where_the_process_has_it(project: Project) -> None:
    write(project, "{name: socket, only: {capabilities: [CAP_NET_RAW]}}")
    assert "socket" not in compiled(project, "mine").summaries()[X86_64].open
    assert "socket" in compiled(project, "mine", ["CAP_NET_RAW"]).summaries()[X86_64].open


def test_files_are_profiles_too(project: Project, tmp_path: Path) -> None:
    document = of_name(project, "mine").documents[X86_64]
    (tmp_path / "plain.json").write_text(json.dumps(document))
    (tmp_path / "config.json").write_text(json.dumps({"ociVersion": "1.0.2", "linux": {"seccomp": document}}))
    source = project.seccomp_sources / "mine.yaml"
    for path in (tmp_path / "plain.json", tmp_path / "config.json", source):
        assert not compare(project, "mine", str(path))["differ"]


def test_two_tests_of_one_argument_are_two_rules_as_runtimes_make_them(
    project: Project, tmp_path: Path
) -> None:
    both = rule("socket", (0, "NE", 38, 0), (0, "NE", 40, 0))
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [X86_64, "SCMP_ARCH_X86"],
        "syscalls": [both],
    }
    path = tmp_path / "holes.json"
    path.write_text(json.dumps(document))
    found = compiled(project, str(path))
    assert found.notes == (f"{path} also opens SCMP_ARCH_X86, of which nothing is shown here",)
    # One of two unequal numbers always differs: nothing is refused.
    assert changes(summary(rule("socket")), found.summaries()[X86_64]) == []


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("[]", "AttributeError"),
        ("{", "JSONDecodeError"),
        ('{"defaultAction": "SCMP_ACT_NOPE"}', "KeyError: 'SCMP_ACT_NOPE'"),
        (
            '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}',
            "KeyError: 'names'",
        ),
    ],
)
def test_a_file_that_is_no_profile(project: Project, tmp_path: Path, content: str, hint: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(PipelineError) as caught:
        compiled(project, str(path))
    assert caught.value.message == f"{path} is no seccomp profile of the OCI runtime specification"
    assert (caught.value.hint or "").startswith(hint)


def test_dockers_own_form_is_named(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "docker.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": []}')
    with pytest.raises(PipelineError, match="is in the form of Docker, whose rules hang on capabilities"):
        compiled(project, str(path))


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("mien", "did you mean `mine`?"),
        ("docker-defualt", "did you mean `docker-default`?"),
        ("systemd:@system-servic", "did you mean `systemd:@system-service`?"),
        ("zzzz", "there are mine; write NAME, a path, REVISION:NAME, docker-default or systemd:@GROUP"),
    ],
)
def test_a_name_that_is_none(project: Project, word: str, hint: str) -> None:
    with pytest.raises(PipelineError) as caught:
        compiled(project, word)
    assert (caught.value.code, caught.value.hint) == ("unknown-profile", hint)


def test_mistakes_in_a_source_are_told_with_their_place(project: Project) -> None:
    write(project, "raed")
    with pytest.raises(PipelineErrors, match=r"specs/seccomp/mine\.yaml:8:9"):
        compiled(project, "mine")


# Pins ----------------------------------------------------------------------------------------------


def test_a_pin_holds_growth_back_until_it_has_a_reason(project: Project) -> None:
    assert drift(project, "mine").pinned is False
    assert accept(project, "mine", "") == ["mine: pinned in specs/seccomp/mine.pinned.json"]
    assert (drift(project, "mine").pinned, drift(project, "mine").opened) == (True, ())
    write(project, "getpid", "mlock")
    found = drift(project, "mine")
    assert found.opened == ("x86_64: getpid", "x86_64: mlock", "aarch64: getpid", "aarch64: mlock")
    assert str(found.place) == "specs/seccomp/mine.yaml:8:9"
    with pytest.raises(PipelineError) as caught:
        accept(project, "mine", "  ")
    assert caught.value.message == (
        "`mine` would be more open than its pin:\n"
        "  + x86_64: getpid\n  + x86_64: mlock\n  + aarch64: getpid\n  + aarch64: mlock"
    )
    assert caught.value.hint == 'say why: doit seccomp-accept mine --reason "…"'
    assert accept(project, "mine", "it asks who it is")[0] == "mine: + x86_64: getpid"
    assert drift(project, "mine").opened == ()
    kept = json.loads(pin_path(project, "mine").read_bytes())["accepted"]
    assert kept == [{"reason": "it asks who it is", "opened": [*found.opened]}]
    write(project)
    assert drift(project, "mine").closed == found.opened
    accept(project, "mine", "")
    assert json.loads(pin_path(project, "mine").read_bytes())["accepted"] == kept


@pytest.mark.parametrize(
    ("before", "after", "opened"),
    [
        ("[AF_UNIX]", "[AF_UNIX, AF_INET]", "socket (AF_INET now allowed)"),
        ("[AF_UNIX, AF_INET]", "[AF_UNIX]", None),
    ],
)
def test_growth_within_the_arguments_of_a_call_counts(
    project: Project, before: str, after: str, opened: str | None
) -> None:
    write(project, f"{{name: socket, arguments: [{{argument: 0, in: {before}}}]}}")
    accept(project, "mine", "")
    write(project, f"{{name: socket, arguments: [{{argument: 0, in: {after}}}]}}")
    wanted = (f"x86_64: {opened}", f"aarch64: {opened}") if opened else ()
    assert drift(project, "mine").opened == wanted


def test_a_pin_without_an_architecture_pins_nothing_of_it(project: Project) -> None:
    accept(project, "mine", "")
    path = pin_path(project, "mine")
    value = json.loads(path.read_bytes())
    del value["architectures"][AARCH64]
    path.write_text(json.dumps(value))
    assert drift(project, "mine").opened == ("aarch64: read", "aarch64: write")


@pytest.mark.parametrize(
    "content", ["{}", '{"version": 2}', "[]", '{"version": 1, "architectures": {"a": {}}, "accepted": []}']
)
def test_a_damaged_pin_is_an_error_and_no_permission(project: Project, content: str) -> None:
    pin_path(project, "mine").write_text(content)
    with pytest.raises(PipelineError) as caught:
        drift(project, "mine")
    assert caught.value.code == "bad-pin"


@pytest.mark.parametrize("name", names(SHIPPED))
def test_each_shipped_profile_is_pinned_as_it_is(name: str) -> None:
    found = drift(SHIPPED, name)
    assert (found.pinned, found.opened, found.closed) == (True, (), ())


def test_a_shipped_profile_that_grows_is_a_finding(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED.seccomp_sources, tmp_path / "specs" / "seccomp")
    project = Project(tmp_path)
    source = project.seccomp_sources / "default.yaml"
    source.write_text(source.read_text().replace("      - write\n", "      - write\n      - mlock\n", 1))
    case = Case()
    case.extra["profile_drift"] = drift(project, "default")
    (found,) = [f for f in findings(case) if f.rule == "seccomp-widened"]
    assert found.message == (
        "the profile `default` is more open than was accepted: x86_64: mlock, aarch64: mlock"
    )
    assert found.mend == 'take it out, or say why: `doit seccomp-accept default --reason "…"`'
    assert found.severity.value == "high"
    assert found.place is not None
    assert (found.place.path, found.place.text) == ("specs/seccomp/default.yaml", "      - mlock")
