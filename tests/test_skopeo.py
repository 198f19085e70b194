"""skopeo's argv, its trust policy, what its failures mean, and what no log may show."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.run import Result
from pipeline.tools import skopeo
from pipeline.tools.failure import TRANSIENT, Failure, Kind, classify, redact
from pipeline.tools.skopeo import Source
from pipeline.tools.transfer import Patience, transfer

DIGEST = "sha256:" + "ab" * 32
QUICK = Patience(total_s=20, stall_s=5, attempts=3, delay_s=0.01)


def fatal(message: str) -> str:
    quoted = message.replace('"', '\\"')
    return f'time="2026-01-01T00:00:00Z" level=fatal msg="{quoted}"\n'


# Words of skopeo 1.9.3, each seen from a real or a faulty registry.
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "writing blob: happened during read: Digest did not match, expected sha256:a, got sha256:b",
            Kind.DIGEST,
        ),
        ("Download config.json digest sha256:a does not match expected sha256:b", Kind.DIGEST),
        ("Source image rejected: Running image docker://q.io/x is rejected by policy.", Kind.POLICY),
        ("writing blob: write /x: no space left on device", Kind.NO_SPACE),
        ("Error fetching blob: invalid status code from registry 429 (Too Many Requests)", Kind.RATE_LIMIT),
        ("unable to retrieve auth token: invalid username/password: unauthorized", Kind.AUTH),
        ('Error parsing image name "docker://q.io/x": reading manifest: authentication required', Kind.AUTH),
        ("reading manifest v1 in q.io/x: errors: denied: requested access is denied", Kind.FORBIDDEN),
        (
            "pinging container registry q.io: received unexpected HTTP status: 500 Internal Server Error",
            Kind.SERVER,
        ),
        ("Error fetching blob: invalid status code from registry 503 (Service Unavailable)", Kind.SERVER),
        ('Get "http://q.io/v2/": read tcp 1.2.3.4:5->6.7.8.9:80: read: connection reset by peer', Kind.RESET),
        ("writing blob: happened during read: unexpected EOF", Kind.END),
        ('Get "http://q.io/v2/x": EOF', Kind.END),
        ('Get "https://q.io/v2/": dial tcp 127.0.0.1:1: connect: connection refused', Kind.REFUSED),
        ("dial tcp: lookup q.io: Temporary failure in name resolution", Kind.DNS),
        ("dial tcp: lookup q.io on 10.0.0.1:53: read udp 10.0.0.2:1->10.0.0.1:53: i/o timeout", Kind.DNS),
        ("dial tcp: lookup q.io on 10.0.0.1:53: no such host", Kind.NO_HOST),
        ("dial tcp 1.2.3.4:443: i/o timeout", Kind.TIMEOUT),
        ("net/http: TLS handshake timeout", Kind.TIMEOUT),
        ("dial tcp 1.2.3.4:443: connect: network is unreachable", Kind.OFFLINE),
        ('Get "https://q.io/v2/": x509: certificate signed by unknown authority', Kind.TLS),
        ("http: server gave HTTP response to HTTPS client", Kind.TLS),
        ("reading manifest v9 in q.io/x: manifest unknown: manifest unknown", Kind.MISSING),
        ("Error fetching blob: invalid status code from registry 404 (Not Found)", Kind.MISSING),
        ('no image found in manifest list for architecture s390x, variant "", OS linux', Kind.PLATFORM),
        ("exceeded maximum allowed size of 4194304 bytes", Kind.MANIFEST),
        ('Get "/v2/x/manifests/v1": stopped after 10 redirects', Kind.REDIRECT),
        ('Get "file:///etc/passwd": unsupported protocol scheme "file"', Kind.REDIRECT),
        ("something that nobody has seen", Kind.OTHER),
        # Names are not reasons.
        ('Error parsing image name "docker://q.io/denied:429": manifest unknown', Kind.MISSING),
        ('Error parsing image name "docker://q.io/unauthorized:503": connection refused', Kind.REFUSED),
    ],
)
def test_each_failure_has_its_kind(message: str, kind: Kind) -> None:
    failure = classify("Getting image source signatures\n" + fatal(message))
    assert failure.kind is kind
    assert failure.transient == (kind in TRANSIENT)


def test_what_is_tried_again() -> None:
    assert {kind.value for kind in TRANSIENT} == {
        "rate-limit",
        "server",
        "reset",
        "end",
        "refused",
        "timeout",
        "stalled",
        "dns",
    }


def test_the_error_says_what_to_do() -> None:
    failure = classify(fatal('Error parsing image name "docker://q.io/x:v1": authentication required'))
    assert str(failure.error("docker://q.io/x:v1", "q.io")) == (
        "error[copy-auth]: docker://q.io/x:v1: q.io wants you to log in\n"
        "  skopeo: authentication required\n"
        "  help: `skopeo login q.io` writes the authfile that skopeo reads"
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_its_advice(kind: Kind) -> None:
    error = Failure(kind, "").error("docker://q.io/x", "q.io", 5)
    assert error.code == f"copy-{kind.value}"
    assert error.hint
    assert "{" not in str(error)
    assert "(5 attempts)" in error.message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Basic am9lOnMzY3JldA==", "Authorization: ***"),
        ("sent Bearer abc.def-123", "sent Bearer ***"),
        ("Get https://joe:s3cret@q.io/v2/", "Get https://***@q.io/v2/"),
        ("Get https://s3.org/blob?X-Sig=abc&t=1: EOF", "Get https://s3.org/blob?*** EOF"),
        ('{"token":"abc","x":1}', '{"token":"***","x":1}'),
        ('{\\"access_token\\":\\"abc\\"}', '{\\"access_token\\":\\"***\\"}'),
        ("password=hunter2 and on", "password=*** and on"),
        (
            "retrieving auth token: invalid username/password",
            "retrieving auth token: invalid username/password",
        ),
        ("my-secret-word here", "*** here"),
    ],
)
def test_nothing_secret_is_shown(text: str, shown: str) -> None:
    assert redact(text, ["my-secret-word"]) == shown


def test_every_credential_of_the_authfiles_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = base64.b64encode(b"joe:s3cret").decode()
    entry = {"auth": auth, "identitytoken": "id-token", "username": "joe"}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"q.io": entry}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert set(skopeo.authfile_secrets()) >= {auth, "joe:s3cret", "s3cret", "id-token"}
    (tmp_path / "auth.json").write_text("no json")
    assert "s3cret" not in skopeo.authfile_secrets()


@pytest.mark.parametrize(
    ("text", "transport", "scope"),
    [
        ("docker://q.io/x:v1", "docker", f"q.io/x@{DIGEST}"),
        ("oci:a:v1", "oci", "/p/a"),
        ("dir:a", "dir", "/p/a"),
        ("docker-archive:a.tar", "docker-archive", ""),
        ("containers-storage:localhost/x", "containers-storage", ""),
    ],
)
def test_the_policy_accepts_the_source_alone(text: str, transport: str, scope: str) -> None:
    policy = skopeo.trust_policy(Reference.parse(text), Path("/p"), DIGEST)
    assert policy["default"] == [{"type": "reject"}]
    assert policy["transports"] == {transport: {scope: [{"type": "insecureAcceptAnything"}]}}


def fake_skopeo(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = "") -> Path:
    """Put a skopeo on PATH that notes its arguments, one call a line."""
    calls = folder / "calls"
    program = folder / "bin" / "skopeo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return calls


def source(folder: Path, text: str) -> Source:
    (folder / "sk").mkdir(exist_ok=True)
    return Source(Reference.parse(text), folder, folder / "sk", QUICK, folder / "log")


def test_what_is_sent_to_skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_skopeo(tmp_path, monkeypatch)
    asked = source(tmp_path, "docker://localhost:5000/x:v1")
    skopeo.copy(asked, DIGEST, Platform("linux", "arm", "v6"), tmp_path / "out", tmp_path / "b", lambda: 0)
    assert calls.read_text().split() == [
        *("--tmpdir", f"{tmp_path}/sk/tmp"),
        *("--override-os", "linux", "--override-arch", "arm", "--override-variant", "v6"),
        *("--policy", f"{tmp_path}/sk/policy.json", "copy", "--remove-signatures"),
        "--dest-oci-accept-uncompressed-layers",
        *("--dest-shared-blob-dir", f"{tmp_path}/b"),
        *(
            "--src-tls-verify=false",
            "--",
            f"docker://localhost:5000/x@{DIGEST}",
            f"oci:{tmp_path}/out:latest",
        ),
    ]


def test_tls_is_left_out_on_loopback_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_skopeo(tmp_path, monkeypatch)
    skopeo.raw_manifest(source(tmp_path, "docker://q.io/x:v1"), None)
    skopeo.raw_manifest(source(tmp_path, "docker://127.0.0.1/x:v1"), None)
    first, second = calls.read_text().splitlines()
    assert first.endswith("inspect --raw -- docker://q.io/x:v1")
    assert second.endswith("inspect --raw --tls-verify=false -- docker://127.0.0.1/x:v1")


def test_a_lasting_failure_is_met_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_skopeo(tmp_path, monkeypatch, "echo 'level=fatal msg=\"manifest unknown\"' >&2; exit 1")
    with pytest.raises(PipelineError, match="it is not there"):
        skopeo.raw_manifest(source(tmp_path, "q.io/x"), None)
    assert len(calls.read_text().splitlines()) == 1


def test_a_passing_failure_is_met_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    calls = fake_skopeo(tmp_path, monkeypatch, "echo 'level=fatal msg=\"unexpected EOF\"' >&2; exit 1")
    asked = source(tmp_path, "q.io/x")
    loud = Source(asked.reference, asked.root, asked.folder, QUICK, asked.log, said.append)
    with pytest.raises(PipelineError) as caught:
        skopeo.raw_manifest(loud, None)
    assert caught.value.code == "copy-end"
    assert "(3 attempts)" in caught.value.message
    assert len(calls.read_text().splitlines()) == 3
    assert [line.split(" in ")[0] for line in said] == [
        "the connection ended too early; attempt 2 of 3",
        "the connection ended too early; attempt 3 of 3",
    ]


def test_a_silent_transfer_is_ended_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_skopeo(tmp_path, monkeypatch, "sleep 60")
    hasty = Source(
        Reference.parse("q.io/x"),
        tmp_path,
        tmp_path,
        Patience(20, 0.3, attempts=2, delay_s=0.01),
        tmp_path / "log",
    )
    with pytest.raises(PipelineError) as caught:
        skopeo.raw_manifest(hasty, None)
    assert caught.value.code == "copy-stalled"
    assert "COOPERAGE_STALL_TIMEOUT_S" in str(caught.value)
    assert len(calls.read_text().splitlines()) == 2


def test_the_time_limit_is_for_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_skopeo(tmp_path, monkeypatch, "sleep 60")
    hasty = Source(Reference.parse("q.io/x"), tmp_path, tmp_path, Patience(0.4, 5, delay_s=0.01))
    with pytest.raises(PipelineError) as caught:
        skopeo.raw_manifest(hasty, None)
    assert caught.value.code == "copy-timeout"
    assert "COOPERAGE_PULL_TIMEOUT_S" in str(caught.value)
    assert len(calls.read_text().splitlines()) == 1


def test_pauses_double_with_jitter_up_to_a_limit() -> None:
    patience = Patience(delay_s=2, longest_delay_s=10)
    for attempt, longest in ((1, 2), (2, 4), (3, 8), (4, 10), (9, 10)):
        pauses = {patience.pause_s(attempt) for _ in range(50)}
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_no_attempt_begins_that_the_limit_would_end() -> None:
    calls: list[float] = []

    def attempt(left_s: float) -> tuple[Result, Kind | None]:
        calls.append(left_s)
        return Result(("x",), 1, "", fatal("unexpected EOF"), 0), None

    with pytest.raises(PipelineError):
        transfer(attempt, Patience(total_s=5, delay_s=20), lambda failure, n: failure.error("x", "h", n))
    assert len(calls) == 1


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOPERAGE_PULL_TIMEOUT_S", "90")
    monkeypatch.setenv("COOPERAGE_STALL_TIMEOUT_S", "7.5")
    assert (Patience.from_environment().total_s, Patience.from_environment().stall_s) == (90, 7.5)
    for bad in ("soon", "-1", "0", "nan", "inf"):
        monkeypatch.setenv("COOPERAGE_STALL_TIMEOUT_S", bad)
        with pytest.raises(PipelineError) as caught:
            Patience.from_environment()
        assert caught.value.message == f"COOPERAGE_STALL_TIMEOUT_S={bad} is no time"
        assert caught.value.hint == "seconds: COOPERAGE_STALL_TIMEOUT_S=60"
