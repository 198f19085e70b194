"""What the image's config says runs, against what the bundle runs: nothing gets lost without a word.

Source: image-spec conversion.md and config.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checks.launchers import started
from pipeline.checks.subject import INFO, LOW, MEDIUM, Findings, ImageFacts, Subject, normal
from pipeline.model.nouns import Finding

_SOURCE = "conversion.md"
_STOP_SIGNAL = "org.opencontainers.image.stopSignal"
_SEARCHED = ("PATH", "LD_LIBRARY_PATH")


def program(subject: Subject) -> Findings:
    """The image's own program runs."""
    image, args = subject.image, subject.process.args or ()
    wanted = image.entrypoint or image.command[:1] if image else ()
    if not wanted or not args:
        return
    inner = started(args) or 0
    if args[: len(wanted)] != wanted and args[inner : inner + len(wanted)] != wanted:
        message = f"the image starts `{' '.join(wanted)}`, and the bundle `{args[inner]}`"
        mend = "drop `entrypoint` and `command` from the spec, unless that is meant"
        yield Finding("image-program", INFO, message, "process.args", mend, _SOURCE)


def user(subject: Subject) -> Findings:
    """The image's own user runs it; never root instead of somebody else."""
    named = subject.image.user.partition(":")[0] if subject.image else ""
    uid = subject.process.user.uid
    if named and named not in ("0", "root") and uid == 0:
        message = f"the image runs as `{named}`, and the bundle as root"
        yield Finding("image-user", MEDIUM, message, "process.user", "drop `user` from the spec", _SOURCE)
    elif named.isdecimal() and int(named) != uid:
        message = f"the image runs as user {named}, and the bundle as {uid}: are its files for that one?"
        yield Finding("image-user", INFO, message, "process.user", "drop `user` from the spec", _SOURCE)


def working_directory(subject: Subject) -> Findings:
    """It starts where the image says."""
    wanted = subject.image.working_dir if subject.image else ""
    if wanted and normal(wanted) != normal(subject.process.cwd):
        message = f"the image starts in `{wanted}`, and the bundle in `{subject.process.cwd}`"
        mend = "drop `working_dir` from the spec, unless that is meant"
        yield Finding("image-cwd", INFO, message, "process.cwd", mend, _SOURCE)


def environment(subject: Subject) -> Findings:
    """Its variables are there, those above all by which programs and libraries are found."""
    here = subject.environment
    for entry in subject.image.environment if subject.image else ():
        name, _, value = entry.partition("=")
        if name and name not in here:
            severity = MEDIUM if name in _SEARCHED else LOW
            message = f"the image sets `{name}`, and the bundle lost it"
            yield Finding("env-lost", severity, message, "process.env", f"add `{entry}`", _SOURCE)
        elif name in _SEARCHED:
            lost = [part for part in value.split(":") if part and part not in here[name].split(":")]
            if lost:
                message = f"the image's `{name}` has {', '.join(lost)}, and the bundle's has not"
                yield Finding("env-shorter", LOW, message, "process.env", f"`{entry}`", _SOURCE)


def volumes(subject: Subject) -> Findings:
    """What it keeps data in is kept."""
    kept = {normal(mount.destination) for _, mount in subject.mounts}
    for path in subject.image.volumes if subject.image else ():
        if not any(path == target or path.startswith(target.rstrip("/") + "/") for target in kept):
            message = f"nothing is mounted on the image's VOLUME `{path}`: what is written there is lost"
            mend = f'`volumes: ["data:{path}"]`'
            yield Finding("volume-uncovered", MEDIUM, message, "mounts", mend, _SOURCE)


def lifecycle(subject: Subject) -> Findings:
    """Its health check, its signal and its ports are somebody's, since a runtime knows none of them."""
    image = subject.image
    if image is not None:
        yield from _healthcheck(subject, image)
        yield from _stop_signal(subject, image)
        yield from _ports(subject, image)


def _healthcheck(subject: Subject, image: ImageFacts) -> Iterator[Finding]:
    asked = image.healthcheck and image.healthcheck[0] != "NONE"
    if asked and not subject.intent.healthcheck and not subject.intent.has_probe:
        message = "the image's HEALTHCHECK is not asked: runtimes know none"
        mend = "`healthcheck:` in the spec, which `smoke` asks"
        yield Finding("healthcheck-dropped", INFO, message, "", mend, "image-spec, config.md (Healthcheck)")


def _stop_signal(subject: Subject, image: ImageFacts) -> Iterator[Finding]:
    noted = (subject.config.annotations or {}).get(_STOP_SIGNAL)
    if image.stop_signal and noted is None:
        message = f"the image stops on {image.stop_signal}, and nothing in the bundle says so"
        path = f'annotations["{_STOP_SIGNAL}"]'
        yield Finding("stop-signal-lost", LOW, message, "annotations", f"add {path}", _SOURCE)


def _ports(subject: Subject, image: ImageFacts) -> Iterator[Finding]:
    published = {(port.container_port, port.protocol) for port in subject.intent.ports}
    open_ports = [text for text in image.exposed_ports if _numbers(text) and not _numbers(text) & published]
    if open_ports and "network" in subject.namespaces:
        message = f"no port of the host leads to the image's EXPOSE {', '.join(sorted(open_ports))}"
        mend = '`ports: ["127.0.0.1:HOST:CONTAINER"]`, for what connects the container\'s network'
        yield Finding("port-unpublished", INFO, message, "", mend, _SOURCE)


def _numbers(text: str) -> frozenset[tuple[int, str]]:
    number, _, protocol = text.partition("/")
    return frozenset({(int(number), protocol or "tcp")} if number.isdecimal() else ())
