"""A real docker-registry on loopback for one test, with or without a login."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "cooper"
TOKEN = "planted-token-7f3a"
# bcrypt of TOKEN, since nothing that makes one is part of every Debian.
_HTPASSWD = f"{USER}:$2b$05$cooperagecooperagecoo..gU3JyFgie8shZ7ltlfNMcxQHvvQCD.\n"
_ANYTHING = '{"default":[{"type":"insecureAcceptAnything"}]}'
_START_S = 15


class Registry:
    """A running registry. `address` is HOST:PORT; `log` is what it writes."""

    def __init__(self, folder: Path, address: str, login: bool) -> None:
        self.folder = folder
        self.address = address
        self.login = login
        self.log = folder / "registry.log"
        self.authfile = folder / "auth.json"
        auth = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        self.authfile.write_text(json.dumps({"auths": {address: {"auth": auth}}}))

    def push(self, source: str, name: str, *flags: str) -> str:
        """Copy an image here with skopeo and return `docker://ADDRESS/NAME`."""
        policy = self.folder / "policy.json"
        policy.write_text(_ANYTHING)
        target = f"docker://{self.address}/{name}"
        argv = ["skopeo", "--policy", str(policy), "copy", "--quiet", "--dest-tls-verify=false", *flags]
        if self.login:
            argv += ["--dest-authfile", str(self.authfile)]
        subprocess.run([*argv, source, target], check=True, capture_output=True, text=True, timeout=120)
        return target


@contextmanager
def running_registry(folder: Path, *, login: bool = False) -> Iterator[Registry]:
    """Run a registry whose data lies in `folder`, until the block ends; `login` asks for USER and TOKEN."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = Registry(folder, f"127.0.0.1:{_free_port()}", login)
    (folder / "htpasswd").write_text(_HTPASSWD)
    (folder / "config.yml").write_text(_config(registry))
    with registry.log.open("wb") as log:
        argv = ["docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        _await(registry, process)
        yield registry
    finally:
        process.terminate()
        process.wait(10)


def _config(registry: Registry) -> str:
    text = f"""version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: "{registry.folder}/data"}}}}
http: {{addr: "{registry.address}"}}
"""
    if registry.login:
        text += f'auth: {{htpasswd: {{realm: cooperage, path: "{registry.folder}/htpasswd"}}}}\n'
    return text


def _await(registry: Registry, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, registry.log.read_text()
        try:
            with urllib.request.urlopen(f"http://{registry.address}/v2/", timeout=2):
                return
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"no registry after {_START_S} s: {registry.log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
