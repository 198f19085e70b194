"""One change to a shipped config is refused at medium or above, but for what a table explains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mutants import IMAGES, judged, mutants, shipped, weighty

SURVIVORS = json.loads((Path(__file__).parent / "survivors.json").read_text())
_EVERY = 40


@pytest.mark.parametrize("name", IMAGES)
def test_a_sample_of_the_mutants_is_refused_and_each_survivor_survives(name: str) -> None:
    """Every 40th mutant and every one of the table; `python -m tests.bench.mutants` judges all."""
    case = shipped(name)
    assert weighty(judged(case, json.dumps(case.config, indent=2))) == set()
    listed = list(mutants(case.config))
    assert len(listed) > 1000
    assert len({mutant.name for mutant in listed}) == len(listed)
    explained = SURVIVORS[name]
    assert explained.keys() <= {mutant.name for mutant in listed}
    assert len(explained) <= 0.03 * len(listed)
    sample = [m for n, m in enumerate(listed) if n % _EVERY == 0 or m.name in explained]
    assert {m.name for m in sample if not weighty(judged(case, m.text))} == explained.keys()
