"""Small nouns that every room speaks of."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import PipelineError, Place

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?")
# uname(2) machine -> GOARCH, the names of the image specification.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


def parse_digest(text: str) -> str:
    """Return `text` if it is a SHA-256 digest. Raises PipelineError `bad-digest`."""
    if not _DIGEST.fullmatch(text):
        raise PipelineError(
            "bad-digest", f"`{text}` is not a digest", hint="sha256: and 64 lower-case hexadecimal digits"
        )
    return text


@dataclass(frozen=True)
class Platform:
    """What an image is built for, in the words of the image specification (`image-index.md`)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture[/variant]`. Raises PipelineError `bad-platform`."""
        match = _PLATFORM.fullmatch(text)
        if not match:
            raise PipelineError(
                "bad-platform", f"`{text}` is not a platform", hint="for example linux/amd64 or linux/arm64"
            )
        return cls(match[1], match[2], match[3] or "")

    @classmethod
    def host(cls) -> Platform:
        """The platform of this machine."""
        machine = os.uname().machine
        return cls("linux", *_MACHINES.get(machine, (machine, "")))

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True)
class IdMap:
    """Container ids 0 to size-1 are host ids host_id to host_id+size-1 (user_namespaces(7))."""

    host_id: int
    size: int

    @classmethod
    def identity(cls) -> IdMap:
        """The mapping of the initial user namespace: every id is itself."""
        return cls(0, 2**32 - 1)

    @property
    def is_identity(self) -> bool:
        """True when there is no user namespace."""
        return self == IdMap.identity()

    def to_host(self, container_id: int) -> int:
        """Return the host's id. Raises PipelineError `unmapped-id`."""
        if not 0 <= container_id < self.size:
            raise PipelineError(
                "unmapped-id",
                f"id {container_id} lies outside the mapped ids 0 to {self.size - 1}",
                hint=f"map more ids: `userns: {self.host_id}:{container_id + 1}` or above",
            )
        return self.host_id + container_id


class Severity(Enum):
    """How bad a finding is; the worst comes first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)

    def at_least(self, other: Severity) -> bool:
        """True when this is as bad as `other` or worse."""
        return self.rank <= other.rank


@dataclass(frozen=True)
class Provenance:
    """Where a field came from: `image`, `spec`, `default` or `baseline:DATE`, and what it is called there."""

    source: str
    key: str

    def __str__(self) -> str:
        match self.source:
            case "spec":
                return f"the spec, {self.key}"
            case "image":
                return f"the image, {self.key}"
            case "default":
                return f"the default of {self.key}"
        return self.source


@dataclass(frozen=True)
class Finding:
    """One judgement: the rule that spoke, how bad it is, where, why and how to mend it.

    `place` is in config.json. `provenance` says who decided the field there; where that was a spec, `origin`
    is the place in it, which moves with every comment and so is filled in only when a finding is shown.
    """

    rule: str
    severity: Severity
    message: str
    path: str = ""
    mend: str = ""
    source: str = ""
    place: Place | None = None
    waived: str | None = None
    layer: str = ""
    provenance: Provenance | None = None
    origin: Place | None = None
