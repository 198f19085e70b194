"""Judge bundles from the command line: `python -m pipeline.check DIR`, and what `doit check` shares with it.

Works without a project, without doit and as any user. Nothing is run but the runtime, for its version.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import specfile
from pipeline.built import known_now
from pipeline.checks.index import Layer
from pipeline.checks.scoring import STRICT, in_profile, score
from pipeline.checks.subject import HostFacts, ImageFacts, Intent
from pipeline.checks.text import ordered, printable
from pipeline.checks.waivers import apply_waivers
from pipeline.errors import PipelineError, PipelineErrors, Place, suggest
from pipeline.examine import examine
from pipeline.files import read_json, write_atomic
from pipeline.fingerprint import Fingerprints
from pipeline.hostfloor import known_floor
from pipeline.model.nouns import Finding, Platform, Severity
from pipeline.observe.host import host_facts
from pipeline.observe.rootfs import RootfsLook
from pipeline.origins import read_origins, with_origin
from pipeline.paths import Project
from pipeline.report.forms import index as forms
from pipeline.report.judged import FAIL_ON, Judged, Wanted
from pipeline.run import ToolFailed
from pipeline.runtimefacts import found_runtimes
from pipeline.selection import split
from pipeline.tools.runtimes import registry

_OWN = Project(Path(__file__).resolve().parent.parent)
_CONFIG = "config.json"
_NEVER = "never"
_PROFILES = ("baseline", STRICT)
_USAGE = 3
_COMMAND = "python -m pipeline.check"
_WITHOUT_ROOTFS = tuple(layer for layer in Layer if layer not in (Layer.BUNDLE, Layer.HOST))


@dataclass(frozen=True)
class Asked:
    """What the options of a check say; see `asked`."""

    form: str
    wanted: Wanted
    output: Path | None = None
    image: str = ""
    profile: str = ""


def asked(options: Mapping[str, str]) -> Asked:
    """Read the options. Raises PipelineError `usage` with what was most likely meant."""
    words = [severity.value for severity in Severity]
    fail_on = options.get("fail-on", FAIL_ON.value)
    if fail_on not in (*words, _NEVER):
        meant = suggest(fail_on, [*words, _NEVER])
        hint = f"did you mean `{meant}`?" if meant else f"one of {', '.join([*words, _NEVER])}"
        raise PipelineError("usage", f"there is no severity `{fail_on}` to fail on", hint=hint)
    output = options.get("output")
    colour = not output and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return Asked(
        form=forms.checked(options.get("format", forms.FORMS[0])),
        wanted=Wanted(None if fail_on == _NEVER else Severity(fail_on), colour),
        output=Path(output) if output else None,
        image=options.get("image", ""),
        profile=_profile(options.get("profile", "")),
    )


def _profile(word: str) -> str:
    if word in ("", *_PROFILES):
        return word
    meant = suggest(word, _PROFILES)
    hint = f"did you mean `{meant}`?" if meant else f"one of {', '.join(_PROFILES)}"
    raise PipelineError("usage", f"there is no profile `{word}`", hint=hint)


def tell(judged: Sequence[Judged], ask: Asked) -> int:
    """Write the judgement where it was asked for; return the exit status: 1 when something fails, or 0."""
    content = forms.render(ask.form, judged, ask.wanted)
    if ask.output is not None:
        write_atomic(ask.output, content)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    return int(ask.wanted.failed(judged))


def judge_target(target: str, ask: Asked) -> Judged:
    """Judge a bundle's folder, or a config.json that may stand alone.

    Raises PipelineError `usage` when there is no such thing, `unreadable` when this user may not read it.
    """
    with _readable():
        config = _config_of(Path(target))
        alone = Path(target).name == config.name and not (config.parent / "rootfs").exists()
        host, notes = judged_for()
        facts = _image_facts(ask.image) if ask.image else {}
        shown = _shown(config)
        found = ordered(in_profile(_foreign(config, shown, host, facts, alone), ask.profile))
        return Judged(
            name=config.parent.resolve().name or "/",
            findings=found,
            config=shown,
            notes=(*notes, str(score(found))),
        )


def judge_built(
    project: Project,
    name: str,
    spec: Mapping[str, Any],
    facts: tuple[Mapping[str, Any], Mapping[str, Any]],
    host: HostFacts,
    notes: tuple[str, ...],
    profile: str = "",
) -> Judged:
    """Judge a bundle of this project as it lies in `out/`, with its waivers; nothing is recorded.

    `facts` are those in the receipts of `spec` and `unpack`; `profile` counts before the spec's.
    """
    from pipeline.model.bundle import Bundle

    bundle, paths = Bundle.from_values(dict(spec)), project.bundle(name)
    with _readable():
        shown = str(paths.config.relative_to(project.root))
        found = examine(paths.config, shown, host, **known_now(project, name, bundle, *facts))
        found = apply_waivers(in_profile(found, profile or bundle.hardening.profile), bundle.waive)
        origins = read_origins(project, name, read_json(paths.provenance))
    listed = with_origin(ordered(found), origins)
    return Judged(name, listed, specfile.shown(name), shown, (*notes, str(score(listed))))


def judged_for() -> tuple[HostFacts, tuple[str, ...]]:
    """Return the facts of this host with the first runtime that works, and a word about it.

    What was measured of runtimes comes with this program, in whatever project a bundle is.
    """
    marks = {name: Fingerprints(_OWN).tool(name) for name in registry.ADAPTERS}
    for name in registry.ADAPTERS:
        found = registry.find(name)
        try:
            version = found.version().number if found else ""
        except (ToolFailed, OSError):
            continue
        if found and version:
            host = host_facts(name, version, found_runtimes(_OWN, marks))
            host = replace(host, floor=known_floor(_OWN, found.name, marks[name]))
            return host, (f"judged for {name} {version}",)
    return host_facts("", ""), ("judged for no runtime, since neither runc nor crun is installed",)


def _config_of(target: Path) -> Path:
    if not target.exists():
        near = suggest(target.name, os.listdir(target.parent)) if target.parent.is_dir() else None
        hint = f"did you mean `{target.parent / near}`?" if near else None
        raise PipelineError("usage", f"there is no `{target}`", hint=hint)
    if not target.is_dir():
        return target
    if (target / _CONFIG).exists():
        return target / _CONFIG
    inside = sorted(str(path.parent) for path in target.glob(f"*/{_CONFIG}"))
    hint = f"did you mean `{inside[0]}`?" if inside else "a bundle is a folder with config.json and a rootfs"
    raise PipelineError("usage", f"`{target}` has no {_CONFIG}", hint=hint)


def _foreign(
    config: Path, shown: str, host: HostFacts, facts: Mapping[str, Any], alone: bool
) -> Iterator[Finding]:
    layer = Layer.BUNDLE.value
    if alone:
        yield from examine(config, shown, host, _WITHOUT_ROOTFS, **facts)
        message = f"there is no rootfs beside {config.name}: bundle, image and host were not judged"
        mend = "give the folder of a whole bundle to have them judged too"
        yield Finding(
            "rootfs-not-judged", Severity.INFO, message, "", mend, "bundle.md", Place(shown), layer=layer
        )
        return
    denied: set[str] = set()
    yield from examine(config, shown, host, look=lambda root: _Noting(root, denied), **facts)
    if denied:
        message = (
            f"user {os.geteuid()} may not look at {', '.join(f'`{path}`' for path in sorted(denied)[:5])}"
        )
        message = printable(f"{message}: what is said of the rootfs may be wrong")
        mend = "judge it as root, or as the owner of the rootfs"
        yield Finding("rootfs-unreadable", Severity.MEDIUM, message, "root.path", mend, layer=layer)


class _Noting(RootfsLook):
    """A view of a rootfs that notes what this user may not look at: to a check that is as good as absent."""

    def __init__(self, root: Path, denied: set[str]) -> None:
        super().__init__(root)
        self._denied = denied

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """Return the status of what is there. Raises OSError."""
        with self._noted(path):
            return super().stat(path, follow=follow)

    def realpath(self, path: str) -> str:
        """Return the path without links. Raises OSError."""
        with self._noted(path):
            return super().realpath(path)

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a regular file. Raises OSError."""
        with self._noted(path), super().open(path) as stream:
            yield stream

    def names(self, path: str) -> list[str]:
        """Return the names in a directory. Raises OSError."""
        with self._noted(path):
            return super().names(path)

    @contextmanager
    def _noted(self, path: str) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            self._denied.add(path)
            raise


def _image_facts(reference: str) -> dict[str, Any]:
    """Return what an image says, from `LAYOUT` or `LAYOUT:TAG`, with or without `oci:` before it."""
    from pipeline.oci.layout import read_image

    place, tag = reference.removeprefix("oci:"), ""
    if not Path(place).is_dir():
        place, _, tag = place.rpartition(":")
    if not (Path(place) / "index.json").is_file():
        hint = "a folder with index.json and oci-layout, as `skopeo copy … oci:FOLDER:TAG` makes it"
        raise PipelineError("usage", f"there is no image layout `{reference}`", hint=hint)
    config = read_image(Path(place), Platform.host(), tag).config
    check = config.healthcheck.test if config.healthcheck else ()
    image = ImageFacts(
        entrypoint=config.entrypoint,
        environment=config.environment,
        volumes=config.volumes,
        platform=str(config.platform),
        healthcheck=check,
        command=config.command,
        user=config.user,
        working_dir=config.working_dir,
        exposed_ports=config.exposed_ports,
        stop_signal=config.stop_signal,
    )
    return {"image": image, "intent": Intent(healthcheck=check)}


def _shown(config: Path) -> str:
    """The path as messages show it: from here if it is below here."""
    full = config.parent.resolve() / config.name
    here = Path.cwd()
    return str(full.relative_to(here)) if here != Path("/") and full.is_relative_to(here) else str(full)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        what = fault.filename or "the bundle"
        reason = f"`{what}` cannot be read: {(fault.strerror or str(fault)).lower()}"
        denied = isinstance(fault, PermissionError)
        hint = "run it as root, or as the owner of the bundle" if denied else None
        raise PipelineError("unreadable", reason, hint=hint) from None


def main(words: Sequence[str]) -> int:
    """Judge one bundle: `DIR [--format F] [--fail-on S] [--output FILE] [--image LAYOUT]`."""
    try:
        names, options = split("check", words, _COMMAND)
        targets = [*names, *([options["bundle"]] if "bundle" in options else [])]
        if len(targets) != 1:
            raise PipelineError("usage", f"write it as: {_COMMAND} DIR, or {_COMMAND} DIR/config.json")
        ask = asked(options)
        return tell([judge_target(targets[0], ask)], ask)
    except BrokenPipeError:
        # Whoever read it has seen enough; nothing may be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _USAGE
    except (PipelineError, PipelineErrors) as error:
        print(error, file=sys.stderr)
    except OSError as fault:
        print(PipelineError("system", f"{fault.filename or 'the system'}: {fault.strerror}"), file=sys.stderr)
    return _USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
