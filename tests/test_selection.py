"""What a command line asks for, before doit sees it."""

from __future__ import annotations

import pytest

from pipeline.errors import PipelineError
from pipeline.selection import parse

GROUPS = ("bundle", "copy")


@pytest.mark.parametrize(
    ("words", "command", "tasks"),
    [
        ([], "run", ()),
        (["-n", "2", "-P", "thread", "copy:hello"], "run", ("copy:hello",)),
        (["-n2", "-Pthread", "--parallel-type=thread", "copy:hello"], "run", ("copy:hello",)),
        (["-an", "2", "copy:hello"], "run", ("copy:hello",)),
        (["-a", "--continue", "bundle"], "run", ("bundle",)),
        (["run", "smoke:hello/runc"], "run", ("smoke:hello/runc",)),
        (["list", "--all"], "list", ()),
        (["clean", "-n", "copy:hello"], "clean", ("copy:hello",)),
        (["forget", "unpack:hello"], "forget", ("unpack:hello",)),
        (["smoke", "report"], "run", ("smoke", "report")),
        (["new", "web", "--image", "docker://h/x?a=b"], "run", ("new",)),
    ],
)
def test_words(words: list[str], command: str, tasks: tuple[str, ...]) -> None:
    chosen = parse(words)
    assert (chosen.command, chosen.tasks) == (command, tasks)


@pytest.mark.parametrize(
    ("line", "words", "options"),
    [
        ("status hello --check", ("hello",), {"check": ""}),
        ("status --json hello other --check", ("hello", "other"), {"json": "", "check": ""}),
        ("run explain spec:hello --json", ("spec:hello",), {"json": ""}),
        ("-v 2 outdated --json", (), {"json": ""}),
        ("new web --image docker://h/x?a=b", ("web",), {"image": "docker://h/x?a=b"}),
        ("check --bundle /a=b --fail-on=low x", ("x",), {"bundle": "/a=b", "fail-on": "low"}),
        ('explain config:a:b["c=d:e"]', ('config:a:b["c=d:e"]',), {}),
        ("new --image=docker://h/x?a=b web", ("web",), {"image": "docker://h/x?a=b"}),
    ],
)
def test_a_reading_task_has_its_options_at_any_place(
    line: str, words: tuple[str, ...], options: dict[str, str]
) -> None:
    chosen = parse(line.split())
    assert (chosen.words, chosen.options) == (words, options)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (
            "arhc=arm64",
            "there is no variable `arhc` to set with `arhc=arm64`",
            "a bundle's variants are specs with `extends:`; doit's own options begin with -",
        ),
        (
            "bundle:hello mem_limit=1g",
            "there is no variable `mem_limit` to set with `mem_limit=1g`",
            "`mem_limit` is a key of specs/NAME.yaml; a variant of a bundle is a spec with `extends:`",
        ),
        (
            "status hello cpu=2",
            "there is no variable `cpu` to set with `cpu=2`",
            "did you mean `cpus`? `cpus` is a key of specs/NAME.yaml; "
            "a variant of a bundle is a spec with `extends:`",
        ),
        ("status --jsno", "`doit status` has no option `--jsno`", "did you mean `--json`?"),
        ("status hello --chekc", "`doit status` has no option `--chekc`", "did you mean `--check`?"),
        ("status -x", "`doit status` has no option `-x`", "it has --json, --check"),
        ("outdated --json=yes", "`doit outdated` has no option `--json=yes`", "did you mean `--json`?"),
        ("update --all", "`doit update` has no option `--all`", "it has no options"),
        ("doctor hello", "`doit doctor` takes no names, and there is `hello`", None),
        ("new web --image", "`doit new --image` lacks its value", None),
        (
            "-n 2 -P process",
            "stages run in threads only, not by `-P process`",
            "`doit -n 2` runs two at once",
        ),
        ("-aPprocess", "stages run in threads only, not by `-P process`", "`doit -n 2` runs two at once"),
        ("--par=process", "stages run in threads only, not by `-P process`", "`doit -n 2` runs two at once"),
    ],
)
def test_what_cannot_be_meant_is_refused(line: str, message: str, hint: str | None) -> None:
    with pytest.raises(PipelineError) as caught:
        parse(line.split())
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_who_is_meant() -> None:
    assert parse([]).all_bundles(GROUPS)
    assert parse(["copy"]).all_bundles(GROUPS)
    assert not parse(["copy:hello"]).all_bundles(GROUPS)
    assert not parse(["doctor"]).all_bundles(GROUPS)
    assert not parse(["list"]).all_bundles(GROUPS)
    assert parse(["smoke:hello/runc"]).names("hello")
    assert not parse(["smoke:hello/runc"]).names("hell")
    assert parse(["status", "hello"]).names("hello")
    assert parse(["explain", "spec:hello"]).names("hello")
    assert parse(["explain", 'config:hello:annotations["a/b:c"]']).names("hello")
    assert parse(["check", "hello"]).names("hello")
    assert not parse(["new", "hello", "--image", "x"]).names("hello")
    assert parse(["doctor", "--json"]).reader == "doctor"


def test_what_may_run_and_what_may_write() -> None:
    assert parse([]).builds and parse(["smoke", "report"]).builds
    assert not parse(["status"]).builds and not parse(["clean"]).builds
    assert parse(["update"]).writes and not parse(["outdated"]).writes
    assert parse(["clean"]).removes and parse(["forget", "copy:hello"]).removes


@pytest.mark.parametrize(
    ("words", "builds", "runs"),
    [
        ("", True, False),
        ("bundle:web", True, False),
        ("bundle:other", False, False),
        ("smoke:web", True, True),
        ("smoke:web/crun", True, True),
        ("smoke", True, True),
        ("smoke copy:other", True, True),
        ("smoke:other bundle:web", True, False),
        ("validate", True, False),
        ("bundle:w*", True, True),
        ("list --all", True, True),
        ("clean", True, True),
        ("status", False, False),
        ("/srv/project/out/web/stages/copy.json", True, True),
    ],
)
def test_only_tasks_that_can_be_come_to_are_made(words: str, builds: bool, runs: bool) -> None:
    found = parse(words.split())
    assert (found.reaches("web", smoke=False), found.reaches("web", smoke=True)) == (builds, runs)


def test_a_trace_is_reached_by_name_alone() -> None:
    asked = parse(["trace:a/crun"])
    assert (asked.traces("a"), asked.traces("b")) == (True, False)
    assert asked.reaches("a", smoke=False)
    assert not asked.reaches("a", smoke=True)
    assert parse(["trace"]).traces("b")
    assert parse(["list"]).traces("b")
    assert not parse(["smoke:a"]).traces("a")
    assert not parse([]).traces("a")
