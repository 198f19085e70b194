"""`smoke`: run the bundle for a moment under one runtime, and prove what config.json promises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import canonical_json, changed_entries, read_json, sha256_bytes, sha256_file, write_atomic
from pipeline.model.linuxnames import SIGNALS, SIGRTMAX, SIGRTMIN
from pipeline.probe import choose
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime
from pipeline.tools.runtimes.container import Container
from pipeline.trial import Plan, Report, log_note, observe
from pipeline.work import Output, StageFailed

if TYPE_CHECKING:
    from pipeline.model.bundle import Bundle
    from pipeline.paths import BundlePaths
    from pipeline.work import Work

_NAMED = 5


def build(work: Work) -> Output:
    """Prove the bundle under `work.runtime`; write RUNTIME.json and RUNTIME.log.

    Raises StageFailed with what was not as it should be; `bundle-changed` or `missing-tool` before
    anything is started.
    """
    must_be_intact(work.name, work.paths)
    runtime = registry.get(work.runtime)
    plan, log = plan_of(work.name, work.spec, work.facts("spec")), work.work / f"{work.runtime}.log"
    container = Container(
        runtime, work.paths.bundle, name=work.name, project=work.project, scratch=work.work, log=log
    )
    report = observe(container, plan)
    note = log_note(report, log)
    if note:
        work.say(note)
    write_atomic(work.work / f"{work.runtime}.json", canonical_json(_result(report, plan, runtime)))
    if report.failure is not None:
        failure = report.failure
        raise StageFailed(failure.code, failure.message, hint=failure.hint) from None
    proven = {**report.proven(plan), "runtime": runtime.name}
    digest = sha256_bytes(json.dumps(proven, sort_keys=True).encode())
    return Output({"result": "proven", "facts": len(report.facts)}, digest)


def _result(report: Report, plan: Plan, runtime: Runtime) -> dict[str, Any]:
    """What RUNTIME.json says."""
    seen, version = report.proven(plan), runtime.version()
    if report.ready is not None:
        seen["ready"] |= {"answer": report.ready.answer, "tries": report.ready.tries}
    return {
        "version": 1,
        **seen,
        "runtime": {
            "name": runtime.name,
            "version": version.number,
            "build": version.build,
            "path": str(runtime.path),
        },
        "holes": [hole.cve for hole in runtime.holes(version)],
        "log_dropped_bytes": report.dropped_bytes,
        "timings_ms": report.timings_ms,
    }


def plan_of(name: str, spec: Bundle, facts: Mapping[str, Any]) -> Plan:
    """Return what to expect of a bundle; `facts` are those of the receipt of stage `spec`.

    Raises PipelineError `bad-signal`.
    """
    image, stop = facts["image"], facts["stop_signal"]
    return Plan(
        bundle=name,
        check=choose(spec.healthcheck, image["healthcheck"], spec.ports, image["exposed_ports"]),
        stop_signal=stop,
        stop_number=signal_number(stop),
        grace_s=spec.stop_grace_period,
    )


def signal_number(name: str) -> int:
    """Return the number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`. Raises PipelineError `bad-signal`."""
    word = name.upper().removeprefix("SIG")
    if word.isdigit() and 0 < int(word) <= SIGRTMAX:
        return int(word)
    if f"SIG{word}" in SIGNALS:
        return SIGNALS[f"SIG{word}"]
    for start, number in (("RTMIN", SIGRTMIN), ("RTMAX", SIGRTMAX)):
        offset = word.removeprefix(start) or "0"
        if word.startswith(start) and offset.lstrip("+-").isdigit():
            found = number + int(offset)
            if SIGRTMIN <= found <= SIGRTMAX:
                return found
    raise PipelineError("bad-signal", f"`{name}` is no signal", hint="a name like SIGTERM, see signal(7)")


def must_be_intact(name: str, paths: BundlePaths) -> None:
    """The bundle must be what `unpack` and `spec` made, or the proof would be of something else.

    Raises StageFailed `bundle-changed`.
    """
    changed = changed_entries(paths.rootfs, paths.tree_record)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise _changed(name, f"rootfs/{', rootfs/'.join(changed[:_NAMED])}{more}", "unpack")
    written = read_json(paths.receipt("spec"))["outputs"]["bundle/config.json"]
    if written != f"sha256:{sha256_file(paths.config)}":
        raise _changed(name, "config.json", "spec")


def _changed(name: str, what: str, stage: str) -> StageFailed:
    return StageFailed(
        "bundle-changed",
        f"{name}: the bundle is not as it was built: {what}",
        hint=f"doit forget {stage}:{name} && doit   # makes it anew",
    )
