"""`doit new`: the text of a spec from what an image says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import specfile
from pipeline.errors import PipelineError
from pipeline.newspec import create, render_new
from pipeline.paths import Project
from pipeline.speclang.read import read


def loads(text: str) -> dict[str, Any]:
    """The values of a spec's text, which must have no errors."""
    written = read("new", text.encode(), "specs/new.yaml")
    assert not written.errors, [str(error) for error in written.errors]
    return written.values


def test_a_new_spec_says_what_the_image_says() -> None:
    text = render_new(
        "web",
        "docker://docker.io/library/web:1",
        {
            "entrypoint": ("/web",),
            "user": "",
            "volumes": ("/var/data", "/srv/data"),
            "exposed_ports": ("80/tcp", "53/udp", "8000"),
            "stop_signal": "SIGQUIT",
            "healthcheck": None,
        },
    )
    found = loads(text)
    assert found["image"] == "docker://docker.io/library/web:1"
    assert found["user"] == "65532:65532"
    assert [(v.source, v.target) for v in found["volumes"]] == [
        ("data", "/var/data"),
        ("data-2", "/srv/data"),
    ]
    assert [(p.host_port, p.protocol) for p in found["ports"]] == [(80, "tcp"), (53, "udp"), (8000, "tcp")]
    assert found["healthcheck"] == {"tcp": 80}
    assert found["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "0"}
    assert '# The image starts: ["/web"]' in text
    assert "# It is stopped with SIGQUIT." in text
    assert text.startswith("# yaml-language-server: $schema=../schema/bundle.json\n")


nasty = st.text(max_size=20) | st.sampled_from(
    ["a\nprivileged: true\n", "\u2028x: 1", '"', "\\", "# ", "/a\n- b", "😀"]
)


@given(
    st.fixed_dictionaries(
        {
            "entrypoint": st.lists(nasty, max_size=2),
            "command": st.lists(nasty, max_size=2),
            "user": nasty,
            "volumes": st.lists(nasty.map("/".__add__) | nasty, max_size=3),
            "exposed_ports": st.lists(nasty | st.just("80/tcp"), max_size=3),
            "stop_signal": nasty,
            "healthcheck": st.none() | st.fixed_dictionaries({"test": st.lists(nasty, max_size=3)}),
        }
    )
)
def test_no_image_can_write_keys_into_a_new_spec(config: dict[str, Any]) -> None:
    found = loads(render_new("web", "docker://docker.io/library/web:1", config))
    assert set(found) <= {"image", "entrypoint", "user", "volumes", "ports", "sysctls", "healthcheck"}


@pytest.mark.real
def test_a_new_spec_of_a_real_image_loads(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert create(project, "web", "demo:busybox-httpd") == "wrote specs/web.yaml"
    loaded = specfile.load(project)
    assert not loaded.errors
    assert loaded.specs["web"].values["ports"][0]["container_port"] == 8080
    assert sorted(path.name for path in tmp_path.iterdir()) == ["specs"]


def test_a_spec_that_exists_is_left_alone(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.specs.mkdir()
    (project.specs / "web.yaml").symlink_to("/nowhere")
    with pytest.raises(PipelineError) as caught:
        create(project, "web", "demo:busybox-httpd")
    assert str(caught.value) == (
        "error[spec-exists]: there is a bundle `web`\n"
        "  --> specs/web.yaml:1:1\n"
        "  help: choose another name, or remove the file"
    )


@pytest.mark.parametrize("name", ["../x", "-x", "report", "X", ""])
def test_a_new_spec_needs_a_good_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="bad-name"):
        create(Project(tmp_path), name, "demo:busybox-httpd")
    assert list(tmp_path.iterdir()) == []
