"""Readers of labels and annotations, and the names among them that are no mere words.

A runtime that knows the name of an annotation obeys its value. Taken from an image, or written as a label
that nobody suspects, such a name would be a way around config.json.
"""

from __future__ import annotations

from typing import Any

from pipeline.model.problems import bad, quoted
from pipeline.model.values import text_or_number

OWN_PREFIX = "org.cooperage."
"""Annotations that Cooperage writes itself; whoever reads them must be able to rely on them."""

_OBEYED_NAMES = ("bundle", "org.criu.config")
# runc (bundle, org.criu., org.systemd.property.), crun (run.oci., module.wasm.), containerd and CRI-O
# (io.kubernetes.cri), Kata, gVisor, podman and docker: each one's own documentation of annotations.
_OBEYED_PREFIXES = (
    "com.docker.runtime.",
    "dev.gvisor.",
    "io.katacontainers.",
    "io.kubernetes.cri",
    "io.podman.annotations.",
    "module.wasm.",
    "org.systemd.property.",
    "run.oci.",
)


def is_obeyed(name: str) -> bool:
    """True for the name of an annotation that changes what some runtime does."""
    return name in _OBEYED_NAMES or name.startswith(_OBEYED_PREFIXES)


def label(key: str, value: Any) -> str:
    """The value of a label: words for people and programs, never an order to a runtime."""
    found = annotation(key, value)
    if is_obeyed(key):
        hint = "if that is wanted, write it in `annotations`"
        raise bad("obeyed-label", f"runtimes obey {quoted(key)}, so it is no label", hint, on_key=True)
    return found


def annotation(key: str, value: Any) -> str:
    """The value of an annotation, whoever reads it; those of Cooperage itself are not to be set."""
    if not key or not key.isprintable():
        raise bad("bad-value", f"{quoted(key)} is not a name", on_key=True)
    if key.startswith(OWN_PREFIX):
        message = f"{quoted(key)} is for Cooperage itself to write"
        raise bad("reserved-name", message, "choose a name of your own domain", on_key=True)
    if value is None:
        raise bad("bad-value", f"{quoted(key)} has no value", f'for empty text write `{key}: ""`')
    return text_or_number(value)
