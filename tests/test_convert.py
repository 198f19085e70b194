"""Image config, baseline and spec become config.json: golden cases, and the rules one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, PipelineErrors
from pipeline.files import canonical_json
from pipeline.model.bundle import Bundle
from pipeline.model.image import ImageConfig
from pipeline.oci.convert import Converted, convert
from pipeline.oci.idmap import id_map
from pipeline.oci.inputs import DeviceNode, Inputs
from pipeline.oci.users import Account
from pipeline.stages.spec import _facts

GOLDEN = Path(__file__).parent / "golden" / "convert"
DIGEST = "sha256:" + "0" * 64
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
}


def inputs(bundle: dict[str, Any], image: dict[str, Any], **values: Any) -> Inputs:
    """Inputs with the ordinary look-ups; keys of the image config as in its blob."""
    blob = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, **image}
    spec = Bundle.from_values({"image": "docker://example.org/box:1", "platform": "linux/amd64", **bundle})
    given: dict[str, Any] = {
        "name": "box",
        "bundle": spec,
        "image": ImageConfig.parse(json.dumps(blob).encode()),
        "digest": DIGEST,
        "id_map": id_map(spec.userns),
        "user": Account(65532, 65532, (), "/home/box", "box"),
        "volume_path": lambda name: f"/var/lib/cooperage/volumes/box/{name}",
        "bind_path": lambda source: f"/project/{source}" if not source.startswith("/") else source,
        "seccomp": None if spec.seccomp == "unconfined" else PROFILE,
        "devices": {device.host: DeviceNode("c", 226, 128, 0o660) for device in spec.devices},
        "init_path": "/usr/bin/tini-static",
    }
    return Inputs(**{**given, **values})


def converted(
    bundle: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **values: Any
) -> Converted:
    """Convert a small image, whose `config` is given, under a spec."""
    image = {"config": {"Entrypoint": ["/bin/serve"], **(config or {})}}
    return convert(inputs(bundle or {}, image, **values))


def result(*args: Any, **values: Any) -> dict[str, Any]:
    """config.json as plain JSON."""
    value: dict[str, Any] = json.loads(canonical_json(converted(*args, **values).config.to_json()))
    return value


@pytest.mark.parametrize("case", sorted(GOLDEN.iterdir()), ids=lambda p: p.name)
def test_golden(case: Path) -> None:
    """Each case: image.json and spec.json give config.json and provenance.json, byte by byte."""
    made = convert(
        inputs(json.loads((case / "spec.json").read_text()), json.loads((case / "image.json").read_text()))
    )
    assert canonical_json(made.config.to_json()).decode() == (case / "config.json").read_text()
    assert canonical_json(made.provenance).decode() == (case / "provenance.json").read_text()


HARDENED = {"core": {"soft": 0, "hard": 0}, "nofile": {"soft": 1024, "hard": 1024}}
IMAGE = {"Entrypoint": ["/bin/e", "x"], "Cmd": ["c"]}


@pytest.mark.parametrize(
    ("bundle", "config", "args"),
    [
        ({}, IMAGE, ["/bin/e", "x", "c"]),
        ({"command": ["d", "e"]}, IMAGE, ["/bin/e", "x", "d", "e"]),
        ({"command": []}, IMAGE, ["/bin/e", "x"]),
        ({"entrypoint": ["/bin/f"]}, IMAGE, ["/bin/f"]),
        ({"entrypoint": ["/bin/f"], "command": ["d"]}, IMAGE, ["/bin/f", "d"]),
        ({"entrypoint": [], "command": ["/bin/d"]}, IMAGE, ["/bin/d"]),
        ({}, {"Entrypoint": [], "Cmd": ["/bin/c"]}, ["/bin/c"]),
        ({}, {"Entrypoint": None, "Cmd": ["/bin/c"]}, ["/bin/c"]),
        ({"init": True}, IMAGE, ["/dev/init", "--", "/bin/e", "x", "c"]),
    ],
)
def test_entrypoint_and_command(bundle: dict[str, Any], config: dict[str, Any], args: list[str]) -> None:
    assert result(bundle, config)["process"]["args"] == args


@pytest.mark.parametrize(
    ("bundle", "config", "said"),
    [
        ({}, {"Entrypoint": None}, "nothing to run: the image has neither ENTRYPOINT nor CMD"),
        ({"entrypoint": []}, IMAGE, "nothing to run: the spec empties `entrypoint` and gives no `command`"),
        (
            {"command": []},
            {"Entrypoint": [], "Cmd": ["/bin/c"]},
            "nothing to run: the image has no ENTRYPOINT and the spec empties `command`",
        ),
        ({"init": True}, {"Entrypoint": []}, "nothing to run: the image has neither ENTRYPOINT nor CMD"),
    ],
)
def test_nothing_to_run_is_an_error(bundle: dict[str, Any], config: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as fault:
        converted(bundle, config)
    assert fault.value.message == said
    assert fault.value.hint == 'name the program in the spec: `command: ["/path/to/program", "argument"]`'


def test_environment_image_first_then_spec_then_what_is_missing() -> None:
    env = result({"environment": {"B": "2", "A": "x=y"}}, {"Env": ["Z=1", "A=0", "B=0", "bad", "Z=3"]})[
        "process"
    ]["env"]
    assert env == [
        "Z=3",
        "A=x=y",
        "B=2",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/home/box",
    ]
    assert result({"environment": {"HOME": "/x"}}, {"Env": ["PATH=/y"]})["process"]["env"] == [
        "PATH=/y",
        "HOME=/x",
    ]


@pytest.mark.parametrize(
    ("bundle", "config", "cwd"),
    [
        ({}, {}, "/"),
        ({}, {"WorkingDir": "/app"}, "/app"),
        ({}, {"WorkingDir": "app"}, "/app"),
        ({}, {"WorkingDir": "/app/../../work/./x/"}, "/work/x"),
        ({}, {"WorkingDir": "//app"}, "/app"),
        ({"working_dir": "/w"}, {"WorkingDir": "/app"}, "/w"),
    ],
)
def test_working_directory(bundle: dict[str, Any], config: dict[str, Any], cwd: str) -> None:
    assert result(bundle, config)["process"]["cwd"] == cwd


def test_annotations_take_precedence_in_the_order_of_the_specification() -> None:
    key = "org.opencontainers.image."
    labels = {f"{key}os": "mine", f"{key}stopSignal": "SIGUSR1", "a.b": "image"}
    config = {"StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Labels": labels}
    found = result({}, config)["annotations"]
    assert found[f"{key}os"] == "mine"
    assert found[f"{key}stopSignal"] == "SIGUSR1"
    assert found[f"{key}exposedPorts"] == "53/udp,80/tcp"
    assert found["org.cooperage.image.digest"] == DIGEST
    assert found["org.cooperage.stopGraceSeconds"] == "10"
    asked = {"stop_signal": "SIGINT", "labels": {"a.b": "label"}, "annotations": {"c.d": "1"}}
    found = result(asked, config)["annotations"]
    assert (found[f"{key}stopSignal"], found["a.b"], found["c.d"]) == ("SIGINT", "label", "1")


@pytest.mark.parametrize(
    "name",
    [
        "bundle",
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri-o.userns-mode",
        "module.wasm.image/variant",
        "org.cooperage.anything",
        "org.cooperage.image.digest",
        "org.criu.config",
        "org.systemd.property.X",
        "run.oci.keep_original_groups",
    ],
)
def test_labels_that_are_more_than_words_are_left_out_and_named(name: str) -> None:
    made = converted({}, {"Labels": {name: "1", "a.b": "c", "bundle.name": "d", "org.cooperagex.a": "e"}})
    assert made.dropped == (name,)
    annotations = made.config.annotations or {}
    assert annotations.get(name) != "1"
    assert (annotations["a.b"], annotations["bundle.name"], annotations["org.cooperagex.a"]) == (
        "c",
        "d",
        "e",
    )


def test_our_own_annotations_are_written_last() -> None:
    """Also over a spec that did not come through its readers."""
    forged = {"org.cooperage.image.digest": "sha256:1", "org.cooperage.baseline": "never"}
    made = result({"labels": forged, "annotations": forged})["annotations"]
    assert made["org.cooperage.image.digest"] == DIGEST
    assert made["org.cooperage.baseline"] == "2026-11"


@pytest.mark.parametrize(
    ("bundle", "stop_signal", "found"),
    [
        ({}, "15", "SIGTERM"),
        ({}, "quit", "SIGQUIT"),
        ({}, "RTMIN+3", "SIGRTMIN+3"),
        ({}, "", "SIGTERM"),
        ({"stop_signal": "SIGINT"}, "SIGSTOPP", "SIGINT"),
    ],
)
def test_the_stop_signal_is_a_signal(bundle: dict[str, Any], stop_signal: str, found: str) -> None:
    annotations = result(bundle, {"StopSignal": stop_signal})["annotations"]
    assert annotations["org.opencontainers.image.stopSignal"] == found


@pytest.mark.parametrize("stop_signal", ["SIGSTOPP", "0", "99", "SIGRTMIN+31", "9 "])
def test_a_stop_signal_that_is_none_is_refused(stop_signal: str) -> None:
    with pytest.raises(PipelineErrors) as faults:
        converted({}, {"StopSignal": stop_signal})
    assert str(faults.value) == (
        f"error[bad-signal]: the image's STOPSIGNAL is `{stop_signal}`, which is no signal\n"
        "  help: name the one that its program understands in the spec: `stop_signal: SIGTERM`"
    )


def test_user_groups_and_capabilities() -> None:
    process = result({"cap_add": ["CAP_CHOWN"]}, user=Account(7, 8, (9, 10), "/", ""))["process"]
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [9, 10]}
    # Without ambient, execve would take it from everybody but root.
    assert set(map(tuple, process["capabilities"].values())) == {("CAP_CHOWN",)}
    root = result({"cap_add": ["CAP_CHOWN"]}, user=Account(0, 0, (), "/root", "root"))["process"][
        "capabilities"
    ]
    assert (root["ambient"], root["inheritable"], root["permitted"]) == ([], [], ["CAP_CHOWN"])


def test_limits() -> None:
    found = result({"mem_limit": 1 << 30, "memswap_limit": 1 << 30, "cpus": 1.5, "pids_limit": 100})
    assert found["linux"]["resources"]["memory"] == {"limit": 1 << 30, "swap": 1 << 30}
    assert found["linux"]["resources"]["cpu"] == {"period": 100000, "quota": 150000}
    assert found["linux"]["resources"]["pids"] == {"limit": 100}
    assert found["linux"]["resources"]["devices"] == [{"access": "rwm", "allow": False}]
    limits = {limit["type"]: (limit["soft"], limit["hard"]) for limit in found["process"]["rlimits"]}
    assert limits == {"RLIMIT_CORE": (0, 0), "RLIMIT_NOFILE": (1024, 1024), "RLIMIT_NPROC": (100, 100)}


def test_a_named_limit_replaces_the_baseline_and_nothing_else() -> None:
    bundle = {"ulimits": {**HARDENED, "nofile": {"soft": 5, "hard": -1}}, "userns": "host"}
    limits = {limit["type"]: limit["hard"] for limit in result(bundle)["process"]["rlimits"]}
    assert limits == {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 2**64 - 1}


def test_one_mapping_or_none() -> None:
    linux = result({"userns": "300000:70000"})["linux"]
    assert (
        linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 300000, "size": 70000}]
    )
    linux = result({"userns": "host"})["linux"]
    assert "uidMappings" not in linux
    assert "user" not in {namespace["type"] for namespace in linux["namespaces"]}


def test_the_network_of_the_host_takes_sysfs_away_and_brings_names() -> None:
    found = result({"network_mode": "host"})
    assert "network" not in {namespace["type"] for namespace in found["linux"]["namespaces"]}
    targets = {mount["destination"] for mount in found["mounts"]}
    assert {"/etc/hosts", "/etc/resolv.conf"} <= targets
    assert not {"/sys", "/sys/fs/cgroup"} & targets


def test_unconfined_leaves_no_profile() -> None:
    assert "seccomp" not in result({"seccomp": "unconfined"}, seccomp=None)["linux"]


def test_devices_are_bound_under_a_user_namespace_and_made_without() -> None:
    device = {"devices": [{"host": "/dev/dri/renderD128", "container": "/dev/dri/card", "permissions": "rw"}]}
    mapped = result(device)
    bound = next(mount for mount in mapped["mounts"] if mount["destination"] == "/dev/dri/card")
    assert bound["source"] == "/dev/dri/renderD128"
    assert "nodev" not in bound["options"]
    assert "devices" not in mapped["linux"]
    rule = {"access": "rw", "allow": True, "major": 226, "minor": 128, "type": "c"}
    assert mapped["linux"]["resources"]["devices"][1] == rule
    made = result({**device, "userns": "host"})["linux"]["devices"]
    assert made == [
        {
            "fileMode": 0o660,
            "gid": 65532,
            "major": 226,
            "minor": 128,
            "path": "/dev/dri/card",
            "type": "c",
            "uid": 65532,
        }
    ]


def test_every_leaf_has_an_origin() -> None:
    made = converted(
        {
            "mem_limit": 1 << 30,
            "user": "7",
            "tmpfs": [{"target": "/tmp"}],
            "ulimits": {**HARDENED, "nofile": {"soft": 5, "hard": 6}},
        },
        {"Env": ["A=1"], "WorkingDir": "/w"},
    )
    origins = {path: (origin["from"], origin["key"]) for path, origin in made.provenance.items()}
    assert all(source in ("image", "spec", "default", "baseline:2026-11") for source, _ in origins.values())
    assert origins["linux.resources.memory.limit"] == ("spec", "mem_limit")
    assert origins["linux.resources.memory.swap"] == ("default", "memswap_limit")
    assert origins["process.rlimits[0].soft"] == ("default", "ulimits")
    assert origins["process.rlimits[1].hard"] == ("spec", "ulimits.nofile")
    assert origins["process.rlimits[2].hard"] == ("default", "pids_limit")
    assert ("default", "stop_grace_period") in origins.values()
    assert origins["process.user.uid"] == ("spec", "user")
    assert origins["process.env[0]"] == ("image", "config.Env")
    assert origins["process.cwd"] == ("image", "config.WorkingDir")
    assert origins["process.args[0]"] == ("image", "config.Entrypoint")
    assert origins["linux.maskedPaths[0]"][0] == "baseline:2026-11"
    assert ("spec", "tmpfs[0]") in origins.values()


def test_uncovered_volumes_are_refused_all_at_once() -> None:
    with pytest.raises(PipelineErrors) as faults:
        converted({}, {"Volumes": {"/home/nonroot/.media": {}, "/data": {}}})
    assert str(faults.value) == (
        "error[uncovered-volume]: the image keeps data in `/data` (VOLUME) and the spec does not say where\n"
        "  help: write one of\n"
        '        volumes: ["data:/data"]   # kept, in the volume `data` of this host\n'
        '        tmpfs: ["/data"]          # lost at each stop\n'
        "\n"
        "error[uncovered-volume]: the image keeps data in `/home/nonroot/.media` (VOLUME) and the spec does "
        "not say where\n"
        "  help: write one of\n"
        '        volumes: ["media:/home/nonroot/.media"]   # kept, in the volume `media` of this host\n'
        '        tmpfs: ["/home/nonroot/.media"]           # lost at each stop'
    )


@pytest.mark.parametrize(
    ("shell", "found"), [(None, ["/bin/sh", "-c"]), (["/bin/bash", "-euc"], ["/bin/bash", "-euc"])]
)
def test_a_health_check_is_told_with_the_image_s_shell(shell: list[str] | None, found: list[str]) -> None:
    """SHELL is what CMD-SHELL runs in; also that of a spec's own check, for which the image needs none."""
    config = {"Entrypoint": ["/x"], "Shell": shell, "Healthcheck": {"Test": ["CMD-SHELL", "true"]}}
    given = inputs({}, {"config": config})
    told = _facts(given, {}, convert(given))["image"]
    assert told["healthcheck"]["shell"] == told["shell"] == found
    given = inputs({}, {"config": {**config, "Healthcheck": None}})
    told = _facts(given, {}, convert(given))["image"]
    assert (told["healthcheck"], told["shell"]) == (None, found)


def test_an_older_baseline_is_written_as_it_was() -> None:
    made = converted({"hardening": {"profile": "baseline", "baseline": "2023-10"}})
    linux = made.config.to_json()["linux"]
    assert "/sys/devices/virtual/powercap" in linux["maskedPaths"]
    assert not {"/proc/interrupts", "/sys/dev/block"} & set(linux["maskedPaths"])
    assert not [path for path in linux["maskedPaths"] if "thermal_throttle" in path]
    assert made.config.to_json()["annotations"]["org.cooperage.baseline"] == "2023-10"
    assert made.provenance["linux.maskedPaths[0]"]["from"] == "baseline:2023-10"
    assert made.provenance["root.path"]["from"] == "baseline:2023-10"
