"""Which check reads which field: seen while it reads, so that it is true of every check there will be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.form import read_form
from pipeline.checks.index import CHECKS, Check, Layer, judge
from pipeline.checks.subject import Findings, Subject
from pipeline.errors import PipelineError
from pipeline.model.nouns import Finding, Provenance, Severity
from pipeline.origins import Origins
from pipeline.paths import BundlePaths
from pipeline.report import reading
from pipeline.report.explain import Explained, explain_config, lines
from pipeline.report.reading import readings
from tests.judged import FOLDER, Case


def subject(case: Case) -> Subject:
    form = read_form("config.json", json.dumps(case.config, indent=2))
    assert form.document is not None
    assert form.config is not None
    return Subject(
        document=form.document,
        config=form.config,
        folder=FOLDER,
        rootfs=case.tree,
        host_view=case.host,
        host=case.facts,
        is_syscall=lambda name: name != "nosuch",
    )


def spoilt() -> Case:
    case = Case()
    case.process["noNewPrivileges"] = False
    case.process["capabilities"]["bounding"] = ["CAP_SYS_ADMIN"]
    case.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.odd": "1"}
    case.mount("/tmp")["options"] = ["rw"]
    del case.linux["seccomp"]["syscalls"][2]
    return case


def reads(case: Case) -> dict[str, frozenset[str]]:
    return {one.check.name: one.read for one in readings(subject(case))}


def test_a_check_that_is_watched_finds_the_same() -> None:
    case = spoilt()
    watched = [(f.rule, f.path, f.message) for one in readings(subject(case)) for f in one.findings]
    assert sorted(watched) == sorted((f.rule, f.path, f.message) for f in judge(subject(case)))
    assert len(watched) > 5


def test_what_is_read_is_noted_and_no_more() -> None:
    found = reads(Case())
    assert found["no new privileges"] == {"process.noNewPrivileges"}
    assert found["no hooks"] == {"hooks"}
    assert found["cpu"] == {"linux.resources.cpu.quota", "linux.resources.cpu.period"}
    assert "mounts[5].source" in found["bind sources"]
    assert not any(path.startswith("linux.seccomp") for path in found["mount order"])
    assert len(found) == len(CHECKS)


def test_maps_and_lists_note_what_is_taken_out_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def nosy(subject: Subject) -> Findings:
        config = subject.config
        assert (config.annotations or {}).get("org.example.name") == "box"
        assert (config.annotations or {}).get("absent") is None
        assert (subject.process.args or ())[-1] == "/bin/serve"
        assert "CAP_X" not in subject.granted
        yield Finding("nosy", Severity.INFO, "x")

    monkeypatch.setattr(reading, "CHECKS", (Check("nosy", Layer.MEANING, nosy, ("nosy",)),))
    (one,) = readings(subject(Case()))
    capabilities = {
        f"process.capabilities.{k}" for k in ("bounding", "effective", "inheritable", "permitted", "ambient")
    }
    assert one.read == {
        *('annotations["org.example.name"]', "annotations.absent", "process.args[0]"),
        *capabilities,
    }
    assert one.looked_at("process.args") and one.looked_at("annotations")
    assert not one.looked_at("process.arg") and not one.looked_at("mounts")


def explained(folder: Path, path: str, case: Case | None = None) -> Explained:
    case = case or spoilt()
    paths = BundlePaths(folder, "b")
    paths.bundle.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(json.dumps(case.config, indent=2))
    origins = Origins(
        {
            "process.noNewPrivileges": Provenance("baseline:2026-11", "process.noNewPrivileges"),
            "process.env[0]": Provenance("image", "config.Env"),
        }
    )
    return explain_config(paths, path, origins, case.facts, facts={}, waive={"new-privileges": "tried"})


def test_a_field_is_explained(tmp_path: Path) -> None:
    text = "\n".join(lines(explained(tmp_path, "process.noNewPrivileges"), "process.noNewPrivileges"))
    assert text.startswith("process.noNewPrivileges = false\n  from    baseline:2026-11\n  read by form, ")
    assert "no new privileges" in text.splitlines()[2]
    assert "waived critical[new-privileges]" in text
    assert "   = waived: tried" in text


def test_what_is_below_a_field_is_explained_with_it(tmp_path: Path) -> None:
    told = explained(tmp_path, "linux.sysctl")
    assert [field.path for field in told.fields] == [
        'linux.sysctl["net.ipv4.ip_forward"]',
        'linux.sysctl["kernel.odd"]',
    ]
    assert [f.rule for f in told.fields[1].findings] == ["sysctl-of-host"]
    (one,) = explained(tmp_path, 'linux.sysctl["kernel.odd"]').to_json()
    assert (one["value"], one["findings"][0]["rule"], one["from"]) == ("1", "sysctl-of-host", None)
    assert "sysctls" in one["checks"]


def test_every_field_has_a_line_and_no_variable_its_value(tmp_path: Path) -> None:
    case = Case()
    case.process["env"] = ["TOKEN=hush", "PATH=/bin"]
    told = explained(tmp_path, "", case)
    said = list(lines(told, ""))
    assert len(said) == len(told.fields) > 100
    assert any(line.startswith('process.env[0] = "TOKEN=…"  from the image, config.Env  ') for line in said)
    assert "hush" not in "\n".join(said) + json.dumps(told.to_json())


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("proces.args", "did you mean `process.args`?"),
        ("process.args[7]", "did you mean `process.args[0]`?"),
        ("zzzzzz", "without a path, every field is listed"),
    ],
)
def test_an_unknown_field_is_refused(tmp_path: Path, path: str, hint: str) -> None:
    with pytest.raises(PipelineError) as caught:
        explained(tmp_path, path)
    assert (caught.value.message, caught.value.hint) == (f"config.json has no field `{path}`", hint)


def test_hostile_paths_end(tmp_path: Path) -> None:
    values: list[Any] = ['x"]["', "[0]", "a.b", "", "]", '"]', '["']
    case = Case()
    case.config["annotations"] = {str(value) or "e": "x" for value in values}
    assert len(explained(tmp_path, "annotations", case).fields) == len(values)
    for value in values:
        Origins({"a": Provenance("image", "b")}).of(str(value))
