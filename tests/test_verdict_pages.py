"""The page and the terminal form of a table of verdicts."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.paths import Project
from pipeline.profiles import Compiled
from pipeline.report.verdicts import KINDS, Page, chosen, counts, in_words, page_of, render, sections
from tests.conftest import PROJECT

MOST_BYTES = 300_000
SHIPPED = Project(PROJECT)
ARM, INTEL = "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86_64"


def made(**calls: tuple[Any, Any]) -> dict[str, Any]:
    """A small table: for each call its verdict on x86_64 and on aarch64 (None: absent)."""

    def arch(index: int) -> dict[str, Any]:
        here = {name: both[index] for name, both in calls.items() if both[index] is not None}
        return {
            "calls": {n: v if isinstance(v, str) else [] for n, v in here.items()},
            "conditions": {n: v for n, v in here.items() if not isinstance(v, str)},
            "beside": {"unknown": "EPERM"},
            "filter": {"instructions": 9, "sha256": "ab" * 32},
        }

    return {"version": 1, "architectures": {ARM: arch(1), INTEL: arch(0)}}


SOCKET = {"allow": ["argument 0 == 0x2"], "EPERM": ["argument 0 != 0x2"]}
SMALL = made(
    read=("allow", "allow"),
    open=("allow", None),
    socket=(SOCKET, SOCKET),
    clone3=("ENOSYS", "ENOSYS"),
    mount=("EPERM", "EPERM"),
    bpf=("EPERM", "EPERM"),
)
GROUPS = {
    "files": {"reason": "read <files>", "calls": ["read", "open"]},
    "network": {"reason": "ask & serve", "calls": ["socket"]},
}


@pytest.mark.parametrize("word", ["default", "node-server", "docker-default", "systemd:@system-service"])
def test_the_page_stands_alone_and_is_small(word: str) -> None:
    page = page_of(SHIPPED, word)
    html = render(page.verdicts, {"groups": page.profile.groups}, word)
    assert len(html) < MOST_BYTES
    text = html.decode()
    assert not re.findall(r"(?:src|href|action)=|url\(|@import|https?:", text)
    # Only its own script may run.
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    for sign, _, meaning in KINDS.values():
        assert f"{sign}</span> {meaning}" in text
    # Each call of both architectures has its row.
    rows = re.findall(r'<tr data-group="[^"]*"><td>([^<]*)</td>', text)
    calls = set().union(*(found["calls"] for found in page.verdicts["architectures"].values()))
    assert sorted(rows) == sorted(calls)


class Tags(HTMLParser):
    """Counts what is opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_escapes_what_a_profile_says() -> None:
    groups = {"<b>": {"reason": "</script><script>alert(1)", "calls": ["read"]}}
    text = render(SMALL, {"groups": groups, "description": "<img src=x>"}, '"><i>').decode()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert text.count("<script") == 1
    for bad in ("<img", "<b>", '"><i>', "<script>alert"):
        assert bad not in text
    assert "&lt;img src=x&gt;" in text


def test_colour_and_sign_go_together() -> None:
    text = render(SMALL, {"groups": GROUPS}).decode()
    assert '<td>read</td><td class="open">✔ allow</td><td class="open">✔ allow</td>' in text
    assert '<td>open</td><td class="open">✔ allow</td><td class="absent">· absent</td>' in text
    assert '<td>clone3</td><td class="refused">✘ ENOSYS</td>' in text
    assert '<td class="part">◐ conditions<ul><li>allow when argument 0 == 0x2</li>' in text


def test_calls_stand_in_their_groups_and_no_call_is_lost() -> None:
    found = {section.title: [row.call for row in section.rows] for section in sections(SMALL, GROUPS)}
    assert found == {
        "files": ["read", "open"],
        "network": ["socket"],
        "refused by name": ["clone3"],
        "not named": ["bpf", "mount"],
    }
    without = {section.title: [row.call for row in section.rows] for section in sections(SMALL, {})}
    assert without["open"] == ["open", "read", "socket"]


def test_counts() -> None:
    assert counts(SMALL) == [
        "x86_64: 3 of 6 calls open, 1 of them on conditions; unknown: EPERM; "
        "9 instructions, sha256 abababababab",
        "aarch64: 2 of 5 calls open, 1 of them on conditions; unknown: EPERM; "
        "9 instructions, sha256 abababababab",
    ]


def page() -> Page:
    return Page(Compiled("mine", "specs/seccomp/mine.yaml", {}, {}, groups=GROUPS), SMALL)


def test_the_terminal_form_has_signs_without_colour() -> None:
    lines = list(in_words(page(), [INTEL, ARM], lambda text, _: text))
    assert "  read                    ✔ allow        ✔ allow" in lines
    assert "  open                    ✔ allow        · absent" in lines
    at = lines.index("  socket                  ◐ conditions   ◐ conditions")
    assert lines[at + 1] == "      allow when argument 0 == 0x2"
    assert lines[at + 2] == "      EPERM when argument 0 != 0x2"
    assert "\nfiles: read <files>" in lines
    assert not any("\x1b" in line for line in lines)
    painted = list(in_words(page(), [INTEL], lambda text, code: f"<{code}>{text}"))
    assert "  read                    <32>✔ allow" in [line.rstrip() for line in painted]


def test_one_architecture_or_one_that_is_none() -> None:
    assert chosen(page(), "") == [INTEL, ARM]
    assert chosen(page(), "aarch64") == chosen(page(), ARM) == [ARM]
    lines = list(in_words(page(), [ARM], lambda text, _: text))
    assert "  read                    ✔ allow" in lines
    assert not any(line.startswith("  open ") for line in lines)
    with pytest.raises(PipelineError) as caught:
        chosen(page(), "aarch46")
    assert str(caught.value) == (
        "error[no-such-arch]: no verdicts are made for `aarch46`\n  help: did you mean `aarch64`?"
    )
