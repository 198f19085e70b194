"""What `copy` does when a registry goes wrong, and what it never shows."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.tools.transfer import Patience
from tests.copying import (
    HERE,
    QUICK,
    Place,
    children_of,
    make_sources,
    temporary_place,
)
from tests.faulty_registry import Fault, digest_of, faulty_registry
from tests.registry import TOKEN, Registry, running_registry

pytestmark = pytest.mark.real


@pytest.fixture
def place() -> Iterator[Place]:
    with temporary_place() as made:
        yield made


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sources(tmp_path_factory.mktemp("sources"))


LASTING = 10**6


@pytest.mark.parametrize(
    ("where", "name", "code"),
    [
        ("manifest", "500", "copy-server"),
        ("manifest", "502", "copy-server"),
        ("manifest", "503", "copy-server"),
        ("manifest", "reset", "copy-reset"),
        ("manifest", "end_early", "copy-end"),
        ("ping", "500", "copy-server"),
        ("config", "503", "copy-server"),
        ("blob", "500", "copy-server"),
        ("blob", "503", "copy-server"),
        ("blob", "reset", "copy-reset"),
        ("blob", "end_early", "copy-end"),
    ],
)
def test_a_passing_fault_is_overcome_and_a_lasting_one_is_met_three_times(
    place: Place, where: str, name: str, code: str
) -> None:
    with faulty_registry(Fault(name, where, times=1)) as registry:
        place.copy(
            f"docker://{registry.address}/app:v1", digest_of(registry.manifest), Platform("linux", "amd64")
        )
        assert [line.split("; ")[1][:15] for line in place.said] == ["attempt 2 of 3 "]
    with faulty_registry(Fault(name, where, times=LASTING), layer=os.urandom(5000)) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
        assert error.code == code
        assert "(3 attempts)" in error.message
        assert registry.count(where) == 3


@pytest.mark.parametrize(
    ("where", "name", "code"),
    [
        ("manifest", "401", "copy-auth"),
        ("manifest", "403", "copy-forbidden"),
        ("manifest", "404", "copy-missing"),
        ("manifest", "html", "bad-digest"),
        ("manifest", "tampered", "bad-digest"),
        ("manifest", "huge", "copy-manifest"),
        ("manifest", "redirect_file", "copy-redirect"),
        ("config", "corrupt", "copy-digest"),
        ("blob", "401", "copy-auth"),
        ("blob", "404", "copy-missing"),
        ("blob", "truncated", "copy-digest"),
        ("blob", "overlong", "copy-digest"),
        ("blob", "corrupt", "copy-digest"),
        ("blob", "redirect_file", "copy-redirect"),
    ],
)
def test_a_fault_that_stays_is_met_once(place: Place, where: str, name: str, code: str) -> None:
    with faulty_registry(Fault(name, where)) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
        assert error.code == code
        assert registry.address in str(error)
        assert registry.count(where) == 1
    assert place.said == []
    assert digest_of(registry.layer)[7:] not in place.blobs()


def test_a_redirect_loop_ends(place: Place) -> None:
    with faulty_registry(Fault("redirect_loop", "blob")) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
    assert error.code == "copy-redirect"
    assert registry.count("blob") == 10


@pytest.mark.parametrize(("where", "name"), [("ping", "hang"), ("manifest", "hang"), ("blob", "stall")])
def test_silence_is_ended_and_tried_again(place: Place, where: str, name: str) -> None:
    patience = Patience(total_s=60, stall_s=0.5, attempts=2, delay_s=0.01)
    before = children_of(os.getpid())
    with faulty_registry(Fault(name, where)) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest), patience)
        assert error.code == "copy-stalled"
        assert registry.count(where) == 2
    assert children_of(os.getpid()) == before


def test_a_slow_transfer_is_no_silence_but_has_its_limit(place: Place) -> None:
    patience = Patience(total_s=2, stall_s=1)
    with faulty_registry(Fault("slow", "blob")) as registry:
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest), patience)
    assert error.code == "copy-timeout"
    assert registry.count("blob") == 1
    assert len({done for done, _ in place.progress}) > 5


def test_too_many_requests_is_waited_out(place: Place) -> None:
    with faulty_registry(Fault("429", "manifest", times=1)) as registry:
        place.copy(
            f"docker://{registry.address}/app:v1", digest_of(registry.manifest), Platform("linux", "amd64")
        )


def test_nothing_listens(place: Place) -> None:
    with faulty_registry() as registry:
        pass
    error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
    assert error.code == "copy-refused"
    assert "(3 attempts)" in error.message


def test_what_has_come_is_not_fetched_again(place: Place) -> None:
    with faulty_registry() as registry:
        reference, pin = f"docker://{registry.address}/app:v1", digest_of(registry.manifest)
        place.copy(reference, pin, Platform("linux", "amd64"))
        place.copy(reference, pin, Platform("linux", "amd64"))
        assert registry.count("blob") == 1


def test_an_unknown_certificate_is_refused_beyond_loopback(place: Place, tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"]
    subprocess.run(
        [*argv, "-keyout", tmp_path / "key", "-out", tmp_path / "crt"], check=True, capture_output=True
    )
    pem.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "crt").read_bytes())
    # 0.0.0.0 leads here too and is no loopback address, so TLS is verified.
    with faulty_registry(host="0.0.0.0", certificate=pem) as registry:  # noqa: S104 - for the time of the test
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
        assert error.code == "copy-tls"
        assert f"/etc/containers/certs.d/{registry.address}/ca.crt" in str(error)
        assert registry.requests == []


def refused(place: Place, text: str, pin: str, patience: Patience = QUICK) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        place.copy(text, pin, Platform("linux", "amd64"), patience)
    # Whatever went wrong, nothing of it is left and nothing runs.
    assert caught.value.hint
    return caught.value


def test_credentials_come_from_the_authfile_and_show_nowhere(
    place: Place, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    seen: list[bytes] = []
    with running_registry(tmp_path / "registry", login=True) as registry:
        reference = registry.push(f"oci:{sources}/app:v1", "private:v1")
        with pytest.raises(PipelineError) as caught:
            place.pin(Reference.parse(reference), HERE)
        assert caught.value.code == "copy-auth"
        assert f"skopeo login {registry.address}" in str(caught.value)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.authfile))
        done = threading.Event()
        watcher = threading.Thread(target=watch_command_lines, args=(seen, done))
        watcher.start()
        place.copy(reference)
        done.set()
        watcher.join()
    assert any(b"skopeo" in line for line in seen)
    auth = json.loads(registry.authfile.read_text())["auths"][registry.address]["auth"]
    for secret in (TOKEN, auth):
        assert not [line for line in seen if secret.encode() in line]
        assert secret not in place.log.read_text()
        assert secret not in "".join(place.said)


def test_a_registry_that_repeats_credentials_is_not_quoted(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_registry(Fault("echo", "manifest")) as registry:
        auth = Registry(tmp_path, registry.address, login=True)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth.authfile))
        error = refused(place, f"docker://{registry.address}/app:v1", digest_of(registry.manifest))
    assert error.code == "copy-forbidden"
    for text in (str(error), place.log.read_text()):
        assert TOKEN not in text
        assert json.loads(auth.authfile.read_text())["auths"][registry.address]["auth"] not in text


def watch_command_lines(seen: list[bytes], done: threading.Event) -> None:
    while not done.wait(0.002):
        for pid in children_of(os.getpid()):
            try:
                seen.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
