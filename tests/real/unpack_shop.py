"""A project with hand-made images, and the stage `unpack` run on it by the real engine.

Run as a program (`python -m tests.real.unpack_shop ROOT`) it builds once, to be killed on the way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.engine import Engine
from pipeline.files import canonical_json, sha256_file, write_atomic
from pipeline.graph import STAGES, Step
from pipeline.model.bundle import Bundle
from pipeline.paths import BundlePaths, Project
from tests.evil_images import Blob, write_layout

NAME = "box"
BASE = 2_000_000_000


class Shop:
    """A project of one bundle."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        for folder in (self.project.cache, self.project.locks, self.project.tmp, self.project.blobs):
            folder.mkdir(parents=True, exist_ok=True)
        self.said: list[str] = []
        self.seen_bytes: list[tuple[int, int]] = []

    @property
    def paths(self) -> BundlePaths:
        """The bundle's paths."""
        return self.project.bundle(NAME)

    @property
    def rootfs(self) -> Path:
        """What was unpacked."""
        return self.paths.rootfs

    def image(self, layers: Sequence[Blob], config: Mapping[str, Any] | None = None) -> None:
        """Put an image where `copy` puts it, with a receipt like that of `copy`."""
        write_layout(self.paths.image, layers, dict(config or {}))
        digest = f"sha256:{sha256_file(self.paths.image / 'index.json')}"
        receipt = {"key": "", "parts": {}, "digest": digest, "outputs": {}, "facts": {}}
        write_atomic(self.paths.receipt("copy"), canonical_json(receipt))

    def build(self, **keys: Any) -> str | None:
        """Run `unpack`; return why it ran, or None."""
        return self.engine(self.write_spec(**keys)).execute(Step(STAGES["unpack"], NAME))

    def write_spec(self, **keys: Any) -> dict[str, Any]:
        """Write the spec where the program reads it, and return it."""
        spec = Bundle.from_values({"image": "oci:image", "platform": "linux/amd64", **keys}).to_values()
        (self.project.root / "spec.json").write_text(json.dumps(spec))
        return spec

    def engine(self, spec: Mapping[str, Any]) -> Engine:
        """An engine that has seen nothing yet."""
        return Engine(self.project, {NAME: spec}, lambda _: "", self)

    def receipt(self) -> dict[str, Any]:
        """The receipt of `unpack`."""
        found: dict[str, Any] = json.loads(self.paths.receipt("unpack").read_bytes())
        return found

    def facts(self) -> dict[str, Any]:
        """Its facts."""
        found: dict[str, Any] = self.receipt()["facts"]
        return found

    def point(self, path: str) -> dict[str, Any]:
        """What the facts say about one mount point."""
        found: dict[str, Any] = next(point for point in self.facts()["mount_points"] if point["path"] == path)
        return found

    def say(self, task: str, line: str) -> None:
        """Engine's voice."""
        self.said.append(line)

    def progress(self, task: str, done_bytes: int, total_bytes: int, what: str) -> None:
        """Engine's voice."""
        self.seen_bytes.append((done_bytes, total_bytes))


if __name__ == "__main__":
    shop = Shop(Path(sys.argv[1]))
    stored = json.loads((shop.project.root / "spec.json").read_bytes())
    shop.engine(stored).execute(Step(STAGES["unpack"], NAME))
