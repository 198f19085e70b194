"""Image references: every transport, every refusal with its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.model.reference import Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "key", "remote", "loopback"),
    [
        ("nginx", "docker://docker.io/library/nginx:latest", True, False),
        ("nginx:1.27", "docker://docker.io/library/nginx:1.27", True, False),
        ("docker://nginx", "docker://docker.io/library/nginx:latest", True, False),
        ("index.docker.io/a/b:c", "docker://docker.io/a/b:c", True, False),
        ("docker://ghcr.io/a/b-c__d:x.1", "docker://ghcr.io/a/b-c__d:x.1", True, False),
        ("localhost:5000/x", "docker://localhost:5000/x:latest", True, True),
        ("docker://127.0.0.1:5000/x:y", "docker://127.0.0.1:5000/x:y", True, True),
        ("docker://127.8.9.1/x:y", "docker://127.8.9.1/x:y", True, True),
        ("docker://127.evil.org/x:y", "docker://127.evil.org/x:y", True, False),
        ("docker://localhost.evil.org/x:y", "docker://localhost.evil.org/x:y", True, False),
        ("docker://0.0.0.0:5000/x:y", "docker://0.0.0.0:5000/x:y", True, False),
        (f"docker://q.io/x@{DIGEST}", f"docker://q.io/x@{DIGEST}", True, False),
        (f"docker://q.io/x:t@{DIGEST}", f"docker://q.io/x:t@{DIGEST}", True, False),
        ("oci:images/app", "oci:images/app", False, False),
        ("oci:/abs/app:v1", "oci:/abs/app:v1", False, False),
        ("oci:odd@name:v1", "oci:odd@name:v1", False, False),
        ("oci-archive:app.tar:v1", "oci-archive:app.tar:v1", False, False),
        ("docker-archive:app.tar:a/b:v1", "docker-archive:app.tar:a/b:v1", False, False),
        ("dir:some/dir", "dir:some/dir", False, False),
        ("containers-storage:localhost/x:1", "containers-storage:localhost/x:1", True, False),
        (
            "containers-storage:[vfs@/a+/b]localhost/x",
            "containers-storage:[vfs@/a+/b]localhost/x",
            True,
            False,
        ),
        ("demo:busybox-httpd", "demo:busybox-httpd", False, False),
    ],
)
def test_every_transport_is_read(text: str, key: str, remote: bool, loopback: bool) -> None:
    reference = Reference.parse(text)
    assert (reference.key, reference.remote, reference.loopback) == (key, remote, loopback)
    assert Reference.parse(reference.key) == reference


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "it is empty", "for example docker://docker.io/library/nginx:1.27"),
        ("a b", "it has white space or control characters", None),
        ("a\nb", "it has white space or control characters", None),
        ("-x", "it starts with `-`", None),
        ("docker:nginx", "docker: is followed by //", "docker://nginx"),
        ("dockr://nginx", "there is no transport `dockr:`", "did you mean `docker:`?"),
        ("oci-archve:./x.tar", "there is no transport `oci-archve:`", "did you mean `oci-archive:`?"),
        ("https://ghcr.io/x", "it is a web address", "docker://ghcr.io/x"),
        ("docker-daemon:x", "docker-daemon: is not supported", "save the image and use docker-archive:PATH"),
        ("docker://Foo/x", "a repository's name has no capitals", "foo/x"),
        ("docker://[::1]:5000/x", "skopeo knows no IPv6 addresses", "use a host name such as localhost"),
        ("docker://a//b", "`a//b` is no repository", "HOST[:PORT]/PATH[:TAG][@sha256:DIGEST]"),
        ("docker://a/../b", "`a/../b` is no repository", "HOST[:PORT]/PATH[:TAG][@sha256:DIGEST]"),
        ("docker://a:t%g", "`t%g` is no tag", "letters, digits, `_`, `.` and `-`, at most 128"),
        ("docker://a:" + "t" * 129, "is no tag", "letters, digits, `_`, `.` and `-`, at most 128"),
        ("docker://" + "a" * 300, "is no repository", "HOST[:PORT]/PATH[:TAG][@sha256:DIGEST]"),
        ("oci:", "it names no path", "oci:PATH"),
        ("oci://x", "a path follows the colon, not //", "oci:x"),
        ("oci:x:", "`` is no image name", "oci:PATH:NAME; a path has no colon"),
        ("dir:x:y", "a dir: holds one image, nothing follows its path", "dir:x"),
        ("demo:nginx", "there is no demo image `nginx`", "there is: busybox-httpd"),
        ("containers-storage:", "it needs a name", "containers-storage:localhost/name:tag"),
        ("containers-storage:@ab", "it needs a name", "containers-storage:localhost/name:tag"),
    ],
)
def test_what_is_no_reference_is_refused(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(PipelineError) as caught:
        Reference.parse(text)
    assert caught.value.code == "bad-image"
    assert message in caught.value.message
    assert caught.value.hint == hint


def test_a_digest_must_be_one() -> None:
    with pytest.raises(PipelineError, match=r"`sha256:12` is not a digest"):
        Reference.parse("docker://q.io/x@sha256:12")


@pytest.mark.parametrize(
    "text",
    [
        "docker://joe:s3cret@q.io/x",
        "joe:s3cret@q.io/x",
        "docker://joe:s3cret@q.io/x@" + DIGEST,
        "https://joe:s3cret@q.io/x",
        "docker://s3cret@q.io/x",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Reference.parse(text)
    assert "it carries a user or a password" in str(caught.value)
    assert "skopeo login HOST" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_digest_replaces_the_tag_for_skopeo() -> None:
    reference = Reference.parse("docker://q.io/x:v1")
    assert reference.skopeo_source() == "docker://q.io/x:v1"
    assert reference.skopeo_source(DIGEST) == f"docker://q.io/x@{DIGEST}"
    assert Reference.parse(f"q.io/x:v1@{DIGEST}").skopeo_source() == f"docker://q.io/x@{DIGEST}"


def test_paths_start_at_the_project() -> None:
    assert Reference.parse("oci:a/b:v1").skopeo_source(None, Path("/p")) == "oci:/p/a/b:v1"
    assert Reference.parse("dir:/abs").skopeo_source(DIGEST, Path("/p")) == "dir:/abs"
