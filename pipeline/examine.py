"""Put a bundle on disk before the judge: its config.json, its rootfs, and the host. Nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.checks.form import read_form
from pipeline.checks.index import judge
from pipeline.checks.subject import HostFacts, Subject
from pipeline.model.nouns import Finding
from pipeline.observe.rootfs import HostLook, RootfsLook
from pipeline.tools import libseccomp


def examine(config: Path, name: str, host: HostFacts, **known: Any) -> list[Finding]:
    """Return what the judge finds in form, meaning, bundle, host and hardening of one config.json.

    `name` is what places call the file; the rootfs is the folder that config.json names, beside it.
    `known` is what else a Subject can hold (`image`, `intent`, `unpacked`, …): a bundle from elsewhere
    comes without. Raises OSError when config.json cannot be read.
    """
    form = read_form(name, config.read_text(errors="surrogateescape"))
    if form.document is None or form.config is None:
        return form.findings
    folder = config.parent.resolve()
    subject = Subject(
        document=form.document,
        config=form.config,
        folder=str(folder),
        rootfs=RootfsLook(folder / form.config.root.path),
        host_view=HostLook(),
        host=host,
        is_syscall=libseccomp.is_known,
        **known,
    )
    return [*form.findings, *judge(subject)]
