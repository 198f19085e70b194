"""`validate`: judge bundle, image and host together without running anything, then the runtime's dry run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.checks.text import cleaned, counts, finding_value, ordered, render_findings, summary
from pipeline.dryrun import Beside, Verdict, depends, is_harmless
from pipeline.files import Entry, canonical_json, changed_from, read_json, read_record
from pipeline.model.nouns import Finding, Severity
from pipeline.origins import read_leaves, read_origins, with_origin, with_provenance
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.container import Container, RuntimeRefused
from pipeline.work import Output, StageFailed

if TYPE_CHECKING:
    from pipeline.work import Work

_RUNTIME = "runc"
_LAYER = "host"
_OF_DRY_RUN = ("runtime-refused", "runtime-left-something")
# Why a stage runs that somebody wants to see run.
_ASKED_ANEW = ("forgotten", "failed last time")
FAIL_ON = Severity.HIGH
"""What is as bad as this, and not waived, fails the stage."""


def build(work: Work) -> Output:
    """Write findings.json. Raises StageFailed with every finding when one at `FAIL_ON` or above stands."""
    entries = read_record(work.paths.tree_record)
    changed = tuple(changed_from(work.paths.rootfs, entries))
    runtime = registry.get(_RUNTIME)
    seen: dict[str, object] = {}
    content = work.paths.config.read_bytes()
    verdict = Verdict(work.project.cache, work.name, depends(content, work.parts))
    is_known = verdict.is_good and not changed and work.reason not in _ASKED_ANEW
    # Most of a dry run is waiting for the runtime, and most of the judge is reading its own code.
    beside = not is_known and not changed and is_harmless(content)
    with Beside(lambda: _dry_run(work, runtime)) if beside else nullcontext() as attempt:
        findings = _judge(work, runtime, entries, changed, seen)
    is_tried = not standing(findings)
    if is_tried and not is_known:
        refusal, said = attempt.result() if attempt else _dry_run(work, runtime)
        work.log.write_text(said)
        findings = ordered([*findings, *refusal])
        if not refusal:
            verdict.remember()
    return _told(work, findings, is_tried, seen)


def _told(work: Work, findings: list[Finding], is_tried: bool, seen: dict[str, object]) -> Output:
    from pipeline.checks.scoring import score

    refused = any(finding.rule in _OF_DRY_RUN for finding in findings)
    dry_run = ("refused" if refused else "created and deleted") if is_tried else "not tried"
    tried = {"name": _RUNTIME, "version": work.tool_version(_RUNTIME), "dry_run": dry_run}
    findings = with_provenance(findings, read_leaves(read_json(work.paths.provenance)))
    _record(work, findings, tried, seen)
    if standing(findings):
        shown = with_origin(findings, read_origins(work.project, work.name, {}))
        raise StageFailed("findings", f"{work.name}: {summary(findings)}\n\n{render_findings(shown)}")
    work.say(f"{summary(findings)}; {score(findings)}")
    return Output({"counts": counts(findings), "runtime": tried})


def _judge(
    work: Work,
    runtime: Runtime,
    entries: list[Entry],
    changed: tuple[str, ...],
    seen: dict[str, object],
) -> list[Finding]:
    """Return what the judge says, waived or not, in order; `seen` becomes what the checks have put aside."""
    from pipeline.built import known
    from pipeline.checks.scoring import in_profile
    from pipeline.checks.waivers import apply_waivers
    from pipeline.examine import examine
    from pipeline.hostfloor import known_floor
    from pipeline.keptdrift import drift_kept
    from pipeline.observe.host import host_facts
    from pipeline.runtimefacts import found_runtimes

    name = str(work.paths.config.relative_to(work.project.root))
    drift = drift_kept(work.project, work.spec.seccomp, work.parts)
    facts = known(work.paths, work.spec, work.facts("spec"), work.facts("unpack"), entries, changed, drift)
    runtimes = found_runtimes(work.project, work.parts["tools"])
    version = work.tool_version(_RUNTIME)
    host = host_facts(runtime.name, version, runtimes)
    host = replace(host, floor=known_floor(work.project, runtime.name, work.parts["tools"][_RUNTIME]))
    found = in_profile(
        examine(work.paths.config, name, host, **facts, cache=seen), work.spec.hardening.profile
    )
    return ordered(apply_waivers(found, work.spec.waive))


def standing(findings: list[Finding]) -> list[Finding]:
    """Return the findings that fail the stage."""
    return [f for f in findings if f.waived is None and f.severity.at_least(FAIL_ON)]


def _dry_run(work: Work, runtime: Runtime) -> tuple[list[Finding], str]:
    """Have the runtime create and delete the container; return what is wrong, and what the runtime said."""
    try:
        with Container(
            runtime, work.paths.bundle, name=work.name, project=work.project, scratch=work.work
        ) as container:
            pass
    except RuntimeRefused as refusal:
        mend = refusal.hint or f"the whole of what it said is in {work.log.relative_to(work.project.root)}"
        found = Finding("runtime-refused", Severity.HIGH, refusal.message, mend=mend, source=runtime.name)
        return [replace(cleaned(found, keep="\n"), layer=_LAYER)], refusal.said + "\n"
    if container.left:
        message = f"after its deletion this was left: {', '.join(container.left)}"
        return [
            Finding("runtime-left-something", Severity.MEDIUM, message, source=runtime.name, layer=_LAYER)
        ], ""
    return [], ""


def _record(work: Work, findings: list[Finding], tried: dict[str, Any], seen: dict[str, object]) -> None:
    from pipeline.checks import portability
    from pipeline.checks.scoring import score

    value = {
        "version": 1,
        "bundle": work.name,
        "findings": [finding_value(finding) for finding in findings],
        "counts": counts(findings),
        "score": score(findings).to_json(),
        "runtime": tried,
        "portability": portability.matrix(seen),
    }
    (work.work / "findings.json").write_bytes(canonical_json(value))
