"""seccomp-diff, seccomp-accept and verdicts as a user has them, and the gate on what `doit` builds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Workspace, make_workspace, remove_workspace

pytestmark = [pytest.mark.real, pytest.mark.root]


@pytest.fixture(scope="module")
def shop() -> Iterator[Workspace]:
    """One workspace for all of these; what a test changes it puts back."""
    made = make_workspace()
    try:
        yield made
    finally:
        remove_workspace(made)


@pytest.fixture
def source(shop: Workspace) -> Iterator[Path]:
    """The source of `default` and its pin, as they were afterwards."""
    path = shop.root / "specs" / "seccomp" / "default.yaml"
    pin = path.with_name("default.pinned.json")
    before = path.read_bytes(), pin.read_bytes()
    yield path
    path.write_bytes(before[0])
    pin.write_bytes(before[1])


def test_a_comparison_says_the_counts_first(shop: Workspace) -> None:
    lines = shop.doit("seccomp-diff", "docker-default", "default").stdout.splitlines()
    assert lines[0] == "docker-default -> default"
    assert lines[3].startswith("x86_64: +0 −")
    assert lines[4].startswith("aarch64: +0 −")
    assert "  − ptrace" in lines
    told = json.loads(shop.doit("seccomp-diff", "docker-default", "default", "--json").stdout)
    assert told["architectures"]["SCMP_ARCH_X86_64"]["gained"] == []


def test_the_exit_status_of_a_comparison(shop: Workspace) -> None:
    """As of git diff: 0 either way, and by --exit-code 1 where they differ."""
    shop.doit("seccomp-diff", "default", "node-server")
    shop.doit("seccomp-diff", "default", "node-server", "--exit-code", code=1)
    shop.doit("seccomp-diff", "default", "default", "--exit-code")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seccomp-diff default", "error[usage]: write it as: doit seccomp-diff A B, for example"),
        ("seccomp-diff default defualt", "help: did you mean `default`?"),
        ("seccomp-diff default nope.json", "error[unreadable]: "),
        ("seccomp-accept", "error[usage]: write it as: doit seccomp-accept NAME"),
        ("seccomp-accept nod-server", "help: did you mean `node-server`?"),
        ("verdicts", "error[usage]: write it as: doit verdicts PROFILE, for example"),
        ("verdicts default --arch sparc", "help: there are x86_64, aarch64"),
        ("verdicts default --jsno", "help: did you mean `--json`?"),
    ],
)
def test_words_that_name_nothing_exit_3(shop: Workspace, line: str, said: str) -> None:
    done = shop.doit(*line.split(), code=3)
    assert said in done.stderr
    assert done.stdout == ""


def test_a_mistake_in_a_source_exits_3_with_its_place(shop: Workspace, source: Path) -> None:
    source.write_text(source.read_text().replace("- write\n", "- wriet\n", 1))
    done = shop.doit("verdicts", "default", code=3)
    assert "specs/seccomp/default.yaml:" in done.stderr
    assert "did you mean `write`?" in done.stderr


def test_verdicts_in_a_pipe_have_signs_and_no_colour(shop: Workspace) -> None:
    said = shop.doit("verdicts", "default", "--arch", "x86_64").stdout
    assert "\x1b" not in said
    assert "  read                    ✔ allow\n" in said
    assert "  clone3                  ✘ ENOSYS\n" in said
    assert "  mount                   ✘ EPERM\n" in said
    # A bundle's name stands for its profile.
    assert shop.doit("verdicts", "hello", "--arch", "x86_64").stdout == said
    coloured = shop.doit("verdicts", "default", "--arch", "x86_64", FORCE_COLOR="1").stdout
    assert "\x1b[32m✔ allow" in coloured
    told = json.loads(shop.doit("verdicts", "default", "--json", "--arch", "aarch64").stdout)
    assert [*told["architectures"]] == ["SCMP_ARCH_AARCH64"]
    assert told["architectures"]["SCMP_ARCH_AARCH64"]["calls"]["clone3"] == "ENOSYS"


def test_a_bundle_without_a_profile_has_no_verdicts(shop: Workspace) -> None:
    spec = shop.spec("open", "image: demo:busybox-httpd\nseccomp: unconfined\n")
    try:
        said = shop.doit("verdicts", "open", code=3).stderr
    finally:
        spec.unlink()
    assert said == "error[unknown-profile]: `open` is `seccomp: unconfined`: every call is open to it\n"


def test_a_profile_that_grew_is_not_built_until_it_has_a_reason(shop: Workspace, source: Path) -> None:
    shop.doit("validate:hello")
    source.write_text(source.read_text().replace("      - write\n", "      - write\n      - mlock\n", 1))
    failed = shop.doit("validate:hello", code=1)
    said = failed.stdout + failed.stderr
    assert "high[seccomp-widened]: the profile `default` is more open than was accepted" in said
    assert "x86_64: mlock" in said
    assert "--> specs/seccomp/default.yaml:" in said
    refused = shop.doit("seccomp-accept", "default", code=3)
    assert "error[no-reason]: `default` would be more open than its pin:\n  + x86_64: mlock" in refused.stderr
    told = shop.doit("seccomp-accept", "default", "--reason", "keys stay out of swap").stdout
    assert "default: + x86_64: mlock\n" in told
    assert told.endswith("default: pinned in specs/seccomp/default.pinned.json\n")
    shop.doit("validate:hello")
    findings = json.loads((shop.out / "hello" / "validate" / "findings.json").read_bytes())["findings"]
    assert not [f for f in findings if f["rule"].startswith("seccomp-")]


def test_a_profile_that_shrank_is_told_and_built(shop: Workspace, source: Path) -> None:
    source.write_text(source.read_text().replace("      - writev\n", "", 1))
    shop.doit("validate:hello")
    findings = json.loads((shop.out / "hello" / "validate" / "findings.json").read_bytes())["findings"]
    (found,) = [f for f in findings if f["rule"] == "seccomp-narrowed"]
    assert found["severity"] == "info"
    assert "x86_64: writev" in found["message"]
