"""The forms that a judgement can take: each is a module with `render(judged, wanted)`, which gives bytes."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from pipeline.errors import PipelineError, suggest
from pipeline.report.judged import Judged, Wanted

FORMS = ("terminal", "json", "sarif", "junit", "github", "markdown")


def checked(form: str) -> str:
    """Return the name of a form. Raises PipelineError `usage` for another word."""
    if form in FORMS:
        return form
    meant = suggest(form, FORMS)
    hint = f"did you mean `{meant}`?" if meant else f"one of {', '.join(FORMS)}"
    raise PipelineError("usage", f"there is no format `{form}`", hint=hint)


def render(form: str, judged: Sequence[Judged], wanted: Wanted) -> bytes:
    """Return the judgement in that form."""
    content: bytes = importlib.import_module(f"pipeline.report.forms.{form}").render(judged, wanted)
    return content
