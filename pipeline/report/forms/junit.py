"""JUnit XML, as GitLab and Jenkins read it: a suite for each bundle's judgement, a case for each finding."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from pipeline.model.nouns import Finding
from pipeline.report.judged import Judged, Wanted

# XML 1.0 has no way to write these at all (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(judged: Sequence[Judged], wanted: Wanted) -> bytes:
    """Return the document. What fails is a failure, what is waived is skipped, all else is said."""
    return document(judgement(one, wanted) for one in judged)


def document(suites: Iterable[ET.Element]) -> bytes:
    """Return a document of these suites."""
    root = ET.Element("testsuites", name="cooperage")
    root.extend(suites)
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def judgement(one: Judged, wanted: Wanted) -> ET.Element:
    """Return the suite of one bundle's findings."""
    cases = [_found(one, finding, wanted) for finding in one.findings]
    # A suite without cases counts as "nothing was tested", and something was.
    return suite(f"validate:{one.name}", cases or [case(f"validate.{one.name}", "no findings")])


def _found(one: Judged, finding: Finding, wanted: Wanted) -> ET.Element:
    made = case(f"validate.{one.name}", " ".join(filter(None, (finding.rule, finding.path))))
    where = [str(place) for place in (finding.place, finding.origin) if place is not None]
    text = "\n".join(filter(None, (finding.message, finding.mend, *where)))
    if finding.waived is not None:
        child(made, "skipped", f"waived: {finding.waived}")
    elif wanted.fails(finding):
        child(made, "failure", finding.message, text, kind=finding.severity.value)
    else:
        ET.SubElement(made, "system-out").text = clean(f"{finding.severity.value}: {text}")
    return made


def suite(name: str, cases: list[ET.Element], seconds: float = 0.0) -> ET.Element:
    """Return a suite with its counts."""

    def count(tag: str) -> str:
        return str(sum(one.find(tag) is not None for one in cases))

    made = ET.Element(
        "testsuite",
        name=clean(name),
        tests=str(len(cases)),
        failures=count("failure"),
        skipped=count("skipped"),
        errors="0",
        time=f"{seconds:.3f}",
    )
    made.extend(cases)
    return made


def case(classname: str, name: str) -> ET.Element:
    """Return a case, which passes as long as nothing is put into it."""
    return ET.Element("testcase", classname=clean(classname), name=clean(name))


def child(parent: ET.Element, tag: str, message: str, text: str = "", kind: str = "") -> None:
    """Put a `failure` or `skipped` into a case."""
    made = ET.SubElement(parent, tag, {"message": clean(message)} | ({"type": kind} if kind else {}))
    made.text = clean(text) or None


def clean(text: str) -> str:
    """Return the text with a mark for each character that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
