"""The form of errors, to the letter."""

from __future__ import annotations

from pipeline.errors import PipelineError, PipelineErrors, Place, suggest


def test_an_error_with_a_place_shows_the_line_and_a_caret() -> None:
    place = Place("specs/hello.yaml", 3, 1, 11, "capabilites: [CAP_CHOWN]")
    error = PipelineError(
        "unknown-key", "unknown key `capabilites`", place=place, hint="did you mean `cap_add`?"
    )
    assert str(error) == (
        "error[unknown-key]: unknown key `capabilites`\n"
        "  --> specs/hello.yaml:3:1\n"
        " 3 | capabilites: [CAP_CHOWN]\n"
        "   | ^^^^^^^^^^^ help: did you mean `cap_add`?"
    )


def test_a_hint_of_several_lines_stays_aligned() -> None:
    error = PipelineError("a", "b", place=Place("f", 100, 3, 2, "x yy"), hint="one\ntwo")
    assert str(error).splitlines()[2:] == ["100 | x yy", "    |   ^^ help: one", "    | " + " " * 11 + "two"]


def test_a_tab_before_the_caret_is_kept() -> None:
    error = PipelineError("a", "b", place=Place("f", 1, 2, 1, "\tkey"))
    assert str(error).splitlines()[-1] == "   | \t^"


def test_the_caret_never_runs_past_the_line() -> None:
    error = PipelineError("a", "b", place=Place("f", 1, 3, 50, "abcd"))
    assert str(error).splitlines()[-1] == "   |   ^^"


def test_an_error_without_a_place() -> None:
    assert str(PipelineError("a", "b", hint="c")) == "error[a]: b\n  help: c"
    assert str(PipelineError("a", "b", place=Place("f"), hint="c")) == "error[a]: b\n  --> f:1:1\n  help: c"


def test_errors_are_sorted_by_place() -> None:
    errors = [
        PipelineError(c, c, place=p) for c, p in (("z", None), ("b", Place("f", 9)), ("a", Place("f", 10)))
    ]
    assert [e.code for e in PipelineErrors(errors).errors] == ["b", "a", "z"]


def test_suggestions() -> None:
    assert suggest("capabilites", ["cap_add", "capabilities"]) == "capabilities"
    assert suggest("CAP_CHWON", ["cap_chown"]) == "cap_chown"
    assert suggest("zebra", ["cap_add"]) is None
