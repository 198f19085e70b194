"""What an image says about itself: its config blob (image-spec `config.md`), with docker's health check."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.errors import PipelineError
from pipeline.model.nouns import Platform, parse_digest

_NANOSECONDS = 1_000_000_000


class Healthcheck(msgspec.Struct, frozen=True):
    """A HEALTHCHECK. `test` is ("NONE",), ("CMD", arg, …) or ("CMD-SHELL", line); None keeps the default."""

    test: tuple[str, ...] = ()
    interval_s: float | None = None
    timeout_s: float | None = None
    start_period_s: float | None = None
    retries: int | None = None


class ImageConfig(msgspec.Struct, frozen=True):
    """An image's config. Empty values mean that the image says nothing."""

    platform: Platform
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: dict[str, str] = {}
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()
    created: str = ""
    author: str = ""

    @classmethod
    def parse(cls, content: bytes, where: str = "the image's config") -> ImageConfig:
        """Read a config blob. Raises PipelineError `bad-image-config`; `where` names the blob in it."""
        try:
            blob = msgspec.json.decode(content, type=_Blob)
            return _image_config(blob)
        except msgspec.ValidationError as fault:
            raise _bad(where, f"has the wrong form: {fault}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise _bad(where, f"is no JSON: {fault}") from None
        except PipelineError as fault:
            raise _bad(where, f"has the wrong form: {fault.message}") from None


class _BlobHealthcheck(msgspec.Struct):
    Test: tuple[str, ...] | None = None
    Interval: int | None = None
    Timeout: int | None = None
    StartPeriod: int | None = None
    Retries: int | None = None


class _BlobProcess(msgspec.Struct):
    # Go writes an empty list or map as null, and docker writes every field.
    User: str | None = None
    Entrypoint: tuple[str, ...] | None = None
    Cmd: tuple[str, ...] | None = None
    Env: tuple[str, ...] | None = None
    WorkingDir: str | None = None
    Volumes: dict[str, Any] | None = None
    ExposedPorts: dict[str, Any] | None = None
    StopSignal: str | None = None
    Labels: dict[str, str] | None = None
    Healthcheck: _BlobHealthcheck | None = None
    Shell: tuple[str, ...] | None = None


class _BlobRootfs(msgspec.Struct):
    type: str = "layers"
    diff_ids: tuple[str, ...] | None = None


class _Blob(msgspec.Struct):
    architecture: str
    os: str
    rootfs: _BlobRootfs
    variant: str = ""
    config: _BlobProcess | None = None
    created: str | None = None
    author: str | None = None


def _image_config(blob: _Blob) -> ImageConfig:
    process = blob.config or _BlobProcess()
    if blob.rootfs.type != "layers":
        raise PipelineError("bad-image-config", f"rootfs.type is `{blob.rootfs.type}`, not `layers`")
    return ImageConfig(
        platform=Platform.parse("/".join(filter(None, (blob.os, blob.architecture, blob.variant)))),
        user=process.User or "",
        entrypoint=process.Entrypoint or (),
        command=process.Cmd or (),
        environment=process.Env or (),
        working_dir=process.WorkingDir or "",
        volumes=tuple(sorted(process.Volumes or ())),
        exposed_ports=tuple(sorted(process.ExposedPorts or ())),
        stop_signal=process.StopSignal or "",
        labels=process.Labels or {},
        healthcheck=_healthcheck(process.Healthcheck),
        shell=process.Shell or (),
        diff_ids=tuple(parse_digest(digest) for digest in blob.rootfs.diff_ids or ()),
        created=blob.created or "",
        author=blob.author or "",
    )


def _healthcheck(check: _BlobHealthcheck | None) -> Healthcheck | None:
    # An empty Test inherits from a base image that is long gone: docker treats it as no check.
    if check is None or not check.Test:
        return None
    return Healthcheck(
        check.Test,
        _seconds(check.Interval),
        _seconds(check.Timeout),
        _seconds(check.StartPeriod),
        check.Retries or None,
    )


def _seconds(nanoseconds: int | None) -> float | None:
    # Docker writes nanoseconds, and 0 for "the default".
    return nanoseconds / _NANOSECONDS if nanoseconds else None


def _bad(where: str, reason: str) -> PipelineError:
    return PipelineError(
        "bad-image-config", f"{where} {reason}", hint="the image is damaged or badly built: build it again"
    )
