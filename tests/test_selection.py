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
        (["-a", "--continue", "bundle"], "run", ("bundle",)),
        (["run", "smoke:hello/runc"], "run", ("smoke:hello/runc",)),
        (["list", "--all"], "list", ()),
        (["forget", "unpack:hello"], "forget", ("unpack:hello",)),
        (["new", "web", "--image", "docker://h/x?a=b"], "run", ("new", "web", "docker://h/x?a=b")),
    ],
)
def test_words(words: list[str], command: str, tasks: tuple[str, ...]) -> None:
    chosen = parse(words)
    assert (chosen.command, chosen.tasks) == (command, tasks)


def test_an_unknown_variable_is_refused() -> None:
    with pytest.raises(PipelineError) as caught:
        parse(["arhc=arm64"])
    assert caught.value.message == "there is no variable `arhc` to set with `arhc=arm64`"


def test_who_is_meant() -> None:
    assert parse([]).all_bundles(GROUPS)
    assert parse(["copy"]).all_bundles(GROUPS)
    assert not parse(["copy:hello"]).all_bundles(GROUPS)
    assert not parse(["doctor"]).all_bundles(GROUPS)
    assert not parse(["list"]).all_bundles(GROUPS)
    assert parse(["smoke:hello/runc"]).names("hello")
    assert not parse(["smoke:hello/runc"]).names("hell")
    assert parse(["doctor", "--json"]).reader == "doctor"
