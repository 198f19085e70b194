"""The tasks that tell: status, explain, verify, update, outdated, doctor, report, new. None is cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.graph import Step
from pipeline.preflight import of_system, unknown
from pipeline.selection import READERS

if TYPE_CHECKING:
    from pipeline.report.explain import Explained
    from pipeline.report.judged import Judged
    from pipeline.tasks import Makefile, Task

_HELP = {
    "json": "machine-readable",
    "check": "exit 1 if stale",
    "image": "the image reference, or the layout that the bundle came from",
    "bundle": "a bundle's folder, or a config.json, from elsewhere",
    "format": "terminal, json, sarif, junit, github or markdown",
    "fail-on": "critical, high (default), medium, low, info or never",
    "output": "write to this file",
    "profile": "baseline or strict",
    "exit-code": "exit 1 if they differ",
    "reason": "why it may be more open",
    "arch": "one architecture",
}
_FAILED = TaskFailed("")
_CONFIG = "config:"
# What is wrong with the words of `doit new`, not with the image or the host.
_WRONG_WORDS = ("bad-name", "bad-image", "spec-exists")


def status(make: Makefile) -> Task:
    """`doit status [NAME…] [--json] [--check]`"""

    def tell() -> TaskFailed | None:
        from pipeline.model.baselines import lag

        names = make.bundles()
        lags = {name: said for name in names if (said := lag(make.specs[name]))}
        rows = [row for name in names for row in _states(make, name)]
        gone = [] if make.selection.words else make.without_spec()
        if "json" in make.selection.options:
            _print_json(make, {"version": 1, "stages": rows, "without_spec": gone, "lags": lags})
        else:
            for line in dict.fromkeys(map(_row_in_words, rows)):
                make.console.line(line)
            for name, said in lags.items():
                make.console.line(f"{name}: {said}")
            for name in gone:
                make.console.line(f"out/{name}/: no spec any more; 'doit clean' removes it")
        # What `doit` alone would build: not what is unpinned, and no smoke.
        stale = any(row["state"] == "stale" and row["stage"] != "smoke" for row in rows)
        return _FAILED if stale and "check" in make.selection.options else None

    return _reading(make, "status", tell, "every stage: fresh, or stale and why; runs nothing")


def explain(make: Makefile) -> Task:
    """`doit explain STAGE:NAME… [--json]`, and `config:NAME[:JSON.PATH]` for the fields of a config.json."""

    def tell() -> None:
        known = {step.task: step for bundle in make.specs for step in make.steps(bundle)}
        names = make.selection.words
        if not names:
            form = "doit explain STAGE:NAME or config:NAME[:PATH], for example `doit explain spec:hello`"
            make.refuse(_usage(form))
        configs = [name for name in names if name.startswith(_CONFIG)]
        names = tuple(name for name in names if name not in configs)
        for name in names:
            if name not in known:
                make.refuse(unknown("stage", name, [*known]))
        fields = [_explain_config(make, word) for word in configs]
        told = {name: _explained(make, known[name]) for name in names}
        if "json" in make.selection.options:
            shown = {"configs": {word: one.to_json() for word, one in fields}} if fields else {}
            _print_json(make, {"version": 1, "stages": told, **shown})
        else:
            _print_fields(make, fields)
            for name, parts in told.items():
                _print_explained(make, name, parts)

    return _reading(
        make, "explain", tell, "a stage's key, old -> new; config:NAME[:PATH]: where its fields come from"
    )


def _explain_config(make: Makefile, word: str) -> tuple[str, Explained]:
    """What is to be said of `config:NAME` or `config:NAME:JSON.PATH`. Exits 3 on what there is not."""
    from pipeline.built import known_now
    from pipeline.check import judged_for
    from pipeline.files import read_json
    from pipeline.model.bundle import Bundle
    from pipeline.origins import read_origins
    from pipeline.report.explain import explain_config

    name, _, path = word.removeprefix(_CONFIG).partition(":")
    if name not in make.specs:
        make.refuse(unknown("bundle", name, [*make.specs]))
    receipts = [make.engine.receipt(name, stage) for stage in ("spec", "unpack")]
    spec, unpack = (receipt["facts"] if receipt else None for receipt in receipts)
    if spec is None or unpack is None:
        raise PipelineError("not-built", f"{name} is not built", hint=f"doit bundle:{name}")
    bundle, paths = Bundle.from_values(dict(make.specs[name])), make.project.bundle(name)
    origins = read_origins(make.project, name, read_json(paths.provenance))
    facts = known_now(make.project, name, bundle, spec, unpack)
    try:
        host, _ = judged_for()
        told = explain_config(paths, path, origins, host, facts=facts, waive=bundle.waive)
    except PipelineError as error:
        make.refuse(error)
    return word, told


def _print_fields(make: Makefile, fields: Iterable[tuple[str, Explained]]) -> None:
    if fields:
        from pipeline.report.explain import lines

        for word, told in fields:
            _say(make, lines(told, word.removeprefix(_CONFIG).partition(":")[2]))


def check(make: Makefile) -> Task:
    """`doit check [NAME…] [--bundle DIR] [--format F] [--fail-on S] [--output FILE] [--image LAYOUT]`"""

    def tell() -> TaskFailed | None:
        from pipeline import check as door

        options = make.selection.options
        try:
            ask = door.asked(options)
            if "bundle" in options:
                if make.selection.words:
                    raise _usage("doit check --bundle DIR, or doit check NAME…")
                judged = [door.judge_target(options["bundle"], ask)]
            elif ask.image:
                raise _usage("doit check --bundle DIR --image LAYOUT: bundles of this project know theirs")
            else:
                judged = _judge_built(make, ask.profile)
        except PipelineError as error:
            make.refuse(error)
        return _FAILED if door.tell(judged, ask) else None

    return _reading(make, "check", tell, "judge built bundles, or one from elsewhere; runs nothing")


def _judge_built(make: Makefile, profile: str) -> list[Judged]:
    """Judge anew what is built: of all bundles those that are, of those named each."""
    from pipeline.check import judge_built, judged_for

    host, notes = judged_for()
    named = bool(make.selection.words)
    judged = []
    for name in make.bundles():
        facts = [make.engine.receipt(name, stage) for stage in ("spec", "unpack")]
        if None in facts and not named:
            make.console.note(f"{name}: not built; `doit bundle:{name}` builds it")
            continue
        spec, unpack = (receipt["facts"] if receipt else None for receipt in facts)
        if spec is None or unpack is None:
            raise PipelineError("not-built", f"{name} is not built", hint=f"doit bundle:{name}")
        judged.append(judge_built(make.project, name, make.specs[name], (spec, unpack), host, notes, profile))
    return judged


def verify(make: Makefile) -> Task:
    """`doit verify [NAME…]`"""

    def tell() -> TaskFailed | None:
        from pipeline.verify import verify as damages_of

        steps = [step for name in make.bundles() for step in make.steps(name)]
        built = [step for step in steps if make.engine.is_built(step)]
        bad = 0
        for step in built:
            for line in damages_of(make.engine, step):
                make.console.error(f"{step.task}: {line}")
                bad += 1
        intact = f"{len(built)} stages read again: every output is as it was made"
        make.console.line(f"{bad} damaged; `doit` builds them again" if bad else intact)
        return _FAILED if bad else None

    return _reading(make, "verify", tell, "read every output again and compare it with its receipt")


def update(make: Makefile) -> Task:
    """`doit update [NAME…]`"""

    def tell() -> None:
        from pipeline.update import pin_images

        try:
            _say(make, pin_images(make.project, _asked(make)))
        finally:
            make.pins.reload()

    return _reading(make, "update", tell, "ask registries what tags mean now, and pin that")


def outdated(make: Makefile) -> Task:
    """`doit outdated [NAME…] [--json]`"""

    def tell() -> None:
        from pipeline.update import outdated_images

        answers = outdated_images(make.project, _asked(make))
        if "json" not in make.selection.options:
            _say(make, (answer.line("would be pinned") for answer in answers))
            return
        told: list[dict[str, Any]] = []
        try:
            told.extend(answer.to_json() for answer in answers)
        finally:
            # Those that could be asked are answered, whatever is wrong with the others.
            _print_json(make, {"version": 1, "images": told})

    return _reading(make, "outdated", tell, "ask the same, changing nothing")


def doctor(make: Makefile) -> Task:
    """`doit doctor [--json]`"""

    def tell() -> TaskFailed | None:
        from pipeline.doctor import run

        text, code = run(make.project, "json" in make.selection.options)
        make.console.line(text.rstrip("\n"))
        return _FAILED if code else None

    return _reading(make, "doctor", tell, "what this host can do, and how to mend what it cannot")


def floor(make: Makefile) -> Task:
    """`doit floor [RUNTIME…] [--json]`"""

    def tell() -> None:
        from pipeline.floor.command import chosen, measure_floors

        told = []
        try:
            runtimes = chosen(make.selection.words)
        except PipelineError as error:
            if error.code == "usage":
                make.refuse(error)
            raise
        for answer in measure_floors(make.project, runtimes, make.console.note):
            told.append(answer.to_json())
            if "json" not in make.selection.options:
                _say(make, answer.lines())
        if "json" in make.selection.options:
            _print_json(make, {"version": 1, "floors": told})

    return _reading(make, "floor", tell, "measure what each runtime itself calls under a seccomp filter")


def report(make: Makefile) -> Task:
    """`doit report`"""

    def tell() -> None:
        from pipeline.report.all import write

        def assess(name: str) -> Iterable[tuple[str, str, str | None]]:
            rows = zip(make.steps(name), _states(make, name), strict=True)
            return [(step.task, step.label, row["why"]) for step, row in rows]

        _say(make, map(str, write(make.project, list(make.specs), assess)))

    return _reading(make, "report", tell, "out/report/: index.html, junit.xml, findings.sarif")


def new(make: Makefile) -> Task:
    """`doit new NAME --image REF`"""

    def tell() -> None:
        from pipeline.newspec import create

        names, image = make.selection.words, make.selection.options.get("image")
        if len(names) != 1 or not image:
            make.refuse(_usage("doit new NAME --image REF"))
        try:
            make.console.line(create(make.project, names[0], image))
        except PipelineError as error:
            if error.code in _WRONG_WORDS:
                make.refuse(error)
            raise

    return _reading(make, "new", tell, "write a commented spec from an image's own config")


def _reading(make: Makefile, name: str, tell: Callable[[], TaskFailed | None], doc: str) -> Task:
    def action() -> TaskFailed | None:
        try:
            return tell()
        except (PipelineError, PipelineErrors) as error:
            return TaskFailed(str(error))
        except OSError as fault:
            return TaskFailed(str(of_system(fault)))

    # doit reads the options before the first name, and gives all else to `names`; so `make.selection` counts,
    # which knows them at any place.
    params = [
        {
            "name": option,
            "long": option,
            "type": str if valued else bool,
            "default": "" if valued else False,
            "help": _HELP[option],
        }
        for option, valued in READERS[name].items()
    ]
    return {
        "basename": name,
        "actions": [action],
        "doc": doc,
        "params": params,
        "pos_arg": "names",
        "uptodate": [False],
        "io": {"capture": False},
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


def _row_in_words(row: dict[str, Any]) -> str:
    if row["state"] == "not pinned":
        return f"{row['bundle']:<28} not pinned ('doit update {row['bundle']}')"
    return f"{row['task']:<28} " + ("fresh" if row["state"] == "fresh" else f"stale  {row['why']}")


def _explained(make: Makefile, step: Step) -> dict[str, Any]:
    state = make.engine.assess(step)
    old = _without_secrets(state.receipt["parts"]) if state.receipt else None
    return {"stale": state.stale, "old": old, "new": _without_secrets(state.parts)}


def _without_secrets(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts with the names of variables alone: their values may be secrets, and this ends in logs."""
    spec = parts["spec"]
    return {**parts, "spec": {**spec, "environment": sorted(spec.get("environment", ()))}}


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


def _asked(make: Makefile) -> dict[str, Any]:
    return {name: make.specs[name] for name in make.bundles()}


def _say(make: Makefile, lines: Iterable[str]) -> None:
    for line in lines:
        make.console.line(line)


def _print_json(make: Makefile, value: Any) -> None:
    make.console.line(json.dumps(value, indent=2, ensure_ascii=False))


__all__ = [
    *("check", "doctor", "explain", "floor", "new"),
    *("outdated", "report", "status", "update", "verify"),
]
