"""The tasks that tell: status, explain, verify, update, outdated, doctor, report, new. None is cached."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.graph import STAGES, Step
from pipeline.preflight import unknown

if TYPE_CHECKING:
    from pipeline.tasks import Makefile, Task

_JSON = {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "machine-readable"}
_FAILED = TaskFailed("")


def status(make: Makefile) -> Task:
    """`doit status [NAME…] [--json] [--check]`"""
    check = {"name": "check", "long": "check", "type": bool, "default": False, "help": "exit 1 if stale"}

    def tell(names: list[str], as_json: bool, check: bool) -> TaskFailed | None:
        rows = [row for name in make.bundles(names) for row in _states(make, name)]
        if as_json:
            _print_json({"version": 1, "stages": rows})
        else:
            for row in rows:
                make.console.line(f"{row['task']:<28} {_state_in_words(row)}".rstrip())
        # What `doit` alone would build: not what is unpinned, and no smoke.
        stale = any(row["state"] == "stale" and row["stage"] != "smoke" for row in rows)
        return _FAILED if check and stale else None

    doc = "every stage: fresh, or stale and why; runs nothing"
    return _reading("status", tell, doc, params=[_JSON, check], pos_arg="names")


def explain(make: Makefile) -> Task:
    """`doit explain STAGE:NAME…`"""

    def tell(names: list[str], as_json: bool) -> None:
        known = {step.task: step for bundle in make.specs for step in make.steps(bundle)}
        known |= {f"config:{bundle}": known[f"spec:{bundle}"] for bundle in make.specs}
        if not names:
            make.refuse(_usage("doit explain STAGE:NAME, for example `doit explain spec:hello`"))
        for name in names:
            if name not in known:
                make.refuse(unknown("stage", name, [*known]))
        told = {name: _explained(make, known[name]) for name in names}
        if as_json:
            _print_json({"version": 1, "stages": told})
        else:
            for name, parts in told.items():
                _print_explained(make, name, parts)

    return _reading(
        "explain", tell, "the parts of a stage's key, old -> new", params=[_JSON], pos_arg="names"
    )


def verify(make: Makefile) -> Task:
    """`doit verify [NAME…]`"""

    def tell(names: list[str]) -> TaskFailed | None:
        from pipeline.verify import verify as damages_of

        steps = [step for name in make.bundles(names) for step in make.steps(name)]
        built = [step for step in steps if make.engine.is_built(step)]
        bad = 0
        for step in built:
            for line in damages_of(make.engine, step):
                make.console.error(f"{step.task}: {line}")
                bad += 1
        intact = f"{len(built)} stages read again: every output is as it was made"
        make.console.line(f"{bad} damaged; `doit` builds them again" if bad else intact)
        return _FAILED if bad else None

    return _reading(
        "verify", tell, "read every output again and compare it with its receipt", pos_arg="names"
    )


def update(make: Makefile) -> Task:
    """`doit update [NAME…]`"""

    def tell(names: list[str]) -> TaskFailed | None:
        from pipeline.update import pin_images

        return _registry(make, lambda: pin_images(make.project, _of(make, names)))

    return _reading("update", tell, "ask registries what tags mean now, and pin that", pos_arg="names")


def outdated(make: Makefile) -> Task:
    """`doit outdated [NAME…] [--json]`"""

    def tell(names: list[str]) -> TaskFailed | None:
        from pipeline.update import outdated_images

        return _registry(make, lambda: outdated_images(make.project, _of(make, names)))

    return _reading("outdated", tell, "ask the same, changing nothing", pos_arg="names")


def doctor(make: Makefile) -> Task:
    """`doit doctor [--json]`"""

    def tell(as_json: bool) -> TaskFailed | None:
        from pipeline.doctor import run

        text, code = run(make.project, as_json)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return _FAILED if code else None

    return _reading("doctor", tell, "what this host can do, and how to mend what it cannot", params=[_JSON])


def report(make: Makefile) -> Task:
    """`doit report`"""

    def tell() -> None:
        from pipeline.report.all import write

        for path in write(make.project, list(make.specs)):
            make.console.line(str(path))

    return _reading("report", tell, "out/report/: index.html, junit.xml, findings.sarif")


def new(make: Makefile) -> Task:
    """`doit new NAME --image REF`"""
    image = {"name": "image", "long": "image", "type": str, "default": "", "help": "the image reference"}

    def tell(names: list[str], image: str) -> TaskFailed | None:
        from pipeline.newspec import create

        # doit gives a task's positional words all that follow, options too.
        words = list(names)
        if "--image" in words[:-1]:
            at = words.index("--image")
            image = words[at + 1]
            del words[at : at + 2]
        if len(words) != 1 or not image:
            make.refuse(_usage("doit new NAME --image REF"))
        return _said(make, lambda: [create(make.project, words[0], image)])

    return _reading(
        "new", tell, "write a commented spec from an image's own config", params=[image], pos_arg="names"
    )


def _reading(name: str, action: Any, doc: str, **more: Any) -> Task:
    return {
        "basename": name,
        "actions": [action],
        "doc": doc,
        "uptodate": [False],
        "io": {"capture": False},
        **more,
    }


def _states(make: Makefile, bundle: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    stale: set[str] = set()
    unpinned = make.pins.pin_of(make.specs[bundle]) is None
    for step in make.steps(bundle):
        why = make.engine.assess(step).stale
        waits = [stage for stage in step.stage.reads if stage in stale]
        if why is None and waits:
            why = f"{', '.join(waits)} may change"
        if why is not None:
            stale.add(step.stage.name)
        rows.append(
            {
                "task": step.task,
                "stage": step.stage.name,
                "bundle": bundle,
                "runtime": step.runtime or None,
                "state": "fresh" if why is None else "not pinned" if unpinned else "stale",
                "why": why,
            }
        )
    return rows


def _state_in_words(row: dict[str, Any]) -> str:
    if row["state"] == "not pinned":
        return f"not pinned ('doit update {row['bundle']}')"
    return "fresh" if row["state"] == "fresh" else f"stale  {row['why']}"


def _explained(make: Makefile, step: Step) -> dict[str, Any]:
    state = make.engine.assess(step)
    old = state.receipt["parts"] if state.receipt else None
    return {"stale": state.stale, "old": old, "new": state.parts}


def _print_explained(make: Makefile, name: str, told: dict[str, Any]) -> None:
    make.console.line(f"{name}: {told['stale'] or 'fresh'}")
    old, new = told["old"] or {}, told["new"]
    for kind in new:
        pairs = new[kind].items() if isinstance(new[kind], dict) else [("", new[kind])]
        for key, value in pairs:
            before = old.get(kind, {}).get(key) if isinstance(new[kind], dict) else old.get(kind)
            text = json.dumps(value, ensure_ascii=False)
            if told["old"] is not None and before != value:
                text = f"{json.dumps(before, ensure_ascii=False)} -> {text}"
            make.console.line(f"  {kind + ' ' + key if key else kind:<28} {text}")


def _usage(form: str) -> PipelineError:
    return PipelineError("usage", f"write it as: {form}")


def _of(make: Makefile, names: list[str]) -> dict[str, Any]:
    return {name: make.specs[name] for name in make.bundles(names)}


def _registry(make: Makefile, ask: Any) -> TaskFailed | None:
    failed = _said(make, ask)
    make.reload_pins()
    return failed


def _said(make: Makefile, action: Any) -> TaskFailed | None:
    try:
        for line in action():
            make.console.line(line)
    except (PipelineError, PipelineErrors) as error:
        return TaskFailed(str(error))
    return None


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


__all__ = ["STAGES", "doctor", "explain", "new", "outdated", "report", "status", "update", "verify"]
