"""`validate`: judge bundle, image and host together without running anything, then the runtime's dry run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checks import portability
from pipeline.checks.index import ordered
from pipeline.checks.scoring import in_profile, score
from pipeline.checks.subject import (
    HostFacts,
    ImageFacts,
    Intent,
    PrivilegedFile,
    ProfileDrift,
    PublishedPort,
    UnpackFacts,
)
from pipeline.checks.text import cleaned, counts, finding_value, render_findings, summary
from pipeline.checks.waivers import apply_waivers
from pipeline.examine import examine
from pipeline.files import canonical_json, changed_from, read_json, read_record, sha256_file
from pipeline.hostfloor import known_floor
from pipeline.model.bundle import UNCONFINED
from pipeline.model.nouns import Finding, Severity
from pipeline.observe.host import host_facts
from pipeline.runtimefacts import found_runtimes
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
    host = host_facts(runtime.name, version, found_runtimes(work.project, work.parts["tools"]))
    host = replace(host, floor=known_floor(work.project, runtime, version))
    seen: dict[str, object] = {}
    judged = in_profile(_findings(work, host, seen), work.spec.hardening.profile)
    findings = apply_waivers(judged, work.spec.waive)
    tried: dict[str, Any] = {"name": runtime.name, "version": version, "dry_run": "not tried"}
    if not standing(findings):
        refusal = _dry_run(work, runtime)
        findings += refusal
        tried["dry_run"] = "refused" if refusal else "created and deleted"
    findings = ordered(findings)
    _record(work, findings, tried, seen)
    if standing(findings):
        raise StageFailed("findings", f"{work.name}: {summary(findings)}\n\n{render_findings(findings)}")
    work.say(f"{summary(findings)}; {score(findings)}")
    return Output({"counts": counts(findings), "runtime": tried})


def _findings(work: Work, host: HostFacts, seen: dict[str, object]) -> list[Finding]:
    entries = read_record(work.paths.tree_record)
    return examine(
        work.paths.config,
        str(work.paths.config.relative_to(work.project.root)),
        host,
        recorded=entries,
        image=_image(work),
        intent=_intent(work),
        unpacked=_unpacked(work),
        changed=tuple(changed_from(work.paths.rootfs, entries)),
        is_changed_config=_is_changed(work.paths.config, work.paths.receipt("spec")),
        profile_drift=_profile_drift(work),
        cache=seen,
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
        healthcheck=tuple(image["healthcheck"]["test"]) if image["healthcheck"] else (),
        command=tuple(image["command"]),
        user=image["user"],
        working_dir=image["working_dir"],
        exposed_ports=tuple(image["exposed_ports"]),
        stop_signal=image["stop_signal"],
    )


def _intent(work: Work) -> Intent:
    own, image = work.spec.healthcheck, work.facts("spec")["image"]["healthcheck"]
    test: tuple[str, ...] = tuple(image["test"]) if image else ()
    probed = False
    if own is not None:
        probed = own.http is not None or own.tcp is not None
        test = () if own.disable or probed else own.test or test
    ports = tuple(
        PublishedPort(port.host_ip, port.host_port, port.container_port, port.protocol)
        for port in work.spec.ports
    )
    return Intent(healthcheck=test, has_probe=probed, ports=ports)


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


def _record(work: Work, findings: list[Finding], tried: dict[str, Any], seen: dict[str, object]) -> None:
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
