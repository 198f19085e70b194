"""How many one-change mutants of the shipped configs the judge refuses, by operator.

python -m tests.bench.mutants
"""

from __future__ import annotations

import json
from collections import Counter

from tests.mutants import IMAGES, judged, mutants, shipped, weighty


def main() -> None:
    """Judge every mutant of both configs and print the figures and the survivors."""
    made, refused, survivors = Counter[str](), Counter[str](), []
    for name in IMAGES:
        case = shipped(name)
        usual = weighty(judged(case, json.dumps(case.config, indent=2)))
        for mutant in mutants(case.config):
            made[mutant.operator] += 1
            if weighty(judged(case, mutant.text)) - usual:
                refused[mutant.operator] += 1
            else:
                survivors.append(f"{name} {mutant.name}")
    for operator, count in sorted(made.items()):
        print(f"{operator:16} {refused[operator]:5} of {count:5}")
    total, all_refused = made.total(), refused.total()
    print(f"{'all':16} {all_refused:5} of {total:5}  {all_refused / total:.1%}")
    print("\n".join(["survivors:", *survivors]))


if __name__ == "__main__":
    main()
