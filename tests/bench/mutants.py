"""How many one-change mutants of the shipped configs the judge refuses, by operator, and the official schema.

The schema is the installed one, and alone: it cannot be asked about what is not JSON.

python -m tests.bench.mutants
"""

from __future__ import annotations

import json
from collections import Counter

from tests.mutants import IMAGES, judged, mutants, shipped, weighty
from tests.official import official_schema


def main() -> None:
    """Judge every mutant of both configs and print the figures and the survivors."""
    made, refused, by_schema, survivors = Counter[str](), Counter[str](), Counter[str](), []
    schema = official_schema()
    for name in IMAGES:
        case = shipped(name)
        usual = weighty(judged(case, json.dumps(case.config, indent=2)))
        for mutant in mutants(case.config):
            made[mutant.operator] += 1
            by_schema[mutant.operator] += not schema.is_valid(json.loads(mutant.text))
            if weighty(judged(case, mutant.text)) - usual:
                refused[mutant.operator] += 1
            else:
                survivors.append(f"{name} {mutant.name}")
    print(f"{'operator':16} {'judge':>5} {'schema':>6} of made")
    for operator, count in sorted(made.items()):
        print(f"{operator:16} {refused[operator]:5} {by_schema[operator]:6} of {count:5}")
    total, all_refused, schema_refused = made.total(), refused.total(), by_schema.total()
    print(f"{'all':16} {all_refused:5} {schema_refused:6} of {total:5}")
    print(f"judge {all_refused / total:.1%}, official schema alone {schema_refused / total:.1%}")
    print("\n".join(["survivors:", *survivors]))


if __name__ == "__main__":
    main()
