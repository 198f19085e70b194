"""Readers of what the process is: its words, user, environment, capabilities, signals."""

from __future__ import annotations

import re
import shlex
from typing import Any

from pipeline.errors import PipelineError
from pipeline.model.linuxnames import CAPABILITIES, SIGNALS, SIGRTMAX, SIGRTMIN
from pipeline.model.nouns import Platform
from pipeline.model.problems import (
    Parse,
    Problem,
    Problems,
    bad,
    list_of,
    map_of,
    quoted,
    unknown,
    written,
    wrong_type,
)
from pipeline.model.reference import Reference
from pipeline.model.values import any_text, text, text_or_number
from pipeline.model.variants import canonical_platform

MAX_ID = 2**32 - 2
"""The largest user id; 2**32 - 1 means "no change" to setuid(2)."""

# useradd(8), and what images use in practice: capitals, dots.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_OCI_VERSIONS = ("1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.2.0", "1.2.1", "1.3.0")
_RULE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PROFILE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_MAPPING = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")


def image(value: Any) -> str:
    """An image reference in its normal form, with transport."""
    try:
        return str(Reference.parse(text(value)))
    except PipelineError as fault:
        raise _said(fault) from None


def platform(value: Any) -> str:
    """`linux/ARCHITECTURE[/VARIANT]` in its shortest form."""
    try:
        found = canonical_platform(text(value))
    except PipelineError as fault:
        raise _said(fault) from None
    if Platform.parse(found).os != "linux":
        hint = "bundles are for Linux: linux/amd64, linux/arm64"
        raise bad("bad-platform", f"{quoted(found)} is not a platform of Linux", hint)
    return found


def _said(fault: PipelineError) -> Problems:
    # A reference with a password in it comes with stars in that place.
    return Problems([Problem(fault.code, fault.message, fault.hint, secret="***@" in fault.message)])


def words(value: Any) -> tuple[str, ...]:
    """A command: a list as it is, or text that is split as a shell would split it (no shell runs)."""
    if isinstance(value, list):
        return list_of(text_or_number, "a list of words")(value)
    if not isinstance(value, str):
        raise wrong_type(value, "text or a list of words")
    try:
        return tuple(shlex.split(value))
    except ValueError as fault:
        message = f"{quoted(value)} cannot be split into words: {str(fault).lower()}"
        raise bad(
            "bad-value", message, 'close the quote, or write a list: [/bin/server, --port, "80"]'
        ) from None


def user(value: Any) -> str:
    """`USER[:GROUP]`, each a name or a number."""
    parts = _plain(value, "text such as `65532` or `nonroot:nonroot`").split(":")
    if len(parts) > 2:
        raise bad("bad-value", f"{quoted(':'.join(parts))} has more than one colon", "USER or USER:GROUP")
    return ":".join(
        str(_account(part, "user" if index == 0 else "group")) for index, part in enumerate(parts)
    )


def group(value: Any) -> int | str:
    """A group's name or number."""
    return _account(_plain(value, "text or a number"), "group")


def _plain(value: Any, expected: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong_type(value, expected)
    return text(written(value))


def _account(part: str, what: str) -> int | str:
    if part.isascii() and part.isdigit():
        if len(part) > 10 or int(part) > MAX_ID:
            raise bad("bad-value", f"{part[:20]} is larger than any {what} id", f"0 to {MAX_ID}")
        return int(part)
    if not _NAME.fullmatch(part):
        raise bad(
            "bad-value",
            f"{quoted(part)} is neither the name nor the number of a {what}",
            "such as 65532 or nonroot",
        )
    return part


def pairs(what: str, read_entry: Any) -> Parse[dict[str, str]]:
    """Return the reader of a mapping, or of a list of `KEY=VALUE`; `read_entry(key, value)` reads one."""

    def read_item(item: Any) -> tuple[str, str]:
        if not isinstance(item, str):
            raise wrong_type(item, "text such as `KEY=VALUE`")
        key, equals, value = item.partition("=")
        return key, read_entry(key, value if equals else None)

    def read(value: Any) -> dict[str, str]:
        if not isinstance(value, list):
            found: dict[str, str] = map_of(read_entry, f"a mapping of {what}")(value)
            return found
        items = list_of(read_item, f"a mapping of {what}")(value)
        keys = [key for key, _ in items]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise bad("duplicate-key", f"{quoted(key)} stands here twice", "keep one").below(index)
        return dict(items)

    return read


def variable(key: str, value: Any) -> str:
    """The value of an environment variable; refuses `KEY` alone, which compose takes from the host."""
    if not key:
        raise bad("bad-value", "a variable has no name", on_key=True)
    if "=" in key or not key.isprintable() or " " in key:
        raise bad("bad-value", f"{quoted(key)} is not the name of a variable", on_key=True)
    if value is None:
        hint = f"nothing is taken from the host: write `{key}=VALUE`, or `{key}=` for empty text"
        raise bad("bad-value", f"{quoted(key)} has no value", hint)
    return text_or_number(value)


def hostname(value: Any) -> str:
    """A host name of RFC 1123, at most 64 bytes (sethostname(2))."""
    name = text(value)
    if len(name) > 64 or not all(_HOST_LABEL.fullmatch(part) and len(part) <= 63 for part in name.split(".")):
        hint = "letters, digits, `-` and `.`, at most 64 (RFC 1123)"
        raise bad("bad-value", f"{quoted(name)} is not a host name", hint)
    return name


def capability(value: Any) -> str:
    """The name of a capability, with or without CAP_; returned with it."""
    name = text(value).upper().removeprefix("CAP_")
    if name == "ALL":
        raise bad(
            "bad-value", "`ALL` would undo the hardening", "name the capabilities that the program needs"
        )
    if name not in CAPABILITIES:
        raise unknown(f"CAP_{name}", "capability", [f"CAP_{known}" for known in CAPABILITIES])
    return f"CAP_{name}"


def capabilities(value: Any) -> tuple[str, ...]:
    """A list of capabilities, sorted, each once."""
    return tuple(sorted(set(list_of(capability, "a list of capabilities")(value))))


def stop_signal(value: Any) -> str:
    """A signal's name (`SIGTERM`, `TERM`, `SIGRTMIN+3`) or number; returned as the name with SIG."""
    name = _plain(value, "text such as `SIGTERM`").upper()
    if name.isascii() and name.isdigit():
        return _signal_of(int(name[:10]), name)
    name = name if name.startswith("SIG") else f"SIG{name}"
    if match := re.fullmatch(r"SIGRT(MIN|MAX)(?:([+-])([0-9]{1,2}))?", name):
        start, direction = (SIGRTMIN, "+") if match[1] == "MIN" else (SIGRTMAX, "-")
        distance = int(match[3] or 0)
        if (match[2] or direction) == direction and distance <= SIGRTMAX - SIGRTMIN:
            return _signal_of(start + distance if direction == "+" else start - distance, name)
    if name not in SIGNALS:
        raise unknown(str(value), "signal", [*SIGNALS, "SIGRTMIN+3"])
    return name


def _signal_of(number: int, name: str) -> str:
    if SIGRTMIN <= number <= SIGRTMAX:
        return f"SIGRTMIN+{number - SIGRTMIN}" if number > SIGRTMIN else "SIGRTMIN"
    by_number = {known: word for word, known in SIGNALS.items()}
    if number not in by_number:
        raise bad(
            "bad-value", f"{quoted(name)} is not the number of a signal", "1 to 31, or 34 to 64 (signal(7))"
        )
    return by_number[number]


def restart(value: Any) -> str:
    """A restart policy of compose."""
    policy = text(value) if not isinstance(value, bool) else ""
    if policy in ("no", "always", "unless-stopped", "on-failure"):
        return policy
    if match := re.fullmatch(r"on-failure:([0-9]{1,6})", policy):
        return f"on-failure:{int(match[1])}"
    hint = "no, always, unless-stopped, on-failure or on-failure:N"
    raise bad("bad-value", f"{quoted(written(value))} is not a restart policy", hint)


def seccomp(value: Any) -> str:
    """The name of a profile in specs/seccomp/, or `unconfined`."""
    name = text(value)
    if not _PROFILE.fullmatch(name):
        hint = "the NAME of specs/seccomp/NAME.yaml, or `unconfined`"
        raise bad("bad-value", f"{quoted(name)} is not the name of a profile", hint)
    return name


def userns(value: Any) -> str:
    """`private`, `host`, or `BASE:SIZE`: container ids 0 to SIZE-1 are host ids from BASE on."""
    mode = text(value)
    if mode in ("private", "host"):
        return mode
    match = _MAPPING.fullmatch(mode)
    if not match:
        hint = "private, host, or BASE:SIZE such as 2000000000:65536"
        raise bad("bad-value", f"{quoted(mode)} is not a user namespace", hint)
    base, count = int(match[1]), int(match[2])
    if base == 0:
        raise bad(
            "bad-value",
            "this maps the container's root to the host's",
            "to have no user namespace write `host`",
        )
    if count == 0 or base + count > 2**32 - 1:
        raise bad("bad-value", f"{quoted(mode)} leaves the range of ids", "BASE + SIZE is at most 4294967295")
    return f"{base}:{count}"


def oci_version(value: Any) -> str:
    """The version of the runtime specification that config.json claims."""
    version = text(value)
    if version not in _OCI_VERSIONS:
        raise unknown(version, "version of the runtime specification", _OCI_VERSIONS)
    return version


def waiver(rule: str, value: Any) -> str:
    """The reason why one rule does not hold for this bundle."""
    if not _RULE.fullmatch(rule):
        if rule in ("*", "ALL") or "*" in rule:
            raise bad(
                "unwaivable", f"{quoted(rule)} would waive more than one rule", "name one rule", on_key=True
            )
        raise bad(
            "bad-value",
            f"{quoted(rule)} is not the id of a rule",
            "lower-case words joined by `-`",
            on_key=True,
        )
    if value is None or (isinstance(value, str) and not value.strip()):
        hint = "say why it is right here: whoever reads the report will ask"
        raise bad("bad-value", f"the waiver of `{rule}` gives no reason", hint)
    return " ".join(any_text(value).split())
