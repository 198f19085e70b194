"""`doit report`: what it says of bundles, and that nothing of theirs can alter the forms it writes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.text import finding_value
from pipeline.errors import Place
from pipeline.files import canonical_json
from pipeline.model.nouns import Finding, Severity
from pipeline.paths import Project
from pipeline.report.all import write
from pipeline.report.collect import State, collect
from pipeline.report.graph import draw

EVIL = """</text></svg><script>alert("1")</script>'"&amp;]]>\x1b[31m\x00"""
STAGES = ("copy", "unpack", "seccomp", "spec", "validate")
FINDINGS = (
    Finding("cap-added", Severity.HIGH, "CAP_CHOWN is given", "process.capabilities.bounding[0]", "drop it"),
    Finding(
        "no-init", Severity.INFO, "is PID 1", "process.args[0]", place=Place("out/b/bundle/config.json", 9)
    ),
    Finding("writable-root", Severity.MEDIUM, "can be written", "root.readonly", waived="it is a cache"),
)


def fact(name: str, ok: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "expected": "1",
        "observed": "1" if ok else "0",
        "ok": ok,
        "where": "/proc/1/status",
    }


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(value))


def smoke(*facts: dict[str, Any], failure: dict[str, str] | None = None) -> dict[str, Any]:
    result = "failed" if failure else "proven"
    return {
        "version": 1,
        "result": result,
        "facts": list(facts),
        "failure": failure,
        "timings_ms": {"create": 250.0},
    }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with one bundle: judged, smoked, with a spec that decided two fields."""
    made = Project(tmp_path)
    made.specs.mkdir()
    (made.specs / "b.yaml").write_text(
        "image: demo:busybox-httpd\n# a comment\nread_only: false\ncap_add: [CAP_CHOWN]\n"
    )
    paths = made.bundle("b")
    for stage in STAGES:
        put(paths.receipt(stage), {"digest": "sha256:" + "ab" * 32, "facts": {"label": EVIL[:60]}})
    put(paths.findings, {"version": 1, "findings": [finding_value(f) for f in FINDINGS]})
    put(
        paths.provenance,
        {
            "process.capabilities.bounding[0]": {"from": "spec", "key": "cap_add"},
            "root.readonly": {"from": "spec", "key": "read_only"},
            "process.args[0]": {"from": "image", "key": "Entrypoint"},
        },
    )
    put(paths.smoke / "runc.json", smoke(fact("uid"), fact("no_new_privileges", ok=False)))
    return made


class Page(HTMLParser):
    """Remembers the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.tags.append(tag)


def test_it_writes_three_files(project: Project) -> None:
    assert [path.name for path in write(project, ["b"])] == ["index.html", "junit.xml", "findings.sarif"]


def test_stages_have_the_state_that_their_receipts_show(project: Project) -> None:
    paths = project.bundle("b")
    paths.receipt("validate").unlink()
    states = {stage.label: stage.state for stage in collect(project, ["b"])[0].stages}
    assert states == {
        **dict.fromkeys(STAGES, State.BUILT),
        "validate": State.FAILED,
        "smoke-runc": State.FAILED,
        "smoke-crun": State.ABSENT,
    }


def test_findings_point_at_the_key_of_the_spec_that_decided(project: Project) -> None:
    found = {finding.rule: finding.place for finding in collect(project, ["b"])[0].findings}
    assert found["cap-added"] == Place("specs/b.yaml", 4, 1, len("cap_add"))
    assert found["writable-root"] == Place("specs/b.yaml", 3, 1, len("read_only"))
    assert found["no-init"] == Place("out/b/bundle/config.json", 9)


def test_sarif(project: Project) -> None:
    document = json.loads(write(project, ["b"])[2].read_bytes())
    assert document["version"] == "2.1.0"
    results = {result["ruleId"]: result for result in document["runs"][0]["results"]}
    assert {rule: result["level"] for rule, result in results.items()} == {
        "cap-added": "error",
        "no-init": "note",
        "writable-root": "warning",
    }
    rules = [rule["id"] for rule in document["runs"][0]["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == rule for rule, result in results.items())
    place = results["cap-added"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "specs/b.yaml"
    assert place["region"] == {"startLine": 4, "startColumn": 1, "endColumn": 8}
    reason = {"kind": "external", "status": "accepted", "justification": "it is a cache"}
    assert results["writable-root"]["suppressions"] == [reason]
    assert "suppressions" not in results["cap-added"]
    # What lies below out/ is in no repository: such a finding is shown at the spec.
    spec_alone = {"artifactLocation": {"uri": "specs/b.yaml", "uriBaseId": "ROOT"}}
    assert results["no-init"]["locations"][0]["physicalLocation"] == spec_alone


def test_junit(project: Project) -> None:
    root = ET.fromstring(write(project, ["b"])[1].read_bytes())  # noqa: S314 - our own
    suites = {suite.get("name"): suite for suite in root}
    validate, smoked = suites["validate:b"], suites["smoke:b/runc"]
    assert [validate.get(key) for key in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert [smoked.get(key) for key in ("tests", "failures", "time")] == ["3", "1", "0.250"]
    failure = smoked.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "expected 1, saw 0"


def test_a_smoke_run_that_failed_before_any_fact(project: Project) -> None:
    failure = {"code": "not-ready", "message": "it did not answer"}
    put(project.bundle("b").smoke / "runc.json", smoke(failure=failure))
    root = ET.fromstring(write(project, ["b"])[1].read_bytes())  # noqa: S314
    shown = root.find("testsuite[@name='smoke:b/runc']/testcase/failure")
    assert shown is not None
    assert shown.get("message") == "not-ready: it did not answer"
    assert "not-ready: it did not answer" in write(project, ["b"])[0].read_text()


def test_nothing_of_a_bundle_can_alter_the_forms(project: Project) -> None:
    paths = project.bundle("b")
    evil = Finding(EVIL, Severity.HIGH, EVIL, EVIL, EVIL, EVIL, Place(f"specs/{EVIL}", 1), EVIL)
    put(paths.findings, {"findings": [finding_value(evil)]})
    put(paths.smoke / "runc.json", smoke(fact(EVIL, ok=False), failure={"code": EVIL, "message": EVIL}))
    page, junit, sarif = write(project, ["b"])
    assert "script" not in Page(page.read_text()).tags
    assert "<script" not in page.read_text()
    cases = ET.fromstring(junit.read_bytes()).findall("testsuite/testcase")  # noqa: S314
    assert '</text></svg><script>alert("1")</script>' in str(cases[0].get("name"))
    assert json.loads(sarif.read_bytes())["runs"][0]["results"][0]["ruleId"] == EVIL


def test_the_page_needs_nothing_else(project: Project) -> None:
    text = write(project, ["b"])[0].read_text()
    assert not re.findall(r"(?:src|href)=(?!.#)", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert {"svg", "section", "table"} <= set(Page(text).tags)


def test_the_picture_is_xml_and_shows_every_stage(project: Project) -> None:
    report = collect(project, ["b"])[0]
    picture = ET.fromstring(draw(EVIL.translate({0: "", 27: ""}), report.stages))  # noqa: S314
    shown = [text.text for text in picture.iter("text")]
    assert [word for word in shown if word in ("copy", "unpack", "validate", "smoke-crun")] == [
        "copy",
        "unpack",
        "validate",
        "smoke-crun",
    ]
    assert shown.count("✔ built") == len(STAGES)
    assert len(list(picture.iter("path"))) == sum(len(stage.reads) for stage in report.stages)


def test_damaged_files_are_named_and_hide_nothing(project: Project) -> None:
    paths = project.bundle("b")
    paths.findings.write_text("{")
    put(paths.smoke / "crun.json", {"surprise": 1})
    paths.receipt("copy").write_text('"text"')
    report = collect(project, ["b"])[0]
    assert report.unreadable == ("out/b/validate/findings.json", "out/b/smoke/crun.json")
    assert [smoke.runtime for smoke in report.smokes] == ["runc"]
    assert "out/b/validate/findings.json is damaged and was left out" in write(project, ["b"])[0].read_text()


def test_a_bundle_of_which_nothing_is_built(project: Project) -> None:
    page, junit, sarif = write(project, ["never"])
    assert "not validated yet" in page.read_text()
    assert list(ET.fromstring(junit.read_bytes())) == []  # noqa: S314
    assert json.loads(sarif.read_bytes())["runs"][0]["results"] == []
