"""From the files of one spec and of those it extends to a whole Bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, PipelineErrors, Place, suggest
from pipeline.model.bundle import (
    DEFAULT_MEMORY_BYTES,
    UNCONFINED,
    Bundle,
    Hardening,
    Healthcheck,
    Tmpfs,
    hardened_ulimits,
)
from pipeline.model.nouns import Platform
from pipeline.model.problems import quoted
from pipeline.model.speckeys import MERGED
from pipeline.model.variants import canonical_platform
from pipeline.source import read_source
from pipeline.speclang import envfile
from pipeline.speclang.read import Written
from pipeline.yamlnodes import Steps

Chain = Sequence[Written]
_PROBES = ("test", "http", "tcp", "disable")


class Merged:
    """A spec over its bases: `chain` has the spec last. Knows which file each key comes from."""

    def __init__(self, root: Path, chain: Chain) -> None:
        self.root = root
        self.chain = chain
        self.top = chain[-1]
        self.values: dict[str, Any] = {}
        self.origin: dict[str, Written] = {}
        self.env_files: dict[str, bytes] = {}
        self.variables: dict[str, tuple[str, Place]] = {}
        for written in chain:
            self._add(written)

    def _add(self, written: Written) -> None:
        for key, value in written.values.items():
            self.values[key] = merge(key, self.values.get(key), value)
            self.origin[key] = written

    def error(
        self, code: str, message: str, key: str, hint: str | None = None, part: Steps = ()
    ) -> PipelineError:
        """An error at the file that has the last word on `key`."""
        return self.origin.get(key, self.top).error(code, message, key, hint, part)

    def read_env_files(self) -> list[PipelineError]:
        """Read what `env_file` names; return what is wrong with it."""
        errors: list[PipelineError] = []
        for index, path in enumerate(self.values.get("env_file", ())):
            try:
                content = read_source(self.root / path, path, follow=True)
                self.env_files[path] = content
                self.variables |= envfile.parse(content, path)
            except PipelineErrors as fault:
                errors += fault.errors
            except PipelineError as fault:
                errors.append(self._unread(index, path, fault))
        return errors

    def _unread(self, index: int, path: str, fault: PipelineError) -> PipelineError:
        document = self.origin["env_file"].document
        place = document.place(("env_file", index))
        return PipelineError(fault.code, f"{quoted(path)}: {fault.message}", place=place, hint=fault.hint)

    def places(self) -> dict[str, Place]:
        """Where each key, and each part of it, stands; dotted path -> place."""
        found: dict[str, Place] = {f"environment.{key}": place for key, (_, place) in self.variables.items()}
        for written in self.chain:
            for steps, spot in written.document.spots.items():
                if steps and self._counts(written, str(steps[0])):
                    found[".".join(map(str, _named(written, steps)))] = spot.key
        return found

    def _counts(self, written: Written, key: str) -> bool:
        return key in written.values and (key in MERGED or self.origin[key] is written)


def _named(written: Written, steps: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Steps into a list of KEY=VALUE, by key instead of by number."""
    if len(steps) == 2 and steps[0] in MERGED and isinstance(steps[1], int):
        item = written.document.value[str(steps[0])][steps[1]]
        return (steps[0], str(item).partition("=")[0])
    return steps


def merge(key: str, base: Any, value: Any) -> Any:
    """What `extends` makes of a key: mappings merge, all else is replaced. Associative."""
    if base is None or key not in MERGED:
        return value
    if key == "healthcheck" and any(name in value for name in _PROBES):
        # Another way to ask takes the place of the one before, timings stay.
        base = {name: item for name, item in base.items() if name not in _PROBES}
    return {**base, **value}


def build(merged: Merged, profiles: Sequence[str]) -> Bundle:
    """The bundle of merged files, defaults filled in. Raises PipelineErrors."""
    errors = [error for written in merged.chain for error in written.errors]
    if not errors:
        # What is wrong by itself would be found to contradict the defaults too.
        errors += _contradictions(merged)
    errors += [*merged.read_env_files(), *_missing(merged, profiles)]
    if errors:
        raise PipelineErrors(errors)
    given = {key: value for key, value in merged.values.items() if key != "extends"}
    from_files = {key: value for key, (value, _) in merged.variables.items()}
    mounts = given.get("volumes", ())
    given |= {
        "platform": given.get("platform") or canonical_platform(Platform.host()),
        "environment": {**from_files, **given.get("environment", {})},
        "ulimits": {**hardened_ulimits(), **given.get("ulimits", {})},
        "volumes": tuple(mount for mount in mounts if not isinstance(mount, Tmpfs)),
        "tmpfs": (*given.get("tmpfs", ()), *(mount for mount in mounts if isinstance(mount, Tmpfs))),
    }
    if "healthcheck" in given:
        given["healthcheck"] = Healthcheck(**given["healthcheck"])
    if "hardening" in given:
        given["hardening"] = Hardening(**given["hardening"])
    if "mem_limit" in given:
        given.setdefault("memswap_limit", given["mem_limit"])
    return Bundle(**given)


def _missing(merged: Merged, profiles: Sequence[str]) -> Iterator[PipelineError]:
    base = merged.chain[0]
    # Not when a misspelt key may be the image.
    guess = base.document.value.get("extends") or any(error.code == "unknown-key" for error in base.errors)
    if not guess and all(part.document.value.get("image") is None for part in merged.chain):
        hint = "such as `image: docker://docker.io/library/nginx:1.27`, or `extends: OTHER`"
        yield base.error("missing-key", "the spec names no `image`", "image", hint)
    profile = merged.values.get("seccomp", UNCONFINED)
    if profile != UNCONFINED and profile not in profiles:
        meant = suggest(profile, [*profiles, UNCONFINED])
        hint = f"did you mean `{meant}`?" if meant else f"there are: {', '.join([*profiles, UNCONFINED])}"
        yield merged.error("bad-value", f"there is no specs/seccomp/{profile}.yaml", "seccomp", hint)


def _contradictions(merged: Merged) -> Iterator[PipelineError]:
    values = merged.values
    memory, swap = values.get("mem_limit", DEFAULT_MEMORY_BYTES), values.get("memswap_limit", -1)
    if swap != -1 and swap < memory:
        message = f"memory and swap together ({swap} bytes) are less than the memory ({memory} bytes)"
        hint = "raise it to `mem_limit`, or leave it out"
        yield merged.error("bad-combination", message, "memswap_limit", hint)
    if values.get("network_mode") == "none" and values.get("ports"):
        key = "ports" if merged.origin["ports"] is merged.top else "network_mode"
        hint = "take out `ports`, or write `network_mode: private`"
        yield merged.error("bad-combination", "without a network no port leads to the container", key, hint)
    if values.get("network_mode") == "host":
        for name in values.get("sysctls", ()):
            if name.startswith("net."):
                hint = "set it on the host, or take it out"
                message = f"`{name}` would change the host, since `network_mode` is `host`"
                yield merged.error("bad-combination", message, "sysctls", hint, (name,))
    yield from _doubles(merged)


def _doubles(merged: Merged) -> Iterator[PipelineError]:
    mounted: dict[str, str] = {}
    for key in ("tmpfs", "volumes", "devices"):
        for index, mount in enumerate(merged.values.get(key, ())):
            target = mount.container if key == "devices" else mount.target
            if target in mounted:
                hint = f"the other is in `{mounted[target]}`: keep one"
                message = f"two mounts at {quoted(target)}"
                yield merged.error("bad-combination", message, key, hint, (index,))
            mounted[target] = key
    taken = set()
    for port in merged.values.get("ports", ()):
        end = (port.host_ip, port.host_port, port.protocol)
        if end in taken:
            message = f"port {port.host_port}/{port.protocol} of {port.host_ip} leads to two ports"
            yield merged.error("bad-combination", message, "ports", "keep one")
        taken.add(end)
