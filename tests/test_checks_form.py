"""Form: raw JSON and the closed world, each fault with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.form import read_form
from pipeline.checks.rawjson import NotJson, parse
from pipeline.checks.text import render_findings
from tests.judged import good_config

GOOD = json.dumps(good_config(), indent=2)


def spoilt(old: str, new: str) -> str:
    """The good text with one change."""
    assert old in GOOD
    return GOOD.replace(old, new, 1)


CASES = [
    ("unknown-key", spoilt('"noNewPrivileges"', '"noNewPriviliges"'), "did you mean `noNewPrivileges`?"),
    ("unknown-key", spoilt('"maskedPaths"', '"maskedPath"'), "did you mean `maskedPaths`?"),
    ("unknown-key", spoilt('"hostname"', '"zzz"'), "remove it; notes for people go to `annotations`"),
    ("key-case", spoilt('"readonly"', '"readOnly"'), "write `readonly`"),
    ("key-case", spoilt('"noNewPrivileges"', '"NoNewPrivileges"'), "write `noNewPrivileges`"),
    ("duplicate-key", spoilt('"hostname": "box"', '"hostname": "a", "hostname": "box"'), "keep one"),
    ("wrong-type", spoilt('"readonly": true', '"readonly": "true"'), ""),
    ("wrong-type", spoilt('"readonly": true', '"readonly": 1'), ""),
    ("wrong-type", spoilt('"limit": 64', '"limit": 64.0'), ""),
    ("wrong-type", spoilt('"uid": 65532', '"uid": true'), ""),
    ("wrong-type", spoilt('"hostname": "box"', '"hostname": null'), ""),
    ("missing-key", spoilt('"cwd": "/",', ""), "add `cwd`"),
    ("missing-key", spoilt('"ociVersion": "1.0.2",', ""), "add `ociVersion`"),
    ("number-out-of-range", spoilt('"uid": 65532', '"uid": -1'), ""),
    ("number-out-of-range", spoilt('"uid": 65532', '"uid": 4294967296'), ""),
    ("number-out-of-range", spoilt('"soft": 0', f'"soft": {2**64}'), ""),
    ("unknown-word", spoilt('"SCMP_ACT_ALLOW"', '"SCMP_ACT_ALOW"'), "did you mean `SCMP_ACT_ALLOW`?"),
    ("unknown-word", spoilt('"private"', '"closed"'), ""),
    ("bad-value", spoilt('"ociVersion": "1.0.2"', '"ociVersion": "1.0.2 "'), ""),
    ("bad-value", spoilt('"access": "rwm"', '"access": "rwx"'), ""),
    ("bad-value", spoilt('"path": "rootfs"', '"path": ""'), ""),
    ("empty-array", spoilt('"clone3"', ""), ""),
    ("control-character", spoilt('"/bin/serve"', '"/bin/serve\\u0000x"'), "remove it"),
    ("control-character", spoilt('"destination": "/tmp"', '"destination": "/tmp\\n"'), ""),
    ("control-character", spoilt('"box"', '"\\ud800"'), ""),
]


@pytest.mark.parametrize(("rule", "text", "mend"), CASES)
def test_a_fault_of_form_is_found_alone_and_in_its_place(rule: str, text: str, mend: str) -> None:
    found = read_form("config.json", text)
    (finding,) = found.findings
    assert finding.rule == rule
    assert mend in finding.mend
    assert finding.place is not None
    assert finding.place.line > 1 or rule == "missing-key"
    assert found.config is not None, "the other layers can still speak"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        spoilt('"soft": 0', f'"soft": {2**64 - 1}'),
        spoilt('"/bin/serve"', '"/bin/sh", "-c", "a\\nb"'),
        spoilt('"box"', '"b\\u00f6x"'),
    ],
)
def test_what_nearly_is_a_fault_is_none(text: str) -> None:
    assert read_form("config.json", text).findings == []


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("", "the document ends too early", 1, 1),
        ('{"a": 1,}', "a key in double quotes was expected", 1, 9),
        ('{\n "a" 1}', "a colon was expected", 2, 6),
        ('{"a": [1 2]}', "a comma or `]` was expected", 1, 10),
        ('{"a": 1} x', "something follows the end of the document", 1, 10),
        ('{"a": 01}', "a value was expected", 1, 7),
        ('{"a": NaN}', "a value was expected", 1, 7),
        ("// x\n{}", "a value was expected", 1, 1),
        ('{"a": "x\ny"}', "invalid control character at", 1, 9),
        ("[" * 70, "nested deeper than 64 levels", 1, 66),
        ("9" * 401, "a number of 401 digits", 1, 1),
    ],
)
def test_what_is_not_json_says_where(text: str, message: str, line: int, column: int) -> None:
    (finding,) = read_form("config.json", text).findings
    assert (finding.rule, finding.message) == ("not-json", f"not JSON: {message}")
    assert finding.place is not None
    assert (finding.place.line, finding.place.column) == (line, column)


def test_all_faults_come_at_once_and_read_like_errors() -> None:
    text = spoilt('"readonly"', '"readOnly"').replace('"pids"', '"pid"', 1)
    shown = render_findings(read_form("config.json", text).findings)
    assert shown == (
        "high[key-case]: `root.readOnly` is spelt `readonly`: runc takes it, crun ignores it\n"
        "  --> config.json:5:5\n"
        ' 5 |     "readOnly": true\n'
        "   |     ^ help: write `readonly`\n"
        "\n"
        "high[unknown-key]: unknown key `linux.resources.pid`: every runtime ignores it\n"
        "  --> config.json:195:7\n"
        '195 |       "pid": {\n'
        "    |       ^ help: did you mean `pids`?\n"
        "\n"
        "2 high"
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_the_parser_agrees_with_the_standard_one(value: Any) -> None:
    text = json.dumps(value, indent=1)
    assert parse("x", text).root.plain() == json.loads(text)


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\\n', max_size=30))
def test_what_the_standard_parser_refuses_is_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(NotJson):
            parse("x", text)
    else:
        assert parse("x", text).root.plain() == expected


@given(json_values)
def test_no_value_upsets_the_judge(value: Any) -> None:
    assert read_form("config.json", json.dumps(value)).findings
    read_form("config.json", json.dumps({**good_config(), "process": value, "linux": {"resources": value}}))
