"""What a runtime says of itself (`RUNTIME features`) against what the bundle uses.

Source: runtime-spec, features.md and features-linux.md. What a structure leaves out, or gives as null, is
unknown and not absent: youki 0.7.0 has null for the seccomp that it was built with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args

from pipeline.checks.meaning_linux import hooks
from pipeline.checks.seccomp_verdict import profile_of
from pipeline.checks.subject import Subject, is_bind
from pipeline.checks.uses_mounts import is_flag
from pipeline.model.runtime_base import NamespaceType
from pipeline.model.runtime_resources import Seccomp
from pipeline.model.truths.nouns import Effect, version_numbers

Use = tuple[str, Effect, str, str, str]
"""Feature, effect, protection ("": none), JSON path, and the reason, which goes on after the name."""

EVIDENCE = "measured: what the runtime says of itself (`features`)"
PROTECTIONS = ("apparmor", "id-mapped-mounts", "mount-flags", "seccomp", "selinux")
REFUSED = (
    *("cgroup", "mount-option", "oci-version", "seccomp-actions", "seccomp-archs", "seccomp-flags"),
    "seccomp-operators",
    *(f"{kind}-namespace" for kind in get_args(NamespaceType)),
)
IGNORED = ("capabilities", "hooks", "intel-rdt", "mount-option")
"""What can be dropped, refused and passed over, besides what the table has."""
_PROTECTING = frozenset(
    "ro rro nosuid rnosuid nodev rnodev noexec rnoexec nosymfollow rnosymfollow private rprivate".split()
)


def unannounced(subject: Subject, features: Mapping[str, Any]) -> Iterator[Use]:
    """Yield what the bundle uses and the runtime does not list."""
    linux = _part(features, "linux")
    yield from _version(subject, features)
    yield from _hooks(subject, features)
    yield from _mount_options(subject, features)
    yield from _names(subject, linux)
    yield from _security_modules(subject, linux)
    yield from _cgroups(subject, linux)
    yield from _seccomp(subject, linux)
    yield from _extensions(subject, linux)
    yield from _annotations(subject, features)


def _version(subject: Subject, features: Mapping[str, Any]) -> Iterator[Use]:
    declared = version_numbers(subject.config.oci_version)
    newest = str(features.get("ociVersionMax") or "")
    if newest and declared > version_numbers(newest):
        reason = f"knows the specification up to {newest}: what is newer in this config it may pass over"
        yield "oci-version", Effect.DIFFERS, "", "ociVersion", reason
    oldest = str(features.get("ociVersionMin") or "")
    if oldest and declared < version_numbers(oldest):
        reason = f"knows the specification from {oldest} on"
        yield "oci-version", Effect.REFUSES, "", "ociVersion", reason


def _hooks(subject: Subject, features: Mapping[str, Any]) -> Iterator[Use]:
    known = _listed(features, "hooks")
    for path, _ in hooks(subject.config.hooks):
        kind = path.removeprefix("hooks.").partition("[")[0]
        if known is not None and kind not in known:
            yield "hooks", Effect.IGNORES, "", path, f"does not know the hook `{kind}`"


def _mount_options(subject: Subject, features: Mapping[str, Any]) -> Iterator[Use]:
    known = _listed(features, "mountOptions")
    if known is None:
        return
    for path, mount in subject.mounts:
        for index, option in enumerate(mount.options or ()):
            if is_flag(option) and option not in known:
                # What it does not know it hands to the file system as data, which a bind mount drops and
                # another file system refuses (mount(2)).
                effect = Effect.IGNORES if is_bind(mount) else Effect.REFUSES
                protection = "mount-flags" if option in _PROTECTING else ""
                reason = f"does not know the mount option `{option}`"
                yield "mount-option", effect, protection, f"{path}.options[{index}]", reason


def _names(subject: Subject, linux: Mapping[str, Any]) -> Iterator[Use]:
    known = _listed(linux, "namespaces")
    own = subject.config.linux
    for index, entry in enumerate((own.namespaces if own else None) or ()):
        if known is not None and entry.type not in known:
            path = f"linux.namespaces[{index}]"
            reason = f"does not know the {entry.type} namespace"
            yield f"{entry.type}-namespace", Effect.REFUSES, "", path, reason
    known = _listed(linux, "capabilities")
    missing = sorted(subject.granted - set(known)) if known is not None else []
    if missing:
        reason = f"does not know {', '.join(missing)}"
        yield "capabilities", Effect.IGNORES, "", "process.capabilities", reason


def _security_modules(subject: Subject, linux: Mapping[str, Any]) -> Iterator[Use]:
    for name, path, label in (
        ("apparmor", "process.apparmorProfile", subject.process.apparmor_profile),
        ("selinux", "process.selinuxLabel", subject.process.selinux_label),
    ):
        if label and _is_off(linux, name):
            yield name, Effect.IGNORES, name, path, f"was built without {name}"


def _cgroups(subject: Subject, linux: Mapping[str, Any]) -> Iterator[Use]:
    version = {"hybrid": "v1", "v1": "v1", "v2": "v2"}.get(subject.host.cgroups)
    if version and _part(linux, "cgroup").get(version) is False:
        yield "cgroup", Effect.REFUSES, "", "linux.resources", f"was built without cgroup {version}"


def _seccomp(subject: Subject, linux: Mapping[str, Any]) -> Iterator[Use]:
    profile = profile_of(subject)
    if profile is None:
        return
    if _is_off(linux, "seccomp"):
        yield "seccomp", Effect.IGNORES, "seccomp", "linux.seccomp", "was built without seccomp"
        return
    known = _part(linux, "seccomp")
    flags = _listed(known, "supportedFlags") or _listed(known, "knownFlags")
    operators = {arg.op for rule in profile.syscalls or () for arg in rule.args or ()}
    yield from _unlisted("seccomp-actions", _actions(profile), _listed(known, "actions"))
    yield from _unlisted("seccomp-operators", operators, _listed(known, "operators"))
    yield from _unlisted("seccomp-archs", profile.architectures or (), _listed(known, "archs"))
    yield from _unlisted("seccomp-flags", profile.flags or (), flags)


def _actions(profile: Seccomp) -> set[str]:
    return {profile.default_action, *(rule.action for rule in profile.syscalls or ())}


def _unlisted(feature: str, used: Collection[str], known: Collection[str] | None) -> Iterator[Use]:
    missing = sorted(set(used) - set(known)) if known is not None else []
    if missing:
        yield feature, Effect.REFUSES, "", "linux.seccomp", f"does not know {', '.join(missing)}"


def _extensions(subject: Subject, linux: Mapping[str, Any]) -> Iterator[Use]:
    if _is_off(_part(linux, "mountExtensions"), "idmap"):
        for path, mount in subject.mounts:
            if mount.uid_mappings or mount.gid_mappings:
                reason = "says that it passes over the id mappings of a mount"
                yield "idmapped-mounts", Effect.IGNORES, "id-mapped-mounts", path, reason
    own = subject.config.linux
    if own and own.intel_rdt and _is_off(linux, "intelRdt"):
        yield "intel-rdt", Effect.IGNORES, "", "linux.intelRdt", "was built without Intel RDT"


def _annotations(subject: Subject, features: Mapping[str, Any]) -> Iterator[Use]:
    obeyed = _listed(features, "potentiallyUnsafeConfigAnnotations") or ()
    for key in subject.config.annotations or {}:
        if any(key == name or (name.endswith(".") and key.startswith(name)) for name in obeyed):
            path = f'annotations["{key}"]'
            yield "annotation", Effect.DIFFERS, "", path, f"obeys the annotation `{key}`"


def _listed(where: Mapping[str, Any], key: str) -> Sequence[str] | None:
    found = where.get(key)
    return found if isinstance(found, list) else None


def _part(where: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = where.get(key)
    return found if isinstance(found, Mapping) else {}


def _is_off(where: Mapping[str, Any], key: str) -> bool:
    return _part(where, key).get("enabled") is False
