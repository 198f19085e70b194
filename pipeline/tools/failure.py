"""What a failed transfer means: its kind, whether trying again helps, what to tell, what to keep secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import PipelineError


class Kind(Enum):
    """What a failed transfer failed of."""

    DIGEST = "digest"
    POLICY = "policy"
    NO_SPACE = "no-space"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    RATE_LIMIT = "rate-limit"
    SERVER = "server"
    RESET = "reset"
    END = "end"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    DNS = "dns"
    NO_HOST = "no-host"
    OFFLINE = "offline"
    TLS = "tls"
    MISSING = "missing"
    PLATFORM = "platform"
    MANIFEST = "manifest"
    REDIRECT = "redirect"
    OTHER = "other"


TRANSIENT = frozenset(
    {
        Kind.RATE_LIMIT,
        Kind.SERVER,
        Kind.RESET,
        Kind.END,
        Kind.REFUSED,
        Kind.TIMEOUT,
        Kind.STALLED,
        Kind.DNS,
    }
)

# skopeo exits 1 whatever happens, so its words are all there is (measured with 1.9.3). The first
# match counts: a digest error must win over the connection's end that may follow it.
_PATTERNS: tuple[tuple[Kind, str], ...] = (
    (Kind.DIGEST, r"digest[^\n]* (?:did|does) not match|does not match [^\n]*digest|digest mismatch"),
    (Kind.POLICY, r"rejected by policy|signature was required"),
    (Kind.NO_SPACE, r"no space left on device|disk quota exceeded"),
    (Kind.RATE_LIMIT, r"\b429\b|toomanyrequests|too many requests"),
    (Kind.AUTH, r"unauthorized|authentication required|invalid username/password|\b401\b"),
    (Kind.FORBIDDEN, r"\b403\b|\bforbidden\b|\bdenied\b"),
    (Kind.REDIRECT, r"stopped after \d+ redirects|unsupported protocol scheme"),
    (Kind.SERVER, r"(?:status|code|registry|server)[^\n]{0,40}?\b5\d\d\b|internal server error|bad gateway"),
    (Kind.RESET, r"connection reset by peer|broken pipe"),
    (Kind.REFUSED, r"connection refused"),
    (Kind.DNS, r"temporary failure in name resolution|server misbehaving|lookup [^\n]*i/o timeout"),
    (Kind.NO_HOST, r"no such host"),
    (Kind.TIMEOUT, r"i/o timeout|handshake timeout|deadline exceeded|client\.timeout|connection timed out"),
    (Kind.OFFLINE, r"network is unreachable|no route to host"),
    (Kind.TLS, r"x509:|tls:|certificate|http response to https client"),
    (Kind.PLATFORM, r"no image found in (?:manifest list|image index)"),
    (Kind.MISSING, r"(?:manifest|name) unknown|not known to|\b404\b|not found|does not (?:exist|resolve)"),
    (Kind.END, r"unexpected eof|: eof\b|http2: server sent goaway|client connection lost"),
    (Kind.MANIFEST, r"manifest|mimetype|exceeded maximum allowed size|invalid character|unsupported schema"),
)

_ADVICE: dict[Kind, tuple[str, str]] = {
    Kind.DIGEST: (
        "what came does not have the digest that was asked for",
        "{host}, or something on the way, changed the bytes; nothing of them is used",
    ),
    Kind.POLICY: ("the trust policy refused it", "this is a fault of Cooperage: please report it"),
    Kind.NO_SPACE: ("the disk is full", "make room below out/ (`doit clean`), then run it again"),
    Kind.RATE_LIMIT: ("{host} limits how much you may fetch", "log in (`skopeo login {host}`) or wait"),
    Kind.AUTH: ("{host} wants you to log in", "`skopeo login {host}` writes the authfile that skopeo reads"),
    Kind.FORBIDDEN: (
        "{host} refuses this account",
        "check the name; for a private image: `skopeo login {host}` with an account that may read it",
    ),
    Kind.SERVER: ("{host} has a fault of its own", "wait and run it again; what has come is kept"),
    Kind.RESET: ("the connection was reset", "run it again; what has come is kept"),
    Kind.END: ("the connection ended too early", "run it again; what has come is kept"),
    Kind.REFUSED: ("nothing listens at {host}", "check the host and its port, and that the registry runs"),
    Kind.TIMEOUT: ("the time limit passed", "raise COOPERAGE_PULL_TIMEOUT_S, or look at the network"),
    Kind.STALLED: (
        "no byte came for a while",
        "look at the network (a limit on requests looks like this too), or raise COOPERAGE_STALL_TIMEOUT_S",
    ),
    Kind.DNS: ("the name {host} cannot be looked up now", "look at the network and /etc/resolv.conf"),
    Kind.NO_HOST: ("there is no host {host}", "check the spelling of `image:`"),
    Kind.OFFLINE: ("there is no network", "connect this machine, or use a local image (oci:, oci-archive:)"),
    Kind.TLS: (
        "the certificate of {host} is not trusted",
        "put its CA into /etc/containers/certs.d/{host}/ca.crt; only registries on loopback go without TLS",
    ),
    Kind.PLATFORM: ("it has no image for this platform", "`skopeo inspect --raw` shows those there"),
    Kind.MISSING: ("it is not there", "check name and tag; a digest may be gone: `doit update` asks anew"),
    Kind.MANIFEST: ("what came is no image", "check that {host} is a registry and the name is an image's"),
    Kind.REDIRECT: ("{host} sends requests where they cannot go", "tell who runs {host}"),
    Kind.OTHER: ("skopeo failed", "its words are above"),
}


@dataclass(frozen=True)
class Failure:
    """Why a transfer failed, and whether trying again may help."""

    kind: Kind
    said: str

    @property
    def transient(self) -> bool:
        """True when the same may succeed a moment later."""
        return self.kind in TRANSIENT

    def summary(self, host: str = "the registry") -> str:
        """Return what happened, in a few words."""
        return _ADVICE[self.kind][0].format(host=host)

    def error(self, source: str, host: str, attempts: int = 1) -> PipelineError:
        """Return the error that a user sees; `source` is the image that was asked for."""
        what, hint = (text.format(host=host or "the source") for text in _ADVICE[self.kind])
        times = f" ({attempts} attempts)" if attempts > 1 else ""
        said = f"\n  skopeo: {self.said}" if self.said else ""
        return PipelineError(f"copy-{self.kind.value}", f"{source}: {what}{times}{said}", hint=hint)


_SECRET_FORMS = (
    (r"(?i)(authorization:\s*)(?:basic\s+|bearer\s+)?[^\s\"]+", r"\1***"),
    (r"(?i)\b(basic|bearer)\s+[A-Za-z0-9+/_.=~-]{6,}", r"\1 ***"),
    (r"(?<=://)[^/@\s\"]+@", "***@"),
    # A redirect to a storage service is signed in its query.
    (r"(https?://[^\s\"'?]+)\?[^\s\"']+", r"\1?***"),
    (r"(?i)((?:token|password|secret|signature)=)[^\s&\"']+", r"\1***"),
    (r"(?i)(\\?\"\w*(?:token|password|secret)\\?\"\s*:\s*\\?\")[^\"\\]*", r"\1***"),
)


def classify(stderr: str) -> Failure:
    """Tell from skopeo's words why it failed."""
    said = fatal_message(stderr)
    # A tag may be called 429 and a repository `denied`: names are not reasons.
    reason = re.sub(r"[a-z-]+:/[^\s\"]+", " ", said)
    for kind, pattern in _PATTERNS:
        if re.search(pattern, reason, re.IGNORECASE):
            return Failure(kind, said)
    return Failure(Kind.OTHER, said)


def fatal_message(stderr: str) -> str:
    """Return the last message of a log in logrus' text form, or its last line."""
    found = re.findall(r'level=fatal msg=("(?:[^"\\]|\\.)*"|\S+)', stderr)
    if found:
        plain = re.sub(r"\\(.)", lambda match: " " if match[1] in "nrt" else match[1], _unquoted(found[-1]))
        return re.sub(r'^Error parsing image name "[^"]*": ', "", plain)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _unquoted(word: str) -> str:
    return word[1:-1] if word.startswith('"') else word


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text without credentials: those given, and what looks like some."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    for pattern, shown in _SECRET_FORMS:
        text = re.sub(pattern, shown, text)
    return text
