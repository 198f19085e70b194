"""Hardening of what is said to programs and runtimes beside the limits: variables and annotations.

Sources: ld.so(8), environ(7); the annotations that runc, crun, Kata, gVisor and CRI runtimes document.
"""

from __future__ import annotations

import re
from dataclasses import replace

from pipeline.checks.subject import HIGH, LOW, MEDIUM, Findings, Subject, cover_of, normal, options
from pipeline.model.nouns import Finding

_SECRET = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|CREDENTIAL)", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_CONTROL = re.compile(r"[\x01-\x08\x0b-\x1f\x7f\x80-\x9f]")
_PRELOAD = ("LD_PRELOAD", "LD_AUDIT")
_LOADED = (*_PRELOAD, "LD_LIBRARY_PATH")
# runc reads `bundle`, org.criu.config and org.systemd.property.; crun run.oci. and module.wasm.; gVisor and
# Kata their own, and what CRI runtimes hand them.
_OBEYED_NAMES = frozenset({"bundle", "org.criu.config"})
_OBEYED_PREFIXES = (
    "dev.gvisor.",
    "io.katacontainers.",
    "io.kubernetes.cri",
    "module.wasm.",
    "org.systemd.property.",
    "run.oci.",
)


def variables(subject: Subject) -> Findings:
    """No secret and no foreign library in the environment, and nothing that a terminal obeys."""
    for index, entry in enumerate(subject.process.env or ()):
        name, _, value = entry.partition("=")
        path = f"process.env[{index}]"
        if name in _PRELOAD:
            message = f"`{name}` loads code into every program"
            yield Finding("env-preload", MEDIUM, message, path, "drop it", "ld.so(8)")
        elif (_SECRET.search(name) and value and not value.startswith("/")) or _LOGIN.search(value):
            message = f"`{name}` looks like a secret; config.json is readable and so is /proc/PID/environ"
            mend = f"a file on a volume, and `{name}_FILE` with its path"
            # The line itself stays out of logs and reports.
            place = replace(subject.document.place(path), text="")
            yield Finding("env-secret", MEDIUM, message, path, mend, "NSA/CISA", place)
        if _CONTROL.search(entry):
            message = f"`{name}` has control characters, which a terminal obeys when somebody prints it"
            yield Finding("env-control", LOW, message, path, "take them out", "CWE-150")


def libraries(subject: Subject) -> Findings:
    """No library is loaded from where the program itself can write: one write would be code in all others."""
    for index, entry in enumerate(subject.process.env or ()):
        name, _, value = entry.partition("=")
        for part in re.split("[: ;]+", value) if name in _LOADED else ():
            mount = cover_of(subject, normal(part)) if part.startswith("/") else None
            if mount is not None and not {"ro", "noexec"} & options(mount):
                message = f"`{name}` names `{part}`, on a mount that the program can write and run code from"
                mend = "`:ro` on that mount, or `noexec`"
                yield Finding(
                    "env-writable-library", HIGH, message, f"process.env[{index}]", mend, "ld.so(8)"
                )


def obeyed_annotations(subject: Subject) -> Findings:
    """No annotation is an order to a runtime: it would go around what the rest of config.json says."""
    for key in subject.config.annotations or {}:
        if key in _OBEYED_NAMES or key.startswith(_OBEYED_PREFIXES):
            message = (
                f"runtimes obey the annotation `{key}`: it changes what they do, beside all that is judged"
            )
            mend = "drop it, or say in `waive` why it is wanted: `annotation-obeyed: …`"
            path = f'annotations["{key}"]'
            yield Finding("annotation-obeyed", HIGH, message, path, mend, "runc and crun, documentation")
