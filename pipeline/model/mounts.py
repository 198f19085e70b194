"""Readers of what the container sees of the host: volumes, tmpfs, devices."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.model.bundle import Device, Tmpfs, Volume, VolumeType
from pipeline.model.problems import Problems, bad, fields_of, list_of, quoted, unknown, wrong_type
from pipeline.model.process import MAX_ID
from pipeline.model.values import absolute_path, boolean, local_path, mount_point, one_of, size, text, whole

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_SHORT_VOLUME = "SOURCE:/TARGET or SOURCE:/TARGET:ro"
_ALWAYS = ("nosuid", "nodev")
_FLAGS = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "exec": ("exec", True),
    "noexec": ("exec", False),
}
_REFUSED = {
    "suid": "set-id bits never count on a mount",
    "dev": "device files never work on a mount: name them in `devices`",
    "z": "labels of SELinux are not changed on the host: label the folder yourself",
    "Z": "labels of SELinux are not changed on the host: label the folder yourself",
    "U": "owners are not changed on the host: chown the folder yourself",
}
_TMPFS_SIZE = size(4096, "at least 4096 bytes, one page")
_ID = whole(0, MAX_ID)


def mode(value: Any) -> int:
    """Permission bits as octal text (`1777`, `0755`); a number in YAML is read as its digits stand."""
    digits = getattr(value, "text", "") or str(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong_type(value, 'octal text such as `"1777"`')
    if not re.fullmatch(r"0?o?[0-7]{3,4}", digits):
        raise bad("bad-value", f"{quoted(digits)} is not a mode", "octal digits, such as 1777 or 0755")
    return int(digits.replace("o", ""), 8)


def tmpfs(value: Any) -> tuple[Tmpfs, ...]:
    """One `/PATH[:OPTIONS]` or a list of them."""
    if isinstance(value, str):
        return (_tmpfs(value),)
    return list_of(_tmpfs, "text such as `/tmp:size=64m`, or a list")(value)


def _tmpfs(value: Any) -> Tmpfs:
    target, _, options = text(value).partition(":")
    found: dict[str, Any] = {"target": mount_point(target)}
    for option in filter(None, options.split(",")):
        name, equals, setting = option.partition("=")
        found |= _tmpfs_option(name, setting if equals else None)
    return Tmpfs(**found)


_TMPFS_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "size": ("size_bytes", _TMPFS_SIZE),
    "mode": ("mode", mode),
    "uid": ("uid", _ID),
    "gid": ("gid", _ID),
}


def _tmpfs_option(name: str, setting: str | None) -> dict[str, Any]:
    if setting is None:
        return _flag(name, [*_TMPFS_SETTINGS])
    if name not in _TMPFS_SETTINGS:
        raise unknown(name, "option", [*_TMPFS_SETTINGS, *_FLAGS, *_ALWAYS])
    key, read = _TMPFS_SETTINGS[name]
    return {key: read(setting if name == "mode" else _number(setting))}


def _number(digits: str) -> Any:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else digits


def volumes(value: Any) -> tuple[Volume | Tmpfs, ...]:
    """A list of volumes in compose's short or long form; type tmpfs gives a Tmpfs."""
    return list_of(_volume, "a list of volumes")(value)


def _volume(value: Any) -> Volume | Tmpfs:
    if isinstance(value, dict):
        return _long_volume(value)
    if not isinstance(value, str):
        raise wrong_type(value, f"{_SHORT_VOLUME}, or a mapping with `type`, `source` and `target`")
    source, colon, rest = text(value).partition(":")
    target, _, options = rest.partition(":")
    if not colon or not target:
        hint = f"{_SHORT_VOLUME}; for files in memory use `tmpfs`"
        raise bad("bad-value", f"{quoted(value)} names no {'target' if source else 'source'}", hint)
    found: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        found |= _flag(option, [])
    kind = VolumeType.BIND if _is_path(source) else VolumeType.VOLUME
    return Volume(type=kind, source=_source(kind, source), target=mount_point(target), **found)


def _flag(option: str, others: list[str]) -> dict[str, Any]:
    """The field that an option without a value sets."""
    if option in _FLAGS:
        return dict([_FLAGS[option]])
    if option in _ALWAYS:
        return {}
    if option in _REFUSED:
        raise bad("bad-value", f"the option `{option}` is not allowed", _REFUSED[option])
    raise unknown(option, "option", [*_FLAGS, *_ALWAYS, *others])


def _is_path(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~")) or source in (".", "..")


def _source(kind: VolumeType, source: str) -> str:
    if kind is VolumeType.BIND:
        return local_path(source)
    if not _VOLUME_NAME.fullmatch(source):
        hint = "a path starts with / or ./; a name has letters, digits, `_`, `.` and `-`"
        raise bad("bad-value", f"{quoted(source)} is neither a path nor the name of a volume", hint)
    return source


def _long_volume(value: dict[str, Any]) -> Volume | Tmpfs:
    fields = {
        "type": one_of("type of volume", "bind", "volume", "tmpfs"),
        "source": text,
        "target": mount_point,
        "read_only": boolean,
        "exec": boolean,
        "tmpfs": lambda item: fields_of(
            item, {"size": _TMPFS_SIZE, "mode": mode}, "a mapping with `size` and `mode`"
        ),
    }
    found = fields_of(value, fields, "a volume")
    needed = ("type", "target") if found.get("type") == "tmpfs" else ("type", "source", "target")
    missing = [key for key in needed if key not in found]
    if missing:
        raise bad("missing-key", f"the volume has no `{'`, `'.join(missing)}`", f"write `{missing[0]}: …`")
    extra = "source" if found["type"] == "tmpfs" else "tmpfs"
    if extra in found:
        raise bad("bad-combination", f"a volume of type {found['type']} takes no `{extra}`").below(extra)
    return _from_fields(found)


def _from_fields(found: dict[str, Any]) -> Volume | Tmpfs:
    flags = {key: found[key] for key in ("read_only", "exec") if key in found}
    if found["type"] == "tmpfs":
        options = found.get("tmpfs", {})
        more = {
            name: options[key] for key, name in (("size", "size_bytes"), ("mode", "mode")) if key in options
        }
        return Tmpfs(target=found["target"], **more, **flags)
    kind = VolumeType(found["type"])
    try:
        source = _source(kind, found["source"])
    except Problems as fault:
        raise fault.below("source") from None
    return Volume(type=kind, source=source, target=found["target"], **flags)


def devices(value: Any) -> tuple[Device, ...]:
    """A list of `HOST[:CONTAINER[:PERMISSIONS]]`."""
    return list_of(_device, "a list of devices")(value)


def _device(value: Any) -> Device:
    parts = text(value).split(":")
    if len(parts) > 3:
        raise bad("bad-value", f"{quoted(value)} has too many colons", "/dev/HOST[:/dev/CONTAINER[:rw]]")
    host = absolute_path(parts[0])
    container = parts[1] if len(parts) > 1 else host
    permissions = parts[2] if len(parts) > 2 else "rw"
    if len(parts) == 2 and container and not set(container) - set("rwm"):
        container, permissions = host, container
    if not permissions or set(permissions) - set("rwm") or len(set(permissions)) != len(permissions):
        raise bad("bad-value", f"{quoted(permissions)} are not permissions", "letters of `rwm`, each once")
    ordered = "".join(letter for letter in "rwm" if letter in permissions)
    return Device(host=host, container=mount_point(container), permissions=ordered)


def privileged_files(value: Any) -> tuple[str, ...]:
    """A list of paths of the image that keep set-id bits and file capabilities; sorted, each once."""
    return tuple(sorted(set(list_of(mount_point, "a list of paths")(value))))


def env_files(value: Any) -> tuple[str, ...]:
    """One path or a list of paths, relative to the spec file's folder or absolute."""
    if isinstance(value, str):
        return (local_path(value),)
    return list_of(local_path, "a path or a list of paths")(value)
