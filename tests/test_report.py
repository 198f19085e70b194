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
from pipeline.report.collect import Assess, State, collect
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


def assessing(**stale: str) -> Assess:
    """What an engine would say: all is fresh but what is named here (`smoke_runc` is `smoke-runc`)."""
    labels = (*STAGES, "smoke-runc")
    whys = {label.replace("_", "-"): why for label, why in stale.items()}
    return lambda name: [(f"{label}:{name}", label, whys.get(label)) for label in labels]


def fail(project: Project, label: str, text: str) -> None:
    """Leave what a failed stage leaves."""
    path = project.bundle("b").error(label)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def suite(project: Project, name: str, assess: Assess | None = None) -> dict[str, ET.Element]:
    """The cases of a suite of junit.xml, by name."""
    root = ET.fromstring(write(project, ["b"], assess)[1].read_bytes())  # noqa: S314 - our own
    found = root.find(f"testsuite[@name='{name}']")
    assert found is not None
    for tag, counted in (("failure", "failures"), ("skipped", "skipped"), (None, "tests")):
        assert found.get(counted) == str(sum(tag is None or case.find(tag) is not None for case in found))
    return {str(case.get("name")): case for case in found}


def said(case: ET.Element, tag: str) -> str | None:
    """The message of a case's failure or skip, or None where it has none."""
    child = case.find(tag)
    return None if child is None else str(child.get("message"))


class Page(HTMLParser):
    """Remembers the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.tags.append(tag)


def test_it_writes_four_files(project: Project) -> None:
    assert [path.name for path in write(project, ["b"])] == [
        *("index.html", "junit.xml", "findings.sarif", "summary.md")
    ]


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


def test_what_is_stale_or_failed_is_not_built(project: Project) -> None:
    text = "error[image-missing]: folder /x cannot be read (not there)\n  help: put the image there\n"
    fail(project, "copy", text)
    report = collect(project, ["b"], assessing(copy="pin: 1 -> absent", spec="spec cpus: 1 -> 2"))[0]
    stages = {stage.label: stage for stage in report.stages}
    assert {label: stage.state for label, stage in stages.items()} == {
        "copy": State.FAILED,
        "unpack": State.STALE,
        "seccomp": State.BUILT,
        "spec": State.STALE,
        "validate": State.STALE,
        # It has no receipt, and what it saw was not as configured.
        "smoke-runc": State.FAILED,
        "smoke-crun": State.ABSENT,
    }
    assert stages["copy"].error == text.strip()
    assert (stages["unpack"].why, stages["spec"].why) == ("copy may change", "spec cpus: 1 -> 2")
    assert stages["validate"].why == "unpack, spec may change"
    assert stages["smoke-crun"].why == "crun is not installed"
    assert report.state is State.FAILED


def test_a_failed_build_fails_in_junit(project: Project) -> None:
    fail(project, "copy", "error[image-missing]: it is not there\n  help: put it there\n")
    cases = suite(project, "stages:b", assessing(copy="failed last time"))
    assert {name: said(case, "failure") for name, case in cases.items()} == {
        "copy": "failed: error[image-missing]: it is not there",
        "unpack": "stale: copy may change",
        "seccomp": None,
        "spec": "stale: copy, unpack may change",
        "validate": "stale: unpack, spec may change",
    }
    assert "help: put it there" in str(cases["copy"].findtext("failure"))
    page = write(project, ["b"], assessing(copy="failed last time"))[0].read_text()
    assert "help: put it there" in page
    assert '<span class="failed nowrap">✘ failed</span>' in page


def test_what_was_never_built_fails_in_junit(project: Project) -> None:
    project.bundle("b").receipt("unpack").unlink()
    cases = suite(project, "stages:b", assessing(unpack="never built"))
    assert said(cases["unpack"], "failure") == "not built: never built"
    assert said(cases["copy"], "failure") is None


def test_an_error_of_a_change_that_was_taken_back_is_no_failure(project: Project) -> None:
    fail(project, "copy", "error[image-missing]: it is not there\n")
    assert said(suite(project, "stages:b", assessing())["copy"], "failure") is None
    # Without the engine's word, an error is one.
    assert said(suite(project, "stages:b")["copy"], "failure") == (
        "failed: error[image-missing]: it is not there"
    )


def test_an_unpinned_bundle_is_skipped(project: Project) -> None:
    (project.specs / "b.yaml").write_text("image: docker://registry.example.org/b:1\n")
    cases = suite(project, "stages:b", assessing(copy="never built", seccomp="never built"))
    assert {said(case, "skipped") for case in cases.values()} == {
        "not pinned yet; 'doit update b' resolves it"
    }
    assert collect(project, ["b"], assessing(copy="never built"))[0].state is State.UNPINNED


def test_a_broken_spec_fails(project: Project) -> None:
    (project.specs / "c.yaml").write_text("image: demo:busybox-httpd\ncapabilites: []\n")
    reports = {report.name: report for report in collect(project, ["b"], assessing())}
    assert (reports["b"].state, reports["c"].state) == (State.BUILT, State.FAILED)
    page, junit, sarif, _ = write(project, ["b"], assessing())
    assert "did you mean `cap_add`?" in page.read_text()
    cases = {str(c.get("name")): c for c in ET.fromstring(junit.read_bytes()).iter("testcase")}  # noqa: S314
    assert said(cases["unknown-key specs/c.yaml:2:1"], "failure") == "unknown key `capabilites`"
    assert {r["ruleId"] for r in json.loads(sarif.read_bytes())["runs"][0]["results"]} > {"unknown-key"}


def test_a_run_of_an_earlier_bundle_proves_nothing(project: Project) -> None:
    paths = project.bundle("b")
    put(paths.smoke / "runc.json", smoke(fact("uid")))
    put(paths.receipt("smoke-runc"), {"digest": "sha256:1", "facts": {}})
    assert said(suite(project, "smoke:b/runc", assessing())["uid"], "skipped") is None
    cases = suite(project, "smoke:b/runc", assessing(spec="spec cpus: 1 -> 2"))
    assert {said(case, "skipped") for case in cases.values()} == {
        "of an earlier bundle: spec, validate may change"
    }
    fail(project, "smoke-runc", "error[missing-bind]: /x does not exist on this host\n")
    cases = suite(project, "smoke:b/runc", assessing(smoke_runc="failed last time"))
    assert said(cases["uid"], "skipped") == "of an earlier bundle: failed last time"
    whole = cases["starts, is ready, stops and leaves nothing"]
    assert said(whole, "failure") == "error[missing-bind]: /x does not exist on this host"


def test_a_run_that_failed_before_anything_was_seen(project: Project) -> None:
    fail(project, "smoke-crun", "error[missing-bind]: /x does not exist on this host\n")
    cases = suite(project, "smoke:b/crun")
    assert [said(case, "failure") for case in cases.values()] == [
        "error[missing-bind]: /x does not exist on this host"
    ]


def test_findings_point_at_the_key_of_the_spec_that_decided(project: Project) -> None:
    found = {finding.rule: finding for finding in collect(project, ["b"])[0].findings}
    assert str(found["cap-added"].origin) == "specs/b.yaml:4:1"
    assert str(found["writable-root"].origin) == "specs/b.yaml:3:1"
    assert (str(found["no-init"].place), found["no-init"].origin) == ("out/b/bundle/config.json:9:1", None)
    assert str(found["no-init"].provenance) == "the image, Entrypoint"


def test_findings_point_into_bases_and_lists(project: Project) -> None:
    (project.specs / "base.yaml").write_text("image: demo:busybox-httpd\nread_only: false\n")
    (project.specs / "b.yaml").write_text("extends: base\ndevices:\n  - /dev/null:/dev/x\n  - /dev/zero\n")
    device = Finding("extra-device", Severity.HIGH, "/dev/zero is given", "linux.devices[1].path")
    put(project.bundle("b").findings, {"findings": [finding_value(f) for f in (device, FINDINGS[2])]})
    put(
        project.bundle("b").provenance,
        {
            "linux.devices[0].path": {"from": "spec", "key": "devices[0]"},
            "linux.devices[1].path": {"from": "spec", "key": "devices[1]"},
            "root.readonly": {"from": "spec", "key": "read_only"},
        },
    )
    found = {finding.rule: str(finding.origin) for finding in collect(project, ["b"])[0].findings}
    assert found == {"extra-device": "specs/b.yaml:4:5", "writable-root": "specs/base.yaml:2:1"}


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
    put(paths.receipt("copy"), {"digest": EVIL, "facts": {EVIL: EVIL, "x": {EVIL: [EVIL]}}})
    fail(project, "copy", EVIL)
    page, junit, sarif, _ = write(project, ["b"], assessing(copy=EVIL, spec=EVIL))
    assert "script" not in Page(page.read_text()).tags
    assert "<script" not in page.read_text()
    names = [str(case.get("name")) for case in ET.fromstring(junit.read_bytes()).iter("testcase")]  # noqa: S314
    assert any('</text></svg><script>alert("1")</script>' in name for name in names)
    assert json.loads(sarif.read_bytes())["runs"][0]["results"][0]["ruleId"] == EVIL


def test_the_page_needs_nothing_else(project: Project) -> None:
    text = write(project, ["b"])[0].read_text()
    assert not re.findall(r"(?:src|href)=(?!.#)", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert {"svg", "section", "table"} <= set(Page(text).tags)


def test_the_picture_is_xml_and_shows_every_stage(project: Project) -> None:
    report = collect(project, ["b"], assessing(copy=EVIL))[0]
    picture = ET.fromstring(draw(EVIL.translate({0: "", 27: ""}), report.stages))  # noqa: S314
    shown = [text.text for text in picture.iter("text")]
    assert [word for word in shown if word in ("copy", "unpack", "validate", "smoke-crun")] == [
        "copy",
        "unpack",
        "validate",
        "smoke-crun",
    ]
    assert [word for word in shown if word and word[0] in "✔↻✘○"] == [
        "↻ stale",
        "↻ stale",
        "✔ built",
        "↻ stale",
        "↻ stale",
        "✘ failed",
        "○ not run",
    ]
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
    page, junit, sarif, _ = write(project, ["never"])
    assert "not validated yet" in page.read_text()
    cases = [*ET.fromstring(junit.read_bytes()).iter("testcase")]  # noqa: S314
    assert [said(case, "failure") for case in cases] == ["not built: never built"] * len(STAGES)
    assert json.loads(sarif.read_bytes())["runs"][0]["results"] == []


def test_values_of_an_environment_are_not_published(project: Project) -> None:
    image = {"image": {"environment": ["TOKEN=hush", "PATH=/bin"], "user": "1"}}
    put(project.bundle("b").receipt("spec"), {"digest": "sha256:1", "facts": image})
    page = write(project, ["b"])[0].read_text()
    assert "TOKEN" in page
    assert "hush" not in page


def test_results_of_another_shape_are_told_as_damaged(project: Project) -> None:
    path = project.bundle("b").smoke / "runc.json"
    odd_facts = {**smoke(), "facts": [1]}
    odd_times = {**smoke(), "timings_ms": {"total": "long"}}
    shapes: list[Any] = [odd_facts, odd_times, [], "text"]
    for odd in shapes:
        put(path, odd)
        assert collect(project, ["b"])[0].unreadable == ("out/b/smoke/runc.json",)
    put(path, {**smoke(), "facts": [{"ok": "yes"}]})
    assert not collect(project, ["b"])[0].smokes[0].sound
