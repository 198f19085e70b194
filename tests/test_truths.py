"""The table of truths: its rows are sound, its versions count as they should, and nothing in it is idle."""

from __future__ import annotations

import pytest

from pipeline.checks.portability import USES
from pipeline.model.truths.nouns import Effect, Kind, Truth, Versions, version_numbers
from pipeline.model.truths.table import KNOWN, TRUTHS, truths_of


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_a_row_says_what_it_must(truth: Truth) -> None:
    assert truth.runtime in KNOWN
    assert truth.name.startswith(f"{truth.runtime}-")
    assert truth.feature in USES
    assert truth.kind in Kind
    assert truth.evidence.partition(": ")[2]
    assert truth.reason[0].islower()
    assert not truth.reason.endswith(".")
    assert list(truth.versions.fixed) == sorted(truth.versions.fixed)
    if truth.drops or truth.effect is Effect.REFUSES:
        assert truth.mend
    if truth.avoided:
        assert truth.effect is Effect.REFUSES
    if truth.effect in (Effect.REFUSES, Effect.DIFFERS):
        assert not truth.protection, "only what starts with less than was asked for drops a protection"
    else:
        assert truth.protection or truth.effect is Effect.IGNORES


def test_names_are_there_once() -> None:
    names = [truth.name for truth in TRUTHS]
    assert len(names) == len(set(names))


def test_no_use_is_looked_for_in_vain() -> None:
    assert {truth.feature for truth in TRUTHS} == USES.keys()


def test_no_two_rows_contradict_each_other() -> None:
    """Of one runtime's version, a feature has one effect, unless each row is about another protection."""
    for known in KNOWN.values():
        for version in (known.newest, "1.1.5", "1.8.1", "1.14.3", "1.2.0"):
            told = [(t.feature, t.effect) for t in truths_of(known.name, version) if t.feature != "seccomp"]
            assert len(told) == len(set(told)), (known.name, version)
            features = [feature for feature, _ in told if feature not in ("always", "private-network")]
            assert len(features) == len(set(features)), (known.name, version)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.1.5+ds1", (1, 1, 5)),
        ("1.1.5+ds1-1+deb12u1", (1, 1, 5)),
        ("1.28", (1, 28)),
        ("1.4.0-rc.3", (1, 4, 0)),
        ("0.7.0", (0, 7, 0)),
        ("0.0~20240729.0", (20240729,)),
        ("release-20260728.0", (20260728,)),
        ("1.0.2-dev", (1, 0, 2)),
        ("unknown", ()),
        ("", ()),
    ],
)
def test_numbers_of_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


@pytest.mark.parametrize(
    ("versions", "number", "covered"),
    [
        (Versions(), (9, 9), True),
        (Versions(fixed=((1, 21),)), (1, 8, 1), True),
        (Versions(fixed=((1, 21),)), (1, 20, 9), True),
        (Versions(fixed=((1, 21),)), (1, 21), False),
        (Versions(fixed=((1, 21),)), (1, 28), False),
        (Versions(since=(1, 2, 0)), (1, 1, 15), False),
        (Versions(since=(1, 2, 0)), (1, 2, 0), True),
        (Versions(fixed=((1, 2, 7), (1, 3, 1))), (1, 2, 6), True),
        (Versions(fixed=((1, 2, 7), (1, 3, 1))), (1, 2, 7), False),
        (Versions(fixed=((1, 2, 7), (1, 3, 1))), (1, 3, 0), True),
        (Versions(fixed=((1, 2, 7), (1, 3, 1))), (1, 4, 0), False),
        (Versions(fixed=((1, 2, 0),)), (), True),
    ],
)
def test_versions_cover(versions: Versions, number: tuple[int, ...], covered: bool) -> None:
    assert versions.covers(number) is covered


@pytest.mark.parametrize(
    ("runtime", "version", "has", "has_not"),
    [
        ("crun", "1.8.1", "crun-rw-bind-flags", "crun-time-offsets-refused"),
        ("crun", "1.21", "crun-time-offsets-refused", "crun-rw-bind-flags"),
        ("crun", "1.14.1", "crun-oci-version", "crun-scheduler"),
        ("crun", "1.14.3", "crun-rw-bind-flags", "crun-oci-version"),
        ("crun", "1.28", "crun-duplicate-keys-last", "crun-duplicate-keys-first"),
        ("runc", "1.1.5+ds1", "runc-tmpfs-mode-wider", "runc-bind-data-refused"),
        ("runc", "1.1.15+ds1", "runc-idmapped-mounts", "runc-tmpfs-mode-wider"),
        ("runc", "1.3.6+ds1", "runc-bind-data-refused", "runc-idmapped-mounts"),
        ("runc", "1.4.0", "runc-symlinked-rootfs", "runc-pids-zero"),
        ("runsc", "0.0~20240729.0", "runsc-exec-seccomp", "none"),
        ("runsc", "release-20260728.0", "runsc-seccomp", "runsc-exec-seccomp"),
        ("kata", "", "kata-seccomp", "none"),
    ],
)
def test_what_is_known_of_a_version(runtime: str, version: str, has: str, has_not: str) -> None:
    names = {truth.name for truth in truths_of(runtime, version)}
    assert has in names
    assert has_not not in names


def test_of_an_unreadable_version_everything_is_feared() -> None:
    assert len(truths_of("runc", "unknown")) == sum(truth.runtime == "runc" for truth in TRUTHS)
    assert truths_of("another", "1.0") == []
