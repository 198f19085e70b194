"""What runs: `process` of config.json from ENTRYPOINT, CMD, ENV, USER, WORKDIR and the spec's own words.

Sources: image-spec conversion.md (verbatim and parsed fields); docker run's rule that an entrypoint given by
the user drops the image's CMD.
"""

from __future__ import annotations

from pipeline.errors import PipelineError
from pipeline.model.bundle import UNLIMITED, Bundle, hardened_ulimits
from pipeline.model.image import ImageConfig
from pipeline.model.runtime import Capabilities, Process, Rlimit, User
from pipeline.oci import baseline
from pipeline.oci.inputs import Inputs
from pipeline.oci.mounts import INIT_PATH, clean
from pipeline.oci.provenance import Provenance

_HARDENED = hardened_ulimits()


def process(inputs: Inputs, sources: Provenance) -> Process:
    """Return `process`. Raises PipelineError `no-program` when neither image nor spec names one."""
    bundle = inputs.bundle
    sources.baseline("process")
    _user_origin(inputs, sources)
    return Process(
        cwd=working_directory(bundle, inputs.image, sources),
        user=User(uid=inputs.user.uid, gid=inputs.user.gid, additional_gids=inputs.user.groups or None),
        args=arguments(bundle, inputs.image, sources),
        env=tuple(f"{name}={value}" for name, value in environment(inputs, sources).items()),
        rlimits=_rlimits(inputs, sources),
        capabilities=_capabilities(inputs, sources),
        no_new_privileges=True,
    )


def arguments(bundle: Bundle, image: ImageConfig, sources: Provenance) -> tuple[str, ...]:
    """Return argv: entrypoint then command, the spec's before the image's.

    An entrypoint in the spec drops the image's CMD, which was written for another program.
    """
    words: list[tuple[str, str, str]] = []
    if bundle.init:
        words += [(INIT_PATH, "spec", "init"), ("--", "spec", "init")]
    before = len(words)
    if bundle.entrypoint is not None:
        words += [(word, "spec", "entrypoint") for word in bundle.entrypoint]
    else:
        words += [(word, "image", "config.Entrypoint") for word in image.entrypoint]
    if bundle.command is not None:
        words += [(word, "spec", "command") for word in bundle.command]
    elif bundle.entrypoint is None:
        words += [(word, "image", "config.Cmd") for word in image.command]
    if len(words) == before:
        raise _no_program(bundle)
    for index, (_, source, key) in enumerate(words):
        sources.note(f"process.args[{index}]", source, key)
    return tuple(word for word, _, _ in words)


def environment(inputs: Inputs, sources: Provenance) -> dict[str, str]:
    """Return the variables in order: the image's, then the spec's by name, then PATH and HOME if absent."""
    found: dict[str, tuple[str, str, str]] = {}
    for entry in inputs.image.environment:
        name, separator, value = entry.partition("=")
        if name and separator:
            found[name] = (value, "image", "config.Env")
    for name, value in sorted(inputs.bundle.environment.items()):
        found[name] = (value, "spec", f"environment.{name}")
    found.setdefault("PATH", (baseline.PATH, sources.baseline_source, "PATH"))
    found.setdefault("HOME", (inputs.user.home or "/", "image", "/etc/passwd"))
    for index, (_, source, key) in enumerate(found.values()):
        sources.note(f"process.env[{index}]", source, key)
    return {name: value for name, (value, _, _) in found.items()}


def working_directory(bundle: Bundle, image: ImageConfig, sources: Provenance) -> str:
    """Return the absolute working directory without `..`; `/` when nobody names one."""
    if bundle.working_dir:
        sources.spec("process.cwd", "working_dir")
    elif image.working_dir:
        sources.image("process.cwd", "config.WorkingDir")
    return clean(bundle.working_dir or image.working_dir)


def _no_program(bundle: Bundle) -> PipelineError:
    if bundle.entrypoint is not None:
        what = "the spec empties `entrypoint` and gives no `command`"
    elif bundle.command is not None:
        what = "the image has no ENTRYPOINT and the spec empties `command`"
    else:
        what = "the image has neither ENTRYPOINT nor CMD"
    hint = 'name the program in the spec: `command: ["/path/to/program", "argument"]`'
    return PipelineError("no-program", f"nothing to run: {what}", hint=hint)


def _user_origin(inputs: Inputs, sources: Provenance) -> None:
    if inputs.bundle.user is not None:
        sources.spec("process.user", "user")
    elif inputs.image.user:
        sources.image("process.user", "config.User")
    if inputs.bundle.group_add:
        sources.spec("process.user.additionalGids", "group_add")


def _rlimits(inputs: Inputs, sources: Provenance) -> tuple[Rlimit, ...]:
    bundle = inputs.bundle
    limits = {name.upper(): (limit.soft, limit.hard) for name, limit in bundle.ulimits.items()}
    # Counted for each user namespace (Linux 5.14), so bundles that share host ids do not starve each other;
    # without one, the count would be that of the whole host.
    if bundle.pids_limit > 0 and not inputs.id_map.is_identity:
        limits.setdefault("NPROC", (bundle.pids_limit, bundle.pids_limit))
    for index, name in enumerate(sorted(limits)):
        path = f"process.rlimits[{index}]"
        if name.lower() not in bundle.ulimits:
            sources.chosen(path, bundle, "pids_limit")
        elif bundle.ulimits[name.lower()] == _HARDENED.get(name.lower()):
            sources.note(path, "default", "ulimits")
        else:
            sources.spec(path, f"ulimits.{name.lower()}")
    return tuple(
        Rlimit(type=f"RLIMIT_{name}", soft=_limit(soft), hard=_limit(hard))
        for name, (soft, hard) in sorted(limits.items())
    )


def _limit(value: int) -> int:
    return UNLIMITED if value < 0 else value


def _capabilities(inputs: Inputs, sources: Provenance) -> Capabilities:
    """All five sets, given in full. For root, inheritable and ambient stay empty (CVE-2022-24769).

    Another user loses every capability at execve that is not ambient (capabilities(7)), so for it `cap_add`
    fills these two sets as well: else the spec would loosen and gain nothing.
    """
    sources.chosen("process.capabilities", inputs.bundle, "cap_add")
    added = tuple(inputs.bundle.cap_add)
    kept = added if inputs.user.uid else ()
    return Capabilities(bounding=added, effective=added, inheritable=kept, permitted=added, ambient=kept)
