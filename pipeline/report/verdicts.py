"""A profile's verdicts for readers: one page that needs nothing else, and the same in a terminal.

Colour never stands alone: each verdict has a sign of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, suggest
from pipeline.oci.verdicts import OPEN
from pipeline.paths import Project
from pipeline.profiles import Compiled, compiled

_TEMPLATE = Path(__file__).with_name("verdicts.html.j2")
_SCRIPT = Path(__file__).with_name("verdicts.js")
_PREFIX = "SCMP_ARCH_"
# Kind of a cell: its sign, its colour in a terminal (SGR), what it means.
KINDS = {
    "open": ("✔", "32", "allowed, whatever the arguments"),
    "part": ("◐", "33", "depends on the arguments; see the conditions"),
    "refused": ("✘", "31", "refused, with the error or the end that is named"),
    "absent": ("·", "2", "the architecture has no such call"),
}


@dataclass(frozen=True)
class Cell:
    """A call on one architecture: its kind, the verdict in a word, and conditions where they count."""

    kind: str
    text: str
    conditions: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        """What stands for the colour."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Row:
    """A call and its cells, in the order of the architectures."""

    call: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """A group of the profile, or the calls that are in none."""

    title: str
    reason: str
    rows: tuple[Row, ...]


def render(verdicts: Mapping[str, Any], resolved: Mapping[str, Any], name: str = "") -> bytes:
    """Return the page for a table of verdicts (`verdicts.table`), grouped as `resolved["groups"]` says.

    `resolved` may also have a `description`; all that comes from it is escaped.
    """
    import base64
    import hashlib

    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        description=resolved.get("description", ""),
        archs=[(arch, short(arch), found) for arch, found in _archs(verdicts).items()],
        counts=counts(verdicts),
        sections=sections(verdicts, resolved.get("groups", {})),
        kinds=KINDS,
        script=Markup(script),  # noqa: S704 - a file of ours
        digest=digest,
    )
    return page.encode("utf-8", errors="replace")


def sections(verdicts: Mapping[str, Any], groups: Mapping[str, Any]) -> list[Section]:
    """Return the groups in their order, then the calls that are in none: open ones first, then the rest."""
    archs = _archs(verdicts)
    calls = sorted(set().union(*(found["calls"] for found in archs.values())))
    rows = {name: Row(name, tuple(_cell(found, name) for found in archs.values())) for name in calls}
    made = [
        Section(title, group["reason"], tuple(rows.pop(c) for c in group["calls"] if c in rows))
        for title, group in groups.items()
    ]
    usual = Counter(cell.text for row in rows.values() for cell in row.cells if cell.kind == "refused")
    default = usual.most_common(1)[0][0] if usual else ""
    parts: dict[str, list[Row]] = {"open": [], "named": [], "rest": []}
    for row in rows.values():
        kinds, texts = {cell.kind for cell in row.cells}, {c.text for c in row.cells if c.kind == "refused"}
        parts["open" if kinds & {"open", "part"} else "named" if texts != {default} else "rest"].append(row)
    made.append(Section("open", "in no group", tuple(parts["open"])))
    made.append(
        Section("refused by name", "with another verdict than what is not named", tuple(parts["named"]))
    )
    made.append(Section("not named", f"{default or 'nothing'} for every call here", tuple(parts["rest"])))
    return [section for section in made if section.rows]


def counts(verdicts: Mapping[str, Any]) -> list[str]:
    """Return for each architecture how many calls are open, and what lies beside its calls."""
    lines = []
    for arch, found in _archs(verdicts).items():
        kinds = Counter(_cell(found, name).kind for name in found["calls"])
        beside = ", ".join(f"{what}: {text}" for what, text in sorted(found["beside"].items()))
        lines.append(
            f"{short(arch)}: {kinds['open'] + kinds['part']} of {len(found['calls'])} calls open, "
            f"{kinds['part']} of them on conditions; {beside}; "
            f"{found['filter']['instructions']} instructions, sha256 {found['filter']['sha256'][:12]}"
        )
    return lines


def short(arch: str) -> str:
    """Return an architecture's name as people write it."""
    return arch.removeprefix(_PREFIX).lower()


# The terminal form -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A profile and its table."""

    profile: Compiled
    verdicts: dict[str, Any]


def page_of(project: Project, word: str, capabilities: Collection[str] = ()) -> Page:
    """Return the table of the profile that a word names; raises what `profiles.compiled` raises."""
    profile = compiled(project, word, capabilities)
    return Page(profile, profile.verdicts())


def chosen(page: Page, arch: str) -> list[str]:
    """Return the OCI names to show: all, or the one that was asked for (`x86_64`).

    Raises PipelineError `no-such-arch`.
    """
    known = {short(name): name for name in _archs(page.verdicts)}
    if not arch:
        return list(known.values())
    wanted = short(arch)
    if wanted not in known:
        meant = suggest(wanted, known)
        hint = f"did you mean `{meant}`?" if meant else f"there are {', '.join(known)}"
        raise PipelineError("no-such-arch", f"no verdicts are made for `{arch}`", hint=hint)
    return [known[wanted]]


def only(page: Page, archs: Sequence[str]) -> dict[str, Any]:
    """Return the tables of these architectures."""
    return {arch: page.verdicts["architectures"][arch] for arch in archs}


def in_words(page: Page, archs: Sequence[str], paint: Callable[[str, str], str]) -> Iterator[str]:
    """Yield the lines; `paint` colours a text, or leaves it as it is."""
    verdicts = {**page.verdicts, "architectures": only(page, archs)}
    yield f"{page.profile.name}: {page.profile.source}"
    yield from counts(verdicts)
    yield ""
    yield from (paint(f"{sign} {meaning}", colour) for sign, colour, meaning in KINDS.values())
    for section in sections(verdicts, page.profile.groups):
        yield f"\n{section.title}: {section.reason}"
        if len(archs) > 1:
            yield f"  {'':<24}" + " ".join(f"{short(arch):<14}" for arch in archs).rstrip()
        for row in section.rows:
            yield from _lines(row, archs, paint)


def _lines(row: Row, archs: Sequence[str], paint: Callable[[str, str], str]) -> Iterator[str]:
    told = [paint(f"{f'{cell.sign} {cell.text}':<14}", KINDS[cell.kind][1]) for cell in row.cells]
    yield f"  {row.call:<24}{' '.join(told)}".rstrip()
    everywhere = len({cell.conditions for cell in row.cells}) == 1
    for arch, cell in zip(archs, row.cells, strict=True):
        where = "" if everywhere else f"{short(arch)} "
        yield from (f"      {where}{text}" for text in cell.conditions)
        if everywhere:
            break


def _archs(verdicts: Mapping[str, Any]) -> dict[str, Any]:
    # x86_64 before aarch64, as most readers look for it first.
    return dict(sorted(verdicts["architectures"].items(), reverse=True))


def _cell(found: Mapping[str, Any], name: str) -> Cell:
    verdict = found["calls"].get(name)
    if verdict is None:
        return Cell("absent", "absent")
    if isinstance(verdict, str):
        return Cell("open" if verdict in OPEN else "refused", verdict)
    conditions = [
        f"{answer} when {text}" for answer, texts in found["conditions"][name].items() for text in texts
    ]
    open_first = sorted(conditions, key=lambda text: text.partition(" when ")[0] not in OPEN)
    kind = "part" if OPEN & found["conditions"][name].keys() else "refused"
    return Cell(kind, "conditions", tuple(open_first))
