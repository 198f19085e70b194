"""Images to copy, a project to copy them into, and what tests of `copy` look at."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.files import remove_tree
from pipeline.lock import Lock
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.oci import layout
from pipeline.oci.identity import identity
from pipeline.oci.layout import Image, blob_path
from pipeline.paths import Project
from pipeline.registry import resolve
from pipeline.stages.copy import Copied, copy_image
from pipeline.tools.skopeo import Source
from pipeline.tools.transfer import Patience
from tests.faulty_registry import digest_of

HERE = Platform.host()
QUICK = Patience(total_s=60, stall_s=20, attempts=3, delay_s=0.02)
ANYTHING = '{"default":[{"type":"insecureAcceptAnything"}]}'
LAYER_BYTES = 300_000


class Place:
    """A project in a temporary folder, and copies made in it."""

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.project = Project(root)
        self.project.open()
        self.said: list[str] = []
        self.progress: list[tuple[int, int]] = []
        self.log = root / "log"

    def copy(
        self, text: str, pin: str = "", platform: Platform = HERE, patience: Patience = QUICK, name: str = ""
    ) -> Copied:
        """Copy an image to out/NAME/image as the engine would; NAME is new each time unless given."""
        reference = Reference.parse(text)
        work = self.project.tmp / f"copy.{time.monotonic_ns()}"
        work.mkdir()
        source = Source(reference, self.project.root, work / "skopeo", patience, self.log, self.said.append)
        try:
            copied = copy_image(
                source,
                platform,
                pin or self.pin(reference, platform),
                self.project,
                work / "image",
                lambda done, total: self.progress.append((done, total)),
            )
            self.image = self.project.out / (name or work.name) / "image"
            self.image.parent.mkdir()
            (work / "image").rename(self.image)
            return copied
        finally:
            remove_tree(work)

    def pin(self, reference: Reference, platform: Platform) -> str:
        """What the reference stands for now."""
        if not reference.remote:
            return identity(reference, self.project)
        pins = {reference.key: resolve(reference, self.project, patience=QUICK)}
        return Lock(self.project.lock_file, pins).pin_of(reference, platform) or "not pinned"

    def blobs(self) -> dict[str, os.stat_result]:
        """The store: name -> stat."""
        return {path.name: path.stat() for path in self.project.blobs.glob("sha256/*")}


@contextmanager
def temporary_place(root: Path | None = None) -> Iterator[Place]:
    """A project in a folder of its own that others can pass, or in `root`."""
    folder = root or Path(tempfile.mkdtemp(prefix="cooperage-copy-", dir="/var/tmp"))
    try:
        yield Place(folder)
    finally:
        if root is None:
            remove_tree(folder)


def make_sources(folder: Path) -> Path:
    """Make a layout `app:v1` with two layers, and the same image for every local transport."""
    make_image(folder / "app", "v1", HERE)
    (folder / "policy.json").write_text(ANYTHING)
    for target, flags in (
        ("oci-archive:app.oci.tar:v1", ()),
        ("docker-archive:app.docker.tar:app:v1", ()),
        ("dir:app.dir", ()),
        ("dir:app.v2s2", ("--format", "v2s2")),
    ):
        argv = ["skopeo", "--policy", "policy.json", "copy", "--quiet", *flags, "oci:app:v1", target]
        subprocess.run(argv, check=True, cwd=folder, capture_output=True)
    add_health_check(folder / "app.v2s2")
    return folder


def make_image(folder: Path, tag: str, platform: Platform, layers: int = 2) -> None:
    """Add an image with random layers to the layout `folder`."""
    image = f"{folder}:{tag}"
    if not folder.exists():
        subprocess.run(["umoci", "init", "--layout", str(folder)], check=True)
    subprocess.run(["umoci", "new", "--image", image], check=True)
    for number in range(layers):
        content = folder.with_name("content")
        content.write_bytes(os.urandom(LAYER_BYTES))
        argv = ["umoci", "insert", "--image", image, str(content), f"/f{number}"]
        subprocess.run(argv, check=True, capture_output=True)
    argv = ["umoci", "config", "--image", image, "--os", platform.os, "--architecture", platform.architecture]
    subprocess.run([*argv, "--config.user", "65532:65532"], check=True)


def add_health_check(folder: Path) -> None:
    """Put docker's Healthcheck into the config of a dir: image."""
    manifest = json.loads((folder / "manifest.json").read_text())
    config = json.loads((folder / manifest["config"]["digest"][7:]).read_text())
    config["config"]["Healthcheck"] = {"Test": ["CMD", "/healthy"], "Interval": 5_000_000_000}
    content = json.dumps(config).encode()
    manifest["config"].update(digest=digest_of(content), size=len(content))
    (folder / digest_of(content)[7:]).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def layer_of(image: Image, number: int = 0) -> str:
    """The digest of a layer."""
    return image.layers[number].digest


def flip(path: Path) -> None:
    """Flip one bit in place."""
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 4]))


def make_many(folder: Path) -> Path:
    """Make a layout whose one image, `v1`, is an index of three platforms."""
    entries = []
    for platform in ("linux/amd64", "linux/arm64", "linux/s390x"):
        make_image(folder, platform.replace("/", "-"), Platform.parse(platform), layers=1)
    for entry in json.loads((folder / "index.json").read_text())["manifests"]:
        os_name, _, architecture = entry.pop("annotations")[layout.REF_NAME].partition("-")
        entries.append({**entry, "platform": {"os": os_name, "architecture": architecture}})
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    content = json.dumps(index).encode()
    blob_path(folder / "blobs", digest_of(content)).write_bytes(content)
    entry = {"mediaType": index["mediaType"], "digest": digest_of(content), "size": len(content)}
    top = {"schemaVersion": 2, "manifests": [{**entry, "annotations": {layout.REF_NAME: "v1"}}]}
    (folder / "index.json").write_text(json.dumps(top))
    return folder


def children_of(pid: int) -> list[str]:
    """The ids of a process's children."""
    found: list[str] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += task.read_text().split()
        except OSError:
            continue  # that thread has just ended
    return found


def await_true(condition: Callable[[], bool], limit_s: float = 20) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
