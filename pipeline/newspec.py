"""`doit new`: a commented spec, written from what an image says about itself."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import specfile, yamlnodes
from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.model.nouns import Platform
from pipeline.model.problems import Problems
from pipeline.model.reference import Reference
from pipeline.paths import Project

_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp))?")
_ROOT = ("", "0", "root")
_HEAD = """\
# yaml-language-server: $schema=../schema/bundle.json
#
# Written from the image's own config.
#
#   doit bundle:{name}    {build}
#   doit smoke:{name}     run it for a moment and prove that all of this holds
#
# What is not said here comes from the image, and else from the hardened default: no capabilities, a
# read-only root, namespaces and ids of its own, default-deny system calls, 512 MiB, one processor.

image: {image}
"""
_LIMITS = """
# Limits of the hardened default; take out the # to change one.
# mem_limit: 512m
# cpus: 1.0
# pids_limit: 256

# The system calls that are allowed: a file in specs/seccomp/, without .yaml.
# seccomp: default
"""


def create(project: Project, name: str, image: str) -> str:
    """Write specs/NAME.yaml for an image; return a line to say so. A spec that exists is never touched.

    Raises PipelineError `bad-name`, `bad-image`, `spec-exists`, and whatever asking for the image raises.
    """
    specfile.check_name(name)
    reference = Reference.parse(image)
    path = project.specs / f"{name}.yaml"
    if path.exists() or path.is_symlink():
        raise _exists(name)
    try:
        text = render_new(name, str(reference), _config(project, reference))
    except OSError as fault:
        raise _unreadable(reference, fault) from None
    project.specs.mkdir(exist_ok=True)
    try:
        # Exclusive: two at once, or a link put there meanwhile, must not lose anybody's file.
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise _exists(name) from None
    except OSError as fault:
        message = f"cannot write the spec: {os.strerror(fault.errno or 0)}"
        raise PipelineError("unwritable", message, place=Place(specfile.shown(name))) from None
    pins = "pins its image and " if reference.remote else ""
    return f"wrote {specfile.shown(name)}; 'doit bundle:{name}' {pins}builds it"


def _exists(name: str) -> PipelineError:
    hint = "choose another name, or remove the file"
    return PipelineError(
        "spec-exists", f"there is a bundle `{name}`", place=Place(specfile.shown(name)), hint=hint
    )


def _unreadable(reference: Reference, fault: OSError) -> PipelineError:
    where = f"{fault.filename}: " if fault.filename else ""
    return PipelineError(
        "image-missing",
        f"`{reference}` cannot be read: {where}{fault.strerror or fault}",
        hint="relative paths start at the project folder",
    )


def _config(project: Project, reference: Reference) -> dict[str, Any]:
    """What the image says, as plain data with the names of ImageConfig."""
    import msgspec

    from pipeline import registry
    from pipeline.model.image import ImageConfig
    from pipeline.tools.skopeo import Source

    if not reference.remote and reference.transport != "demo":
        # What skopeo says of a file that is not there is hard to find among its words.
        reference.path(project.root).stat()
    with tempfile.TemporaryDirectory(prefix="cooperage-new.") as folder:
        source = Source(_made(reference, Path(folder)), project.root, Path(folder), asked=reference)
        manifest = registry.manifest_of(source, reference.digest, Platform.host())
        content = registry.config_of(source, manifest, manifest.digest if reference.remote else None)
    plain: dict[str, Any] = msgspec.to_builtins(ImageConfig.parse(content, str(reference)))
    return plain


def _made(reference: Reference, folder: Path) -> Reference:
    if reference.transport != "demo":
        return reference
    from pipeline.tools.umoci_demo import make_demo

    make_demo(folder / "demo")
    return Reference("oci", str(folder / "demo"), "latest")


def render_new(name: str, image_ref: str, image_config: Mapping[str, Any]) -> str:
    """Return the text of a spec that loads as it is; `image_config` has the names of `ImageConfig`.

    Nothing that an image says can leave the quotes or the comment that it is put into.
    """
    build = "build it" if _is_local(image_ref) else "pin the image and build it"
    parts = [_HEAD.format(name=name, image=_quoted(image_ref), build=build)]
    parts += _process(image_config)
    parts += _volumes(image_config.get("volumes") or ())
    ports = list(_ports(image_config.get("exposed_ports") or ()))
    parts += _network(ports)
    parts += _healthcheck(image_config.get("healthcheck"), ports)
    return "".join([*parts, _LIMITS])


def _is_local(image_ref: str) -> bool:
    return not Reference.parse(image_ref).remote


def _process(config: Mapping[str, Any]) -> Iterator[str]:
    words = [*(config.get("entrypoint") or ()), *(config.get("command") or ())]
    user = str(config.get("user") or "")
    if words:
        yield f"\n# The image starts: {_comment(words)}\n# command: [ … ]\n"
    else:
        yield '\n# The image names no program, so one must stand here.\nentrypoint: ["/bin/true"]\n'
    if user.partition(":")[0] in _ROOT:
        yield "\n# The image runs as root. This user has no rights, and must be able to read the files.\n"
        yield 'user: "65532:65532"\n'
    else:
        yield f"\n# The image runs as user {_comment(user)}.\n# user: …\n"
    if signal := config.get("stop_signal"):
        yield f"\n# The image is stopped with {_comment(signal)}, and killed after this time.\n"
    else:
        yield "\n# It is stopped with SIGTERM, and killed after this time.\n"
    yield "# stop_grace_period: 10s\n"
    yield "\n# As process 1 many programs ignore the stop signal; an init passes it on.\n# init: true\n"


def _volumes(paths: Sequence[str]) -> Iterator[str]:
    usable = [path for path in paths if _loads(path)]
    for path in paths:
        if path not in usable:
            yield f"\n# The image names a volume that no spec can: {_comment(path)}\n"
    if not usable:
        return
    yield "\n# The image keeps data here. NAME:/PATH is a volume that outlives every rebuild; for data that\n"
    yield "# need not, write the path under `tmpfs:` instead.\n"
    yield "volumes:\n"
    names: list[str] = []
    for path in usable:
        last = re.sub(r"[^a-z0-9_-]", "", path.rstrip("/").rpartition("/")[2].lower()).strip("_-") or "data"
        name = next(n for n in (last, *(f"{last}-{i}" for i in range(2, 1000))) if n not in names)
        names.append(name)
        yield f"  - {_quoted(f'{name}:{path}')}\n"


def _loads(path: str) -> bool:
    """True when a spec can name this path as the target of a volume."""
    from pipeline.model.mounts import volumes

    try:
        document = yamlnodes.parse(f"volume: {_quoted(f'x:{path}')}".encode(), "")
        return bool(volumes([document.value["volume"]]))
    except (Problems, PipelineErrors):
        return False


def _ports(exposed: Sequence[str]) -> Iterator[tuple[int, str]]:
    for text in exposed:
        match = _PORT.fullmatch(text)
        if match and 1 <= int(match[1]) <= 65535:
            yield int(match[1]), match[2] or "tcp"


def _network(ports: Sequence[tuple[int, str]]) -> Iterator[str]:
    if not ports:
        return
    yield "\n# The image listens here. HOST:CONTAINER; kept, nothing is published yet.\nports:\n"
    for port, protocol in dict.fromkeys(ports):
        suffix = "" if protocol == "tcp" else f"/{protocol}"
        yield f'  - "{port}:{port}{suffix}"\n'
    if any(port < 1024 for port, _ in ports):
        yield "\n# Ports below 1024 need no capability in a network of one's own once this is set.\n"
        yield 'sysctls:\n  net.ipv4.ip_unprivileged_port_start: "0"\n'


def _healthcheck(check: Mapping[str, Any] | None, ports: Sequence[tuple[int, str]]) -> Iterator[str]:
    port = next((port for port, protocol in ports if protocol == "tcp"), None)
    test = list((check or {}).get("test") or ())
    if test and test != ["NONE"]:
        yield f"\n# The image's own health check: {_comment(test)}\n"
        yield "# If that one cannot fail, it proves nothing; this asks the program itself.\n"
        yield f"# healthcheck:\n#   http: http://:{port or 8080}/\n"
    elif port is not None:
        yield "\n# Ready when this port is open. If it speaks HTTP, `http: http://:PORT/` says more.\n"
        yield f"healthcheck:\n  tcp: {port}\n"
    else:
        yield "\n# The image does not say when it is ready, so `smoke` can only see that it keeps running.\n"
        yield "# healthcheck:\n#   tcp: 8080\n"


def _quoted(text: str) -> str:
    """Text as a double-quoted scalar of printable ASCII (YAML 1.2.2, section 5.7)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if " " <= c <= "~" else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _comment(value: object) -> str:
    """Something on one line of a comment."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= 90 else shown[:90] + "…"
