"""The command line as a user has it: real doit in a workspace, what it says, where, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Workspace, make_workspace, remove_workspace

pytestmark = pytest.mark.real

_OTHER_USER = 1234
_NOT_PINNED = "stremio-server: not pinned yet; 'doit update stremio-server' resolves it"


@pytest.fixture(scope="module")
def built() -> Iterator[Workspace]:
    """`hello` is built; a test puts back what it changes."""
    made = make_workspace()
    try:
        made.doit()
        yield made
    finally:
        remove_workspace(made)


@pytest.fixture
def bad_lock(built: Workspace) -> Iterator[Path]:
    path = built.root / "specs" / "lock.json"
    path.write_text('{"version": 2, "images": {}}\n')
    yield path
    path.unlink()


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Owner and time of change of all that is below a folder."""
    return {str(p): (p.lstat().st_uid, p.lstat().st_mtime_ns) for p in sorted(root.rglob("*"))}


@pytest.mark.parametrize("line", ["", "status", "update", "bundle:hello", "report"])
def test_a_bad_lock_file_is_one_error(built: Workspace, bad_lock: Path, line: str) -> None:
    done = built.doit(*line.split(), code=3)
    assert done.stdout == ""
    assert done.stderr.startswith("error[bad-lock]: version 2 of the lock file is not known, only 1\n")
    assert f"--> {bad_lock}:1:2" in done.stderr


def test_a_lock_file_that_is_no_json_can_be_restored(built: Workspace, bad_lock: Path) -> None:
    bad_lock.write_text("{")
    done = built.doit(code=3)
    assert done.stderr.startswith("error[bad-lock]: not JSON: ")
    assert "help: restore it from git, or remove it and run `doit update`" in done.stderr


@pytest.mark.parametrize("line", ["list", "doctor", "verify", "list -s", "info bundle:hello"])
def test_what_needs_no_pin_goes_on_without(built: Workspace, bad_lock: Path, line: str) -> None:
    done = built.doit(*line.split(), code=None)
    assert done.stderr.splitlines() == [
        f"{bad_lock}:1:2: version 2 of the lock file is not known, only 1; remote images count as not pinned"
    ]
    assert done.stdout


@pytest.mark.parametrize(
    "line",
    ["status --json", "status hello --json", "explain spec:hello --json", "outdated hello --json"],
)
def test_json_is_all_that_standard_output_has(built: Workspace, line: str) -> None:
    left = built.out / ".tmp" / "hello.copy.12345678"
    left.mkdir()
    assert json.loads(built.doit(*line.split()).stdout)["version"] == 1
    # Somebody may be at work; who only reads removes nothing.
    left.rmdir()


def test_doctor_says_json_at_any_moment(built: Workspace, bad_lock: Path) -> None:
    assert json.loads(built.doit("doctor", "--json", code=None).stdout)["version"] == 1


def test_outdated_answers_for_those_that_can_be_asked(built: Workspace) -> None:
    built.spec("zz", "image: docker://localhost:1/nothing:1\n")
    done = built.doit("outdated", "zz", "--json", code=1)
    (built.root / "specs" / "zz.yaml").unlink()
    assert json.loads(done.stdout) == {"version": 1, "images": []}
    assert "error[copy-" in done.stderr


def test_status_check_after_a_name(built: Workspace) -> None:
    built.doit("status", "hello", "--check")
    built.doit("forget", "spec:hello")
    built.doit("status", "hello", "--check", code=1)
    built.doit()
    assert built.doit("status").stdout.splitlines()[-1] == (
        "stremio-server               not pinned ('doit update stremio-server')"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("status helo", "error[usage]: there is no bundle `helo`\n  help: did you mean `hello`?\n"),
        ("explain config:hallo", "error[usage]: there is no bundle `hallo`"),
        ("explain --josn spec:hello", "error[usage]: `doit explain` has no option `--josn`"),
        ("-n 2 -P process", "error[usage]: stages run in threads only"),
        ("ignore copy:hello", "error[usage]: `doit ignore` has no meaning here\n"),
        ("reset-dep", "error[usage]: `doit reset-dep` has no meaning here\n"),
        ("strace copy:hello", "error[usage]: `doit strace` has no meaning here\n"),
        ("new Bad --image x", "error[bad-name]: `Bad` cannot name a bundle"),
        ("new hello --image demo:busybox-httpd", "error[spec-exists]: there is a bundle `hello`"),
        ("new zz", "error[usage]: write it as: doit new NAME --image REF"),
        ("status mem_limit=1g", "error[unknown-variable]: there is no variable `mem_limit`"),
    ],
)
def test_usage_errors_exit_3(built: Workspace, line: str, message: str) -> None:
    done = built.doit(*line.split(), code=3)
    assert done.stderr.startswith(message) and done.stdout == "", done.stderr


def test_new_takes_its_image_in_both_forms(built: Workspace) -> None:
    for words in (["zz", "--image=demo:busybox-httpd"], ["--image", "demo:busybox-httpd", "zz"]):
        said = built.doit("new", *words).stdout
        (built.root / "specs" / "zz.yaml").unlink()
        assert said.startswith("wrote specs/zz.yaml")


@pytest.mark.parametrize("line", ["status br", "explain spec:br", "update br"])
def test_a_reading_task_shows_what_is_wrong_with_the_spec_asked_for(built: Workspace, line: str) -> None:
    path = built.spec("br", "image: demo:busybox-httpd\ncapabilites: [x]\n")
    done = built.doit(*line.split(), code=3)
    path.unlink()
    assert done.stderr.startswith("error[unknown-key]: unknown key `capabilites`\n  --> specs/br.yaml:2:1\n")


def test_every_task_says_what_it_is_for(built: Workspace) -> None:
    for line in built.doit("list").stdout.splitlines():
        assert len(line.split()) > 1, line


def test_a_bundle_without_a_spec_is_told_of_and_cleaned(built: Workspace) -> None:
    spec = built.spec("other", "image: demo:busybox-httpd\nhostname: other\n")
    built.doit("bundle:other")
    spec.unlink()
    line = "out/other/: no spec any more; 'doit clean' removes it"
    assert line in built.doit("status").stdout.splitlines()
    assert json.loads(built.doit("status", "--json").stdout)["without_spec"] == ["other"]
    assert "would remove out/other\n" in built.doit("clean", "-n").stdout
    assert (built.out / "other").exists() and (built.out / "hello" / "bundle" / "config.json").exists()
    said = built.doit("clean").stdout
    assert "_rest - executing 'Python: remove what has no spec any more'\nremoving out/other\n" in said
    assert "bundle:hello - executing 'Python: remove what it made'\n" in said
    assert [path.name for path in built.out.iterdir() if path.name[0] != "."] == []
    assert list((built.out / ".store" / "blobs" / "sha256").iterdir()) == []
    built.doit()


def test_one_stage_is_cleaned_alone(built: Workspace) -> None:
    built.doit("clean", "seccomp:hello")
    assert not (built.out / "hello" / "seccomp").exists()
    said = built.doit().stdout.splitlines()
    assert said[0] == _NOT_PINNED and said[-1].startswith("1 run, 4 cached, ")


def test_a_removal_that_fails_says_so_by_its_exit_status(built: Workspace) -> None:
    lock = built.out / ".state" / "locks" / "hello.copy"
    lock.unlink()
    lock.mkdir()
    done = built.doit("clean", "copy:hello", code=1)
    lock.rmdir()
    assert done.stderr == f"error[system]: {lock}: Is a directory\n"
    assert (built.out / "hello" / "image").exists()


def test_a_sweep_that_fails_stops_nothing(built: Workspace) -> None:
    # The lock of what is to be swept cannot be opened.
    lock = built.out / ".state" / "locks" / "x.y"
    lock.mkdir()
    (built.out / ".tmp" / "x.y.12345678").mkdir()
    done = built.doit()
    lock.rmdir()
    assert done.stdout.splitlines()[-1].startswith("0 run, 5 cached, ")
    built.doit()
    assert list((built.out / ".tmp").iterdir()) == []


def test_without_setpriv_each_stage_says_what_is_missing(built: Workspace, tmp_path: Path) -> None:
    """Everything but setpriv, in one folder; the system's own folders have none on a merged /usr."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("skopeo", "umoci", "busybox"):
        found = next(path for path in map(Path, (f"/usr/bin/{name}", f"/bin/{name}")) if path.exists())
        (tools / name).symlink_to(found)
    keep = built.out / ".state" / "cache" / "fingerprints.json"
    keep.unlink()
    done = built.doit("copy:hello", code=1, PATH=str(tools))
    assert "error[missing-tool]: setpriv, needed to start any tool, is not installed" in done.stderr
    assert "sudo apt-get install util-linux" in done.stderr and "Traceback" not in done.stderr
    built.doit()


def test_full_disks_are_named(built: Workspace) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            built.argv("status", "--json"),
            cwd=built.root,
            env=built.env(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (
        done.stderr.startswith("error[no-space]: ") and "make room below out/ (`doit clean`)" in done.stderr
    )
    assert done.returncode == 1


@pytest.mark.parametrize("line", ["status --json", "doctor --json", "explain spec:hello"])
def test_a_closed_pipe_gives_no_traceback(built: Workspace, line: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        built.argv(*line.split()),
        cwd=built.root,
        env=built.env(),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.stderr == ""


class TestOtherUsers:
    """A built `out/` and somebody else: what they may read is told, the rest refused, nothing written."""

    @pytest.fixture
    def theirs(self, built: Workspace) -> Iterator[Workspace]:
        owned = [built.out, *built.out.rglob("*")]
        owners = [(path, path.lstat().st_uid, path.lstat().st_gid) for path in owned]
        for path in owned:
            os.chown(path, _OTHER_USER, -1, follow_symlinks=False)
        yield built
        for path, uid, gid in owners:
            os.chown(path, uid, gid, follow_symlinks=False)

    @pytest.mark.parametrize("line", ["status", "explain copy:hello", "outdated hello", "doctor", "list"])
    def test_root_reads_and_writes_nothing(self, theirs: Workspace, line: str) -> None:
        theirs.doit("status")
        before = files(theirs.out)
        done = theirs.doit(*line.split(), code=None)
        assert "not-yours" not in done.stderr and "Traceback" not in done.stderr
        assert files(theirs.out) == before

    @pytest.mark.parametrize("line", ["", "bundle:hello", "clean", "forget spec:hello", "report"])
    def test_root_is_told_to_start_anew(self, theirs: Workspace, line: str) -> None:
        before = files(theirs.out)
        done = theirs.doit(*line.split(), code=3)
        assert done.stderr == (
            f"error[not-yours]: {theirs.out} belongs to user {_OTHER_USER} and you are user 0\n"
            f"  help: `sudo rm -rf {theirs.out}`, then `sudo ./bootstrap doit`: "
            "out/ holds only what can be built again\n"
        )
        assert files(theirs.out) == before


def test_values_of_variables_are_never_shown(workspace: Workspace) -> None:
    hello = workspace.root / "specs" / "hello.yaml"
    text = hello.read_text()
    hello.write_text(text + "environment: {API_TOKEN: planted-one}\n")
    workspace.doit("seccomp:hello", "copy:hello", "spec:hello")
    hello.write_text(text + "environment: {API_TOKEN: planted-two}\n")
    told = (
        workspace.doit("explain", "spec:hello").stdout
        + workspace.doit("explain", "spec:hello", "--json").stdout
    )
    told += workspace.doit("status", "hello").stdout + workspace.doit("spec:hello").stdout
    assert "API_TOKEN" in told
    assert "planted" not in told
    assert (workspace.out / "hello" / "stages" / "spec.json").stat().st_mode & 0o777 == 0o600
