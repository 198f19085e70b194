"""`doit check` and `python -m pipeline.check`: any bundle judged from the command line, as any user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import remove_tree
from tests.conftest import PROJECT, Workspace
from tests.judged import elf
from tests.test_checks_ladder import config as careful_config

pytestmark = [pytest.mark.real, pytest.mark.root]

_OTHER_USER = 1234
RUNGS = {
    *("bind-source-missing", "program-missing", "seccomp-blocks-runtime", "seccomp-blocks-loader"),
    *("seccomp-blocks-program", "seccomp-blocks-work", "mount-point-missing", "way-closed"),
}
WEAK = {
    *(
        "host-cgroup-namespace",
        "bind-flags",
        "bind-exec",
        "devices-not-denied",
        "swap-unlimited",
        "core-dumps",
    ),
    *("unmasked-path-recent", "pseudo-flags", "limits-invisible", "seccomp-clone3", "no-init"),
    *("seccomp-foreign-architecture", "seccomp-clone-flags", "seccomp-socket-families"),
}


@pytest.fixture
def box(workspace: Workspace) -> Iterator[Path]:
    """A careful config over a rootfs as `umoci unpack` leaves it: root's, in a folder of mode 0700."""
    folder = workspace.root / "box"
    rootfs = folder / "rootfs"
    for path in ("proc", "sys", "dev", "tmp", "app/bin", "home/me", "lib64"):
        (rootfs / path).mkdir(parents=True)
    (rootfs / "app/bin/node").write_bytes(elf("/lib64/ld-linux-x86-64.so.2"))
    (rootfs / "app/bin/node").chmod(0o755)
    (rootfs / "lib64/ld-linux-x86-64.so.2").write_bytes(elf())
    (folder / "config.json").write_text(json.dumps(careful_config(), indent=2))
    folder.chmod(0o700)
    yield folder


def door(
    *words: str, cwd: Path = Path("/"), code: int, user: int | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m pipeline.check` far from any project."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.check", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", **env},
        user=user,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done


def found(text: str) -> dict[str, dict[str, Any]]:
    """The findings of a JSON document by rule."""
    return {f["rule"]: f for bundle in json.loads(text)["bundles"] for f in bundle["findings"]}


def test_every_rung_of_the_ladder_in_one_pass(workspace: Workspace, box: Path) -> None:
    for done in (
        door(str(box), "--format", "json", code=1),
        workspace.doit("check", "--bundle", str(box), "--format=json", code=1),
    ):
        rules = found(done.stdout)
        assert rules.keys() >= RUNGS | WEAK
        assert all(rules[rule]["mend"] for rule in RUNGS)
        assert all("place" in rules[rule] for rule in RUNGS)
        assert rules["program-missing"]["layer"] == "bundle"
    assert not (workspace.out).exists()


def test_people_read_it_worst_first(box: Path) -> None:
    done = door(".", cwd=box, code=1)
    severities = [
        line.partition("[")[0] for line in done.stdout.splitlines() if line[:1].islower() and "[" in line
    ]
    order = ["critical", "high", "medium", "low", "info"]
    assert severities == sorted(severities, key=order.index)
    assert "  --> config.json:" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("box: ")
    assert "; judged for " in done.stdout.splitlines()[-1]


def test_what_fails_is_asked_for(box: Path) -> None:
    door(str(box), "--fail-on", "critical", code=0)
    door(str(box), "--fail-on=never", code=0)
    door(str(box), "--fail-on=info", code=1)


def test_a_config_alone(box: Path, tmp_path: Path) -> None:
    alone = tmp_path / "config.json"
    alone.write_text((box / "config.json").read_text())
    rules = found(door(str(alone), "--format", "json", code=1).stdout)
    assert rules["rootfs-not-judged"]["severity"] == "info"
    assert rules["rootfs-not-judged"]["message"] == (
        "there is no rootfs beside config.json: bundle, image and host were not judged"
    )
    assert "rootfs-missing" not in rules and "program-missing" not in rules
    assert {"bind-flags", "seccomp-clone-flags"} <= rules.keys()
    # A folder that shall be a bundle is another thing.
    assert (
        found(door(str(tmp_path), "--format", "json", code=1).stdout)["rootfs-missing"]["severity"]
        == "critical"
    )
    # Beside a rootfs all is judged, whichever of the two is named.
    assert found(door(str(box / "config.json"), "--format", "json", code=1).stdout).keys() >= RUNGS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{}x",), "error[usage]: there is no `{}x`\n  help: did you mean `{}`?"),
        (("{}/rootfs",), "error[usage]: `{}/rootfs` has no config.json"),
        (("{}/..",), "error[usage]: `{}/..` has no config.json\n  help: did you mean `{}/../box`?"),
        (
            ("{}", "--format", "sarfi"),
            "error[usage]: there is no format `sarfi`\n  help: did you mean `sarif`?",
        ),
        (("{}", "--fail-on", "hihg"), "there is no severity `hihg` to fail on\n  help: did you mean `high`?"),
        (("{}", "--outptu", "x"), "has no option `--outptu`\n  help: did you mean `--output`?"),
        (("{}", "--image", "/nowhere:x"), "error[usage]: there is no image layout `/nowhere:x`"),
        ((), "error[usage]: write it as: python -m pipeline.check DIR"),
    ],
)
def test_usage_is_said_before_any_work(box: Path, words: tuple[str, ...], said: str) -> None:
    done = door(*(word.format(box) for word in words), code=3)
    assert said.format(*[box] * 3) in done.stderr
    assert done.stdout == ""


def test_doit_refuses_the_same(workspace: Workspace, box: Path) -> None:
    done = workspace.doit("check", "--bundle", f"{box}x", code=3)
    assert f"did you mean `{box}`?" in done.stderr
    assert "there is no bundle `hallo`" in workspace.doit("check", "hallo", code=3).stderr
    both = workspace.doit("check", "hello", "--bundle", str(box), code=3)
    assert "write it as: doit check --bundle DIR, or doit check NAME…" in both.stderr


def test_output_goes_to_a_file(box: Path, tmp_path: Path) -> None:
    done = door(str(box), "--format", "sarif", "--output", str(tmp_path / "new" / "x.sarif"), code=1)
    assert done.stdout == ""
    (run,) = json.loads((tmp_path / "new" / "x.sarif").read_bytes())["runs"]
    assert {result["ruleId"] for result in run["results"]} >= RUNGS
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": f"file://{box}/config.json"}


def test_without_a_runtime_it_says_so(box: Path) -> None:
    with_paths = door(str(box), code=1).stdout
    assert "judged for runc" in with_paths or "judged for crun" in with_paths
    # Neither is found where nothing is searched; /usr/sbin always is, so a runtime there still counts.
    code = (
        "import sys, pipeline.tools.runtimes.registry as r\n"
        "r.find = lambda name: None\n"
        "from pipeline.check import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(box)], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 1
    assert "judged for no runtime, since neither runc nor crun is installed" in done.stdout


def test_another_user_gets_one_clear_error_or_findings(box: Path) -> None:
    done = door(str(box), code=3, user=_OTHER_USER, HOME="/")
    assert done.stderr.startswith(f"error[unreadable]: `{box}")
    assert "run it as root, or as the owner of the bundle" in done.stderr
    box.chmod(0o755)
    (box / "rootfs" / "app").chmod(0o700)
    rules = found(door(str(box), "--format", "json", code=1, user=_OTHER_USER, HOME="/").stdout)
    assert rules["rootfs-unreadable"]["message"].startswith(f"user {_OTHER_USER} may not look at `/app")
    (box / "config.json").chmod(0o600)
    done = door(str(box), code=3, user=_OTHER_USER, HOME="/")
    assert done.stderr.startswith(f"error[unreadable]: `{box}/config.json` cannot be read: permission denied")


@pytest.mark.parametrize("kind", ["fifo", "folder", "huge", "empty", "binary", "deep"])
def test_what_is_no_config_is_no_traceback(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.json"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "huge":
            with path.open("wb") as stream:
                stream.truncate((16 << 20) + 1)
        case "empty":
            path.touch()
        case "binary":
            path.write_bytes(bytes(range(256)))
        case "deep":
            path.write_text("[" * 100_000)
    done = door(str(tmp_path), code=1 if kind in ("empty", "binary", "deep") else 3)
    wanted = {"fifo": "is no regular file", "folder": "error[unreadable]", "huge": "is larger than 16 MiB"}
    assert wanted.get(kind, "critical[not-json]") in done.stdout + done.stderr


def test_names_that_no_file_can_bear(box: Path) -> None:
    config = careful_config()
    config["mounts"][4] |= {"source": "/var\0/x", "destination": "/home/\ud800"}
    config["process"] |= {"args": ["/app\0/x", "/\ud800.js"], "cwd": "/\udc80"}
    (box / "config.json").write_text(json.dumps(config))
    for form in ("terminal", "json", "sarif", "junit", "github", "markdown"):
        door(str(box), "--format", form, code=1)
    config["root"]["path"] = "root\0fs"
    (box / "config.json").write_text(json.dumps(config))
    door(str(box), code=1)


def test_built_bundles_are_judged_anew(shared_workspace: Workspace) -> None:
    assert "hello: not built" in shared_workspace.doit("check").stderr
    refused = shared_workspace.doit("check", "hello", code=3)
    assert "error[not-built]: hello is not built" in refused.stdout + refused.stderr
    loose = "extends: hello\nread_only: false\ncap_add: [CHOWN]\nwaive: {writable-root: tried in a test}\n"
    shared_workspace.spec("loose", loose)
    failed = shared_workspace.doit("bundle:loose", code=1)
    assert "   = from specs/loose.yaml:3:1" in failed.stdout + failed.stderr
    shared_workspace.doit("bundle:hello")
    assert shared_workspace.doit("check", "hello").stdout.splitlines()[-1].startswith("hello: ")
    before = (shared_workspace.out / "loose/validate/findings.json").read_text()
    rules = found(shared_workspace.doit("check", "loose", "--format", "json", code=1).stdout)
    assert rules["capability-added"]["origin"]["file"] == "specs/loose.yaml"
    assert rules["capability-added"]["origin"]["line"] == 3
    assert rules["capability-added"]["place"]["file"] == "out/loose/bundle/config.json"
    assert rules["capability-added"]["provenance"] == {"from": "spec", "key": "cap_add"}
    assert rules["writable-root"]["waived"] == "tried in a test"
    kept = {f["rule"]: f for f in json.loads(before)["findings"]}
    assert kept["capability-added"]["provenance"] == {"from": "spec", "key": "cap_add"}
    assert (shared_workspace.out / "loose/validate/findings.json").read_text() == before
    # A comment moves the line, not what was recorded.
    shared_workspace.spec("loose", "# one more line\n" + loose)
    rules = found(shared_workspace.doit("check", "loose", "--format=json", code=1).stdout)
    assert rules["capability-added"]["origin"]["line"] == 4
    config = shared_workspace.out / "hello/bundle/config.json"
    config.write_text(config.read_text().replace('"noNewPrivileges": true', '"noNewPrivileges": false'))
    rules = found(shared_workspace.doit("check", "hello", "--format=json", code=1).stdout)
    assert {"config-changed", "new-privileges"} <= rules.keys()
    remove_tree(shared_workspace.out / "loose")


def test_an_image_tells_what_a_bundle_lost(shared_workspace: Workspace) -> None:
    shared_workspace.doit("bundle:hello")
    image = shared_workspace.out / "hello/image"
    box = shared_workspace.out / "hello/bundle"
    config = json.loads((box / "config.json").read_text())
    config["process"]["env"] = []
    (box / "config.json").write_text(json.dumps(config))
    (entry,) = json.loads((image / "index.json").read_text())["manifests"]
    tag = entry["annotations"]["org.opencontainers.image.ref.name"]
    for reference in (str(image), f"{image}:{tag}", f"oci:{image}:{tag}"):
        done = door(str(box), "--image", reference, "--format", "json", "--fail-on", "never", code=0)
        assert "env-lost" in found(done.stdout)
    done = door(str(box), "--image", f"{image}:none", code=3)
    assert "has no image called `none`" in done.stderr


def test_each_field_is_explained(shared_workspace: Workspace) -> None:
    shared_workspace.doit("bundle:hello")
    one = shared_workspace.doit("explain", "config:hello:process.args[0]").stdout
    assert one.startswith("process.args[0] = ")
    assert "\n  from    the image, " in one and "\n  read by form, arguments, " in one
    told = json.loads(shared_workspace.doit("explain", "config:hello", "spec:hello", "--json").stdout)
    fields = {field["path"]: field for field in told["configs"]["config:hello"]}
    assert fields["linux.resources.memory.limit"]["origin"]["file"] == "specs/hello.yaml"
    assert fields["linux.seccomp.defaultAction"]["checks"]
    assert told["stages"]["spec:hello"]["stale"] is None
    # Every field of the bundle that we ship is read by some check, or by the form alone.
    unread = {path for path, field in fields.items() if field["checks"] == ["form"]}
    assert not {
        path for path in unread if path.startswith(("process.capabilities", "linux.seccomp.defaultAction"))
    }
    wrong = shared_workspace.doit("explain", "config:hello:process.arg[0]", code=3)
    assert "did you mean `process.args[0]`?" in wrong.stderr
    quoted = 'config:hello:annotations["org.cooperage.image.digest"]'
    assert "sha256:" in shared_workspace.doit("explain", quoted).stdout
    assert "there is no bundle `hallo`" in shared_workspace.doit("explain", "config:hallo:x", code=3).stderr
