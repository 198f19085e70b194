"""specs/lock.json: read, written, refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.lock import Lock, Pin, update
from pipeline.model.reference import Reference

INDEX, AMD, ARM = ("sha256:" + digit * 64 for digit in "abc")
REFERENCE = Reference.parse("docker://q.io/x:v1")


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document, indent=2))
    return path


def images(**pin: Any) -> dict[str, Any]:
    return {"version": 1, "images": {REFERENCE.key: {"index": None, "platforms": {}, **pin}}}


def test_no_file_means_no_pins(tmp_path: Path) -> None:
    lock = Lock.load(tmp_path / "lock.json")
    assert lock.pin_of(REFERENCE, "linux/amd64") is None


def test_pins_are_kept_in_canonical_bytes(tmp_path: Path) -> None:
    path = tmp_path / "specs" / "lock.json"
    with update(path) as lock:
        lock.images[REFERENCE.key] = Pin(INDEX, {"linux/arm64": ARM, "linux/amd64": AMD})
    assert path.read_text() == (
        '{\n  "images": {\n    "docker://q.io/x:v1": {\n'
        f'      "index": "{INDEX}",\n'
        '      "platforms": {\n'
        f'        "linux/amd64": "{AMD}",\n        "linux/arm64": "{ARM}"\n'
        '      }\n    }\n  },\n  "version": 1\n}\n'
    )
    lock = Lock.load(path)
    assert lock.pin_of(REFERENCE, "linux/amd64") == AMD
    assert lock.pin_of(REFERENCE, "linux/arm64/v8") == ARM
    assert lock.pin_of(REFERENCE, "linux/s390x") is None
    assert [entry.name for entry in path.parent.iterdir()] == ["lock.json"]


def test_a_reference_with_a_digest_is_its_own_pin(tmp_path: Path) -> None:
    reference = Reference.parse(f"docker://q.io/x@{AMD}")
    assert Lock(tmp_path, {}).pin_of(reference, "linux/amd64") == AMD


def test_an_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = write(tmp_path / "lock.json", "")
    path.write_bytes(Lock(path, {REFERENCE.key: Pin(None, {"linux/amd64": AMD})}).content())
    before = path.stat()
    with update(path) as lock:
        lock.images[REFERENCE.key] = Pin(None, {"linux/amd64": AMD})
    assert path.stat().st_ino == before.st_ino


def test_a_failure_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    with pytest.raises(RuntimeError), update(path) as lock:
        lock.images[REFERENCE.key] = Pin()
        raise RuntimeError
    assert not path.exists()


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"

    def pin(number: int) -> None:
        with update(path) as lock:
            lock.images[f"docker://q.io/x{number}:latest"] = Pin(None, {"linux/amd64": AMD})

    threads = [threading.Thread(target=pin, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Lock.load(path).images) == 12


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"version": 2, "images": {}}, "version 2 of the lock file is not known, only 1"),
        ({"images": {}}, "version None of the lock file is not known, only 1"),
        ([], "the lock file is damaged: it is not an object"),
        ({"version": 1}, "it must hold `version` and `images`, nothing else"),
        ({"version": 1, "images": {}, "x": 1}, "it must hold `version` and `images`, nothing else"),
        ({"version": 1, "images": {"a": {}}}, "the pin of a must hold `index` and `platforms`, nothing else"),
        (images(platforms=[]), "`platforms` of docker://q.io/x:v1 must map platforms to digests"),
        (images(platforms={"linux/amd64": "sha256:1"}), "`sha256:1` is not a digest"),
        (images(platforms={"linux/amd64": None}), "`None` is no text"),
        (images(platforms={"linux": AMD}), "`linux` is not a platform"),
        (images(index=7), "`7` is no text"),
    ],
)
def test_damage_is_refused(tmp_path: Path, document: Any, said: str) -> None:
    path = write(tmp_path / "lock.json", document)
    with pytest.raises(PipelineError) as caught:
        Lock.load(path)
    assert caught.value.code == "bad-lock"
    assert said in caught.value.message
    assert caught.value.place is not None
    assert caught.value.hint
    assert "doit update" in caught.value.hint


def test_the_place_of_the_damage_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "lock.json", images(platforms={"linux/amd64": "sha256:1"}))
    with pytest.raises(PipelineError) as caught:
        Lock.load(path)
    assert caught.value.place
    assert caught.value.place.line == 7
    assert caught.value.place.text.strip() == '"linux/amd64": "sha256:1"'


def test_what_is_no_json_has_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "lock.json", '{"version": 1,\n "images": }')
    with pytest.raises(PipelineError) as caught:
        Lock.load(path)
    assert (caught.value.code, str(caught.value.place)) == ("bad-json", f"{path}:2:12")
