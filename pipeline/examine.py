"""Put a bundle on disk before the judge: its config.json, its rootfs, and the host. Nothing is run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.checks.form import read_form
from pipeline.checks.index import judge
from pipeline.checks.subject import HostFacts, Subject
from pipeline.files import Entry
from pipeline.model.nouns import Finding
from pipeline.model.runtime import RuntimeConfig
from pipeline.observe.rootfs import HostLook, RootfsLook
from pipeline.observe.tree import recorded_facts, walked_facts
from pipeline.tools import libseccomp


def examine(
    config: Path, name: str, host: HostFacts, recorded: Iterable[Entry] | None = None, **known: Any
) -> list[Finding]:
    """Return what the judge finds in form, meaning, bundle, host and hardening of one config.json.

    `name` is what places call the file; the rootfs is the folder that config.json names, beside it.
    `known` is what else a Subject can hold (`image`, `intent`, `unpacked`, …): a bundle from elsewhere
    comes without. `recorded` is what the rootfs holds, where a record says so; else it is walked once.
    Raises OSError when config.json cannot be read.
    """
    form = read_form(name, config.read_text(errors="surrogateescape"))
    if form.document is None or form.config is None:
        return form.findings
    folder = config.parent.resolve()
    root = folder / form.config.root.path
    owner = _root_id(form.config)
    tree = walked_facts(root, owner) if recorded is None else recorded_facts(recorded, owner)
    subject = Subject(
        document=form.document,
        config=form.config,
        folder=str(folder),
        rootfs=RootfsLook(root),
        host_view=HostLook(),
        host=host,
        is_syscall=libseccomp.is_known,
        tree=tree,
        **known,
    )
    return [*form.findings, *judge(subject)]


def _root_id(config: RuntimeConfig) -> int:
    """The host's id of the container's root."""
    mapped = [entry for entry in (config.linux and config.linux.uid_mappings) or () if not entry.container_id]
    return mapped[0].host_id if mapped else 0
