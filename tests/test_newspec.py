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
from pipeline.run import run
from pipeline.speclang.read import read
from pipeline.tools.umoci_demo import make_demo
from tests.conftest import Workspace


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
    assert "# The image is stopped with SIGQUIT, and killed after this time." in text
    assert text.startswith("# yaml-language-server: $schema=../schema/bundle.json\n")


def test_what_no_spec_can_name_is_told() -> None:
    text = render_new("web", "oci:img:1", {"entrypoint": ("/web",), "user": "1", "volumes": ("/a:b", "/c")})
    assert [v.target for v in loads(text)["volumes"]] == ["/c"]
    assert "# The image names a volume that no spec can: /a:b\n" in text


def test_only_a_remote_image_is_pinned() -> None:
    assert "web    build it\n" in render_new("web", "oci:img:1", {})
    assert "web    pin the image and build it\n" in render_new("web", "docker://docker.io/library/web:1", {})


def test_the_health_check_of_an_image_is_shown() -> None:
    check = {"test": ("CMD-SHELL", "exit 0")}
    text = render_new("web", "oci:img:1", {"healthcheck": check, "exposed_ports": ("90/tcp",)})
    assert '# The image\'s own health check: ["CMD-SHELL", "exit 0"]\n' in text
    assert "# healthcheck:\n#   http: http://:90/\n" in text
    assert "healthcheck" not in loads(text)
    assert "`smoke` can only see that it keeps running" in render_new("web", "oci:img:1", {})


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
    assert create(project, "web", "demo:busybox-httpd") == (
        "wrote specs/web.yaml; 'doit bundle:web' builds it"
    )
    loaded = specfile.load(project)
    assert not loaded.errors
    assert loaded.specs["web"].values["ports"][0]["container_port"] == 8080
    assert sorted(path.name for path in tmp_path.iterdir()) == ["specs"]


@pytest.mark.parametrize(
    "image", ["oci:img:1", "dir:img", "docker-archive:img/a.tar", "oci-archive:/nowhere/a.tar:1"]
)
def test_an_image_that_is_not_there(image: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        create(Project(tmp_path), "web", image)
    where = "/nowhere/a.tar" if "nowhere" in image else tmp_path / image.split(":")[1]
    assert str(caught.value) == (
        f"error[image-missing]: `{image}` cannot be read: {where}: No such file or directory\n"
        "  help: relative paths start at the project folder"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    with pytest.raises(PipelineError, match="image-missing"):
        create(Project(tmp_path), "web", "dir:img")
    with pytest.raises(PipelineError, match="bad-layout"):
        create(Project(tmp_path), "web", "oci:img:1")


@pytest.mark.real
def test_a_new_spec_of_a_local_image_builds(workspace: Workspace, volumes: Path) -> None:
    make_demo(workspace.root / "img")
    options = ["volume", "/srv/data", "exposedports", "80/tcp", "user", "root", "stopsignal", "SIGQUIT"]
    pairs = zip(options[::2], options[1::2], strict=True)
    words = [word for name, value in pairs for word in (f"--config.{name}", value)]
    run(["umoci", "config", "--image", f"{workspace.root}/img:latest", *words], timeout_s=60)
    run(
        ["skopeo", "copy", f"oci:{workspace.root}/img:latest", f"docker-archive:{workspace.root}/a.tar:w:1"],
        timeout_s=60,
    )
    for name, image in (("web", "oci:img:latest"), ("tar", "docker-archive:a.tar")):
        said = workspace.doit("new", name, "--image", image).stdout
        assert said == f"wrote specs/{name}.yaml; 'doit bundle:{name}' builds it\n"
        text = (workspace.root / "specs" / f"{name}.yaml").read_text()
        assert '\nuser: "65532:65532"\n' in text
        assert '\n  - "data:/srv/data"\n' in text
        assert "stopped with SIGQUIT" in text
        workspace.doit(f"bundle:{name}")
    assert (volumes / "web" / "data").is_dir()


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
