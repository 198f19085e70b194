"""Who a process in the container is: USER and additional groups, looked up in the rootfs.

image-spec, config.md: `User` is `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`. Without
a group, the user's own group and the groups that /etc/group lists it in apply; with one, only that.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError, suggest
from pipeline.oci.rootfs import read_file

PASSWD = "/etc/passwd"  # noqa: S105 - a file name
GROUP = "/etc/group"
# Some hundred thousand accounts; a longer file is not an account database but an attack on its reader.
_LIMIT_BYTES = 16 << 20
_HIGHEST_ID = 2**32 - 2  # credentials(7): (uid_t) -1 means "no id"
_NAMES_SHOWN = 20


@dataclass(frozen=True)
class Account:
    """A process's identity inside the container; `name` is empty when /etc/passwd does not know the uid."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


@dataclass(frozen=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(root: Path, user: str | None, group_add: Sequence[int | str] = ()) -> Account:
    """Return who `user` of an image or a spec is, with `group_add` as further groups; None or "" is root.

    Raises PipelineError `bad-user`, `unknown-user`, `unknown-group`, or `unsafe-file` for an account file
    that is not a regular file.
    """
    wanted, colon, group = (user or "0").partition(":")
    if not wanted or (colon and not group):
        wanted_form = "USER or USER:GROUP, names or numbers"
        raise PipelineError("bad-user", f"user `{user}` lacks a part", hint=wanted_form)
    groups = _groups(root)
    known = _find_user(root, wanted)
    extra = [_group_id(name, groups) for name in group_add]
    if colon:
        gid, listed = _group_id(group, groups), []
    else:
        gid = known.gid
        listed = [entry.gid for entry in groups if known.name and known.name in entry.members]
    others = tuple(dict.fromkeys(other for other in [*listed, *extra] if other != gid))
    return Account(known.uid, gid, others, known.home, known.name)


def _find_user(root: Path, wanted: str) -> _User:
    users = _users(root)
    if wanted.isascii() and wanted.isdigit():
        uid = _identifier(wanted, "user")
        return next((entry for entry in users if entry.uid == uid), _User("", uid, 0, "/"))
    found = next((entry for entry in users if entry.name == wanted), None)
    if found is None:
        raise _unknown("user", wanted, PASSWD, [entry.name for entry in users])
    return found


def _group_id(wanted: int | str, groups: Sequence[_Group]) -> int:
    text = str(wanted)
    if text.isascii() and text.isdigit():
        return _identifier(text, "group")
    found = next((entry.gid for entry in groups if entry.name == text), None)
    if found is None:
        raise _unknown("group", text, GROUP, [entry.name for entry in groups])
    return found


def _identifier(text: str, kind: str) -> int:
    # int() of a very long text takes quadratic time and then refuses.
    if len(text) > 10 or int(text) > _HIGHEST_ID:
        message = f"{kind} id {text[:40]} is not an id"
        raise PipelineError(f"bad-{kind}", message, hint=f"ids are 0 to {_HIGHEST_ID}")
    return int(text)


def _unknown(kind: str, wanted: str, file: str, names: Sequence[str]) -> PipelineError:
    shown = ", ".join(sorted(set(names))[:_NAMES_SHOWN]) + (", …" if len(set(names)) > _NAMES_SHOWN else "")
    there = f"it has {shown}" if names else "it has none, or is not there"
    close = suggest(wanted, names)
    help_ = f"did you mean `{close}`?" if close else "a number works without an entry, for example `65532`"
    return PipelineError(
        f"unknown-{kind}", f"{kind} `{wanted}` is not in {file} of the image; {there}", hint=help_
    )


def _users(root: Path) -> list[_User]:
    users = []
    for fields in _rows(root, PASSWD, 7):
        if _is_id(fields[2]) and _is_id(fields[3]):
            users.append(_User(fields[0], int(fields[2]), int(fields[3]), fields[5] or "/"))
    return users


def _groups(root: Path) -> list[_Group]:
    rows = [fields for fields in _rows(root, GROUP, 4) if _is_id(fields[2])]
    return [_Group(name, int(gid), _members(members)) for name, _, gid, members, *_ in rows]


def _members(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _rows(root: Path, path: str, fields: int) -> Iterator[list[str]]:
    """The rows of an account file; rows that getpwent(3) would pass over too are left out."""
    for line in _lines(root, path):
        row = line.strip().split(":")
        row += [""] * (fields - len(row))
        # `+` and `-` rows ask for NIS (nsswitch.conf(5), compat), which no container has.
        if row[0] and row[0][0] not in "#+-":
            yield row


def _lines(root: Path, path: str) -> Iterable[str]:
    try:
        content = read_file(root, path, _LIMIT_BYTES)
    except OSError as fault:
        if fault.errno in (errno.ENOENT, errno.ENOTDIR):
            return ()
        raise PipelineError("unsafe-file", f"{path} in the rootfs cannot be read: {fault.strerror}") from None
    return content.decode("utf-8", "surrogateescape").split("\n")


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _HIGHEST_ID
