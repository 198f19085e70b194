"""`x-trace` of a spec: what to do with a bundle while it is watched, beyond waiting until it is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.model.bundle import HttpProbe
from pipeline.model.network import healthcheck
from pipeline.model.problems import Problems, bad, fields_of, list_of, wrong_type
from pipeline.model.values import text_or_number
from pipeline.paths import Project
from pipeline.probe import Check, ask
from pipeline.source import read_source
from pipeline.specfile import shown
from pipeline.tools.runtimes.container import Container
from pipeline.yamlnodes import Document, parse

KEY = "x-trace"
_LONGEST_S = 3600
# Under strace each call takes many times as long.
_ANSWER_S = 300.0


@dataclass(frozen=True)
class Exercise:
    """Commands to run in the container, URLs to ask on its loopback, and for how long to watch then."""

    exec: tuple[tuple[str, ...], ...] = ()
    http: tuple[HttpProbe, ...] = ()
    seconds: float = 0.0

    def perform(self, container: Container) -> None:
        """Do all of it, in this order. Raises PipelineError `exercise-failed` at the first that fails."""
        checks = [Check(test=words) for words in self.exec]
        checks += [Check(http_path=probe.path, port=probe.port) for probe in self.http]
        for check in checks:
            answer = ask(check, container, _ANSWER_S)
            if not answer.ok:
                raise _failed(f"{check}: {answer.words}")
        if self.seconds and container.wait(self.seconds) is not None:
            raise _failed(f"the program ended before {self.seconds:g} s were over")


def exercise_of(project: Project, name: str) -> Exercise:
    """Return what a bundle's spec asks for under `x-trace`: its own, or else that of the spec it extends.

    Raises PipelineErrors with every mistake in it.
    """
    while True:
        document = parse(read_source(project.specs / f"{name}.yaml", shown(name)), shown(name))
        if document.value.get(KEY) is not None:
            return _read(document)
        # The spec was read before, so this leads to an end.
        base = document.value.get("extends")
        if base is None:
            return Exercise()
        name = str(base)


def _read(document: Document) -> Exercise:
    readers = {
        "exec": list_of(_command, "a list of commands, each a list of words"),
        "http": list_of(_url, "a list of URLs such as `http://:8080/`"),
        "seconds": _seconds,
    }
    try:
        found = fields_of(document.value[KEY], readers, "a mapping with exec, http, seconds")
    except Problems as fault:
        raise PipelineErrors(
            PipelineError(
                problem.code,
                problem.message,
                hint=problem.hint,
                place=(document.key if problem.on_key else document.place)((KEY, *problem.steps)),
            )
            for problem in fault.problems
        ) from None
    return Exercise(**found)


def _command(value: Any) -> tuple[str, ...]:
    words: tuple[str, ...] = list_of(text_or_number, "a command as a list of words")(value)
    if not words:
        raise bad("bad-value", "the command is empty")
    return words


def _url(value: Any) -> HttpProbe:
    if value is None:
        raise wrong_type(value, "a URL such as `http://:8080/`")
    try:
        probe: HttpProbe = healthcheck({"http": value})["http"]
    except Problems as fault:
        raise Problems(
            [type(p)(p.code, p.message, p.hint, p.steps[1:], p.on_key, p.secret) for p in fault.problems]
        ) from None
    return probe


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, "a number of seconds")
    if not 0 <= value <= _LONGEST_S:
        raise bad("bad-value", f"{value:g} seconds are not between 0 and {_LONGEST_S}")
    return float(value)


def _failed(message: str) -> PipelineError:
    return PipelineError(
        "exercise-failed",
        f"`{KEY}`: {message}",
        hint="nothing of this run was kept; the known ways out of containers are refused while it is watched",
    )
