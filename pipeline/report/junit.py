"""JUnit XML, as GitLab and Jenkins read it: a suite for each judgement and each smoke run."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from pipeline.model.nouns import Severity
from pipeline.report.collect import BundleReport, Smoke

_FAILS = Severity.HIGH
# XML 1.0 has no way to write these at all (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(reports: Iterable[BundleReport]) -> bytes:
    """Return the document; what `validate` fails on, and a fact that was not as promised, is a failure."""
    root = ET.Element("testsuites", name="cooperage")
    for report in reports:
        if report.judged:
            _add(root, f"validate:{report.name}", _judged(report))
        for smoke in report.smokes:
            _add(root, f"smoke:{report.name}/{smoke.runtime}", _observed(smoke), _seconds(smoke))
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _judged(report: BundleReport) -> list[ET.Element]:
    cases = []
    for finding in report.findings:
        case = _case(f"validate.{report.name}", " ".join(filter(None, (finding.rule, finding.path))))
        text = "\n".join(filter(None, (finding.message, finding.mend, str(finding.place or ""))))
        if finding.waived is not None:
            _child(case, "skipped", f"waived: {finding.waived}")
        elif finding.severity.at_least(_FAILS):
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
        cases.append(case)
    whole = _case(f"smoke.{smoke.runtime}", "starts, is ready, stops and leaves nothing")
    if not smoke.proven:
        _child(whole, "failure", smoke.failure or "not proven", smoke.failure, kind="smoke")
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
