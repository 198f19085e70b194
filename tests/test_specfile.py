"""Spec files: every kind of mistake in its exact words, `extends`, the cache, and bytes of any kind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import specfile
from pipeline.errors import PipelineError, PipelineErrors, Place
from pipeline.model.bundle import Bundle, Healthcheck, HttpProbe, Port, Tmpfs, Ulimit, Volume, VolumeType
from pipeline.paths import Project
from pipeline.source import MAX_BYTES, read_source
from pipeline.speclang.build import merge

PROJECT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "specs"
CASES = sorted(path.name for path in GOLDEN.iterdir())
IMAGE = "image: demo:busybox-httpd\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with nothing in it but the folders."""
    found = Project(tmp_path)
    found.specs.mkdir()
    found.cache.mkdir(parents=True)
    return found


def write(project: Project, **specs: str) -> None:
    """Write specs by name."""
    for name, text in specs.items():
        (project.specs / f"{name}.yaml").write_text(text)


def errors(project: Project) -> str:
    """All errors as a user sees them."""
    return str(PipelineErrors(specfile.load(project).errors))


def bundle(project: Project, name: str) -> Bundle:
    """A bundle, after checking that there are no errors at all."""
    loaded = specfile.load(project)
    assert not loaded.errors, errors(project)
    return Bundle.from_values(loaded.specs[name].values)


@pytest.mark.parametrize("case", CASES)
def test_mistakes(case: str, project: Project) -> None:
    shutil.copytree(GOLDEN / case, project.specs, dirs_exist_ok=True)
    expected = project.specs / "expected.txt"
    if "UPDATE_GOLDEN" in os.environ:
        (GOLDEN / case / "expected.txt").write_text(errors(project) + "\n")
    assert errors(project) + "\n" == expected.read_text()


def test_every_case_has_a_mistake() -> None:
    assert len(CASES) >= 35
    assert all("error[" in (GOLDEN / case / "expected.txt").read_text() for case in CASES)


# Files that are no files ----------------------------------------------------------------------


def test_a_symbolic_link_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "real").write_text(IMAGE)
    (project.specs / "a.yaml").symlink_to(tmp_path / "real")
    assert errors(project) == (
        "error[not-a-file]: this is a symbolic link, not a file\n"
        "  --> specs/a.yaml:1:1\n"
        "  help: put the file itself here; to build on another spec, write `extends: NAME`"
    )


def test_a_fifo_does_not_hang(project: Project) -> None:
    os.mkfifo(project.specs / "a.yaml")
    assert errors(project) == "error[not-a-file]: this is a FIFO, not a file\n  --> specs/a.yaml:1:1"


def test_a_folder_is_refused(project: Project) -> None:
    (project.specs / "a.yaml").mkdir()
    assert errors(project) == "error[not-a-file]: this is a directory, not a file\n  --> specs/a.yaml:1:1"


def test_an_unreadable_file_is_said() -> None:
    """As root any mode can be read, so for a moment the reader is somebody else."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder, "a.yaml")
        path.write_text(IMAGE)
        path.chmod(0)
        Path(folder).chmod(0o755)
        owner = os.geteuid()
        os.seteuid(owner or 65534)
        try:
            with pytest.raises(PipelineError) as caught:
                read_source(path, "specs/a.yaml")
        finally:
            os.seteuid(owner)
    expected = "error[unreadable]: cannot read the file: Permission denied\n  --> specs/a.yaml:1:1"
    assert str(caught.value) == expected


def test_a_huge_file_is_not_read(project: Project) -> None:
    with (project.specs / "a.yaml").open("wb") as stream:
        stream.truncate(1 << 40)
    expected = f"error[too-big]: the file is larger than {MAX_BYTES} bytes\n  --> specs/a.yaml:1:1"
    assert errors(project) == expected


def test_names_cannot_carry_controls_to_a_terminal(project: Project) -> None:
    (project.specs / "a\x1b[31m\n.yaml").write_text(IMAGE)
    os.mkdir(os.fsencode(project.specs) + b"/\xff.yaml")
    said = errors(project)
    assert "\x1b" not in said
    assert "`a\\x1b[31m\\n` cannot name a bundle" in said
    assert "`\\udcff` cannot name a bundle" in said
    assert said.encode()


def test_other_files_are_none_of_its_business(project: Project) -> None:
    for name in ("lock.json", "README.md", ".hidden.yaml", "a.yaml~", "x.env"):
        (project.specs / name).write_text("not: [yaml")
    (project.specs / "seccomp").mkdir()
    assert specfile.load(project) == specfile.Loaded()


def test_no_specs_folder_is_no_error(tmp_path: Path) -> None:
    assert specfile.load(Project(tmp_path)) == specfile.Loaded()


def test_a_broken_spec_leaves_the_others_alone(project: Project) -> None:
    write(project, good=IMAGE, bad="image: [\n", child="extends: bad\n", own=IMAGE + "nope: 1\n")
    loaded = specfile.load(project)
    assert list(loaded.specs) == ["good"]
    assert loaded.broken == {"bad", "child", "own"}
    assert len(loaded.errors) == 2


# What a spec means ----------------------------------------------------------------------------


def test_the_hardened_default(project: Project) -> None:
    write(project, a=IMAGE + "platform: linux/amd64\n")
    assert bundle(project, "a") == Bundle(image="demo:busybox-httpd", platform="linux/amd64")


def test_every_key_is_read(project: Project) -> None:
    (project.specs / "seccomp").mkdir()
    (project.specs / "seccomp" / "node.yaml").write_text("")
    (project.specs / "a.env").write_text("FROM_FILE=x=y\nWINS=no\n\n# comment\nEMPTY=\n")
    write(
        project,
        a="""
image: docker.io/library/nginx:1.27
platform: linux/arm64/v8
entrypoint: /bin/server --name 'a b'
command: [--port, 8080]
user: 65532:video
group_add: [44, render]
environment: {WINS: yes, UMASK: 0022, VERSION: 1.10}
env_file: a.env
working_dir: /srv//app/
hostname: web.example
read_only: false
tmpfs: /tmp:size=64m,mode=0700,exec,uid=5
volumes:
  - data:/data
  - ./conf:/etc/app:ro
  - {type: bind, source: /srv/x, target: /x, read_only: true}
  - {type: tmpfs, target: /run, tmpfs: {size: 1m, mode: 0755}}
devices: [/dev/dri/renderD128, "/dev/kvm:/dev/kvm:rwm"]
cap_add: [net_bind_service, CAP_CHOWN]
network_mode: private
ports: ["8080:80", "[::1]:5000-5001:6000-6001/udp"]
sysctls: {net.core.somaxconn: 1024}
ulimits: {nofile: 2048, memlock: -1, core: {soft: 0, hard: 5}}
mem_limit: 1.5g
memswap_limit: 2g
cpus: "0.5"
pids_limit: 100
shm_size: 1048576
init: true
stop_signal: int
stop_grace_period: 1m30s
healthcheck: {http: "http://localhost:8080/health?x=1", interval: 500ms, retries: 5}
restart: on-failure:3
labels: [a=b]
annotations: {org.example/x: 1}
seccomp: node
userns: 300000:65536
oci_version: 1.1.0
keep_privileged_files: [/usr/bin/newuidmap]
waive: {some-rule: "  because\\n  of it "}
x-note: {anything: [at all, !ok "x"]}
""".replace("!ok ", ""),
    )
    found = bundle(project, "a")
    assert found == Bundle(
        image="docker://docker.io/library/nginx:1.27",
        platform="linux/arm64",
        entrypoint=("/bin/server", "--name", "a b"),
        command=("--port", "8080"),
        user="65532:video",
        group_add=(44, "render"),
        environment={
            "FROM_FILE": "x=y",
            "EMPTY": "",
            "WINS": "yes",
            "UMASK": "0022",
            "VERSION": "1.10",
        },
        env_file=("specs/a.env",),
        working_dir="/srv/app",
        hostname="web.example",
        read_only=False,
        tmpfs=(
            Tmpfs(target="/tmp", size_bytes=64 << 20, mode=0o700, exec=True, uid=5),
            Tmpfs(target="/run", size_bytes=1 << 20, mode=0o755),
        ),
        volumes=(
            Volume(type=VolumeType.VOLUME, source="data", target="/data"),
            Volume(type=VolumeType.BIND, source="conf", target="/etc/app", read_only=True),
            Volume(type=VolumeType.BIND, source="/srv/x", target="/x", read_only=True),
        ),
        devices=found.devices,
        cap_add=("CAP_CHOWN", "CAP_NET_BIND_SERVICE"),
        ports=(
            Port(host_ip="127.0.0.1", host_port=8080, container_port=80),
            Port(host_ip="::1", host_port=5000, container_port=6000, protocol="udp"),
            Port(host_ip="::1", host_port=5001, container_port=6001, protocol="udp"),
        ),
        sysctls={"net.core.somaxconn": "1024"},
        ulimits={
            "core": Ulimit(soft=0, hard=5),
            "nofile": Ulimit(soft=2048, hard=2048),
            "memlock": Ulimit(soft=2**64 - 1, hard=2**64 - 1),
        },
        mem_limit=3 << 29,
        memswap_limit=2 << 30,
        cpus=0.5,
        pids_limit=100,
        shm_size=1 << 20,
        init=True,
        stop_signal="SIGINT",
        stop_grace_period=90.0,
        healthcheck=Healthcheck(http=HttpProbe(port=8080, path="/health?x=1"), interval_s=0.5, retries=5),
        restart="on-failure:3",
        labels={"a": "b"},
        annotations={"org.example/x": "1"},
        seccomp="node",
        userns="300000:65536",
        oci_version="1.1.0",
        keep_privileged_files=("/usr/bin/newuidmap",),
        waive={"some-rule": "because of it"},
    )
    assert [(d.host, d.container, d.permissions) for d in found.devices] == [
        ("/dev/dri/renderD128", "/dev/dri/renderD128", "rw"),
        ("/dev/kvm", "/dev/kvm", "rwm"),
    ]
    assert specfile.load(project).specs["a"].inputs == ("specs/a.env", "specs/a.yaml")


def test_an_empty_value_is_as_if_the_key_were_not_there(project: Project) -> None:
    write(project, base=IMAGE + "command: [a]\ncpus: 2\n", a="extends: base\ncommand:\ncpus: null\ninit: ~\n")
    assert bundle(project, "a") == bundle(project, "base")


def test_values_are_plain_and_come_back_whole(project: Project) -> None:
    write(project, a=IMAGE + "volumes: [x:/x]\nhealthcheck: {tcp: 80}\nulimits: {nofile: -1}\n")
    values = specfile.load(project).specs["a"].values
    assert json.loads(json.dumps(values)) == values
    assert Bundle.from_values(values).to_values() == values


@pytest.mark.parametrize("name", ["hello", "stremio-server"])
def test_the_shipped_specs_are_sound(name: str) -> None:
    loaded = specfile.load(Project(PROJECT))
    assert name in loaded.specs, [str(error) for error in loaded.errors]
    text = (PROJECT / "specs" / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schema/bundle.json\n")


def test_what_the_guide_promises_of_the_streaming_server() -> None:
    found = Bundle.from_values(specfile.load(Project(PROJECT)).specs["stremio-server"].values)
    assert found.image == "docker://ghcr.io/vejeta/stremio-distroless:wolfi-latest-server"
    assert found.entrypoint is found.command is found.user is None
    assert [(v.type, v.target) for v in found.volumes] == [
        (VolumeType.VOLUME, "/home/nonroot/.stremio-server")
    ]
    assert [(p.host_ip, p.host_port) for p in found.ports] == [("127.0.0.1", 11470), ("127.0.0.1", 12470)]
    assert (found.mem_limit, found.cpus, found.seccomp, found.init) == (1 << 30, 1.5, "node-server", True)
    assert [tmpfs.target for tmpfs in found.tmpfs] == ["/tmp"]
    assert found.read_only
    assert not found.cap_add
    assert found.ulimits["nofile"].hard <= 20000


# extends --------------------------------------------------------------------------------------


def test_mappings_merge_and_all_else_is_replaced(project: Project) -> None:
    write(
        project,
        base=IMAGE + "environment: {A: 1, B: 1}\ncap_add: [CHOWN]\nulimits: {nofile: 5}\n"
        "healthcheck: {tcp: 80, interval: 1s}\nports: ['1:1']\nwaive: {a: x}\n",
        mid="extends: base\nenvironment: [B=2, C=2]\ncap_add: []\nhealthcheck: {http: 'http://:80/'}\n",
        top="extends: mid\nwaive: {b: y}\nulimits: {core: 1}\nhealthcheck: {retries: 2}\n",
    )
    found = bundle(project, "top")
    assert found.environment == {"A": "1", "B": "2", "C": "2"}
    assert found.cap_add == ()
    assert found.healthcheck == Healthcheck(http=HttpProbe(port=80), interval_s=1.0, retries=2)
    assert found.ulimits == {"nofile": Ulimit(soft=5, hard=5), "core": Ulimit(soft=1, hard=1)}
    assert found.waive == {"a": "x", "b": "y"}
    assert len(found.ports) == 1
    assert specfile.load(project).specs["top"].inputs == (
        "specs/base.yaml",
        "specs/mid.yaml",
        "specs/top.yaml",
    )


def test_swap_follows_memory_over_files(project: Project) -> None:
    write(project, base=IMAGE + "mem_limit: 1g\n", a="extends: base\nmem_limit: 64m\n")
    assert bundle(project, "a").memswap_limit == 64 << 20


def test_a_long_chain_of_bases(project: Project) -> None:
    write(project, b0=IMAGE, **{f"b{i}": f"extends: b{i - 1}\n" for i in range(1, 300)})
    assert len(specfile.load(project).specs["b299"].inputs) == 300


texts = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("xyz", max_size=2), max_size=4)


@given(key=st.sampled_from(["environment", "labels", "cap_add"]), one=texts, two=texts, three=texts)
def test_merge_is_associative_and_the_last_word_wins(key: str, one: Any, two: Any, three: Any) -> None:
    assert merge(key, merge(key, one, two), three) == merge(key, one, merge(key, two, three))
    assert merge(key, one, one) == one == merge(key, None, one)
    assert {**one, **merge(key, one, two)}.items() >= two.items()


checks = st.fixed_dictionaries(
    {},
    optional={
        "test": st.just(("CMD", "x")),
        "tcp": st.just(1),
        "interval_s": st.just(1.0),
        "disable": st.booleans(),
    },
)


@given(one=checks, two=checks, three=checks)
def test_merging_health_checks_is_associative(one: Any, two: Any, three: Any) -> None:
    left = merge("healthcheck", merge("healthcheck", one, two), three)
    assert left == merge("healthcheck", one, merge("healthcheck", two, three))


# Places ---------------------------------------------------------------------------------------


def test_places_lead_to_the_file_that_has_the_last_word(project: Project) -> None:
    (project.specs / "x.env").write_text("# x\nF=1\nA=0\n")
    write(
        project,
        base=IMAGE + "cpus: 1\nenvironment: {A: 1, B: 2}\nports:\n  - '1:1'\n  - '2:2'\nenv_file: x.env\n",
        a="extends: base\nports: ['3:3']\nenvironment:\n  - B=3\n",
    )
    found = {key: str(place) for key, place in specfile.places(project, "a").items()}
    assert found == {
        "extends": "specs/a.yaml:1:1",
        "image": "specs/base.yaml:1:1",
        "cpus": "specs/base.yaml:2:1",
        "env_file": "specs/base.yaml:7:1",
        "environment": "specs/a.yaml:3:1",
        "environment.A": "specs/base.yaml:3:15",
        "environment.B": "specs/a.yaml:4:5",
        "environment.F": "specs/x.env:2:1",
        "ports": "specs/a.yaml:2:1",
        "ports.0": "specs/a.yaml:2:9",
    }
    assert specfile.places(project, "a")["cpus"] == Place("specs/base.yaml", 2, 1, 4, "cpus: 1")


def test_places_of_what_cannot_be_read(project: Project) -> None:
    write(project, a="image: [\n")
    with pytest.raises(PipelineErrors, match="bad-yaml"):
        specfile.places(project, "a")


# The cache ------------------------------------------------------------------------------------


def kept(project: Project) -> Path:
    """Where parsed values are cached."""
    return project.cache / "specs.json"


def loads_parser(project: Project) -> list[str]:
    """The heavy modules that a load imports, in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from pipeline import specfile; from pipeline.paths import Project\n"
        "assert specfile.load(Project(Path(sys.argv[1]))).specs\n"
        "print(*[m for m in ('yaml', 'msgspec', 'jsonschema', 'difflib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, project.root], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_second_load_imports_no_parser(project: Project) -> None:
    write(project, a=IMAGE, b="extends: a\n")
    assert loads_parser(project) == ["yaml", "msgspec", "jsonschema"]
    assert loads_parser(project) == []
    write(project, a=IMAGE + "cpus: 2\n")
    assert loads_parser(project) == ["yaml", "msgspec", "jsonschema"]
    assert loads_parser(project) == []


def test_the_cache_says_what_parsing_says(project: Project) -> None:
    write(project, a=IMAGE, b="extends: a\n")
    assert specfile.load(project) == specfile.load(project)


@pytest.mark.parametrize("file", ["specs/a.yaml", "specs/b.yaml", "specs/b.env"])
def test_a_change_of_any_input_is_seen(file: str, project: Project) -> None:
    (project.specs / "b.env").write_text("A=1\n")
    write(project, a=IMAGE, b="extends: a\nenv_file: b.env\nenvironment: {B: 1}\n")
    before = specfile.load(project).specs["b"].values
    changes = {"a": "cpus: 2\n", "b": "  # comment\ncpus: 3\n"}
    path = project.root / file
    added = "A2=2\n" if path.suffix == ".env" else changes[path.stem]
    path.write_text(path.read_text() + added)
    assert specfile.load(project).specs["b"].values != before
    assert specfile.load(project).errors == []


def test_a_lost_env_file_is_an_error_again(project: Project) -> None:
    (project.specs / "a.env").write_text("A=1\n")
    write(project, a=IMAGE + "env_file: a.env\n")
    assert not specfile.load(project).errors
    (project.specs / "a.env").unlink()
    assert "`specs/a.env`: cannot read the file: No such file" in errors(project)


def test_a_lost_profile_is_an_error_again(project: Project) -> None:
    (project.specs / "seccomp").mkdir()
    (project.specs / "seccomp" / "x.yaml").write_text("")
    write(project, a=IMAGE + "seccomp: x\n")
    assert not specfile.load(project).errors
    (project.specs / "seccomp" / "x.yaml").unlink()
    assert "there is no specs/seccomp/x.yaml" in errors(project)


def test_errors_are_not_cached(project: Project) -> None:
    write(project, a="nope: 1\n", b=IMAGE)
    assert errors(project) == errors(project) != ""
    assert json.loads(kept(project).read_text().partition("\n")[2])["specs"].keys() == {"b"}


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\n[]", b"x" * 100, None])
def test_a_damaged_cache_is_no_cache(damage: bytes | None, project: Project) -> None:
    write(project, a=IMAGE)
    whole = specfile.load(project)
    content = kept(project).read_bytes()
    kept(project).write_bytes(content.replace(b"busybox", b"busyb0x") if damage is None else damage)
    assert specfile.load(project) == whole
    assert kept(project).read_bytes() == content


def test_an_unwritable_cache_is_done_without(project: Project) -> None:
    write(project, a=IMAGE)
    kept(project).mkdir()
    assert list(specfile.load(project).specs) == ["a"]


def test_a_load_makes_no_folders(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.specs.mkdir()
    write(project, a=IMAGE)
    assert list(specfile.load(project).specs) == ["a"]
    assert not project.out.exists()


def test_the_cache_is_private_and_forgets_what_is_gone(project: Project) -> None:
    write(project, a=IMAGE, b=IMAGE)
    specfile.load(project)
    assert kept(project).stat().st_mode & 0o777 == 0o600
    (project.specs / "b.yaml").unlink()
    assert list(specfile.load(project).specs) == ["a"]
    assert b'"b"' not in kept(project).read_bytes()


# Any bytes ------------------------------------------------------------------------------------

_FRAGMENTS = [
    *("image: x\n", "extends: a\n", "cpus: ", "mem_limit: ", "volumes: [", "]", "{", "}", "- ", "? ", ": ", "\n"),
    *("&a ", "*a", "!!int ", "<<: ", "'", '"', "|\n  x\n", ">\n", "---\n", "...\n", "%YAML 1.2\n", "\t", "#"),
    *("healthcheck: {", "tcp: 1", "environment: {", "A: 1", "tmpfs: /a", "ports: ['1:2']", "0x", "1e999", "~"),
    *("\x00", "\ufeff", "\u2028", "é", "\U0001f600", "user: 1:2\n", "ulimits: {nofile: ", "waive: {a: b}\n"),
]
contents = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(_FRAGMENTS), max_size=20).map(lambda parts: "".join(parts).encode()),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=contents)
def test_any_bytes_give_a_spec_or_errors(content: bytes, project: Project) -> None:
    (project.specs / "a.yaml").write_bytes(content)
    loaded = specfile.load(project)
    assert bool(loaded.errors) == ("a" in loaded.broken) == ("a" not in loaded.specs)
    for error in loaded.errors:
        assert error.place is not None
        assert error.place.path == "specs/a.yaml"
        assert str(error).isprintable() or set(str(error)) - set("\n\t") == {
            c for c in str(error) if c.isprintable()
        }
    if loaded.specs:
        assert Bundle.from_values(loaded.specs["a"].values).to_values() == loaded.specs["a"].values
