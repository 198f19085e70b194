"""index.html: one file that needs no script, no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.checks.text import summary
from pipeline.report.collect import BundleReport, StageState
from pipeline.report.graph import draw, sign

_TEMPLATE = Path(__file__).with_name("index.html.j2")


def render(reports: Sequence[BundleReport]) -> bytes:
    """Return the page. All that comes from images, specs and tools is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def graph(report: BundleReport) -> Markup:
        return Markup(draw(report.name, report.stages))  # noqa: S704 - draw() escapes what it is given

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "summary": summary,
        "graph": graph,
        "short": _short,
        "value": _value,
        "sign": sign,
    }
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(reports=reports).encode("utf-8", errors="replace")


def _short(stage: StageState) -> str:
    """The first digits of an output digest."""
    return stage.digest.rpartition(":")[2][:12]


def _value(value: object) -> str:
    """A fact on one line. Of an environment the names alone: the page may be published."""
    import json

    if isinstance(value, Mapping) and isinstance(value.get("environment"), list):
        value = {**value, "environment": [str(word).partition("=")[0] for word in value["environment"]]}
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= 300 else text[:297] + "..."
