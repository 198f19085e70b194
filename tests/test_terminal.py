"""What a run says: counts, failures, and nothing when it was interrupted."""

from __future__ import annotations

import io
import os
import re
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.report.terminal import Console, Reporter


class Failure:
    """A failure as doit gives it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_msg(self) -> str:
        return self._text


class UnmetDependency(Failure):
    """Known by its name."""


class Said:
    """A reporter and what it wrote."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.reporter = Reporter(Console(self.out, self.err))


@pytest.fixture
def said() -> Said:
    return Said()


def task(name: str, stage: bool = False) -> Any:
    return SimpleNamespace(name=name, meta={"stage": True} if stage else None)


def test_a_failed_pin_is_a_line_of_its_own_and_counts(said: Said) -> None:
    said.reporter.execute_task(task("_pin:web"))
    said.reporter.add_failure(task("_pin:web"), Failure("error[copy-denied]: no"))
    said.reporter.add_failure(task("copy:web", stage=True), UnmetDependency("_pin:web"))
    said.reporter.add_failure(task("bundle:web"), UnmetDependency("copy:web"))
    said.reporter.complete_run()
    assert re.fullmatch(r"pin:web +0\.0\d s  FAILED\nerror\[copy-denied\]: no\n", said.err.getvalue()), (
        said.err.getvalue()
    )
    assert re.fullmatch(r"1 failed, 0 run, 0 cached, 1 not reached, 0\.0\d s\n", said.out.getvalue())


def test_a_reading_task_that_says_no_has_no_summary(said: Said) -> None:
    said.reporter.execute_task(task("status"))
    said.reporter.add_failure(task("status"), Failure(""))
    said.reporter.complete_run()
    assert (said.out.getvalue(), said.err.getvalue()) == ("", "")


def test_an_interrupted_run_has_no_summary(said: Said) -> None:
    said.reporter.skip_uptodate(task("copy:web", stage=True))
    with pytest.raises(KeyboardInterrupt):
        try:
            raise KeyboardInterrupt
        finally:
            said.reporter.complete_run()
    assert said.out.getvalue() == ""


def test_notes_go_to_standard_error(said: Said) -> None:
    console = Console(said.out, said.err)
    console.note("swept")
    console.line("{}")
    assert (said.out.getvalue(), said.err.getvalue()) == ("{}\n", "swept\n")


def test_a_reader_who_has_seen_enough_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    kept = os.dup(1)
    try:
        console = Console(os.fdopen(write, "w"), io.StringIO())
        console.line("to nobody")
        console.line("to nobody")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
