"""`doit trace:NAME`: watch one run of a bundle, add it to those before, and propose a profile of them all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.engine import Engine
from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.files import canonical_json, read_json, remove_tree, write_atomic
from pipeline.learn.exercise import exercise_of
from pipeline.learn.proposal import Proposal, propose
from pipeline.learn.recorded import VERSION, Trace, add_run, new_trace
from pipeline.learn.watched import SLOWER, watch
from pipeline.model.bundle import UNCONFINED, Bundle
from pipeline.oci.floor import read_floors
from pipeline.oci.seccomp import Profile
from pipeline.oci.seccomp_source import read_profile
from pipeline.oci.seccomp_tables import NEWER_CALLS
from pipeline.oci.verdict_summary import Summary, changes, count
from pipeline.paths import BundlePaths, Project
from pipeline.profiles import of_name
from pipeline.profilesource import Sources, filters_of, read_with_floor, sources_in, syscall_table
from pipeline.run import require, run
from pipeline.stages.smoke import must_be_intact, plan_of
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.base import Runtime

_FIRST_SOURCE = "default"
_PROPOSAL = "proposal"
_ASK_TIMEOUT_S = 20.0
_VERSION = re.compile(r"version (\S+)")
Tell = Callable[[str], None]


def trace(engine: Engine, bundle: str, runtime: str, tell: Tell) -> None:
    """Watch a built bundle under a runtime, merge what was seen, write the proposal, and tell of it.

    Raises PipelineError `missing-tool`, `not-built`, `bundle-changed`, `bad-trace`, and what `watch` raises;
    PipelineErrors for mistakes in `x-trace`.
    """
    require("strace", "see what a program calls")
    project, paths = engine.project, engine.project.bundle(bundle)
    exercise = exercise_of(project, bundle)
    busy = "another doit is tracing it; waiting for that one"
    with engine.held(f"{bundle}.trace", f"trace:{bundle}", busy), engine.kept(bundle, ("unpack", "spec")):
        receipt = engine.receipt(bundle, "spec")
        if receipt is None:
            raise PipelineError("not-built", f"{bundle} is not built", hint=f"doit bundle:{bundle}")
        must_be_intact(bundle, paths)
        seen, found = _read(paths, bundle), registry.get(runtime)
        spec = Bundle.from_values(dict(engine.specs[bundle]))
        about = _about(found)
        tell(
            f"{about['runtime']}, watched by {about['recording']} from its start on, which slows the program:"
        )
        tell(
            f"{SLOWER:g} times as long is waited; its filter is wide meanwhile, but known ways out are closed"
        )
        begun = time.monotonic()
        with _folder(project, bundle) as folder:
            plan = plan_of(bundle, spec, receipt["facts"])
            calls = watch(found, paths, project, folder, plan, exercise)
        seen = add_run(seen, about, calls)
        made = propose(seen, _groups_of(project, bundle), _known())
        paths.trace.mkdir(exist_ok=True)
        write_atomic(paths.trace / "trace.json", canonical_json(seen))
        write_atomic(paths.trace / f"{_PROPOSAL}.yaml", made.text.encode())
    tell(f"{len(calls)} calls in {time.monotonic() - begun:.1f} s, run {len(seen['runs'])}")
    for line in _lines(project, bundle, spec, made):
        tell(line)


def _about(runtime: Runtime) -> dict[str, Any]:
    said = run([require("strace", "see what a program calls"), "-V"], timeout_s=_ASK_TIMEOUT_S).stdout
    found = _VERSION.search(said)
    return {
        "runtime": f"{runtime.name} {runtime.version().number}",
        "recording": f"strace {found[1]}" if found else "strace",
        "architecture": os.uname().machine,
    }


@contextmanager
def _folder(project: Project, bundle: str) -> Iterator[Path]:
    """A folder of one's own, which a sweep takes when its owner has died: its name is that of a lock."""
    folder = project.tmp / f"{bundle}.trace.{os.urandom(4).hex()}"
    try:
        folder.mkdir(mode=0o711)
        yield folder
    finally:
        remove_tree(folder)


def _read(paths: BundlePaths, bundle: str) -> Trace:
    place = paths.trace / "trace.json"
    if not place.exists():
        return new_trace(bundle)
    found: Trace = read_json(place)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise PipelineError(
            "bad-trace",
            "what was seen before cannot be read",
            place=Place(str(place)),
            hint=f"doit forget trace:{bundle}   # begins anew",
        )
    return found


def _groups_of(project: Project, bundle: str) -> list[Profile]:
    """The profiles whose groups are used again: the default one first; what is broken or adopted is not."""
    sources = sources_in(project.seccomp_sources, project.root)
    names = sorted(set(sources) - {bundle}, key=lambda name: (name != _FIRST_SOURCE, name))
    found = []
    for name in names:
        try:
            found.append(read_profile(sources[name], f"{name}.yaml", syscall_table(), sources))
        except PipelineErrors:
            # `doit` says what is wrong with it; here it only has no groups to offer.
            continue
    return found


def _known() -> Callable[[str], bool]:
    table = syscall_table()
    return lambda name: name in NEWER_CALLS or table.is_known(name)


def _lines(project: Project, bundle: str, spec: Bundle, made: Proposal) -> Iterator[str]:
    place = project.bundle(bundle).trace / f"{_PROPOSAL}.yaml"
    shown = place.relative_to(project.root)
    sources = Sources((_PROPOSAL,), lambda _: made.text.encode(), read_floors(project.floors))
    filters = filters_of(read_with_floor(_PROPOSAL, str(shown), sources), spec.cap_add).filters
    numbers = syscall_table().numbers
    proposed = {arch: Summary.of_filter(bpf, arch, numbers[arch]) for arch, bpf in filters.items()}
    yield f"{shown}: {len(made.calls)} calls"
    if made.refused:
        yield f"seen and left out, since refused each time: {', '.join(made.refused)}"
    if spec.seccomp == UNCONFINED:
        yield f"against `seccomp: {UNCONFINED}`, which filters nothing"
    else:
        present = of_name(project, spec.seccomp, spec.cap_add).summaries()
        for arch, summary in proposed.items():
            short = arch.removeprefix("SCMP_ARCH_").lower()
            yield f"against `seccomp: {spec.seccomp}`, {short}: {count(changes(present[arch], summary))}"
    target = (project.seccomp_sources / f"{bundle}.yaml").relative_to(project.root)
    if (project.root / target).exists():
        yield f"{target} is there already; compare first: doit seccomp-diff {bundle} {shown}"
    yield f"to adopt it: cp {shown} {target}, and `seccomp: {bundle}` in specs/{bundle}.yaml"
