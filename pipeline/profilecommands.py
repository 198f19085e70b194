"""The tasks about seccomp profiles: seccomp-diff, seccomp-accept, verdicts. None is cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.commands import _FAILED, _print_json, _reading, _say, _usage
from pipeline.errors import PipelineError, PipelineErrors

if TYPE_CHECKING:
    from doit.exceptions import TaskFailed

    from pipeline.tasks import Makefile, Task

_USAGE = 3
# What is wrong with the words of the command line, not with a profile.
_NO_PROFILE = (
    *("unknown-profile", "unknown-revision", "unreadable", "not-a-file", "too-big", "bad-profile"),
    *("no-reason", "no-such-arch"),
)


def seccomp_diff(make: Makefile) -> Task:
    """`doit seccomp-diff A B [--json] [--exit-code]`"""

    def tell() -> TaskFailed | None:
        from pipeline.seccompdiff import compare, in_words

        if len(make.selection.words) != 2:
            form = "doit seccomp-diff A B, for example `doit seccomp-diff docker-default default`"
            make.refuse(_usage(form))
        one, other = make.selection.words
        compared = _of_profiles(make, lambda: compare(make.project, one, other))
        if "json" in make.selection.options:
            _print_json(make, compared)
        else:
            _say(make, in_words(compared))
        return _FAILED if compared["differ"] and "exit-code" in make.selection.options else None

    return _reading(make, "seccomp-diff", tell, "what the second of two seccomp profiles opens and closes")


def seccomp_accept(make: Makefile) -> Task:
    """`doit seccomp-accept NAME [--reason TEXT]`"""

    def tell() -> None:
        from pipeline.seccomppins import accept

        if len(make.selection.words) != 1:
            make.refuse(_usage('doit seccomp-accept NAME [--reason "why it may be more open"]'))
        (name,), reason = make.selection.words, make.selection.options.get("reason", "")
        _say(make, _of_profiles(make, lambda: accept(make.project, name, reason)))

    return _reading(make, "seccomp-accept", tell, "pin what a seccomp profile leaves open now")


def verdicts(make: Makefile) -> Task:
    """`doit verdicts PROFILE [--arch ARCH] [--json]`"""

    def tell() -> None:
        from pipeline.model.bundle import UNCONFINED
        from pipeline.profiles import names
        from pipeline.report import verdicts as shown

        if len(make.selection.words) != 1:
            make.refuse(_usage("doit verdicts PROFILE, for example `doit verdicts default --arch x86_64`"))
        (word,), added = make.selection.words, []
        if word in make.specs and word not in names(make.project):
            # A bundle's name stands for its profile, as its process has it.
            bundle, word, added = word, make.specs[word]["seccomp"], make.specs[word]["cap_add"]
            if word == UNCONFINED:
                message = f"`{bundle}` is `seccomp: {UNCONFINED}`: every call is open to it"
                make.refuse(PipelineError("unknown-profile", message))
        page = _of_profiles(make, lambda: shown.page_of(make.project, word, added))
        archs = _of_profiles(make, lambda: shown.chosen(page, make.selection.options.get("arch", "")))
        if "json" in make.selection.options:
            _print_json(make, {**page.verdicts, "architectures": shown.only(page, archs)})
        else:
            _say(make, shown.in_words(page, archs, make.console.paint))

    return _reading(make, "verdicts", tell, "what a seccomp profile answers to every call")


def _of_profiles(make: Makefile, made: Callable[[], Any]) -> Any:
    """What was made; words that name no profile, or one with mistakes in it, end the run with exit 3."""
    try:
        return made()
    except PipelineErrors as errors:
        make.console.error(str(errors))
        raise SystemExit(_USAGE) from None
    except PipelineError as error:
        if error.code in _NO_PROFILE:
            make.refuse(error)
        raise
