"""JUnit XML of a whole report: a suite for each bundle's stages, its judgement and each of its runs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator

from pipeline.model.nouns import Finding
from pipeline.report.collect import BundleReport, Smoke, StageState, State
from pipeline.report.forms.junit import case, child, document, judgement, suite
from pipeline.report.judged import Wanted


def render(reports: Iterable[BundleReport]) -> bytes:
    """Return the document.

    Failures are: a mistake in a spec, a stage that makes the bundle and is not fresh, what `validate`
    fails on, and a fact that was not as promised. What is unpinned, waived or outdated is skipped.
    """
    return document(made for report in reports for made in _suites(report))


def _suites(report: BundleReport) -> Iterator[ET.Element]:
    if report.mistakes:
        yield suite(f"specs:{report.name}", [_mistake(report.name, found) for found in report.mistakes])
    yield suite(
        f"stages:{report.name}", [_built(report.name, stage) for stage in report.stages if stage.builds]
    )
    if report.judged:
        yield judgement(report.judgement, Wanted())
    for smoke in report.smokes:
        yield suite(f"smoke:{report.name}/{smoke.runtime}", _observed(smoke), _seconds(smoke))


def _mistake(bundle: str, found: Finding) -> ET.Element:
    made = case(f"specs.{bundle}", " ".join(filter(None, (found.rule, str(found.place or "")))))
    text = "\n".join(filter(None, (found.message, found.mend, str(found.place or ""))))
    child(made, "failure", found.message, text, kind=found.rule)
    return made


def _built(bundle: str, stage: StageState) -> ET.Element:
    made = case(f"stages.{bundle}", stage.label)
    if stage.state is State.UNPINNED:
        child(made, "skipped", f"not pinned yet; {stage.why}")
    elif stage.state is not State.BUILT:
        words = (stage.error or stage.why).split("\n", 1)[0]
        text = "\n".join(filter(None, (stage.error, stage.why)))
        child(made, "failure", f"{stage.state.value}: {words}", text, kind=stage.state.value)
    return made


def _observed(smoke: Smoke) -> list[ET.Element]:
    cases = []
    for fact in smoke.facts:
        made = case(f"smoke.{smoke.runtime}", str(fact.get("name")))
        if not fact.get("ok"):
            words = f"expected {fact.get('expected')}, saw {fact.get('observed')}"
            child(made, "failure", words, f"{words} in {fact.get('where')}", kind="fact")
        elif smoke.outdated:
            child(made, "skipped", f"of an earlier bundle: {smoke.outdated}")
        cases.append(made)
    whole = case(f"smoke.{smoke.runtime}", "starts, is ready, stops and leaves nothing")
    if not smoke.proven:
        words = smoke.failure or "not proven"
        child(whole, "failure", words.split("\n", 1)[0], words, kind="smoke")
    elif smoke.outdated:
        child(whole, "skipped", f"of an earlier bundle: {smoke.outdated}")
    return [*cases, whole]


def _seconds(smoke: Smoke) -> float:
    return sum(smoke.timings_ms.values()) / 1000
