"""Golden cases of the judge: a config.json, and beside it in case.yaml the rootfs, the host and the verdict.

case.yaml has:
- `why`: where in the world this is written;
- `rootfs` and `host.files`: path to an entry; `owner`: uid of the host that owns what names no owner;
- `host.facts`: fields of HostFacts;
- `expected`: rule, least severity, exact path, and `to_come` while the rule is not there yet;
- `never`: rules that must keep silent; `false_alarms`: rules that speak at high and should not, to be mended.

An entry is a word of kind, mode and owner (`elf 0755 1000:1000`; kinds `dir`, `elf`, `file`, `socket`), or a
mapping with `kind` and one of: `text`; `link`; `device: [c, 1, 3]`; what `tests.judged.elf` takes
(`interpreter`, `needed`, `runpath`, `machine`).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.checks.form import Form, read_form
from pipeline.checks.index import CHECKS, Layer, judge
from pipeline.checks.subject import HostFacts, Subject
from pipeline.model.nouns import Finding, Severity
from pipeline.tools import libseccomp
from tests.judged import FLOOR, FOLDER, Entry, Host, Tree, device, elf, file, folder, link, socket

CASES = Path(__file__).parent / "golden" / "judge"
GOOD = Path(__file__).parent / "golden" / "good"
_FACTS = HostFacts(
    cpus=4,
    memory_bytes=8 << 30,
    hard_limits={"NOFILE": 1 << 20},
    capabilities=frozenset(
        "CAP_" + name
        for name in (
            "AUDIT_WRITE BPF CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK KILL MKNOD NET_ADMIN "
            "NET_BIND_SERVICE NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT "
            "SYS_CHROOT SYS_MODULE SYS_NICE SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME"
        ).split()
    ),
    has_swap_accounting=True,
    architecture="amd64",
    runtime="runc",
    runtime_version="1.1.5",
    floor=FLOOR,
)


@dataclass(frozen=True)
class Expected:
    """A finding that must come, at least as severe, at exactly this path."""

    rule: str
    severity: Severity
    path: str
    to_come: bool = False

    def fits(self, finding: Finding) -> bool:
        """True when the finding is the one expected."""
        same = (finding.rule, finding.path) == (self.rule, self.path)
        return same and finding.severity.rank <= self.severity.rank


@dataclass(frozen=True)
class GoldenCase:
    """One folder, read."""

    name: str
    text: str
    why: str
    expected: tuple[Expected, ...]
    never: tuple[str, ...]
    false_alarms: tuple[str, ...]
    given: dict[str, Any]

    def findings(self) -> list[Finding]:
        """What the judge says of the case."""
        form = self.form()
        return [*form.findings, *(judge(self.subject(form)) if form.config else ())]

    def faults(self) -> list[Finding]:
        """What form, meaning, bundle and host have to say: what is wrong, and not what is merely weak."""
        form = self.form()
        if form.config is None:
            return form.findings
        subject = self.subject(form)
        checks = [check for check in CHECKS if check.layer in (Layer.MEANING, Layer.BUNDLE, Layer.HOST)]
        return [*form.findings, *(finding for check in checks for finding in check.run(subject))]

    def form(self) -> Form:
        """Its config.json, read."""
        return read_form("config.json", self.text)

    def subject(self, form: Form) -> Subject:
        """What is judged; the config must be readable."""
        assert form.document is not None
        assert form.config is not None
        return Subject(
            document=form.document,
            config=form.config,
            folder=FOLDER,
            rootfs=self.tree(),
            host_view=self.host(),
            host=self.facts(),
            is_syscall=libseccomp.is_known,
        )

    def tree(self) -> Tree:
        """The rootfs in memory."""
        found, owner = Tree(), int(self.given.get("owner", 0))
        for path in ("/proc", "/sys", "/dev", "/tmp"):
            found.put(path, folder())
        for entry in found.entries.values():
            entry.uid = entry.gid = owner
        for path, text in self.given.get("rootfs", {}).items():
            parents = set(found.entries)
            found.put(path, read_entry(text, owner))
            for parent in found.entries.keys() - parents - {path}:
                found.entries[parent].uid = found.entries[parent].gid = owner
        return found

    def host(self) -> Host:
        """The host's files; the bundle lies in a folder that others cannot pass."""
        owner = int(self.given.get("owner", 0))
        found = Host({"/": folder(uid=0, gid=0), "/srv": folder(uid=0, gid=0)})
        found[FOLDER] = folder(0o710, 0, owner)
        found[f"{FOLDER}/rootfs"] = folder(0o755, owner, owner)
        files = self.given.get("host", {}).get("files", {})
        return Host(found | {path: read_entry(text, 0) for path, text in files.items()})

    def facts(self) -> HostFacts:
        """What the host has."""
        changed = dict(self.given.get("host", {}).get("facts", {}))
        for name in ("capabilities", "lsm"):
            if name in changed:
                changed[name] = frozenset(changed[name])
        if "subordinate_ids" in changed:
            changed["subordinate_ids"] = tuple(tuple(row) for row in changed["subordinate_ids"])
        return replace(_FACTS, **changed)


def read_entry(text: str | dict[str, Any], owner: int) -> Entry:
    """Return a file from its description; see the module."""
    words = (text if isinstance(text, str) else str(text.get("kind", "file"))).split()
    given: dict[str, Any] = {} if isinstance(text, str) else dict(text)
    entry = _of_kind(words[0], given)
    if len(words) > 1:
        entry.mode = stat.S_IFMT(entry.mode) | int(words[1], 8)
    entry.uid, entry.gid = (int(part) for part in words[2].split(":")) if len(words) > 2 else (owner, owner)
    return entry


def _of_kind(kind: str, given: dict[str, Any]) -> Entry:
    if "link" in given:
        return link(given["link"])
    if "device" in given:
        letter, major, minor = given["device"]
        return device(major, minor, stat.S_IFBLK if letter == "b" else stat.S_IFCHR)
    if kind == "elf":
        return file(elf(**{key: _frozen(value) for key, value in given.items() if key != "kind"}))
    if kind == "file":
        return file(given.get("text", "").encode(), 0o644)
    return {"dir": folder, "socket": socket}[kind]()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_case(path: Path) -> GoldenCase:
    """Read a folder of tests/golden/judge."""
    given = yaml.safe_load((path / "case.yaml").read_text())
    expected = tuple(
        Expected(row["rule"], Severity(row["severity"]), row.get("path", ""), bool(row.get("to_come")))
        for row in given.get("expected", ())
    )
    never, false_alarms = (tuple(given.get(key, ())) for key in ("never", "false_alarms"))
    text = (path / "config.json").read_text()
    return GoldenCase(path.name, text, given["why"], expected, never, false_alarms, given)


def all_cases(folder: Path = CASES) -> list[GoldenCase]:
    """Every case of a folder, in order."""
    return [read_case(path) for path in sorted(folder.iterdir()) if path.is_dir()]
