"""The keys of a spec file: for each the form in which it is written, what it means, and its reader.

From this class come the readers, the JSON Schema (`pipeline.model.schema`) and what editors show.
`Bundle` has the same keys with the values that the readers return.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, cast, get_args, get_type_hints

from msgspec import Meta

from pipeline.model import mounts, network, process, values
from pipeline.model.baselines import NEWEST
from pipeline.model.hardening import hardening
from pipeline.model.labels import annotation, label
from pipeline.model.problems import list_of, map_of

_SIX_MIB = 6 * 1024 * 1024
_SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([bB]|[kKmMgGtT][iI]?[bB]?)?$"
_DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"
_NUMBER_PATTERN = r"^[0-9]+(\.[0-9]+)?$"

Size = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=_SIZE_PATTERN)]
Duration = Annotated[str, Meta(pattern=_DURATION_PATTERN)]
Line = Annotated[str, Meta(min_length=1)]
Plain = str | int | float
Words = str | list[Plain]
Pairs = dict[str, Plain] | list[str]
AbsolutePath = Annotated[str, Meta(pattern="^/")]


class LongTmpfs(TypedDict, total=False):
    """Options of a volume of type tmpfs."""

    size: Size
    mode: int | str


class _VolumeCore(TypedDict):
    type: Annotated[Literal["bind", "volume", "tmpfs"], Meta(description="Where the files live.")]
    target: Annotated[AbsolutePath, Meta(description="Where the container sees them.")]


class LongVolume(_VolumeCore, total=False):
    """A volume in the long form."""

    source: Annotated[Line, Meta(description="A path of the host, or the name of the volume.")]
    read_only: Annotated[bool, Meta(description="Default: false.")]
    exec: Annotated[bool, Meta(description="May programs be started from there? Default: false.")]
    tmpfs: LongTmpfs


class SoftHard(TypedDict):
    """A resource limit and how far the process may raise it."""

    soft: Annotated[int, Meta(ge=-1)]
    hard: Annotated[int, Meta(ge=-1)]


class Check(TypedDict, total=False):
    """How to see that the container is ready."""

    test: Annotated[
        Words, Meta(description="A command run in the container: text for its shell, or [CMD, PROGRAM, …].")
    ]
    http: Annotated[
        str, Meta(pattern="^http://", description="http://:PORT/PATH, asked for on its loopback.")
    ]
    tcp: Annotated[int, Meta(ge=1, le=65535, description="A port of the container that must be open.")]
    interval: Annotated[Duration, Meta(description="Time between two tries.")]
    timeout: Annotated[Duration, Meta(description="Time for one try.")]
    start_period: Annotated[Duration, Meta(description="Failures do not count so long after the start.")]
    retries: Annotated[int, Meta(ge=1, le=10_000, description="So many failures in a row mean unhealthy.")]
    disable: Annotated[bool, Meta(description="true: no health check, whatever the image says.")]


class LongHardening(TypedDict, total=False):
    """How strictly the bundle is judged, and by which year's lists."""

    profile: Annotated[
        Literal["baseline", "strict"],
        Meta(description="strict: a medium finding of hardening fails as well. Default: baseline."),
    ]
    baseline: Annotated[
        str,
        Meta(
            pattern="^[0-9]{4}-(0[1-9]|1[0-2])$",
            description=f"YYYY-MM: the masked and read-only paths as of then. Default: the newest, {NEWEST}.",
        ),
    ]


def _key(read: Callable[[Any], Any], meaning: str, default: object = None) -> Meta:
    schema = {} if default is None else {"default": default}
    return Meta(description=meaning, extra={"read": read}, extra_json_schema=schema)


class SpecFile(TypedDict, total=False):
    """One bundle. What a spec leaves out comes from the image, and else from the hardened baseline."""

    extends: Annotated[
        Line,
        _key(
            values.text, "The NAME of another spec to build on. Mappings merge by key; all else is replaced."
        ),
    ]
    image: Annotated[
        Line,
        _key(process.image, "The image: [TRANSPORT:]REFERENCE as skopeo takes it; docker:// by default."),
    ]
    platform: Annotated[
        Annotated[str, Meta(pattern="^linux/")],
        _key(process.platform, "linux/ARCHITECTURE[/VARIANT]. Default: that of this machine."),
    ]
    entrypoint: Annotated[
        Words,
        _key(
            process.words,
            "Replaces the image's ENTRYPOINT and its CMD. Text is split into words; no shell runs.",
        ),
    ]
    command: Annotated[
        Words, _key(process.words, "Replaces the image's CMD. Text is split into words; no shell runs.")
    ]
    user: Annotated[str | int, _key(process.user, "USER[:GROUP] inside the container. Default: the image's.")]
    group_add: Annotated[
        list[str | int],
        _key(list_of(process.group, "a list of groups"), "More groups of the process, by name or number."),
    ]
    environment: Annotated[
        Pairs,
        _key(
            process.pairs("variables", process.variable),
            "Variables, as a mapping or a list of KEY=VALUE. Literal: nothing is taken from the host.",
        ),
    ]
    env_file: Annotated[
        str | list[str],
        _key(
            mounts.env_files, "Files of KEY=VALUE lines, relative to this file. `environment` wins over them."
        ),
    ]
    working_dir: Annotated[AbsolutePath, _key(values.absolute_path, "Where the process starts.")]
    hostname: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)],
        _key(process.hostname, "Default: the name of the bundle."),
    ]
    read_only: Annotated[
        bool, _key(values.boolean, "Is the root file system read-only? false loosens.", True)
    ]
    tmpfs: Annotated[
        str | list[str],
        _key(mounts.tmpfs, "Memory file systems: /PATH[:size=64m,mode=1777,uid=N,gid=N,ro,exec]."),
    ]
    volumes: Annotated[
        list[str | LongVolume],
        _key(
            mounts.volumes,
            "SOURCE:/TARGET[:ro,exec]. ./PATH and /PATH are of the host, NAME is a named volume.",
        ),
    ]
    devices: Annotated[
        list[str], _key(mounts.devices, "Devices of the host: /dev/HOST[:/dev/CONTAINER[:rw]].")
    ]
    cap_add: Annotated[list[str], _key(process.capabilities, "Capabilities to keep; all others are dropped.")]
    network_mode: Annotated[
        Literal["none", "private", "host"],
        _key(
            values.one_of("network mode", "none", "private", "host"),
            "private: a network of its own. none: the same, and never a port. host: the host's (loosens).",
            "private",
        ),
    ]
    ports: Annotated[
        list[str | int],
        _key(network.ports, "[IP:]HOST:CONTAINER[/PROTOCOL], ranges too. Default IP: 127.0.0.1."),
    ]
    sysctls: Annotated[
        Pairs,
        _key(
            process.pairs("sysctls", network.sysctl), "Kernel parameters of the container's own namespaces."
        ),
    ]
    ulimits: Annotated[
        dict[str, Annotated[int, Meta(ge=-1)] | SoftHard],
        _key(network.ulimits, "Resource limits. Default: nofile 1024 and core 0; -1 is no limit."),
    ]
    mem_limit: Annotated[
        Size,
        _key(values.size(_SIX_MIB, "at least 6m: less does not start"), "Memory for all processes.", "512m"),
    ]
    memswap_limit: Annotated[
        Size | Literal[-1],
        _key(values.swap, "Memory and swap together; -1 is no limit. Default: mem_limit, so no swap."),
    ]
    cpus: Annotated[
        Annotated[float, Meta(ge=0.01)] | Annotated[str, Meta(pattern=_NUMBER_PATTERN)],
        _key(values.cpus, "So many processors' worth of time, such as 1.5.", 1.0),
    ]
    pids_limit: Annotated[
        Annotated[int, Meta(ge=1)], _key(values.whole(1, 4_194_304), "So many processes and threads.", 256)
    ]
    shm_size: Annotated[
        Size, _key(values.size(4096, "at least 4096 bytes, one page"), "Size of /dev/shm.", "64m")
    ]
    init: Annotated[
        bool, _key(values.boolean, "Start a small init as process 1, which passes signals on.", False)
    ]
    stop_signal: Annotated[str | int, _key(process.stop_signal, "Default: the image's, else SIGTERM.")]
    stop_grace_period: Annotated[Duration, _key(values.duration(), "From the stop signal to SIGKILL.", "10s")]
    healthcheck: Annotated[
        Check, _key(network.healthcheck, "When is the container ready? Default: the image's.")
    ]
    restart: Annotated[
        Annotated[str, Meta(pattern="^(no|always|unless-stopped|on-failure(:[0-9]+)?)$")],
        _key(process.restart, "When a service is started again.", "no"),
    ]
    labels: Annotated[Pairs, _key(process.pairs("labels", label), "Kept as annotations of the container.")]
    annotations: Annotated[
        Pairs,
        _key(process.pairs("annotations", annotation), "Annotations of the container, for runtimes."),
    ]
    seccomp: Annotated[
        Line,
        _key(process.seccomp, "The NAME of specs/seccomp/NAME.yaml, or unconfined (loosens).", "default"),
    ]
    userns: Annotated[
        Annotated[str, Meta(pattern="^(private|host|[0-9]+:[0-9]+)$")],
        _key(
            process.userns,
            "private, BASE:SIZE (host ids that 0… are mapped to), or host (loosens).",
            "private",
        ),
    ]
    oci_version: Annotated[
        str, _key(process.oci_version, "The runtime specification that is claimed.", "1.1.0")
    ]
    keep_privileged_files: Annotated[
        list[AbsolutePath],
        _key(mounts.privileged_files, "Files of the image that keep set-id bits and file capabilities."),
    ]
    waive: Annotated[
        dict[str, Line],
        _key(map_of(process.waiver, "a mapping of rules to reasons"), "RULE: why it does not hold here."),
    ]
    hardening: Annotated[
        Literal["baseline", "strict"] | LongHardening,
        _key(hardening, "The profile of the judge, or profile and date of the baseline. Default: baseline."),
    ]


MERGED = (
    *("environment", "labels", "annotations", "sysctls", "ulimits", "waive", "healthcheck"),
    "hardening",
)
"""The keys whose mappings `extends` merges key by key."""


@cache
def readers() -> Mapping[str, Callable[[Any], Any]]:
    """The reader of each key."""
    return {name: _read_of(hint) for name, hint in get_type_hints(SpecFile, include_extras=True).items()}


def _read_of(hint: Any) -> Callable[[Any], Any]:
    found = [meta.extra["read"] for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.extra]
    return cast(Callable[[Any], Any], found[-1])
