"""Which content an image reference stands for: a pin for a remote one, its own identity for a local one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import PipelineError
from pipeline.lock import Lock
from pipeline.model.reference import Reference
from pipeline.oci.identity import identity
from pipeline.paths import Project

Spec = Mapping[str, Any]


class Pins:
    """Answers from `specs/lock.json` and from the local images themselves; asks no registry."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock: Lock | None = None
        self._local: dict[str, str] = {}

    def reload(self) -> None:
        """Forget what was read, after `specs/lock.json` was changed."""
        self._lock = None

    def pin_of(self, spec: Spec) -> str | None:
        """Return the digest of a remote image, the identity of a local one, None for what is not pinned.

        A local image that is not there has the identity `absent`: its `copy` says what is missing.
        Raises PipelineError `bad-lock` when the lock file is damaged.
        """
        reference = Reference.parse(spec["image"])
        if reference.remote:
            if self._lock is None:
                self._lock = Lock.load(self._project.lock_file)
            return self._lock.pin_of(reference, spec["platform"])
        if spec["image"] not in self._local:
            self._local[spec["image"]] = self._identity(reference)
        return self._local[spec["image"]]

    def _identity(self, reference: Reference) -> str:
        try:
            return identity(reference, self._project)
        except PipelineError:
            return "absent"

    def __call__(self, spec: Spec) -> str:
        """The pin as a part of a stage's key."""
        return self.pin_of(spec) or "not pinned"
