"""From image config, baseline, spec and seccomp profile to config.json, with the origin of every field.

Source: image-spec conversion.md for what an image decides; everything else is the baseline's or the spec's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.model.labels import OWN_PREFIX, is_obeyed
from pipeline.model.problems import Problems, quoted
from pipeline.model.process import stop_signal as read_signal
from pipeline.model.runtime import Root, RuntimeConfig, child_path
from pipeline.oci import baseline
from pipeline.oci.convert_linux import linux
from pipeline.oci.convert_mounts import mounts, uncovered_volumes
from pipeline.oci.convert_process import process
from pipeline.oci.inputs import Inputs
from pipeline.oci.provenance import Provenance, origin_of

IMAGE_PREFIX = "org.opencontainers.image."
_LABELS = "config.Labels"


@dataclass(frozen=True)
class Converted:
    """config.json, the origin of each leaf by JSON path, and the image's annotations that were left out."""

    config: RuntimeConfig
    provenance: dict[str, dict[str, str]]
    dropped: tuple[str, ...]


def convert(inputs: Inputs) -> Converted:
    """Return the configuration of a bundle.

    Raises PipelineErrors: `uncovered-volume` for each VOLUME that nothing covers, `bad-signal`.
    """
    errors = [*uncovered_volumes(inputs.bundle, inputs.image.volumes), *_signal_errors(inputs)]
    if errors:
        raise PipelineErrors(errors)
    sources = Provenance(baseline.source(inputs.bundle.hardening.baseline))
    sources.chosen("ociVersion", inputs.bundle, "oci_version")
    sources.baseline("root")
    sources.chosen("root.readonly", inputs.bundle, "read_only")
    sources.chosen("hostname", inputs.bundle, "hostname")
    config = RuntimeConfig(
        oci_version=inputs.bundle.oci_version,
        root=Root(path="rootfs", readonly=inputs.bundle.read_only),
        process=process(inputs, sources),
        hostname=inputs.bundle.hostname or inputs.name,
        mounts=mounts(inputs, sources),
        annotations=image_annotations(inputs, sources),
        linux=linux(inputs, sources),
    )
    return Converted(config, sources.leaves(config.to_json()), tuple(sorted(_refused(inputs))))


def image_annotations(inputs: Inputs, sources: Provenance) -> dict[str, str]:
    """Return the annotations: implied by the image, its labels, the spec's labels and annotations, our own.

    A later one replaces an earlier one of the same name (conversion.md, Annotations). An image's label that
    a runtime would obey, or that would pass for one of ours, is left out.
    """
    refused = set(_refused(inputs))
    found: dict[str, str] = {}
    for key, value, source, origin in (*_annotations(inputs), *_own_annotations(inputs)):
        if source == "image" and origin == _LABELS and key in refused:
            continue
        found[key] = value
        sources.note(child_path("annotations", key), source, origin)
    return found


def _annotations(inputs: Inputs) -> Iterator[tuple[str, str, str, str]]:
    image, bundle = inputs.image, inputs.bundle
    implied = {
        "os": image.platform.os,
        "architecture": image.platform.architecture,
        "variant": image.platform.variant,
        "author": image.author,
        "created": image.created,
        "exposedPorts": ",".join(sorted(image.exposed_ports)),
    }
    for key, value in implied.items():
        if value:
            yield IMAGE_PREFIX + key, value, "image", key
    signal, source = stop_signal(inputs)
    origin = {"spec": "stop_signal", "image": "config.StopSignal"}.get(source, "STOP_SIGNAL")
    yield f"{IMAGE_PREFIX}stopSignal", signal, source, origin
    for key, value in image.labels.items():
        yield key, value, "image", _LABELS
    if source == "spec":
        yield f"{IMAGE_PREFIX}stopSignal", signal, source, origin
    for key, value in bundle.labels.items():
        yield key, value, "spec", f"labels.{key}"
    for key, value in bundle.annotations.items():
        yield key, value, "spec", f"annotations.{key}"


def _own_annotations(inputs: Inputs) -> Iterator[tuple[str, str, str, str]]:
    bundle = inputs.bundle
    yield f"{OWN_PREFIX}image.reference", bundle.image, "spec", "image"
    yield f"{OWN_PREFIX}image.digest", inputs.digest, "image", "digest"
    date = bundle.hardening.baseline
    yield f"{OWN_PREFIX}baseline", date, baseline.source(date), "date"
    grace = origin_of(bundle, "stop_grace_period")
    yield f"{OWN_PREFIX}stopGraceSeconds", f"{bundle.stop_grace_period:g}", grace, "stop_grace_period"


def stop_signal(inputs: Inputs) -> tuple[str, str]:
    """Return the name of the signal that asks the program to end, and where it comes from.

    Raises Problems for a STOPSIGNAL that is none.
    """
    if inputs.bundle.stop_signal:
        return inputs.bundle.stop_signal, "spec"
    if inputs.image.stop_signal:
        return read_signal(inputs.image.stop_signal), "image"
    return baseline.STOP_SIGNAL, baseline.source(inputs.bundle.hardening.baseline)


def _signal_errors(inputs: Inputs) -> Iterator[PipelineError]:
    try:
        stop_signal(inputs)
    except Problems:
        yield PipelineError(
            "bad-signal",
            f"the image's STOPSIGNAL is {quoted(inputs.image.stop_signal)}, which is no signal",
            hint="name the one that its program understands in the spec: `stop_signal: SIGTERM`",
        )


def _refused(inputs: Inputs) -> Iterator[str]:
    return (key for key in inputs.image.labels if is_obeyed(key) or key.startswith(OWN_PREFIX))
