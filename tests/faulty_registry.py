"""A registry on loopback that goes wrong in one chosen way, and notes every request."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_EVER = 10**6
_SLOW_BYTES = 2048


def digest_of(content: bytes) -> str:
    """`sha256:…` of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Fault:
    """What goes wrong (`name`, a method of _Answer or an HTTP status), where, and how often."""

    name: str
    where: str = "blob"
    times: int = _EVER


@dataclass
class FaultyRegistry:
    """One image `app:v1` with one layer; `requests` is (what was asked, how it was answered)."""

    layer: bytes
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def __post_init__(self) -> None:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"plain")]},
        }
        self.config = json.dumps(config).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _descriptor(_CONFIG, self.config),
                "layers": [_descriptor(_LAYER, self.layer)],
            }
        ).encode()
        self.blobs = {digest_of(content): content for content in (self.config, self.layer)}

    def next_fault(self, where: str) -> Fault | None:
        """The fault for this request, counted."""
        for fault in self.faults:
            if fault.where == where and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def count(self, where: str) -> int:
        """How often a kind of thing was asked for."""
        return sum(1 for asked, _ in self.requests if asked == where)


@contextmanager
def faulty_registry(
    *faults: Fault, layer: bytes = b"", host: str = "127.0.0.1", certificate: Path | None = None
) -> Iterator[FaultyRegistry]:
    """Serve until the block ends; with TLS when there is a `certificate` (PEM with its key)."""
    registry = FaultyRegistry(layer or b"\x1f\x8b" + bytes(range(256)) * 1024, list(faults))

    class Handler(_Answer):
        shown = registry

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.address = f"{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        registry.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Answer(BaseHTTPRequestHandler):
    """Answers one request, rightly or as the next fault says."""

    shown: FaultyRegistry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        where, content, kind = self._wanted()
        fault = self.shown.next_fault(where)
        self.shown.requests.append((where, fault.name if fault else "ok"))
        if fault is None:
            self._send(200 if content else 404, content or b"{}", kind)
        elif fault.name.isdigit():
            self._send(int(fault.name), b"")
        else:
            faulty: Callable[[bytes, str], None] = getattr(self, fault.name)
            faulty(content, kind)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `requests` has it."""

    def reset(self, content: bytes, kind: str) -> None:
        """Close with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # The socket is closed, and RST sent, when its last file is.
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def end_early(self, content: bytes, kind: str) -> None:
        """Promise all, send half, close."""
        self._head(200, len(content), kind)
        self.wfile.write(content[: len(content) // 2])
        self._drop()

    def truncated(self, content: bytes, kind: str) -> None:
        """Serve half of it as if that were all."""
        self._send(200, content[: len(content) // 2], kind)

    def overlong(self, content: bytes, kind: str) -> None:
        """Serve more than there is."""
        self._send(200, content + b"more", kind)

    def corrupt(self, content: bytes, kind: str) -> None:
        """Flip one bit."""
        self._send(200, content[:-3] + bytes([content[-3] ^ 1]) + content[-2:], kind)

    def tampered(self, content: bytes, kind: str) -> None:
        """A manifest that says something else, and is right by itself."""
        self._send(200, content.replace(b'"schemaVersion"', b' "schemaVersion"'), kind)

    def html(self, content: bytes, kind: str) -> None:
        """What a captive portal sends."""
        self._send(200, b"<html><body>please log in</body></html>", "text/html")

    def huge(self, content: bytes, kind: str) -> None:
        """A manifest of more than 4 MiB."""
        self._send(200, content[:-1] + b" " * (5 << 20) + b"}", kind)

    def redirect_loop(self, content: bytes, kind: str) -> None:
        """Send it round for ever."""
        self._redirect(self.path)

    def redirect_file(self, content: bytes, kind: str) -> None:
        """Send it to a file of the client."""
        self._redirect("file:///etc/passwd")

    def echo(self, content: bytes, kind: str) -> None:
        """Refuse, and repeat the credentials in the answer."""
        said = self.headers.get("Authorization", "")
        body = {"errors": [{"code": "DENIED", "message": f"denied: {said}"}]}
        self._send(403, json.dumps(body).encode(), "application/json")

    def hang(self, content: bytes, kind: str) -> None:
        """Never answer."""
        self.shown.closing.wait()
        self.close_connection = True

    def stall(self, content: bytes, kind: str) -> None:
        """Send half and stop."""
        self._head(200, len(content), kind)
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.hang(content, kind)

    def slow(self, content: bytes, kind: str) -> None:
        """Send 2 kB ten times a second."""
        self._head(200, len(content), kind)
        for at in range(0, len(content), _SLOW_BYTES):
            self.wfile.write(content[at : at + _SLOW_BYTES])
            self.wfile.flush()
            if self.shown.closing.wait(0.1):
                return

    def _wanted(self) -> tuple[str, bytes, str]:
        shown, last = self.shown, self.path.rpartition("/")[2]
        if self.path.rstrip("/") == "/v2":
            return "ping", b"{}", "application/json"
        if "/manifests/" in self.path:
            return "manifest", shown.manifest, MANIFEST
        content = shown.blobs.get(last, b"")
        return "config" if content == shown.config else "blob", content, "application/octet-stream"

    def _send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self._head(status, len(content), kind)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: int, length: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _redirect(self, where: str) -> None:
        self.send_response(307)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}
