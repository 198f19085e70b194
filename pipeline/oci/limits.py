"""How much an image may ask of the machine that unpacks it.

Each limit can be raised for one run by an environment variable, `COOPERAGE_LIMIT_` and its name in capitals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from pipeline.errors import PipelineError

_PREFIX = "COOPERAGE_LIMIT_"


@dataclass(frozen=True)
class Limits:
    """The limits of one unpacking. Sizes are bytes, over all layers unless said otherwise.

    `depth`: umoci resolves each entry from the top again, which is quadratic; 128 levels cost nothing,
    1,000 take seconds, 2,000 minutes. `path_bytes` leaves room in PATH_MAX (4096, path_resolution(7))
    for where the rootfs lies. `ratio` is unpacked to packed size of a layer; software comes to 2 to 10,
    gzip cannot exceed 1032. `header_bytes` is the largest extended header (Go's archive/tar has the same).
    """

    entries: int = 500_000
    depth: int = 128
    path_bytes: int = 2048
    file_bytes: int = 8 << 30
    total_bytes: int = 32 << 30
    ratio: int = 200
    header_bytes: int = 1 << 20
    seconds: int = 900

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """Return the limits as the environment raises or lowers them. Raises PipelineError `bad-limit`."""
        values = {}
        for field in fields(cls):
            name = _PREFIX + field.name.upper()
            text = environment.get(name)
            if text is not None:
                values[field.name] = _count(name, text)
        return cls(**values)

    def exceeded(self, name: str, message: str) -> PipelineError:
        """Return the error for a limit that an image goes beyond; `name` is the field's."""
        variable = _PREFIX + name.upper()
        return PipelineError(
            f"limit-{name.partition('_')[0]}",
            message,
            hint=f"if the image is meant to be so, raise it: {variable}={2 * getattr(self, name)} doit …",
        )


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text)):
        wanted = "a whole number above 0; sizes are in bytes"
        raise PipelineError("bad-limit", f"{name}={text[:40]} is not a limit", hint=wanted)
    return int(text)
