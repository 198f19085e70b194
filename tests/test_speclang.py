"""What a spec means: every key, defaults, `extends`, places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import specfile
from pipeline.errors import PipelineErrors, Place
from pipeline.model.baselines import NEWEST
from pipeline.model.bundle import (
    Bundle,
    Hardening,
    Healthcheck,
    HttpProbe,
    Port,
    Tmpfs,
    Ulimit,
    Volume,
    VolumeType,
)
from pipeline.paths import Project
from pipeline.speclang.build import merge
from tests.spec_project import IMAGE, bundle, project, write

__all__ = ["project"]

PROJECT = Path(__file__).resolve().parent.parent


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
tmpfs: /cache:size=64m,mode=0700,exec,uid=5
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
            Tmpfs(target="/cache", size_bytes=64 << 20, mode=0o700, exec=True, uid=5),
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
    assert (found.entrypoint, found.command, found.user) == (None, None, None)
    assert [(v.type, v.target) for v in found.volumes] == [
        (VolumeType.VOLUME, "/home/nonroot/.stremio-server")
    ]
    assert [(p.host_ip, p.host_port) for p in found.ports] == [("127.0.0.1", 11470), ("127.0.0.1", 12470)]
    assert (found.mem_limit, found.cpus, found.seccomp, found.init) == (1 << 30, 1.5, "node-server", True)
    assert "/tmp" in [tmpfs.target for tmpfs in found.tmpfs]
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


def test_hardening_has_a_short_form_and_merges_with_the_long_one(project: Project) -> None:
    write(
        project,
        base=IMAGE + "hardening: strict\n",
        older="extends: base\nhardening: {baseline: 2023-10}\n",
        between="extends: base\nhardening:\n  baseline: 2025-01\n",
        plain=IMAGE,
    )
    assert bundle(project, "base").hardening == Hardening(profile="strict", baseline=NEWEST)
    assert bundle(project, "older").hardening == Hardening(profile="strict", baseline="2023-10")
    # As of a date: the newest that there was then.
    assert bundle(project, "between").hardening.baseline == "2023-10"
    assert bundle(project, "plain").hardening == Hardening(profile="baseline", baseline=NEWEST)


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
