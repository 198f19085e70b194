"""Put a bundle on disk before the judge: its config.json, its rootfs, and the host. Nothing is run."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.checks.form import Form, read_form
from pipeline.checks.index import Layer, judge
from pipeline.checks.subject import HostFacts, RootfsView, Subject
from pipeline.errors import PipelineError
from pipeline.files import Entry
from pipeline.model.nouns import Finding
from pipeline.model.runtime import RuntimeConfig
from pipeline.observe.rootfs import HostLook, RootfsLook
from pipeline.observe.tree import recorded_facts, walked_facts
from pipeline.tools import libseccomp

_FORM = "form"
_MOST_BYTES = 16 << 20
"""No runtime's own config.json is near this; a larger one is not read."""


def examine(
    config: Path,
    name: str,
    host: HostFacts,
    layers: Collection[Layer] = tuple(Layer),
    look: Callable[[Path], RootfsView] = RootfsLook,
    **known: Any,
) -> list[Finding]:
    """Return what the judge finds in form and these layers of one config.json.

    `name` is what places call the file; the rootfs is the folder that config.json names, beside it, and
    `look` makes the view of it. `known` is what `subject_of` takes more: a bundle from elsewhere comes
    without. Raises OSError when config.json cannot be read, PipelineError `bad-config` when it is no file,
    or too large.
    """
    form = read_form(name, read_text(config))
    found = [replace(finding, layer=_FORM) for finding in form.findings]
    subject = subject_of(config, form, host, look, **known)
    return found if subject is None else [*found, *judge(subject, layers)]


def subject_of(
    config: Path,
    form: Form,
    host: HostFacts,
    look: Callable[[Path], RootfsView] = RootfsLook,
    recorded: Iterable[Entry] | None = None,
    **known: Any,
) -> Subject | None:
    """Return what the checks look at, or None where nothing could be read.

    `recorded` is what the rootfs holds, where a record says so; else it is walked once. `known` is what
    else a Subject can hold (`image`, `intent`, `unpacked`, …).
    """
    if form.document is None or form.config is None:
        return None
    folder = config.parent.resolve()
    root = _root(folder, form.config.root.path)
    owner = _root_id(form.config)
    tree = walked_facts(root, owner) if recorded is None else recorded_facts(recorded, owner)
    return Subject(
        document=form.document,
        config=form.config,
        folder=str(folder),
        rootfs=look(root),
        host_view=HostLook(),
        host=host,
        is_syscall=libseccomp.is_known,
        tree=tree,
        **known,
    )


def _root_id(config: RuntimeConfig) -> int:
    """The host's id of the container's root."""
    mapped = [entry for entry in (config.linux and config.linux.uid_mappings) or () if not entry.container_id]
    return mapped[0].host_id if mapped else 0


def _root(folder: Path, path: str) -> Path:
    try:
        os.lstat(folder / path)
    except ValueError:
        # No file can bear such a name; the form of it is a finding already.
        return folder / ".nothing"
    except OSError:
        pass
    return folder / path


def read_text(config: Path) -> str:
    """Return the text of a config.json; what is not UTF-8 in it stands as surrogate escapes.

    Raises OSError, and PipelineError `bad-config` for what is no regular file, or too large.
    """
    # Whatever somebody has put there: a FIFO would be waited for.
    with open(config, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise PipelineError("bad-config", f"{config} is no regular file")
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise PipelineError("bad-config", f"{config} is larger than {_MOST_BYTES >> 20} MiB")
    return content.decode("utf-8", "surrogateescape")
