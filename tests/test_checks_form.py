"""Form: raw JSON and the closed world, each fault with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec.inspect as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.form import read_form
from pipeline.checks.form_hints import _patterns
from pipeline.checks.rawjson import NotJson, parse
from pipeline.checks.text import render_findings
from pipeline.checks.versions import GONE, MOVED, SINCE
from pipeline.model.nouns import Severity
from pipeline.model.runtime import RuntimeConfig
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
    ("wrong-type", spoilt('"limit": 64', '"limit": 64.0'), "write 64"),
    ("wrong-type", spoilt('"limit": 64', '"limit": 1e3'), "write 1000"),
    ("wrong-type", spoilt('"limit": 64', '"limit": 1e999'), ""),
    ("wrong-type", spoilt('"limit": 64', '"limit": 64.5'), ""),
    ("wrong-type", spoilt('"uid": 65532', '"uid": true'), ""),
    ("wrong-type", spoilt('"hostname": "box"', '"hostname": null'), ""),
    ("missing-key", spoilt('"cwd": "/",', ""), "add `cwd`"),
    ("missing-key", spoilt('"ociVersion": "1.1.0",', ""), "add `ociVersion`"),
    ("number-out-of-range", spoilt('"uid": 65532', '"uid": -1'), ""),
    ("number-out-of-range", spoilt('"uid": 65532', '"uid": 4294967296'), ""),
    ("number-out-of-range", spoilt('"soft": 0', f'"soft": {2**64}'), ""),
    ("unknown-word", spoilt('"SCMP_ACT_ALLOW"', '"SCMP_ACT_ALOW"'), "did you mean `SCMP_ACT_ALLOW`?"),
    ("unknown-word", spoilt('"private"', '"closed"'), ""),
    ("bad-value", spoilt('"ociVersion": "1.1.0"', '"ociVersion": "1.1.0 "'), ""),
    ("bad-value", spoilt('"access": "rwm"', '"access": "rwx"'), ""),
    ("bad-value", spoilt('"path": "rootfs"', '"path": ""'), ""),
    ("empty-array", spoilt('"clone3"', ""), ""),
    ("control-character", spoilt('"/bin/serve"', '"/bin/serve\\u0000x"'), "remove it"),
    ("control-character", spoilt('"destination": "/tmp"', '"destination": "/tmp\\n"'), ""),
    ("control-character", spoilt('"box"', '"\\ud800"'), "write UTF-8"),
    ("control-character", spoilt('"box"', '"b\udce9x"'), "write UTF-8"),
    ("unknown-key", spoilt('"hostname"', '"maskedPaths"'), "its place is `linux.maskedPaths`"),
    ("unknown-key", spoilt('"cwd": "/",', '"cwd": "/", "readonly": true,'), "its place is `root.readonly`"),
    ("moved-key", spoilt('"pids"', '"oomScoreAdj": 0, "pids"'), "since 1.0.0 it is `process.oomScoreAdj`"),
    ("foreign-platform", spoilt('"hostname"', '"freebsd": {}, "hostname"'), "remove it"),
    ("foreign-platform", spoilt('"cwd"', '"commandLine": "x", "cwd"'), "remove it"),
    ("foreign-platform", spoilt('"uid": 65532', '"username": "x", "uid": 65532'), "remove it"),
    ("unknown-word", spoilt('"private"', '"rprivate"'), "write `private`"),
    ("bad-value", spoilt('"seccomp": {', '"intelRdt": {"memBwSchema": "x"}, "seccomp": {'), ""),
    (
        "newer-than-version",
        spoilt('"ociVersion": "1.1.0"', '"ociVersion": "1.0.2"').replace('"defaultErrnoRet": 1,', ""),
        'write "ociVersion": "1.1.0", or drop the field',
    ),
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
    finding, *others = read_form("config.json", text).findings
    assert not others or "follows" in message, "what was whole is still judged"
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
        "   = root.readOnly; runtime-spec, config.md\n"
        "\n"
        "high[unknown-key]: unknown key `linux.resources.pid`: every runtime ignores it\n"
        "  --> config.json:195:7\n"
        '195 |       "pid": {\n'
        "    |       ^ help: did you mean `pids`?\n"
        "   = linux.resources.pid; runtime-spec, config.md\n"
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


def test_a_byte_order_mark_is_told_and_the_rest_is_judged() -> None:
    found = read_form("config.json", "\ufeff" + spoilt('"readonly"', '"readOnly"')).findings
    assert [f.rule for f in found] == ["not-json", "key-case"]
    assert found[0].message == "not JSON: it begins with a byte order mark, which no runtime reads"


def test_utf_16_is_told() -> None:
    text = GOOD.encode("utf-16").decode("utf-8", "surrogateescape")
    (found,) = read_form("config.json", text).findings
    assert (found.message, found.mend) == (
        "not JSON: it is UTF-16, which no runtime reads",
        "save it as UTF-8",
    )


def test_what_follows_the_document_does_not_hide_its_faults() -> None:
    found = read_form("config.json", spoilt('"readonly"', '"readOnly"') + "}").findings
    assert [f.rule for f in found] == ["not-json", "key-case"]
    assert found[0].mend == "remove it: runc passes over it, crun refuses the file"


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_judge(content: bytes) -> None:
    found = read_form("config.json", content.decode("utf-8", "surrogateescape"))
    assert found.findings
    assert render_findings(found.findings).isprintable() or "\n" in render_findings(found.findings)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_no_bytes_within_a_good_text_upset_the_judge(at: int, content: bytes) -> None:
    text = (GOOD.encode()[:at] + content + GOOD.encode()[at + 1 :]).decode("utf-8", "surrogateescape")
    for finding in read_form("config.json", text).findings:
        assert finding.place is not None
        assert finding.place.line >= 1


VERSIONED = ("1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.2.0", "1.2.1", "1.3.0")


@pytest.mark.parametrize("pattern", SINCE)
def test_each_row_of_the_versions_speaks_below_its_release_and_not_from_it_on(pattern: str) -> None:
    for version in VERSIONED:
        text = json.dumps(_with(pattern, version))
        form = read_form("c", text).findings
        rules = {f.rule for f in form}
        assert "unknown-word" not in rules or "=" not in pattern, "a word of the table is a word of the model"
        sources = [f.source for f in form if f.rule == "newer-than-version"]
        release = tuple(int(part) for part in version.split("."))
        assert (SINCE[pattern].source in sources) is (release < SINCE[pattern].release)


def _with(pattern: str, version: str) -> dict[str, Any]:
    """A config with nothing but what a row of the table is about, in a wrong type if it has none."""
    path, _, word = pattern.partition("=")
    value: Any = word or None
    for step in reversed(path.replace("[]", ".[]").split(".")):
        value = [value] if step == "[]" else {step: value}
    return {"ociVersion": version, **value}


def test_fields_of_the_versions_are_fields_of_the_model() -> None:
    """A row that names no field of the model could never speak."""
    known = set(_patterns(types.type_info(RuntimeConfig), ""))
    items = {f"{pattern}[]" for pattern in known}
    assert {pattern.partition("=")[0] for pattern in SINCE} <= known | items
    assert GONE.keys() <= known
    assert set(MOVED.values()) <= known
    assert not MOVED.keys() & known


def test_a_field_that_is_gone_is_told_with_what_took_its_place() -> None:
    rdt = {"linux": {"intelRdt": {"enableCMT": True}}}
    text = json.dumps({**good_config(), "ociVersion": "1.3.0", **rdt})
    (found,) = read_form("config.json", text).findings
    assert found.message == "`linux.intelRdt.enableCMT` is gone since 1.3.0, and ociVersion is 1.3.0"
    assert found.mend == "write `linux.intelRdt.enableMonitoring`"
    assert not read_form("c", text.replace('"1.3.0"', '"1.2.1"')).findings


def test_a_newer_field_names_its_release_and_both_mends() -> None:
    text = json.dumps({**good_config(), "ociVersion": "1.0.2-dev", "domainname": "x"})
    found = [f for f in read_form("config.json", text).findings if f.path == "domainname"]
    assert [(f.rule, f.severity, f.message, f.mend, f.source) for f in found] == [
        (
            "newer-than-version",
            Severity.MEDIUM,
            "`domainname` came with 1.1.0, and ociVersion is 1.0.2: "
            "a runtime of that release drops it in silence",
            'write "ociVersion": "1.1.0", or drop the field',
            "runtime-spec #1156",
        )
    ]


@pytest.mark.parametrize("version", ["2.0.0", "0.5.0-dev", "1", 5, None])
def test_a_version_that_is_unknown_has_no_newer_fields(version: Any) -> None:
    text = json.dumps({**good_config(), "ociVersion": version, "domainname": "x"})
    assert "newer-than-version" not in {f.rule for f in read_form("c", text).findings}


def test_a_long_number_is_cut_in_the_message() -> None:
    (found,) = read_form("c", spoilt('"uid": 65532', f'"uid": {"9" * 300}')).findings
    assert found.message == (
        "`process.user.uid` is 999999999999999999999999… (300 digits), outside 0 to 4294967295"
    )


def test_a_config_is_read_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """Under LC_ALL=C and without Python's own UTF-8 mode; bytes that are not UTF-8 are kept, and named."""
    config = good_config()
    config["annotations"] = {"org.example.title": "\u00fcber"}
    path = tmp_path / "config.json"
    path.write_bytes(json.dumps(config, ensure_ascii=False).encode().replace(b"box", b"b\xffx", 1))
    script = (
        "import sys; from pathlib import Path; from pipeline.examine import read_text; "
        "sys.stdout.buffer.write(ascii(read_text(Path(sys.argv[1]))).encode())"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"\\xfcber" in run.stdout
    assert b"b\\udcffx" in run.stdout
