"""skopeo: its argv, its trust policy, its authfile. It carries bytes; what they are is checked elsewhere."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import canonical_json
from pipeline.model.nouns import Platform
from pipeline.model.reference import Reference
from pipeline.run import Argument, Result, require, run
from pipeline.tools.failure import Failure, Kind, redact
from pipeline.tools.transfer import Patience, transfer, watched

_ACCEPT = [{"type": "insecureAcceptAnything"}]
_VERSION_TIMEOUT_S = 20


def version() -> str:
    """Return skopeo's version. Raises PipelineError `missing-tool`."""
    require("skopeo", "copy images")
    said = run(["skopeo", "--version"], timeout_s=_VERSION_TIMEOUT_S).stdout
    match = re.search(r"\d+(?:\.\d+)+\S*", said)
    return match[0] if match else said.strip()


@dataclass(frozen=True)
class Source:
    """Where an image comes from, and how to talk to it.

    `folder` is an empty private folder for skopeo's temporary files; relative paths start at `root`.
    `asked` is what the user wrote, where `reference` is something made from it. `say` gets one line a retry.
    """

    reference: Reference
    root: Path
    folder: Path
    patience: Patience = field(default_factory=Patience.from_environment)
    log: Path | None = None
    say: Callable[[str], None] = lambda line: None
    asked: Reference | None = None

    @property
    def name(self) -> str:
        """The reference as an error shows it."""
        return str(self.asked or self.reference)


def raw_manifest(source: Source, digest: str | None) -> bytes:
    """Return the bytes of the manifest or index at `digest`, or that the reference names now."""
    return _inspect(source, ["--raw"], digest)


def raw_config(source: Source, digest: str | None) -> bytes:
    """Return the bytes of the config blob of one image."""
    return _inspect(source, ["--config", "--raw"], digest)


def copy(
    source: Source,
    digest: str | None,
    platform: Platform,
    layout: Path,
    blobs: Path,
    moved: Callable[[], int],
    source_blobs: Path | None = None,
) -> None:
    """Copy one image into an OCI layout whose blobs go to the folder `blobs`, which others may share.

    Atomic for each blob, not for the layout. `moved` returns the bytes that have come so far. Raises
    PipelineError `copy-KIND`; `transfer` says when it is tried again.
    """
    at = source.reference.skopeo_source(digest, source.root)
    policy = source.folder / "policy.json"
    policy.write_bytes(canonical_json(trust_policy(source.reference, source.root, digest)))
    argv: list[Argument] = [
        *_skopeo(source, platform),
        "--policy",
        policy,
        "copy",
        # An OCI layout has no place for signatures: skopeo refuses a signed image without this.
        "--remove-signatures",
        # Layers stay as they are: to compress them would cost time and change their digests.
        "--dest-oci-accept-uncompressed-layers",
        "--dest-shared-blob-dir",
        blobs,
        *(("--src-shared-blob-dir", source_blobs) if source_blobs else ()),
        *(["--src-tls-verify=false"] if source.reference.loopback else []),
        "--",
        at,
        f"oci:{layout}:latest",
    ]
    _talk(source, argv, moved)


def trust_policy(reference: Reference, root: Path, digest: str | None) -> dict[str, object]:
    """Return a containers-policy.json(5) that accepts this source and rejects everything else.

    What vouches for the content is the digest, checked before and after; the policy keeps skopeo from
    reading anything but what this build names, whatever the host's policy says.
    """
    if reference.transport == "docker":
        scope = reference.skopeo_source(digest, root).removeprefix("docker://")
    elif reference.transport in ("oci", "oci-archive", "dir"):
        scope = str(reference.path(root))
    else:
        # containers-policy.json(5) has no scopes for archives, and store ids for containers-storage.
        scope = ""
    return {"default": [{"type": "reject"}], "transports": {reference.transport: {scope: _ACCEPT}}}


def authfile_secrets() -> list[str]:
    """Return every credential in the authfiles that skopeo may read, so that no log shows one."""
    found: set[str] = set()
    for path in _authfiles():
        try:
            entries = json.loads(path.read_bytes())["auths"].values()
            for entry in entries:
                found |= _secrets_of(entry)
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            continue
    return sorted(secret for secret in found if len(secret) >= 4)


def _inspect(source: Source, flags: list[str], digest: str | None) -> bytes:
    # An index inside skopeo's own choice of a platform never matters here: digests name one image.
    argv: list[Argument] = [
        *_skopeo(source, None),
        "inspect",
        *flags,
        *(["--tls-verify=false"] if source.reference.loopback else []),
        "--",
        source.reference.skopeo_source(digest, source.root),
    ]
    _talk(source, argv, lambda: 0)
    # The file and not the decoded text: a digest is over bytes.
    return (source.folder / "stdout").read_bytes()


def _skopeo(source: Source, platform: Platform | None) -> list[Argument]:
    require("skopeo", "copy images")
    scratch = source.folder / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    choice: list[Argument] = []
    if platform:
        choice = ["--override-os", platform.os, "--override-arch", platform.architecture]
    if platform and platform.variant:
        choice += ["--override-variant", platform.variant]
    return ["skopeo", "--tmpdir", scratch, *choice]


def _talk(source: Source, argv: list[Argument], moved: Callable[[], int]) -> None:
    secrets = authfile_secrets()
    patience = source.patience

    def attempt(left_s: float) -> tuple[Result, Kind | None]:
        result, ended = watched(argv, source.folder, left_s, patience.stall_s, moved)
        _note(source, result, ended, secrets)
        return result, ended

    def failed(failure: Failure, attempts: int) -> PipelineError:
        return failure.error(source.name, source.reference.host, attempts)

    transfer(attempt, patience, failed, source.say, secrets)


def _note(source: Source, result: Result, ended: Kind | None, secrets: list[str]) -> None:
    if source.log is None:
        return
    how = f"was ended: {ended.value}" if ended else result.ended
    text = f"$ {' '.join(result.argv)}\n{result.stderr}{how} after {result.seconds:.1f} s\n"
    source.log.parent.mkdir(parents=True, exist_ok=True)
    with source.log.open("a") as log:
        log.write(redact(text, secrets))


def _authfiles() -> list[Path]:
    # The order of containers-auth.json(5); all are read, since only what must stay secret matters.
    env = os.environ.get
    home = Path(env("HOME") or Path.home())
    places = [
        env("REGISTRY_AUTH_FILE"),
        f"{env('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/containers/auth.json",
        f"/run/containers/{os.getuid()}/auth.json",
        home / ".config/containers/auth.json",
        f"{env('DOCKER_CONFIG') or home / '.docker'}/config.json",
    ]
    return [Path(place) for place in places if place]


def _secrets_of(entry: dict[str, object]) -> set[str]:
    found = {value for key, value in entry.items() if isinstance(value, str) and key != "username"}
    for value in list(found):
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except ValueError:
            continue
        if ":" in decoded:
            found |= {decoded, decoded.partition(":")[2]}
    return found
