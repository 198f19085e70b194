"""The table of verdicts: what it holds, and that it agrees with what a profile means."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.files import canonical_json
from pipeline.oci.bpf import BadFilter, Filter, State, words
from pipeline.oci.bpf_paths import Comparison, Tests, Way, beyond, example, from_words, in_words, ways
from pipeline.oci.verdict_points import points
from pipeline.oci.verdicts import AUDIT, call, table, verdict
from pipeline.tools import libseccomp
from pipeline.tools.libseccomp import Architecture
from tests.random_profiles import documents, expected, questions

X86_64, AARCH64 = "SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"
NUMBERS = {arch.name: libseccomp.numbers(arch) for arch in Architecture}
HIGH = 1 << 32


def made(document: dict[str, Any]) -> dict[str, Any]:
    filters = {arch: exported(document, arch) for arch in NUMBERS}
    found: dict[str, Any] = table(dict.fromkeys(NUMBERS, document), filters, NUMBERS)["architectures"]
    return found


def exported(document: dict[str, Any], arch: str) -> bytes:
    return libseccomp.export_bpf(document, Architecture[arch])


def rule(name: str, *args: tuple[int, str, int, int], error: int | None = None) -> dict[str, Any]:
    action: dict[str, Any] = {"action": "SCMP_ACT_ALLOW"}
    if error is not None:
        action = {"action": "SCMP_ACT_ERRNO", "errnoRet": error}
    tests = [{"index": i, "op": f"SCMP_CMP_{op}", "value": v, "valueTwo": two} for i, op, v, two in args]
    return {"names": [name], **action, "args": tests}


SMALL = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "syscalls": [
        rule("read"),
        rule("clone3", error=38),
        rule("socket", (0, "MASKED_EQ", 0xFFFF_FFFF, 2)),
        rule("personality", (0, "EQ", 8, 0)),
    ],
}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (0x7FFF_0000, "allow"),
        (0x7FFF_1234, "allow"),
        (0x0005_0001, "EPERM"),
        (0x0005_0026, "ENOSYS"),
        (0x0005_0000, "errno 0"),
        (0x0005_00C8, "errno 200"),
        (0x0005_FFFF, "errno 4095"),
        (0x8000_0000, "kill process"),
        (0x0000_0000, "kill thread"),
        (0x0000_0007, "kill thread"),
        (0x0003_0000, "trap"),
        (0x7FC0_0000, "notify"),
        (0x7FF0_0002, "trace"),
        (0x7FFC_0000, "log"),
        (0x1234_0000, "kill process"),
    ],
)
def test_answers_in_words(answer: int, text: str) -> None:
    assert verdict(answer) == text


@pytest.mark.parametrize("arch", NUMBERS)
def test_each_call_has_a_verdict_on_each_architecture(arch: str) -> None:
    found = made(SMALL)[arch]
    assert found["calls"].keys() == NUMBERS[arch].keys()
    plain = Counter(v for v in found["calls"].values() if isinstance(v, str))
    assert plain == {"allow": 1, "ENOSYS": 1, "EPERM": len(NUMBERS[arch]) - 4}
    assert (found["calls"]["read"], found["calls"]["clone3"]) == ("allow", "ENOSYS")


@pytest.mark.parametrize("arch", NUMBERS)
def test_a_call_with_tested_arguments_has_a_verdict_for_each_that_matters(arch: str) -> None:
    """So for an architecture that is not this machine's: its own numbers, not the native ones."""
    found = made(SMALL)[arch]
    told = {json.dumps(row["args"]): row["verdict"] for row in found["calls"]["socket"]}
    assert told == {
        "{}": "EPERM",
        '{"0": "0x1"}': "EPERM",
        '{"0": "0x2"}': "allow",
        '{"0": "0x3"}': "EPERM",
        '{"0": "0xffffffff"}': "EPERM",
        '{"0": "0x80000002"}': "EPERM",
        # The kernel reads 32 bits of it, and so does the mask.
        '{"0": "0x100000002"}': "allow",
        '{"0": "0xffffffff00000002"}': "allow",
        '{"0": "0xffffffff00000000"}': "EPERM",
        '{"0": "0xffffffffffffffff"}': "EPERM",
    }
    assert found["conditions"]["socket"] == {"allow": ["argument 0 == 0x2"], "EPERM": ["argument 0 != 0x2"]}
    # Without a mask, high bits count.
    assert {"args": {"0": "0x100000008"}, "verdict": "EPERM"} in found["calls"]["personality"]
    assert found["conditions"]["personality"]["allow"] == ["argument 0 == 0x8 and argument 0 high == 0x0"]


def test_what_is_no_call_of_the_architecture_has_verdicts_too() -> None:
    found = made(SMALL)
    assert found[X86_64]["beside"] == {
        "other architecture": "kill thread",
        "unknown": "EPERM",
        "x32": "kill thread",
    }
    assert found[AARCH64]["beside"] == {"other architecture": "kill thread", "unknown": "EPERM"}
    # A filter that never asks for the architecture lets the calls of the others in by number.
    blind = (0x20, 0, 0, 0), (0x15, 0, 1, NUMBERS[X86_64]["read"]), (6, 0, 0, 0x7FFF_0000), (6, 0, 0, 0x50001)
    content = b"".join(bytes([c & 255, c >> 8, t, f]) + k.to_bytes(4, "little") for c, t, f, k in blind)
    seen = table({X86_64: {}}, {X86_64: content}, {X86_64: NUMBERS[X86_64]})["architectures"][X86_64]
    assert seen["beside"] == {"other architecture": "allow or EPERM", "unknown": "EPERM", "x32": "EPERM"}
    assert seen["calls"]["read"] == "allow"


def test_the_table_names_its_filter_and_has_one_byte_form() -> None:
    found = made(SMALL)
    content = exported(SMALL, X86_64)
    assert found[X86_64]["filter"]["instructions"] == len(content) // 8
    assert len(found[X86_64]["filter"]["sha256"]) == 64
    assert canonical_json(found) == canonical_json(made(SMALL))


def test_the_verdicts_come_from_the_filter_and_not_from_the_profile() -> None:
    """A filter compiled from something else than the document: the filter counts."""
    other = {**SMALL, "syscalls": [rule("write")]}
    content = exported(other, X86_64)
    found = table({X86_64: SMALL}, {X86_64: content}, NUMBERS)["architectures"][X86_64]["calls"]
    assert (found["read"], found["write"], found["socket"]) == ("EPERM", "allow", "EPERM")


def test_a_filter_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadFilter, match="instruction 0: it jumps to 1, behind the last"):
        table({X86_64: SMALL}, {X86_64: b"\0\0\0\0\1\0\0\0"}, NUMBERS)


compared: Counter[str] = Counter()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(documents(most_rules=2))
def _compare_with_the_meaning(document: dict[str, Any]) -> None:
    for arch in NUMBERS:
        program = Filter.read(exported(document, arch))
        asked = questions(document)
        for name, arguments in asked:
            answer = program.run(words(NUMBERS[arch][name], AUDIT[arch], arguments))
            error = 0 if verdict(answer) == "allow" else answer & 0xFFFF
            assert error == expected(document, name, arguments), (arch, name, [*map(hex, arguments)])
        compared[arch] += len(asked)


def test_simulated_verdicts_are_what_random_profiles_mean() -> None:
    """Thousands of calls of both architectures against the words of seccomp_rule_add(3)."""
    _compare_with_the_meaning()
    assert all(compared[arch] >= 5_000 for arch in NUMBERS), compared


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(documents())
def test_the_ways_through_a_filter_part_all_arguments(document: dict[str, Any]) -> None:
    """For any arguments exactly one way is open, and its answer is that of the run."""
    program = Filter.read(exported(document, X86_64))
    found: dict[str, list[Way]] = {}
    for name, arguments in questions(document, most=20):
        known = (NUMBERS[X86_64][name], AUDIT[X86_64])
        data = words(*known, arguments)
        if name not in found:
            state = program.resume(State(), known)
            found[name] = [Way((), state)] if isinstance(state, int) else ways(program, state, known)
        taken = [way for way in found[name] if all(test.of(data[test.word]) for test in way.tests)]
        assert [way.answer for way in taken] == [program.run(data)]


def test_conditions_are_read_back_as_they_were_written() -> None:
    document = {**SMALL, "syscalls": [rule("socket", (0, "GT", 38, 0), (2, "MASKED_EQ", 0xF0, 0x30))]}
    program = Filter.read(exported(document, X86_64))
    found = call(program, X86_64, NUMBERS[X86_64]["socket"])
    texts = [str(way) for way in found.ways]
    assert [in_words(from_words(text)) for text in texts] == texts
    assert "argument 0 < 0x27 and argument 0 high == 0x0" in " / ".join(texts)
    assert from_words("anything") == ()
    for bad in ("", "argument 9 == 0x1", "argument 0 == 1", "argument 0 == 0x1 or argument 1 == 0x1"):
        with pytest.raises(ValueError, match="is no test of an argument"):
            from_words(bad)


A0, A0_HIGH = 4, 5
ALL = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("tests", "found"),
    [
        ([], {}),
        ([Comparison(A0, ALL, 5)], {A0: 5}),
        ([Comparison(A0, ALL, 5), Comparison(A0, ALL, 6)], None),
        ([Comparison(A0, ALL, 5), Comparison(A0_HIGH, ALL, 6)], {A0: 5, A0_HIGH: 6}),
        ([Comparison(A0, 0xF0, 0x30), Comparison(A0, 0x0F, 0x04)], {A0: 0x34}),
        ([Comparison(A0, 0xF0, 0x31)], None),
        ([Comparison(A0, ALL, 0, holds=False)], {A0: 1}),
        ([Comparison(A0, ALL, ALL, least=True), Comparison(A0, ALL, ALL, holds=False)], None),
        ([Comparison(A0, ALL, 5, least=True), Comparison(A0, ALL, 5, least=True, holds=False)], None),
        ([Comparison(A0, 0x7E02_0000, 0, holds=False), Comparison(A0, 0xFF, 17)], {A0: 0x7E02_0011}),
    ],
)
def test_an_example_passes_every_test_or_there_is_none(
    tests: list[Comparison], found: dict[int, int] | None
) -> None:
    assert example(tests) == found


def test_what_lies_beyond() -> None:
    two, three = (Comparison(A0, ALL, 2),), (Comparison(A0, ALL, 3),)
    assert beyond([two], [two]) is None
    assert beyond([two], [three, two]) is None
    assert beyond([two, three], [two]) == {A0: 3}
    assert beyond([()], [two]) == {}
    assert beyond([], [two]) is None
    # Two halves make the whole.
    half = Comparison(A0, ALL, 100, least=True)
    assert beyond([()], [(half,), (half.contrary,)]) is None
    assert beyond([()], [(half,), (half.contrary, Comparison(A0, ALL, 7, holds=False))]) == {A0: 7}


@st.composite
def _comparisons(draw: st.DrawFn) -> Comparison:
    """A comparison of one word with small numbers, as libseccomp makes them: an order under no mask."""
    if draw(st.booleans()):
        return Comparison(A0, ALL, draw(st.integers(0, 255)), draw(st.booleans()), draw(st.booleans()))
    return Comparison(A0, draw(st.integers(0, 255)), draw(st.integers(0, 255)), holds=draw(st.booleans()))


# Beyond the numbers that are compared with, all values are as good as one of these.
_ENOUGH = (*range(512), *range(ALL - 255, ALL + 1))
_ways = st.lists(_comparisons(), max_size=4).map(tuple)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(_comparisons(), max_size=7))
def test_an_example_is_found_whenever_there_is_one(tests: list[Comparison]) -> None:
    """A gap here would be growth that nobody sees: held against every value."""
    exists = any(all(test.of(value) for test in tests) for value in _ENOUGH)
    found = example(tests)
    assert (found is not None) is exists
    if found:
        assert all(test.of(found[A0]) for test in tests)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(_ways, max_size=3), st.lists(_ways, max_size=4))
def test_what_is_beyond_is_found_whenever_something_is(new: list[Tests], old: list[Tests]) -> None:
    def passes(ways_in: list[Tests], value: int) -> bool:
        return any(all(test.of(value) for test in way) for way in ways_in)

    exists = any(passes(new, value) and not passes(old, value) for value in _ENOUGH)
    found = beyond(new, old)
    assert (found is not None) is exists
    if found is not None:
        value = found.get(A0, 0)
        assert passes(new, value)
        assert not passes(old, value)


def test_points_lie_around_what_is_tested() -> None:
    assert points(SMALL, "read") == []
    assert points(SMALL, "write") == []
    first = {point[0] for point in points(SMALL, "personality")}
    long = (1 << 64) - 1
    assert first == {0, 7, 8, 9, 8 | HIGH, 8 | long - ALL, ALL, long}
    none = {"syscalls": [rule("socket", (0, "EQ", 0, 0))]}
    assert (long,) + (0,) * 5 in points(none, "socket")


def test_points_are_bounded_where_many_arguments_are_tested() -> None:
    tests = [(index, "MASKED_EQ", 0xFF << index, 1 << index) for index in range(6)]
    found = points({"syscalls": [rule("socket", *tests)]}, "socket")
    assert len(found) < 200
    assert (1, 2, 4, 8, 16, 32) in found
    assert (0, 0, 0, 0, 0, 33) in found
