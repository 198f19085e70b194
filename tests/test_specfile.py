"""Spec files: every kind of mistake in its exact words, files that are none, the cache, any bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import specfile
from pipeline.errors import PipelineError
from pipeline.model.bundle import Bundle
from pipeline.paths import Project
from pipeline.source import MAX_BYTES, read_source
from tests.spec_project import IMAGE, errors, project, write

__all__ = ["project"]

PROJECT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "specs"
CASES = sorted(path.name for path in GOLDEN.iterdir())


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
    (project.specs / os.fsdecode(b"\xff.yaml")).mkdir()
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


# The cache ------------------------------------------------------------------------------------


def kept(project: Project) -> Path:
    """Where parsed values are cached."""
    return project.cache / "specs.json"


def loads_parser(project: Project) -> list[str]:
    """The heavy modules that a load imports, in a process of its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline import specfile; from pipeline.paths import Project\n"
        "assert specfile.load(Project(Path(sys.argv[1]))).specs\n"
        "print(*[m for m in ('yaml', 'msgspec', 'jsonschema', 'difflib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, project.root], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_second_load_imports_no_parser(project: Project) -> None:
    write(project, a=IMAGE, b="extends: a\n")
    assert loads_parser(project) == ["yaml", "msgspec"]
    assert loads_parser(project) == []
    write(project, a=IMAGE + "cpus: 2\n")
    assert loads_parser(project) == ["yaml", "msgspec"]
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
    *(
        "image: x\n",
        "extends: a\n",
        "cpus: ",
        "mem_limit: ",
        "volumes: [",
        "]",
        "{",
        "}",
        "- ",
        "? ",
        ": ",
        "\n",
    ),
    *("&a ", "*a", "!!int ", "<<: ", "'", '"', "|\n  x\n", ">\n", "---\n", "...\n", "%YAML 1.2\n", "\t", "#"),
    *(
        "healthcheck: {",
        "tcp: 1",
        "environment: {",
        "A: 1",
        "tmpfs: /a",
        "ports: ['1:2']",
        "0x",
        "1e999",
        "~",
    ),
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
