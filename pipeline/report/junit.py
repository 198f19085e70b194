"""JUnit XML, as GitLab and Jenkins read it: a suite for a bundle's stages, judgement and each run."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from pipeline.model.nouns import Finding
from pipeline.report.collect import FAILS, BundleReport, Smoke, StageState, State

# XML 1.0 has no way to write these at all (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(reports: Iterable[BundleReport]) -> bytes:
    """Return the document.

    Failures are: a mistake in a spec, a stage that makes the bundle and is not fresh, what `validate`
    fails on, and a fact that was not as promised. What is unpinned, waived or outdated is skipped.
    """
    root = ET.Element("testsuites", name="cooperage")
    for report in reports:
        if report.mistakes:
            _add(root, f"specs:{report.name}", [_mistake(report.name, found) for found in report.mistakes])
        built = [_built(report.name, stage) for stage in report.stages if stage.builds]
        _add(root, f"stages:{report.name}", built)
        if report.judged:
            _add(root, f"validate:{report.name}", _judged(report))
        for smoke in report.smokes:
            _add(root, f"smoke:{report.name}/{smoke.runtime}", _observed(smoke), _seconds(smoke))
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _mistake(bundle: str, found: Finding) -> ET.Element:
    case = _case(f"specs.{bundle}", " ".join(filter(None, (found.rule, str(found.place or "")))))
    text = "\n".join(filter(None, (found.message, found.mend, str(found.place or ""))))
    _child(case, "failure", found.message, text, kind=found.rule)
    return case


def _built(bundle: str, stage: StageState) -> ET.Element:
    case = _case(f"stages.{bundle}", stage.label)
    if stage.state is State.UNPINNED:
        _child(case, "skipped", f"not pinned yet; {stage.why}")
    elif stage.state is not State.BUILT:
        words = (stage.error or stage.why).split("\n", 1)[0]
        text = "\n".join(filter(None, (stage.error, stage.why)))
        _child(case, "failure", f"{stage.state.value}: {words}", text, kind=stage.state.value)
    return case


def _judged(report: BundleReport) -> list[ET.Element]:
    cases = []
    for finding in report.findings:
        case = _case(f"validate.{report.name}", " ".join(filter(None, (finding.rule, finding.path))))
        text = "\n".join(filter(None, (finding.message, finding.mend, str(finding.place or ""))))
        if finding.waived is not None:
            _child(case, "skipped", f"waived: {finding.waived}")
        elif finding.severity.at_least(FAILS):
            _child(case, "failure", finding.message, text, kind=finding.severity.value)
        else:
            ET.SubElement(case, "system-out").text = _clean(f"{finding.severity.value}: {text}")
        cases.append(case)
    # A suite without cases counts as "nothing was tested", and something was.
    return cases or [_case(f"validate.{report.name}", "no findings")]


def _observed(smoke: Smoke) -> list[ET.Element]:
    cases = []
    for fact in smoke.facts:
        case = _case(f"smoke.{smoke.runtime}", str(fact.get("name")))
        if not fact.get("ok"):
            words = f"expected {fact.get('expected')}, saw {fact.get('observed')}"
            _child(case, "failure", words, f"{words} in {fact.get('where')}", kind="fact")
        elif smoke.outdated:
            _child(case, "skipped", f"of an earlier bundle: {smoke.outdated}")
        cases.append(case)
    whole = _case(f"smoke.{smoke.runtime}", "starts, is ready, stops and leaves nothing")
    if not smoke.proven:
        words = smoke.failure or "not proven"
        _child(whole, "failure", words.split("\n", 1)[0], words, kind="smoke")
    elif smoke.outdated:
        _child(whole, "skipped", f"of an earlier bundle: {smoke.outdated}")
    return [*cases, whole]


def _seconds(smoke: Smoke) -> float:
    return sum(smoke.timings_ms.values()) / 1000


def _add(root: ET.Element, name: str, cases: list[ET.Element], seconds: float = 0.0) -> None:
    def count(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    suite = ET.SubElement(
        root,
        "testsuite",
        name=_clean(name),
        tests=str(len(cases)),
        failures=count("failure"),
        skipped=count("skipped"),
        errors="0",
        time=f"{seconds:.3f}",
    )
    suite.extend(cases)


def _case(classname: str, name: str) -> ET.Element:
    return ET.Element("testcase", classname=_clean(classname), name=_clean(name))


def _child(case: ET.Element, tag: str, message: str, text: str = "", kind: str = "") -> None:
    child = ET.SubElement(case, tag, {"message": _clean(message)} | ({"type": kind} if kind else {}))
    child.text = _clean(text) or None


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
