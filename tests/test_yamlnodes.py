"""YAML 1.2 core: scalars, limits, aliases."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineErrors
from pipeline.yamlnodes import MAX_DEPTH, parse
from pipeline.yamlscalars import Float, Int, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(word, word) for word in ("no", "No", "off", "yes", "y", "on", "nULL", "tRUE", "True_", "22:22")],
        *[
            (word, word)
            for word in ("0b1", "1_000", "0x", "0o8", "1e", ".", "+", "-", "..5", "2001-01-01", "=")
        ],
        *[(word, None) for word in ("", "~", "null", "Null", "NULL")],
        *[(word, True) for word in ("true", "True", "TRUE")],
        *[(word, False) for word in ("false", "False", "FALSE")],
        *[("010", 10), ("0755", 755), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7)],
        *[("1.10", 1.1), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-.inf", float("-inf"))],
    ],
)
def test_scalars_of_yaml_12(text: str, expected: Any) -> None:
    found = resolve(text)
    assert found == expected
    assert type(found) in (type(expected), Int, Float)
    if isinstance(found, Int | Float):
        assert found.text == text


@given(st.text(st.characters(codec="ascii"), max_size=12))
def test_a_number_is_what_the_core_schema_says(text: str) -> None:
    found = resolve(text)
    is_int = re.fullmatch(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", text)
    assert isinstance(found, int) == bool(is_int or text.lower() in ("true", "false")) or isinstance(
        found, str
    )
    assert isinstance(found, str | int | float | type(None))


@given(st.text(max_size=30))
def test_quoted_text_is_always_text(text: str) -> None:
    try:
        found = parse(f"a: '{text}'".encode(errors="replace"), "x").value["a"]
    except PipelineErrors:
        return
    assert isinstance(found, str)


def test_the_deepest_that_is_allowed() -> None:
    levels = MAX_DEPTH - 1
    assert parse(b"a: " + b"[" * levels + b"]" * levels, "x").value
    with pytest.raises(PipelineErrors, match="too-deep"):
        parse(b"a: " + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x")


def test_aliases_are_values_at_the_place_where_they_are_used() -> None:
    document = parse(b"x-a: &a [1, 2]\nb: *a\n", "x")
    assert document.value["b"] == [1, 2]
    assert str(document.place(("b", 1))) == "x:2:4"


@pytest.mark.parametrize(
    "bomb", [b"[", b"{a: ", b"- ", b"? ", b"&a ", b"!", b"\n", b"a\n", b"#\n", b'"', b"*a "]
)
def test_a_megabyte_of_one_sign_ends_at_once(bomb: bytes) -> None:
    with pytest.raises(PipelineErrors):
        parse((bomb * (1 << 20))[: 1 << 20], "x")
