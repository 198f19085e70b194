"""The stages of one bundle as a picture: SVG by hand, in a fixed shape."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from pipeline.report.collect import StageState, State

# Pixels.
_BOX_WIDTH, _BOX_HEIGHT = 132, 44
_GAP_X, _GAP_Y, _MARGIN = 44, 20, 8
_SIGNS = {
    State.BUILT: "✔ built",
    State.STALE: "↻ stale",
    State.FAILED: "✘ failed",
    State.ABSENT: "○ not built",
    State.UNPINNED: "– not pinned",
}
_SIGNS_OF_RUNS = {State.BUILT: "✔ proven", State.ABSENT: "○ not run"}

Point = tuple[int, int]


def sign(state: State, builds: bool = True) -> str:
    """Return the state in words, with a sign that says the same as its colour."""
    return _SIGNS[state] if builds else _SIGNS_OF_RUNS.get(state, _SIGNS[state])


def draw(bundle: str, stages: Sequence[StageState]) -> str:
    """Return an <svg> element; colours come from the page's classes."""
    columns = _columns(stages)
    corners = {s.label: _corner(x, y) for x, rows in enumerate(columns) for y, s in enumerate(rows)}
    width = len(columns) * (_BOX_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = max(map(len, columns)) * (_BOX_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    edges = [(read, stage.label) for stage in stages for read in stage.reads if read in corners]
    lines = [_line(corners[source], corners[target]) for source, target in edges]
    boxes = [_box(stage, corners[stage.label]) for stage in stages]
    title = f"Stages of {bundle}"
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    head = f'<svg class="graph" role="img" aria-label={quoteattr(title)} {size}>'
    return "\n".join([head, f"<title>{escape(title)}</title>", *lines, *boxes, "</svg>"])


def _columns(stages: Sequence[StageState]) -> list[list[StageState]]:
    """A stage stands to the right of all that it reads."""
    depth: dict[str, int] = {}
    for stage in stages:
        depth[stage.label] = 1 + max((depth.get(read, -1) for read in stage.reads), default=-1)
    return [[s for s in stages if depth[s.label] == d] for d in range(max(depth.values(), default=0) + 1)]


def _corner(column: int, row: int) -> Point:
    return _MARGIN + column * (_BOX_WIDTH + _GAP_X), _MARGIN + row * (_BOX_HEIGHT + _GAP_Y)


def _line(source: Point, target: Point) -> str:
    start_x, start_y = source[0] + _BOX_WIDTH, source[1] + _BOX_HEIGHT // 2
    end_x, end_y = target[0], target[1] + _BOX_HEIGHT // 2
    middle = (end_x + start_x) // 2
    bend = f"C{middle} {start_y} {middle} {end_y} {end_x} {end_y}"
    return f'<path class="edge" d="M{start_x} {start_y} {bend}"/>'


def _box(stage: StageState, corner: Point) -> str:
    x, y = corner
    name = stage.state.name.lower()
    middle = x + _BOX_WIDTH // 2
    return (
        f'<g class="stage {name}">{_tip(stage)}'
        f'<rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
        f'<text x="{middle}" y="{y + 18}">{escape(stage.label)}</text>'
        f'<text class="sign" x="{middle}" y="{y + 34}">{sign(stage.state, stage.builds)}</text></g>'
    )


def _tip(stage: StageState) -> str:
    """What shows under the pointer: why it is not built."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in stage.why)
    return f"<title>{escape(shown)}</title>" if shown else ""
