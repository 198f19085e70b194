"""When a dry run may run beside the judge, and all that makes its remembered verdict worth nothing."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import dryrun
from pipeline.dryrun import Beside, Verdict, depends, is_harmless
from tests.judged import good_config

Change = Callable[[dict[str, Any]], object]
PARTS = {
    "spec": {"waive": {}},
    "tools": {"runc": "1.1.5 (aa)"},
    "code": "c",
    "upstream": {"unpack": "sha256:1", "seccomp": "sha256:2", "spec": "sha256:3"},
    "host": {"kernel": "6.18", "limits": {"cpus": 2}, "binds": {"/srv": [1]}, "way": {"/": "0755 0:0"}},
}


def harmless(change: Change = lambda config: None) -> bool:
    config = good_config()
    change(config)
    return is_harmless(json.dumps(config).encode())


def test_a_bundle_that_can_reach_nothing_is_harmless() -> None:
    assert harmless()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(hooks={"prestart": [{"path": "/bin/true"}]}),
        lambda c: c.update(hooks={}),
        lambda c: c.update(unknown=1),
        lambda c: c["linux"].update(cgroupsPath="/"),
        lambda c: c["linux"].update(sysctl={"kernel.core_pattern": "|/x"}),
        lambda c: c["linux"].update(devices=[]),
        lambda c: c["linux"].update(intelRdt={}),
        lambda c: c["linux"].update(rootfsPropagation="shared"),
        lambda c: c["linux"].pop("rootfsPropagation"),
        lambda c: c["linux"]["namespaces"].pop(),
        lambda c: c["linux"]["namespaces"][4].update(path="/proc/1/ns/pid"),
        lambda c: c["linux"]["namespaces"].append({"type": "pid", "path": "/proc/1/ns/pid"}),
        lambda c: c["linux"]["uidMappings"][0].update(hostID=0),
        lambda c: c["linux"]["gidMappings"].append({"containerID": 65536, "hostID": 0, "size": 1}),
        lambda c: c["linux"].pop("uidMappings"),
        lambda c: c["linux"].update(uidMappings=[]),
        lambda c: c["mounts"][5]["options"].append("rshared"),
        lambda c: c["root"].update(path="/"),
        lambda c: c["annotations"].update({"run.oci.hooks.stdout": "/x"}),
        lambda c: c["annotations"].update({"org.systemd.property.X": "1"}),
        lambda c: c.update(mounts=5),
        lambda c: c.update(linux=[]),
    ],
)
def test_what_could_reach_the_host_waits_for_the_judge(change: Change) -> None:
    assert not harmless(change)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 5000])
def test_what_is_no_config_waits_for_the_judge(content: bytes) -> None:
    assert not is_harmless(content)


def changed(*path: str) -> dict[str, Any]:
    parts: dict[str, Any] = copy.deepcopy(PARTS)
    inner = parts
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "another"
    return parts


def test_a_verdict_is_remembered(tmp_path: Path) -> None:
    verdict = Verdict(tmp_path, "b", depends(b"{}", PARTS))
    assert not verdict.is_good
    verdict.remember()
    assert Verdict(tmp_path, "b", depends(b"{}", PARTS)).is_good
    assert not Verdict(tmp_path, "c", depends(b"{}", PARTS)).is_good
    # What does not reach the runtime does not count.
    for path in (("spec", "waive"), ("upstream", "seccomp")):
        assert Verdict(tmp_path, "b", depends(b"{}", changed(*path))).is_good


@pytest.mark.parametrize(
    "path",
    [
        ("tools", "runc"),
        ("code",),
        ("upstream", "unpack"),
        *(("host", name) for name in ("kernel", "limits", "binds", "way")),
    ],
)
def test_what_a_dry_run_depends_on_makes_its_verdict_void(tmp_path: Path, path: tuple[str, ...]) -> None:
    Verdict(tmp_path, "b", depends(b"{}", PARTS)).remember()
    assert not Verdict(tmp_path, "b", depends(b"{}", changed(*path))).is_good


def test_another_config_or_boot_or_switch_makes_it_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Verdict(tmp_path, "b", depends(b"{}", PARTS)).remember()
    assert not Verdict(tmp_path, "b", depends(b"{} ", PARTS)).is_good
    assert set(depends(b"{}", PARTS)["switches"]) == {
        *("/proc/sys/kernel/random/boot_id", "/proc/sys/user/max_user_namespaces", "/proc/self/uid_map"),
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    }
    for switch in depends(b"{}", PARTS)["switches"]:
        real = dryrun._content

        def other(path: str, switch: str = switch, real: Callable[[str], str] = real) -> str:
            return "another" if path == switch else real(path)

        with monkeypatch.context() as patch:
            patch.setattr(dryrun, "_content", other)
            assert not Verdict(tmp_path, "b", depends(b"{}", PARTS)).is_good
    (tmp_path / "dryrun-b").write_bytes(b"damaged")
    assert not Verdict(tmp_path, "b", depends(b"{}", PARTS)).is_good


def test_what_runs_beside_is_waited_for_and_its_fault_is_raised() -> None:
    go, done = threading.Event(), []

    def action() -> str:
        go.wait(5)
        done.append(1)
        return "done"

    with Beside(action) as attempt:
        assert not done
        go.set()
    assert done and attempt.result() == "done"
    with pytest.raises(ZeroDivisionError), Beside(lambda: 1 // 0) as attempt:
        attempt.result()
    # A fault of the block itself leaves nothing running.
    go.clear()
    with pytest.raises(KeyError), Beside(action):
        go.set()
        raise KeyError
    assert len(done) == 2
