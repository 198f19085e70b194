"""`validate`: judge bundle, image and host together without running anything, then the runtime's dry run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checks.index import ordered
from pipeline.checks.subject import (
    HostFacts,
    ImageFacts,
    Intent,
    PrivilegedFile,
    ProfileDrift,
    UnpackFacts,
)
from pipeline.checks.text import cleaned, counts, finding_value, render_findings, summary
from pipeline.checks.waivers import apply_waivers
from pipeline.examine import examine
from pipeline.files import canonical_json, changed_entries, read_json, sha256_file
from pipeline.model.bundle import UNCONFINED
from pipeline.model.nouns import Finding, Severity
from pipeline.observe.host import host_facts
from pipeline.seccomppins import drift
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.container import Container, RuntimeRefused
from pipeline.work import Output, StageFailed

if TYPE_CHECKING:
    from pipeline.work import Work

_RUNTIME = "runc"
FAIL_ON = Severity.HIGH
"""What is as bad as this, and not waived, fails the stage."""


def build(work: Work) -> Output:
    """Write findings.json. Raises StageFailed with every finding when one at `FAIL_ON` or above stands."""
    runtime = registry.get(_RUNTIME)
    version = work.tool_version(_RUNTIME)
    findings = apply_waivers(_findings(work, host_facts(runtime.name, version)), work.spec.waive)
    tried: dict[str, Any] = {"name": runtime.name, "version": version, "dry_run": "not tried"}
    if not standing(findings):
        refusal = _dry_run(work, runtime)
        findings += refusal
        tried["dry_run"] = "refused" if refusal else "created and deleted"
    findings = ordered(findings)
    _record(work, findings, tried)
    if standing(findings):
        raise StageFailed("findings", f"{work.name}: {summary(findings)}\n\n{render_findings(findings)}")
    work.say(summary(findings))
    return Output({"counts": counts(findings), "runtime": tried})


def _findings(work: Work, host: HostFacts) -> list[Finding]:
    return examine(
        work.paths.config,
        str(work.paths.config.relative_to(work.project.root)),
        host,
        image=_image(work),
        intent=_intent(work),
        unpacked=_unpacked(work),
        changed=tuple(changed_entries(work.paths.rootfs, work.paths.tree_record)),
        is_changed_config=_is_changed(work.paths.config, work.paths.receipt("spec")),
        profile_drift=_profile_drift(work),
    )


def standing(findings: list[Finding]) -> list[Finding]:
    """Return the findings that fail the stage."""
    return [f for f in findings if f.waived is None and f.severity.at_least(FAIL_ON)]


def _image(work: Work) -> ImageFacts:
    image = work.facts("spec")["image"]
    return ImageFacts(
        entrypoint=tuple(image["entrypoint"]),
        environment=tuple(image["environment"]),
        volumes=tuple(image["volumes"]),
        platform=image["platform"],
    )


def _intent(work: Work) -> Intent:
    own, image = work.spec.healthcheck, work.facts("spec")["image"]["healthcheck"]
    test: tuple[str, ...] = tuple(image["test"]) if image else ()
    if own is not None:
        probed = own.http is not None or own.tcp is not None
        test = () if own.disable or probed else own.test or test
    return Intent(healthcheck=test)


def _profile_drift(work: Work) -> ProfileDrift | None:
    name = work.spec.seccomp
    return None if name == UNCONFINED else drift(work.project, name)


def _unpacked(work: Work) -> UnpackFacts:
    facts = work.facts("unpack")
    return UnpackFacts(
        privileged=tuple(
            PrivilegedFile(file["path"], file["mode"], file["capabilities"], file["kept"])
            for file in facts["privileged_files"]
        ),
        devices=tuple(f"{path} ({kind})" for path, kind in sorted(facts["dropped_devices"].items())),
        keep_not_found=tuple(facts["keep_not_found"]),
        xattrs=tuple(f"{name} ({count})" for name, count in sorted(facts["dropped_xattrs"].items())),
    )


def _is_changed(config: Path, receipt: Path) -> bool:
    written = read_json(receipt)["outputs"]["bundle/config.json"]
    return bool(written != f"sha256:{sha256_file(config)}")


def _dry_run(work: Work, runtime: Runtime) -> list[Finding]:
    """Have the runtime create the container and delete it, without starting the program."""
    try:
        with Container(
            runtime, work.paths.bundle, name=work.name, project=work.project, scratch=work.work
        ) as container:
            pass
    except RuntimeRefused as refusal:
        mend = refusal.hint or f"the whole of what it said is in {work.log.relative_to(work.project.root)}"
        work.log.write_text(refusal.said + "\n")
        found = Finding("runtime-refused", Severity.HIGH, refusal.message, mend=mend, source=runtime.name)
        return [cleaned(found, keep="\n")]
    if container.left:
        message = f"after its deletion this was left: {', '.join(container.left)}"
        return [Finding("runtime-left-something", Severity.MEDIUM, message, source=runtime.name)]
    return []


def _record(work: Work, findings: list[Finding], tried: dict[str, Any]) -> None:
    value = {
        "version": 1,
        "bundle": work.name,
        "findings": [finding_value(finding) for finding in findings],
        "counts": counts(findings),
        "runtime": tried,
    }
    (work.work / "findings.json").write_bytes(canonical_json(value))
