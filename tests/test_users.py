"""USER and group_add: image-spec config.md, in a rootfs that may be hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.oci.users import Account, resolve_user

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/srv/app:/sbin/nologin
bare:x:1002:1002
# comment:x:5:5::/:
+nis:x:6:6::/:
bad:x:-1:6::/:
worse:x:99999999999:6::/:
1000:x:77:77::/odd:/bin/sh
"""
_GROUP = """\
root:x:0:
app:x:1001:
video:x:44:app, other
audio:x:29:other,app
broken:x:abc:app
twice:x:44:app
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A rootfs with account files."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(_PASSWD)
    (tmp_path / "etc/group").write_text(_GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "account"),
    [
        (None, Account(0, 0, (), "/root", "root")),
        ("", Account(0, 0, (), "/root", "root")),
        ("app", Account(1000, 1001, (44, 29), "/srv/app", "app")),
        ("1000", Account(1000, 1001, (44, 29), "/srv/app", "app")),
        ("app:video", Account(1000, 44, (), "/srv/app", "app")),
        ("1000:29", Account(1000, 29, (), "/srv/app", "app")),
        ("1000:audio", Account(1000, 29, (), "/srv/app", "app")),
        ("app:12345", Account(1000, 12345, (), "/srv/app", "app")),
        ("65532", Account(65532, 0, (), "/", "")),
        ("65532:65532", Account(65532, 65532, (), "/", "")),
        ("bare", Account(1002, 1002, (), "/", "bare")),
    ],
)
def test_who_that_is(root: Path, user: str | None, account: Account) -> None:
    """Every form of the specification; a number is always an id."""
    assert resolve_user(root, user) == account


def test_group_add_takes_names_and_numbers(root: Path) -> None:
    """In order, each once, and not the main group again."""
    assert resolve_user(root, "app", ("audio", 5, "5", "app")).groups == (44, 29, 5)
    assert resolve_user(root, "0:0", ("video",)).groups == (44,)


@pytest.mark.parametrize(
    ("user", "code", "said"),
    [
        (
            "ap",
            "unknown-user",
            "user `ap` is not in /etc/passwd of the image; it has 1000, app, bad, bare, root",
        ),
        ("app:vidoe", "unknown-group", "group `vidoe` is not in /etc/group of the image; it has app, audio"),
        (":5", "bad-user", "user `:5` lacks a part"),
        ("app:", "bad-user", "user `app:` lacks a part"),
        ("4294967295", "bad-user", "user id 4294967295 is not an id"),
        ("9" * 5000, "bad-user", "user id 9999999999"),
        ("0:99999999999", "bad-group", "group id 99999999999 is not an id"),
        ("+nis", "unknown-user", "user `+nis` is not in"),
        ("-5", "unknown-user", "user `-5` is not in"),
    ],
)
def test_who_is_nobody(root: Path, user: str, code: str, said: str) -> None:
    """The error lists whom there is."""
    with pytest.raises(PipelineError) as caught:
        resolve_user(root, user)
    assert caught.value.code == code
    assert said.replace("bad, ", "") in caught.value.message
    assert caught.value.hint


def test_the_help_is_a_suggestion_or_a_number(root: Path) -> None:
    """`ap` was meant to be `app`."""
    with pytest.raises(PipelineError) as caught:
        resolve_user(root, "ap")
    assert caught.value.hint == "did you mean `app`?"
    with pytest.raises(PipelineError) as caught:
        resolve_user(root, "zzz")
    assert caught.value.hint == "a number works without an entry, for example `65532`"


def test_an_image_without_account_files(tmp_path: Path) -> None:
    """Distroless: numbers work, names are told why not."""
    assert resolve_user(tmp_path, "65532:65532", (5,)) == Account(65532, 65532, (5,), "/", "")
    with pytest.raises(PipelineError, match="it has none, or is not there"):
        resolve_user(tmp_path, "app")


def test_account_file_behind_a_link_is_the_image_s(root: Path, tmp_path: Path) -> None:
    """A link to the host's /etc/passwd is a link to the image's own."""
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/usr/lib/passwd")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/passwd").write_text("inner:x:7:8::/home/inner:/bin/sh\n")
    assert resolve_user(root, "inner") == Account(7, 8, (), "/home/inner", "inner")
    with pytest.raises(PipelineError, match="user `app` is not in /etc/passwd of the image; it has inner"):
        resolve_user(root, "app")


def test_account_file_that_is_a_fifo_is_refused(root: Path) -> None:
    """It would hang whoever opens it."""
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    with pytest.raises(PipelineError, match="/etc/passwd in the rootfs is a FIFO, not a regular file"):
        resolve_user(root, "65532")


def test_account_file_that_is_huge_is_refused(root: Path) -> None:
    """A sparse file of a terabyte costs nothing to make."""
    os.truncate(root / "etc/group", 1 << 40)
    with pytest.raises(PipelineError, match=f"/etc/group in the rootfs has {1 << 40} bytes; at most"):
        resolve_user(root, "app")


def test_account_files_that_are_no_text(root: Path) -> None:
    """Any bytes may stand there."""
    (root / "etc/passwd").write_bytes(b"\xff\xfe:x:1:2::/h:\n\0\0\n:::::\nz\n")
    assert resolve_user(root, "\udcff\udcfe") == Account(1, 2, (), "/h", "\udcff\udcfe")
