"""A project of a few specs, for the tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import specfile
from pipeline.errors import PipelineErrors
from pipeline.model.bundle import Bundle
from pipeline.paths import Project

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
