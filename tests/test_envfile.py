"""Env files."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineErrors
from pipeline.speclang import envfile


def test_env_files_are_literal() -> None:
    found = envfile.parse(b"# c\n\nA= x y \nB=$A 'q' #no\r\nC=\n", "x.env")
    assert {key: value for key, (value, _) in found.items()} == {"A": " x y ", "B": "$A 'q' #no", "C": ""}


@given(st.binary(max_size=60))
def test_any_bytes_are_an_env_file_or_errors(content: bytes) -> None:
    try:
        envfile.parse(content, "x.env")
    except PipelineErrors as fault:
        assert all(error.place for error in fault.errors)
