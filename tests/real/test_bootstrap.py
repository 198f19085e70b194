"""./bootstrap on this machine, in copies of the checkout; and, opt-in, on a bare Debian made for it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.files import remove_tree

PROJECT = Path(__file__).resolve().parents[2]
ONLY_FOR_TESTS = (".tests", "mypy*", "ruff*", "hypothesis*", "*pytest*", "pip", "__pycache__")
PARTS = ("bootstrap", "requirements.txt", "requirements-dev.txt", "pipeline")
SAYS_MAKING = "bootstrap: making .venv with Python"
pytestmark = pytest.mark.real
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="hides programs by mounts, makes a user: needs root"
)
NO_NETWORK = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--net"]

Done = subprocess.CompletedProcess[str]


def copy_of_checkout(folder: Path) -> Path:
    """Copy what the set-up reads to a new folder that every user can pass."""
    folder.mkdir(mode=0o755)
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder


@pytest.fixture
def bare() -> Iterator[Path]:
    """A copy without .venv."""
    home = Path(tempfile.mkdtemp(prefix="cooperage-bootstrap-", dir="/var/tmp"))
    home.chmod(0o755)
    yield copy_of_checkout(home / "checkout")
    remove_tree(home)


@pytest.fixture
def checkout(bare: Path) -> Path:
    """A copy that is set up: its .venv is this checkout's, stamped for the new place."""
    done = bootstrap(PROJECT, "true")
    assert done.returncode == 0, done.stderr
    shutil.copytree(
        PROJECT / ".venv", bare / ".venv", symlinks=True, ignore=shutil.ignore_patterns(*ONLY_FOR_TESTS)
    )
    stamp = bare / ".venv/.core"
    stamp.write_text(stamp.read_text().replace(str(PROJECT), str(bare)))
    return bare


@pytest.fixture
def user() -> Iterator[str]:
    """An ordinary user without sudo, removed afterwards."""
    name = f"coop{os.getpid()}"
    subprocess.run(["useradd", "--create-home", name], check=True)
    yield name
    subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


def bootstrap(folder: Path, *words: str, before: Sequence[str] = (), cwd: str = "/", path: str = "") -> Done:
    """Run ./bootstrap of a copy from elsewhere, as a new user would: with a plain environment."""
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_", "HTTP"))}
    env = {**kept, "HOME": os.environ.get("HOME", "/"), "PATH": f"{path}/usr/local/bin:/usr/bin:/bin"}
    argv = [*before, str(folder / "bootstrap"), *words]
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=280)


def as_user(name: str) -> list[str]:
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups", "--"]


def hiding(*programs: str) -> list[str]:
    """The words that run the rest where these programs are not."""
    mounts = "; ".join(f"[ ! -e {program} ] || mount --bind /dev/null {program}" for program in programs)
    return ["unshare", "--mount", "sh", "-ec", f'{mounts}; exec "$@"', "sh"]


def test_a_second_run_says_nothing_and_needs_no_network(checkout: Path) -> None:
    done = bootstrap(checkout, "python", "-c", "import sys, doit; print(sys.prefix)", before=NO_NETWORK)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{checkout}/.venv\n", "")


def test_a_second_run_starts_neither_apt_nor_pip(checkout: Path) -> None:
    traced = checkout / "trace"
    done = bootstrap(checkout, "true", before=["strace", "-f", "-e", "trace=execve", "-o", str(traced)])
    started = re.findall(r'execve\("([^"]+)"(?:.*)= 0$', traced.read_text(), re.MULTILINE)
    assert done.returncode == 0
    assert "true" in {os.path.basename(program) for program in started}
    assert not [program for program in started if "apt" in program or "pip" in os.path.basename(program)]


def test_the_exit_code_and_the_words_are_those_of_the_command(checkout: Path) -> None:
    done = bootstrap(checkout, "sh", "-c", 'printf "%s|" "$@"; exit 7', "sh", "a b", "", "*")
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b||*|", "")


def test_it_runs_in_its_own_folder_and_gives_no_lock_away(checkout: Path) -> None:
    done = bootstrap(checkout, "sh", "-c", "pwd; ls /proc/self/fd | wc -l")
    folder, descriptors = done.stdout.split()
    # 0, 1, 2 and that of ls itself.
    assert (folder, int(descriptors)) == (str(checkout), 4)


def test_without_a_command_it_says_how_to_go_on(checkout: Path) -> None:
    done = bootstrap(checkout)
    assert done.returncode == 0
    assert done.stderr == "bootstrap: ready; ./bootstrap doit builds, ./bootstrap pytest tests\n"


@needs_root
def test_a_user_without_sudo_goes_on_with_what_is_there(checkout: Path, user: str) -> None:
    before = [*hiding("/usr/bin/umoci", "/usr/bin/crun", "/usr/bin/sudo"), *as_user(user)]
    done = bootstrap(checkout, "sh", "-c", "exit 5", before=before)
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "bootstrap: no root and no sudo here; as root run: apt-get install -y crun umoci ",
        "bootstrap: not installed: umoci; lacked by: unpack, and copy of demo images",
        "bootstrap: not installed: crun; lacked by: smoke/crun",
    ]


@needs_root
@pytest.mark.parametrize(
    ("program", "line", "alone"),
    [
        ("dnf", "run: sudo dnf install runc shadow-utils ", True),
        ("pacman", "run: sudo pacman -S --needed runc shadow ", True),
        ("zypper", "run: sudo zypper install runc shadow umoci ", False),
    ],
)
def test_other_distributions_are_told_their_line(
    checkout: Path, program: str, line: str, alone: bool
) -> None:
    fake = checkout / "bin" / program
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    names = ("/usr/bin/apt-get", "/usr/sbin/runc", "/usr/bin/runc", "/usr/bin/newuidmap", "/usr/bin/umoci")
    done = bootstrap(checkout, "true", before=hiding(*names), path=f"{fake.parent}:")
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == f"bootstrap: {line}"
    assert "bootstrap: not installed: runc; lacked by: validate, smoke/runc" in done.stderr
    unpackaged = (
        "bootstrap: not here and not known to be packaged: umoci (put it into /usr/local/bin); lacked by:"
    )
    assert (unpackaged in done.stderr) is alone


@needs_root
def test_a_self_built_program_counts(checkout: Path) -> None:
    own = checkout / "bin" / "runc"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    done = bootstrap(
        checkout, "true", before=hiding("/usr/sbin/runc", "/usr/bin/runc"), path=f"{own.parent}:"
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_root
def test_a_dynamic_busybox_does_not_count(checkout: Path, user: str) -> None:
    own = checkout / "bin" / "busybox"
    own.parent.mkdir()
    shutil.copy("/bin/true", own)
    before = [*hiding("/usr/bin/sudo", "/usr/bin/busybox-static"), *as_user(user)]
    done = bootstrap(checkout, "true", before=before, path=f"{own.parent}:")
    assert "not installed: busybox-static; lacked by: copy of demo images (hello)" in done.stderr


@needs_root
def test_another_user_s_venv_is_used_and_never_altered(checkout: Path, user: str) -> None:
    before = [*hiding("/usr/bin/sudo"), *as_user(user)]
    assert bootstrap(checkout, "doit", "--version", before=before).returncode == 0
    done = bootstrap(checkout, "pytest", "--version", before=before)
    assert done.returncode == 1
    assert done.stderr.endswith(f"bootstrap: cannot write {checkout}/.venv; is the checkout yours?\n")


def spoil_python(checkout: Path) -> None:
    """As after the removal of the Python that it was made with."""
    for name in ("python", "python3"):
        (checkout / ".venv/bin" / name).unlink()
    (checkout / ".venv/bin/python").symlink_to("/usr/bin/python3.0")


def spoil_stamp(checkout: Path) -> None:
    """As after an interrupted set-up."""
    (checkout / ".venv/.core").unlink()
    shutil.rmtree(checkout / ".venv/lib")


def spoil_place(checkout: Path) -> None:
    """As after the move of a checkout."""
    stamp = checkout / ".venv/.core"
    stamp.write_text(stamp.read_text().replace(str(checkout), "/elsewhere"))


def spoil_version(checkout: Path) -> None:
    """As after an upgrade of the distribution to another Python."""
    (library,) = (checkout / ".venv/lib").iterdir()
    library.rename(library.with_name("python3.0"))


@pytest.mark.network
@pytest.mark.parametrize("spoil", [spoil_python, spoil_stamp])
def test_a_venv_that_is_not_good_any_more_is_made_anew(checkout: Path, spoil: object) -> None:
    assert callable(spoil)
    (checkout / ".venv/leftover").touch()
    spoil(checkout)
    done = bootstrap(checkout, "doit", "--version")
    assert done.returncode == 0
    assert done.stderr.startswith(SAYS_MAKING)
    assert not (checkout / ".venv/leftover").exists()
    assert bootstrap(checkout, "true").stderr == ""


@pytest.mark.parametrize("spoil", [spoil_place, spoil_version])
def test_a_venv_of_another_place_or_python_is_not_used(checkout: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(checkout)
    # Without network, so that what it sets out to do is seen and not waited for.
    before = ["env", "PIP_RETRIES=0", "PIP_FIND_LINKS=", *NO_NETWORK]
    done = bootstrap(checkout, "true", before=before)
    assert done.returncode == 1
    assert done.stderr.startswith(SAYS_MAKING)
    assert not (checkout / ".venv/.core").exists()


@pytest.mark.network
def test_killed_in_the_middle_it_starts_over(bare: Path) -> None:
    words = [str(bare / "bootstrap"), "true"]
    first = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 60
    while not (bare / ".venv/bin/pip").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (bare / ".venv/.core").exists()
    done = bootstrap(bare, "doit", "--version")
    assert done.returncode == 0
    assert done.stderr.startswith(SAYS_MAKING)


@pytest.mark.network
def test_two_at_once_set_up_once(bare: Path) -> None:
    words = [str(bare / "bootstrap"), "python", "-c", "import doit, jsonschema, msgspec"]
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=280)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(said).count(SAYS_MAKING) == 1
    assert "another set-up of this checkout is at work; waiting for it" in "".join(said)


@pytest.mark.network
def test_dependencies_that_cannot_be_had_are_said_plainly(bare: Path) -> None:
    requirements = bare / "requirements.txt"
    text = requirements.read_text()
    requirements.write_text(re.sub(r"--hash=sha256:[0-9a-f]{64}", f"--hash=sha256:{'0' * 64}", text))
    done = bootstrap(bare, "true")
    assert done.returncode == 1
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "bootstrap: the Python dependencies could not be installed (pip says why above); "
        "mend that and run this again"
    )
    assert not (bare / ".venv/.core").exists()


def test_every_dependency_is_locked_by_hashes_and_by_nothing_else() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (PROJECT / name).read_text().splitlines()
        wanted = [i for i, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
        assert wanted
        for i in wanted:
            assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+ \\", lines[i])
            assert lines[i + 1].startswith("    --hash=sha256:")
        assert not [line for line in lines if "://" in line or "index" in line.split("#")[0]]


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (PROJECT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ['cd -- "$(dirname -- "$0")/.." && exec ./bootstrap pytest']
    assert "./bootstrap pytest" in (PROJECT / "README.md").read_text()


# -- opt-in: a bare Debian -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debian() -> Iterator[Path]:
    """A minimal Debian 12 with a copy of the checkout, a user with sudo, and nothing mounted into it."""
    root = Path(tempfile.mkdtemp(prefix="cooperage-debian-", dir="/var/tmp"))
    made = ["mmdebstrap", "--variant=minbase", "--include=sudo", "bookworm", str(root)]
    subprocess.run(made, check=True, capture_output=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "srv/ca.crt")
    copy_of_checkout(root / "srv/checkout")
    (root / "etc/sudoers.d/builder").write_text("builder ALL=(ALL) NOPASSWD: ALL\n")
    inside(root, "root", "useradd", "-m", "builder")
    yield root
    remove_tree(root)


def inside(root: Path, user: str, *words: str) -> Done:
    env = {"HOME": "/root" if user == "root" else f"/home/{user}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    env |= {"PIP_CERT": "/srv/ca.crt"} if "PIP_CERT" in os.environ else {}
    argv = ["chroot", f"--userspec={user}:{user}", str(root), *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=280)


@pytest.mark.chroot
@needs_root
@pytest.mark.parametrize("user", ["builder", "root"])
def test_a_bare_debian_is_set_up_by_one_command(debian: Path, user: str) -> None:
    inside(debian, "root", "chown", "-R", user, "/srv/checkout")
    inside(debian, "root", "apt-get", "purge", "-y", "skopeo", "umoci", "runc", "crun", "python3-venv")
    remove_tree(debian / "srv/checkout/.venv")
    done = inside(debian, user, "/srv/checkout/bootstrap", "doit", "--version")
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert "bootstrap: installing skopeo, needed by: copy, update, outdated" in said
    assert "bootstrap: installing umoci, needed by: unpack, and copy of demo images" in said
    assert not [line for line in said if "not installed" in line]
    again = inside(debian, user, "/srv/checkout/bootstrap", "doit", "--version")
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")
