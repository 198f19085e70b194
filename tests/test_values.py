"""Readers of values: what is accepted in which normal form, and what is refused in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import mounts, network, process, values
from pipeline.model.bundle import Device, HttpProbe, Port, Tmpfs, Ulimit, Volume, VolumeType
from pipeline.model.problems import Problems
from pipeline.yamlscalars import resolve

Reader = Callable[[Any], Any]
SIZE, DURATION = values.size(0), values.duration()


def refusal(reader: Reader, value: Any) -> tuple[str, str]:
    """Code and message of the first thing that is wrong with a value."""
    with pytest.raises(Problems) as caught:
        reader(value)
    return caught.value.problems[0].code, caught.value.problems[0].message


@pytest.mark.parametrize(
    ("reader", "value", "expected"),
    [
        (SIZE, 0, 0),
        (SIZE, 1024, 1024),
        (SIZE, "1024", 1024),
        (SIZE, "1b", 1),
        (SIZE, "1k", 1024),
        (SIZE, "1KB", 1024),
        (SIZE, "1KiB", 1024),
        (SIZE, "1.5g", 3 << 29),
        (SIZE, "2 T", 2 << 40),
        (values.swap, -1, -1),
        (values.swap, "1m", 1 << 20),
        (DURATION, "10s", 10.0),
        (DURATION, "1h2m3s", 3723.0),
        (DURATION, "1.5s", 1.5),
        (DURATION, "100ms", 0.1),
        (DURATION, "5us", 5e-6),
        (DURATION, "0s", 0.0),
        (values.cpus, 1, 1.0),
        (values.cpus, "0.25", 0.25),
        (values.absolute_path, "/a//b/./c/", "/a/b/c"),
        (values.absolute_path, "//a", "/a"),
        (values.absolute_path, "/", "/"),
        (process.user, 65532, "65532"),
        (process.user, "nonroot:065", "nonroot:65"),
        (process.words, "a 'b c' d\\ e", ("a", "b c", "d e")),
        (process.words, ["a b", 1], ("a b", "1")),
        (process.words, "", ()),
        (process.stop_signal, "term", "SIGTERM"),
        (process.stop_signal, 9, "SIGKILL"),
        (process.stop_signal, "15", "SIGTERM"),
        (process.stop_signal, "RTMIN+3", "SIGRTMIN+3"),
        (process.stop_signal, "SIGRTMAX-2", "SIGRTMIN+28"),
        (process.stop_signal, 34, "SIGRTMIN"),
        (process.platform, "linux/arm64/v8", "linux/arm64"),
        (process.image, "nginx", "docker://docker.io/library/nginx:latest"),
        (process.image, "oci:./x:tag", "oci:./x:tag"),
        (process.userns, "1:4294967294", "1:4294967294"),
        (process.restart, "on-failure:007", "on-failure:7"),
        (process.capabilities, ["sys_nice", "CAP_CHOWN", "chown"], ("CAP_CHOWN", "CAP_SYS_NICE")),
        (mounts.mode, "1777", 0o1777),
        (mounts.mode, resolve("0755"), 0o755),
        (mounts.mode, resolve("0o700"), 0o700),
        (
            mounts.tmpfs,
            "/a/:ro,noexec,nosuid,size=4096,gid=7",
            (Tmpfs(target="/a", size_bytes=4096, gid=7, read_only=True),),
        ),
        (
            mounts.volumes,
            ["../x:/y"],
            (Volume(type=VolumeType.BIND, source="../x", target="/y"),),
        ),
        (
            mounts.volumes,
            ["//etc:/y:ro", {"type": "bind", "source": "///a//../b/", "target": "//z//q/"}],
            (
                Volume(type=VolumeType.BIND, source="/etc", target="/y", read_only=True),
                Volume(type=VolumeType.BIND, source="/b", target="/z/q"),
            ),
        ),
        (mounts.tmpfs, "//run", (Tmpfs(target="/run"),)),
        (mounts.devices, ["//dev/kvm://opt/kvm"], (Device(host="/dev/kvm", container="/opt/kvm"),)),
        (mounts.env_files, "//etc/x.env", ("/etc/x.env",)),
        (values.absolute_path, "//srv/./app", "/srv/app"),
        (
            mounts.volumes,
            [{"type": "volume", "source": "d", "target": "/d", "exec": True, "x-why": 1}],
            (Volume(type=VolumeType.VOLUME, source="d", target="/d", exec=True),),
        ),
        (mounts.devices, ["/dev/kvm:r"], (Device(host="/dev/kvm", container="/dev/kvm", permissions="r"),)),
        (
            mounts.devices,
            ["/dev/a:/dev/b:mr"],
            (Device(host="/dev/a", container="/dev/b", permissions="rm"),),
        ),
        (network.ulimits, {"nofile": -1}, {"nofile": Ulimit(soft=2**64 - 1, hard=2**64 - 1)}),
        (network.ulimits, {"nofile": {"soft": 1, "hard": -1}}, {"nofile": Ulimit(soft=1, hard=2**64 - 1)}),
        (
            network.ports,
            ["10.0.0.1:53:53/UDP"],
            (Port(host_ip="10.0.0.1", host_port=53, container_port=53, protocol="udp"),),
        ),
        (network.healthcheck, {"test": "curl x"}, {"test": ("CMD-SHELL", "curl x")}),
        (network.healthcheck, {"test": ["NONE"]}, {"disable": True}),
        (network.healthcheck, {"http": "http://[::1]:81"}, {"http": HttpProbe(port=81, path="/")}),
        (network.healthcheck, {"http": "http://localhost/a"}, {"http": HttpProbe(port=80, path="/a")}),
        (network.healthcheck, {"tcp": None, "interval": "2m"}, {"interval_s": 120.0}),
    ],
)
def test_accepted(reader: Reader, value: Any, expected: Any) -> None:
    assert reader(value) == expected


@pytest.mark.parametrize(
    ("reader", "value", "code", "message"),
    [
        (SIZE, "1x", "bad-size", "`1x` is not a size"),
        (SIZE, "-1m", "bad-size", "`-1m` is not a size"),
        (SIZE, "1m\n", "bad-size", "`1m\\n` is not a size"),
        (SIZE, "1e3", "bad-size", "`1e3` is not a size"),
        (
            SIZE,
            1.5,
            "wrong-type",
            "expected a size such as `512m`, or a number of bytes, found the number `1.5`",
        ),
        (SIZE, True, "wrong-type", "expected a size such as `512m`, or a number of bytes, found `true`"),
        (SIZE, -5, "bad-size", "`-5` is too small"),
        (SIZE, 2**63, "bad-size", f"`{2**63}` is more than 64 bits can hold"),
        (DURATION, "1 s", "bad-duration", "`1 s` is not a duration"),
        (DURATION, "-1s", "bad-duration", "`-1s` is not a duration"),
        (DURATION, "1d", "bad-duration", "`1d` is not a duration"),
        (DURATION, "9999999h", "bad-duration", "`9999999h` is out of range"),
        (DURATION, 5, "bad-duration", "`5` has no unit"),
        (values.cpus, float("nan"), "bad-value", "`nan` processors are out of range"),
        (values.cpus, "1e1", "bad-value", "`1e1` is not a number of processors"),
        (values.whole(1), True, "wrong-type", "expected a whole number, found `true`"),
        (values.whole(1), 1.0, "wrong-type", "expected a whole number, found the number `1.0`"),
        (values.text, " ", "bad-value", "the text is empty"),
        (values.text, "a\nb", "bad-value", "a tab or line break is not allowed here"),
        (values.absolute_path, "/a/../b", "bad-path", "`/a/../b` climbs with `..`"),
        (values.absolute_path, "/" + "a" * 4095, "bad-path", "the path is longer than Linux allows"),
        (process.user, "a b", "bad-value", "`a b` is neither the name nor the number of a user"),
        (process.user, "", "bad-value", "the text is empty"),
        (process.user, "1:", "bad-value", "`` is neither the name nor the number of a group"),
        (process.user, -1, "bad-value", "`-1` is neither the name nor the number of a user"),
        (process.stop_signal, "SIGRTMIN-1", "bad-value", "unknown signal `SIGRTMIN-1`"),
        (process.stop_signal, 33, "bad-value", "`33` is not the number of a signal"),
        (process.hostname, "-a", "bad-value", "`-a` is not a host name"),
        (process.hostname, "a" * 65, "bad-value", f"`{'a' * 60}…` is not a host name"),
        (process.capability, "ALL", "bad-value", "`ALL` would undo the hardening"),
        (process.userns, "1:4294967295", "bad-value", "`1:4294967295` leaves the range of ids"),
        (mounts.mode, 9, "bad-value", "`9` is not a mode"),
        (mounts.volumes, ["x:/"], "bad-path", "nothing can be mounted over the root of the container"),
        (mounts.volumes, [":/x"], "bad-value", "`` is neither a path nor the name of a volume"),
        (mounts.volumes, ["x:/x:Z"], "bad-value", "the option `Z` is not allowed"),
        (network.ports, ["1-5000:1-5000"], "bad-port", "these are 5000 ports"),
        (network.ports, ["99999999999:1"], "bad-port", "`99999999999` is not a port or a range of ports"),
        (network.healthcheck, {"http": "http://example.org/"}, "bad-value", None),
        (network.healthcheck, {"http": "http://u:p@localhost:80/"}, "bad-value", None),
        (network.healthcheck, {"http": "http://:80/#a"}, "bad-value", None),
        (network.healthcheck, {"http": "http://:99999/"}, "bad-value", None),
        (network.healthcheck, {"http": "http://[/"}, "bad-value", None),
        (network.healthcheck, {"test": ["NONE", "x"]}, "bad-value", "after NONE comes nothing"),
        (network.healthcheck, {"test": ["CMD"]}, "bad-value", "after CMD comes a program"),
        (
            network.healthcheck,
            {"test": []},
            "bad-value",
            "the list does not start with CMD, CMD-SHELL or NONE",
        ),
    ],
)
def test_refused(reader: Reader, value: Any, code: str, message: str | None) -> None:
    found = refusal(reader, value)
    assert found[0] == code
    assert message is None or found[1] == message


def test_messages_are_short_and_printable() -> None:
    _, message = refusal(values.one_of("word", "a"), "\x1b[31m" + "x" * 10_000)
    assert "\x1b" not in message
    assert len(message) < 100


@given(count=st.integers(0, 2**40), unit=st.sampled_from(["b", "k", "m", ""]))
def test_sizes_are_exact(count: int, unit: str) -> None:
    assert SIZE(f"{count}{unit}") == count * 1024 ** "_km".find(unit or "_") if unit != "b" else True
