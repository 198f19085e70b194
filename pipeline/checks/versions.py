"""Which release of the runtime specification brought what: one table, and the findings that follow from it.

A runtime must ignore what its release does not know (config.md, Extensibility), so a field that is newer than
the declared `ociVersion` may be dropped in silence. Sources: the ChangeLog of runtime-spec (numbers are its
pull requests), and for 1.3.0 its schema and config-linux.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.checks.rawjson import Document, Node
from pipeline.checks.subject import MEDIUM, Findings
from pipeline.model.nouns import Finding
from pipeline.model.runtime import child_path

Release = tuple[int, int, int]

RELEASES: tuple[Release, ...] = (
    *((1, 0, 0), (1, 0, 1), (1, 0, 2)),
    *((1, 1, 0), (1, 2, 0), (1, 2, 1), (1, 3, 0)),
)
_V102, _V110, _V120, _V121, _V130 = RELEASES[2:]


@dataclass(frozen=True)
class Since:
    """The release that brought a field or word, and where its change log says so."""

    release: Release
    source: str


def _rows(release: Release, rows: dict[str, str]) -> dict[str, Since]:
    """Return rows of one release; several patterns may share a source, with a space between them."""
    return {
        pattern: Since(release, f"runtime-spec {source}")
        for patterns, source in rows.items()
        for pattern in patterns.split()
    }


# A field by its JSON path, `[]` for an item and `{}` for a key that is free; a word of a list or field as
# `path=WORD`. What lies below a field of the table came with it.
SINCE: dict[str, Since] = {
    **_rows(
        _V102,
        {
            "hooks.createRuntime hooks.createContainer hooks.startContainer": "#1008",
            "linux.intelRdt.closID": "#988",
            "linux.intelRdt.memBwSchema": "#932",
            "linux.personality": "#1012",
            "linux.resources.memory.useHierarchy": "#985",
            "linux.resources.rdma": "#942",
            "linux.seccomp.flags": "#1018",
            "linux.seccomp.defaultAction=SCMP_ACT_LOG linux.seccomp.syscalls[].action=SCMP_ACT_LOG": "#1019",
            "process.user.umask": "#941",
        },
    ),
    **_rows(
        _V110,
        {
            "domainname": "#1156",
            "linux.intelRdt.enableCMT linux.intelRdt.enableMBM": "#1076",
            "linux.namespaces[].type=time linux.timeOffsets": "#1151",
            "linux.resources.cpu.burst": "#1120",
            "linux.resources.cpu.idle": "#1136",
            "linux.resources.memory.checkBeforeUpdate": "#1158",
            "linux.resources.unified": "#1040",
            "linux.seccomp.architectures[]=SCMP_ARCH_RISCV64": "#1059",
            "linux.seccomp.defaultErrnoRet": "#1087",
            "linux.seccomp.flags[]=SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": "#1161",
            "linux.seccomp.listenerMetadata linux.seccomp.listenerPath": "#1074",
            "linux.seccomp.syscalls[].errnoRet": "#1041",
            "mounts[].gidMappings mounts[].uidMappings": "#1143",
            "process.ioPriority": "#1191",
            "process.scheduler": "#1188",
            **{
                f"linux.seccomp.{place}={word}": source
                for place in ("defaultAction", "syscalls[].action")
                for word, source in (
                    ("SCMP_ACT_KILL_PROCESS", "#1044"),
                    ("SCMP_ACT_KILL_THREAD", "#1064"),
                    ("SCMP_ACT_NOTIFY", "#1074"),
                )
            },
            # 1.0 knows the options of mount(8) only; the recursive ones are not among them.
            **{
                f"mounts[].options[]={option}": "#1181"
                for option in (
                    "ratime rdev rdiratime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime "
                    "rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow "
                    "tmpcopyup"
                ).split()
            },
        },
    ),
    **_rows(_V120, {"mounts[].options[]=idmap mounts[].options[]=ridmap": "#1222"}),
    **_rows(
        _V121,
        {
            "process.execCPUAffinity": "#1253, #1261",
            **{
                f"linux.seccomp.architectures[]=SCMP_ARCH_{name}": "#1229"
                for name in ("LOONGARCH64", "M68K", "SH", "SHEB")
            },
        },
    ),
    **_rows(
        _V130,
        {
            "linux.intelRdt.enableMonitoring": "#1287",
            "linux.intelRdt.schemata": "#1230",
            "linux.memoryPolicy": "#1282",
            "linux.netDevices": "#1271",
        },
    ),
}
# Fields that a later release took away, with that release and what took their place.
GONE: dict[str, tuple[Release, str, str]] = {
    f"linux.intelRdt.{name}": (_V130, "linux.intelRdt.enableMonitoring", "runtime-spec #1287")
    for name in ("enableCMT", "enableMBM")
}
# Keys of drafts before 1.0.0 that still go round, and where their content went (ChangeLog, rc5 and rc6).
MOVED: dict[str, str] = {
    "linux.resources.disableOOMKiller": "linux.resources.memory.disableOOMKiller",
    "linux.resources.oomScoreAdj": "process.oomScoreAdj",
    "linux.seccomp.syscalls[].name": "linux.seccomp.syscalls[].names",
    **{
        f"linux.resources.blockIO.blkio{name[0].upper()}{name[1:]}": f"linux.resources.blockIO.{name}"
        for name in (
            "weight",
            "leafWeight",
            "weightDevice",
            "throttleReadBpsDevice",
            "throttleWriteBpsDevice",
        )
    },
}
_SEMVER = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)(?:[-+][0-9A-Za-z.+-]+)?")
_STEPS = re.compile(r'\[[0-9]+\]|\["(?:[^"\\]|\\.)*"\]')


def release_of(version: str) -> Release | None:
    """Return the release that an `ociVersion` names; `1.0.2-dev` counts as the release it leads to."""
    match = _SEMVER.fullmatch(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def is_known(release: Release) -> bool:
    """True for a release that this judge knows, and for later patches of the newest minor one."""
    return release in RELEASES or release[:2] == RELEASES[-1][:2]


def pattern_of(path: str) -> str:
    """Return a JSON path with `[]` for every number and `{}` for every quoted key."""
    return _STEPS.sub(lambda step: "{}" if step[0].startswith('["') else "[]", path)


def newer(document: Document) -> Findings:
    """What the declared `ociVersion` does not know yet, or no longer."""
    declared = _declared(document)
    if declared is None:
        return
    for path, node in _fields(document.root, ""):
        pattern = pattern_of(path)
        word = node.value if isinstance(node.value, str) else None
        since = SINCE.get(pattern) or SINCE.get(f"{pattern}={word}")
        if since and since.release > declared:
            what = f"`{path}`" if pattern in SINCE else f"`{word}` in `{path}`"
            yield _too_new(what, path, declared, since)
        elif pattern in GONE and GONE[pattern][0] <= declared:
            gone, instead, source = GONE[pattern]
            message = f"`{path}` is gone since {_shown(gone)}, and ociVersion is {_shown(declared)}"
            yield Finding("gone-from-version", MEDIUM, message, path, f"write `{instead}`", source)


def _too_new(what: str, path: str, declared: Release, since: Since) -> Finding:
    message = (
        f"{what} came with {_shown(since.release)}, and ociVersion is {_shown(declared)}: "
        "a runtime of that release drops it in silence"
    )
    mend = f'write "ociVersion": "{_shown(since.release)}", or drop the field'
    return Finding("newer-than-version", MEDIUM, message, path, mend, since.source)


def _declared(document: Document) -> Release | None:
    found = next((n.value for key, _, n in document.root.members or () if key == "ociVersion"), None)
    release = release_of(found) if isinstance(found, str) else None
    return release if release and is_known(release) else None


def _fields(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    for key, _, child in node.members or ():
        inner = child_path(path, key)
        yield inner, child
        yield from _fields(child, inner)
    for index, child in enumerate(node.items or ()):
        inner = child_path(path, index)
        yield inner, child
        yield from _fields(child, inner)


def _shown(release: Release) -> str:
    return ".".join(map(str, release))
