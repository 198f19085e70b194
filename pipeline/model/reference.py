"""Image references: where an image comes from, in the words of containers-transports(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError, suggest
from pipeline.model.nouns import parse_digest

TRANSPORTS = ("docker", "oci", "oci-archive", "docker-archive", "dir", "containers-storage", "demo")
DEMO_IMAGES = ("busybox-httpd",)
# Transports that skopeo knows and a build must not use: they need a daemon or verify nothing.
_UNSUPPORTED = {"docker-daemon": "docker-archive", "ostree": "oci", "sif": "oci-archive", "tarball": "oci"}

# The grammar of distribution's `reference` package, which skopeo parses names with.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?"
_REPOSITORY = re.compile(rf"(?P<host>{_HOST})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LAYOUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")
_STORAGE = re.compile(r"(?P<store>\[[^\[\]]*\])?(?P<name>.+)")
_CREDENTIALS = re.compile(r"(^|//)[^/\s]*@(?!sha256:)")
_LOCAL = frozenset(TRANSPORTS) - {"docker"}
_MAX_NAME = 255


@dataclass(frozen=True)
class Reference:
    """One image reference. `name` is host/repository, a path, or the name of a demo image.

    `tag` is a registry's tag or the name of an image within an archive or a layout; `store` is the
    `[driver@root+run]` part of containers-storage.
    """

    transport: str
    name: str
    tag: str = ""
    digest: str | None = None
    store: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference; without a transport it is a registry's. Raises PipelineError `bad-image`."""
        _refuse_odd_text(text)
        transport, rest = _split_transport(text)
        if transport == "docker":
            return _parse_docker(rest)
        if transport == "containers-storage":
            return _parse_storage(rest)
        if transport == "demo":
            return _parse_demo(rest)
        return _parse_path(transport, rest)

    def __str__(self) -> str:
        tail = (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")
        slashes = "//" if self.transport == "docker" else ""
        return f"{self.transport}:{slashes}{self.store}{self.name}{tail}"

    @property
    def key(self) -> str:
        """The text that pins are kept under: two spellings of one reference have one key."""
        return str(self)

    @property
    def remote(self) -> bool:
        """True when the bytes may change behind our back, so that a build needs a pin."""
        return self.transport in ("docker", "containers-storage")

    @property
    def host(self) -> str:
        """The registry's host[:port]; empty for what is not in a registry."""
        return self.name.partition("/")[0] if self.transport == "docker" else ""

    @property
    def loopback(self) -> bool:
        """True for a registry on this machine, which is used without TLS."""
        name = self.host.partition(":")[0]
        return name == "localhost" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", name) is not None

    def path(self, root: Path) -> Path:
        """Return the absolute path of a local image; relative ones start at the project `root`."""
        return (root / self.name).resolve()

    def skopeo_source(self, digest: str | None = None, root: Path = Path()) -> str:
        """Return the source as skopeo takes it, at `digest` when given.

        A digest replaces the tag: skopeo refuses a reference that carries both.
        """
        at = digest or self.digest
        if self.remote and at:
            return str(Reference(self.transport, self.name, "", at, self.store))
        if self.remote:
            return str(self)
        return f"{self.transport}:{self.path(root)}" + (f":{self.tag}" if self.tag else "")


def _redacted(text: str) -> str:
    """Return a reference's text without the user and the password that it may carry."""
    return text if text.partition(":")[0] in _LOCAL else _CREDENTIALS.sub(r"\1***@", text)


def _bad(text: str, reason: str, hint: str | None = None) -> PipelineError:
    return PipelineError("bad-image", f"`{_redacted(text)}` is no image reference: {reason}", hint=hint)


def _refuse_odd_text(text: str) -> None:
    if not text:
        raise _bad(text, "it is empty", "for example docker://docker.io/library/nginx:1.27")
    if not text.isprintable() or re.search(r"\s", text):
        raise _bad(ascii(text)[1:-1], "it has white space or control characters")
    if text.startswith("-"):
        raise _bad(text, "it starts with `-`")
    if _redacted(text) != text:
        raise _bad(
            text,
            "it carries a user or a password",
            "take them out and log in once: skopeo login HOST (they stay in the authfile)",
        )


def _split_transport(text: str) -> tuple[str, str]:
    word, colon, rest = text.partition(":")
    if colon and word in TRANSPORTS:
        if word == "docker" and not rest.startswith("//"):
            raise _bad(text, "docker: is followed by //", f"docker://{rest}")
        return word, rest.removeprefix("//") if word == "docker" else rest
    if word in _UNSUPPORTED:
        raise _bad(text, f"{word}: is not supported", f"save the image and use {_UNSUPPORTED[word]}:PATH")
    if word in ("http", "https"):
        raise _bad(text, "it is a web address", f"docker://{rest.lstrip('/')}")
    if colon and (rest.startswith("//") or ("-" in word and "/" in rest and "/" not in word)):
        close = suggest(word, TRANSPORTS)
        known = ", ".join(f"{name}:" for name in TRANSPORTS)
        raise _bad(text, f"there is no transport `{word}:`", f"did you mean `{close}:`?" if close else known)
    return "docker", text


def _parse_docker(rest: str) -> Reference:
    name, tag, digest = _split_name(rest)
    full = _full_name(name)
    if "[" in name:
        raise _bad(rest, "skopeo knows no IPv6 addresses", "use a host name such as localhost")
    if name != name.lower() and not _REPOSITORY.fullmatch(full):
        raise _bad(rest, "a repository's name has no capitals", name.lower())
    if len(full) > _MAX_NAME or not _REPOSITORY.fullmatch(full):
        raise _bad(rest, f"`{name}` is no repository", "HOST[:PORT]/PATH[:TAG][@sha256:DIGEST]")
    return Reference("docker", full, tag or ("" if digest else "latest"), digest)


def _split_name(rest: str) -> tuple[str, str, str | None]:
    name, at, digest = rest.partition("@")
    if at:
        parse_digest(digest)
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _bad(rest, f"`{tag}` is no tag", "letters, digits, `_`, `.` and `-`, at most 128")
    return head + slash + last, tag, digest or None


def _full_name(name: str) -> str:
    # What docker and skopeo read into a short name: `nginx` is docker.io/library/nginx.
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", name
    if host == "index.docker.io":
        host = "docker.io"
    if host == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return f"{host}/{rest}"


def _parse_storage(rest: str) -> Reference:
    match = _STORAGE.fullmatch(rest)
    if not match or match["name"].startswith("@"):
        raise _bad(f"containers-storage:{rest}", "it needs a name", "containers-storage:localhost/name:tag")
    name, tag, digest = _split_name(match["name"])
    if not re.fullmatch(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*", name):
        raise _bad(f"containers-storage:{rest}", f"`{name}` is no repository", "localhost/name:tag")
    return Reference("containers-storage", name, tag, digest, match["store"] or "")


def _parse_demo(rest: str) -> Reference:
    if rest not in DEMO_IMAGES:
        known = ", ".join(DEMO_IMAGES)
        raise _bad(f"demo:{rest}", f"there is no demo image `{rest}`", f"there is: {known}")
    return Reference("demo", rest)


def _parse_path(transport: str, rest: str) -> Reference:
    # skopeo cuts at the first colon, so a path cannot hold one.
    path, colon, name = rest.partition(":")
    text = f"{transport}:{rest}"
    if path.startswith("//"):
        raise _bad(text, "a path follows the colon, not //", f"{transport}:{rest.lstrip('/')}")
    if not path:
        raise _bad(text, "it names no path", f"{transport}:PATH")
    if colon and transport == "dir":
        raise _bad(text, "a dir: holds one image, nothing follows its path", f"dir:{path}")
    if colon and not _LAYOUT_NAME.fullmatch(name):
        raise _bad(text, f"`{name}` is no image name", f"{transport}:PATH:NAME; a path has no colon")
    return Reference(transport, path, name)
