"""Lists of numbers as the kernel reads them for processors and memory nodes: `0-3,7`."""

from __future__ import annotations

import re

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def numbers(text: str) -> list[tuple[int, int]] | None:
    """Return the ranges of a list (config-linux.md, cpu: commas, dashes for ranges), or None if it is none.

    An empty text is an empty list. Blanks may stand around a range, as in the schema of execCPUAffinity.
    """
    found = []
    for part in text.split(",") if text.strip() else ():
        match = _RANGE.fullmatch(part.strip())
        if not match:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            return None
        found.append((first, last))
    return found
