"""One-change mutants of the two shipped configs, each named `operator:path`, in a fixed order.

The configs come from the shipped specs by the project's own conversion, with small images written here, and
are judged with a rootfs and a host in memory on which the unchanged ones deserve nothing at medium or above.
"""

from __future__ import annotations

import copy
import json
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checks.form import read_form
from pipeline.checks.index import judge
from pipeline.checks.subject import Subject
from pipeline.files import canonical_json
from pipeline.model.nouns import Finding, Severity
from pipeline.model.runtime import child_path
from pipeline.oci.convert import convert
from pipeline.oci.seccomp import oci_profile
from pipeline.paths import Project
from pipeline.profilesource import read_named, syscall_table
from pipeline.specfile import load
from pipeline.tools import libseccomp
from tests.judged import BASE, FOLDER, USER, Case, elf, file, folder
from tests.test_convert import inputs

SPECS = Path(__file__).parent.parent / "specs"
IMAGES: dict[str, dict[str, Any]] = {
    "hello": {
        "User": "65532",
        "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"],
        "Env": ["PATH=/bin"],
        "StopSignal": "SIGTERM",
        "ExposedPorts": {"8080/tcp": {}},
    },
    "stremio-server": {
        "User": "65532",
        "Entrypoint": ["/app/bin/node", "/app/server.js"],
        "WorkingDir": "/app",
        "Env": ["PATH=/app/bin:/usr/bin", "NODE_ENV=production"],
        "Volumes": {"/home/nonroot/.stremio-server": {}},
        "ExposedPorts": {"11470/tcp": {}},
    },
}
_FILES = {"hello": ("/bin/busybox",), "stremio-server": ("/app/bin/node", "/app/server.js", "/dev/init")}
_BAD = (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM)
Change = Callable[[Any, Any], None]


@dataclass(frozen=True)
class Mutant:
    """A changed config.json: which operator, at which path, and the text."""

    operator: str
    path: str
    text: str

    @property
    def name(self) -> str:
        """The name by which tables speak of it."""
        return f"{self.operator}:{self.path}"


def shipped(name: str) -> Case:
    """A shipped bundle: its config.json as the conversion makes it, and a rootfs and host that suit it."""
    spec = _spec(name)
    profile = read_named(spec["seccomp"], SPECS / "seccomp", SPECS)
    document = oci_profile(profile, ("SCMP_ARCH_X86_64",), syscall_table())
    local = {"image": "docker://example.org/box:1", "platform": "linux/amd64"}
    given = inputs(spec | local, {"config": IMAGES[name]}, seccomp=document)
    config = json.loads(canonical_json(convert(given).config.to_json()))
    case = Case(config=config)
    for path in _FILES[name]:
        case.tree.put(path, file(elf()))
    for mount in config["mounts"]:
        target, where = mount["destination"], mount.get("source", "")
        entry = folder(0o750, BASE + USER, BASE + USER) if "volumes" in where else file()
        if mount["type"] == "bind":
            case.host[where] = entry
        case.tree.put(target, folder() if stat.S_ISDIR(entry.mode) or mount["type"] != "bind" else file())
    for path in ("/home/box", "/www", config["process"]["cwd"]):
        case.tree.put(path, folder())
    case.change_facts(thermal_cpus=16)
    return case


def _spec(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder_name:
        shutil.copytree(SPECS, Path(folder_name) / "specs")
        return load(Project(Path(folder_name))).specs[name].values


def judged(case: Case, text: str) -> list[Finding]:
    """What the judge says of a text in the place of the case's config.json."""
    form = read_form("config.json", text)
    if form.document is None or form.config is None:
        return form.findings
    subject = Subject(
        document=form.document,
        config=form.config,
        folder=FOLDER,
        rootfs=case.tree,
        host_view=case.host,
        host=case.facts,
        is_syscall=libseccomp.is_known,
    )
    return [*form.findings, *judge(subject)]


def weighty(found: list[Finding]) -> set[tuple[str, str]]:
    """The findings at medium or above, by rule and message."""
    return {(f.rule, f.message) for f in found if f.severity in _BAD}


def mutants(config: dict[str, Any]) -> Iterator[Mutant]:
    """Every mutant of a config, in the order of its paths, then those of one place."""
    for path, way in _places(config, "", ()):
        for operator, value in _values(path, _at(config, way)):
            if value != _at(config, way) or type(value) is not type(_at(config, way)):
                yield _changed(config, operator, path, _setting(way, value))
        if isinstance(_at(config, way[:-1]), dict):
            if not _is_idle(config, path, way):
                yield _changed(config, "drop", path, _dropping(way))
            for operator, key in _names(str(way[-1])):
                yield _changed(config, operator, path, _renaming(way, key))
        elif _matters_alone(path):
            yield _changed(config, "drop-item", path, _dropping(way))
    yield from _duplicates(config)
    for operator, path, change in _SPECIAL:
        changed = copy.deepcopy(config)
        change(changed)
        yield Mutant(operator, path, json.dumps(changed, indent=2))


def _is_idle(config: Any, path: str, way: tuple[Any, ...]) -> bool:
    """True where the absence of a field means exactly what it says: the mutant would be the same config.

    A source that is a dummy, a type beside `bind`, no second value beside 0, EPERM, 100 ms, `rwm`, the
    machine's own architecture, an empty set of capabilities (runtime-spec, config.md and config-linux.md).
    """
    value, parent = _at(config, way), _at(config, way[:-1])
    if path.startswith("mounts[") and path.endswith(".source"):
        return bool(parent["type"] != "bind")
    if path.startswith("mounts[") and path.endswith(".type"):
        return value == "bind" and "bind" in parent["options"]
    same = (
        *(("valueTwo", 0), ("defaultErrnoRet", 1), ("period", 100000), ("access", "rwm")),
        ("architectures", ["SCMP_ARCH_X86_64"]),
    )
    return (way[-1], value) in same or (way[:2] == ("process", "capabilities") and value == [])


def _places(value: Any, path: str, way: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        inner, inner_way = child_path(path, key), (*way, key)
        # A profile names hundreds of calls in one way: some stand for all.
        if ".names[" in inner and not inner.endswith(("[0]", "[7]")):
            continue
        yield inner, inner_way
        if isinstance(child, dict | list):
            yield from _places(child, inner, inner_way)


def _values(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Other values for one place: of another type, flipped, misspelt, out of range, loosened."""
    if isinstance(value, bool):
        yield from (("flip", not value), ("wrong-type", str(value).lower()))
    elif isinstance(value, int):
        yield from (("wrong-type", str(value)), ("negative", -7), ("huge", 2**64), ("fraction", value + 0.5))
        if "limit" in path or path.endswith(("uid", "gid", "hostID", "size")):
            yield "zero", 0
    elif isinstance(value, str):
        yield "wrong-type", 7
        if _is_word(path):
            yield from (("transposed", _transposed(value)), ("doubled", value[:2] + value[1:]))
            yield "wrong-case", value.swapcase()
        if value.startswith("/") and not path.startswith(("annotations", "process.env")):
            yield "relative", value[1:]
        if not path.startswith("annotations"):
            yield "nul", value + "\0"
    else:
        yield "wrong-type", "x"


def _is_word(path: str) -> bool:
    words = (".type", ".action", ".op", "defaultAction", "rootfsPropagation", ".names[0]")
    return path.endswith(words) or ".options[" in path or ".architectures[" in path


def _matters_alone(path: str) -> bool:
    lists = ("namespaces[", "maskedPaths[", "readonlyPaths[", "rlimits[", "architectures[")
    options = ".options[" in path
    return (options or any(name in path for name in lists)) and path.endswith("]")


def _names(key: str) -> Iterator[tuple[str, str]]:
    if key.isalpha() and len(key) > 2:
        yield "key-transposed", _transposed(key)
        yield "key-doubled", key[:2] + key[1:]
        yield "key-case", key[0].swapcase() + key[1:]


def _transposed(word: str) -> str:
    """Return the word with the first two neighbours that differ exchanged, from its second letter on."""
    for at in range(min(1, len(word) - 2), len(word) - 1):
        if at >= 0 and word[at] != word[at + 1]:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word + "x"


def _at(config: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        config = config[key]
    return config


def _setting(way: tuple[Any, ...], value: Any) -> Callable[[Any], None]:
    return lambda config: _at(config, way[:-1]).__setitem__(way[-1], value)


def _dropping(way: tuple[Any, ...]) -> Callable[[Any], None]:
    return lambda config: _at(config, way[:-1]).__delitem__(way[-1])


def _renaming(way: tuple[Any, ...], key: str) -> Callable[[Any], None]:
    return lambda config: _at(config, way[:-1]).__setitem__(key, _at(config, way[:-1]).pop(way[-1]))


def _changed(config: Any, operator: str, path: str, change: Callable[[Any], None]) -> Mutant:
    changed = copy.deepcopy(config)
    change(changed)
    return Mutant(operator, path, json.dumps(changed, indent=2))


def _duplicates(config: dict[str, Any]) -> Iterator[Mutant]:
    for path in ("noNewPrivileges", "readonly", "hostname", "defaultAction"):
        text = json.dumps(config, indent=2)
        at = text.index(f'"{path}"')
        line = text[at : text.index("\n", at)].rstrip(",")
        yield Mutant("duplicate-key", path, f"{text[:at]}{line}, {text[at:]}")


def _mount(config: Any, target: str) -> Any:
    return next(mount for mount in config["mounts"] if mount["destination"] == target)


def _bind(config: Any, source: str, target: str, *options: str) -> None:
    config["mounts"].append(
        {"destination": target, "type": "bind", "source": source, "options": ["bind", *options]}
    )


def _allow(config: Any, *names: str) -> None:
    config["linux"]["seccomp"]["syscalls"].append({"names": list(names), "action": "SCMP_ACT_ALLOW"})


def _grant(config: Any, *names: str) -> None:
    for kind in ("bounding", "permitted", "effective", "inheritable", "ambient"):
        config["process"]["capabilities"][kind] = list(names)


def _allow_clone3(config: Any) -> None:
    syscalls = config["linux"]["seccomp"]["syscalls"]
    syscalls[:] = [rule for rule in syscalls if "clone3" not in rule["names"]]
    _allow(config, "clone3")


def _no_clone_rule(config: Any) -> None:
    syscalls = config["linux"]["seccomp"]["syscalls"]
    syscalls[:] = [rule for rule in syscalls if "clone" not in rule["names"]]
    _allow(config, "clone")


def _rlimit(config: Any, name: str, value: int) -> None:
    for limit in config["process"]["rlimits"]:
        if limit["type"] == name:
            limit.update(soft=value, hard=value)


def _resources(config: Any) -> Any:
    return config["linux"]["resources"]


# operator, what it is about, the change: the slips and loosenings that no general operator makes.
_SPECIAL: tuple[tuple[str, str, Callable[[Any], object]], ...] = (
    *(
        ("grant", name, lambda c, name=name: _grant(c, name))
        for name in ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_CHOWNN")
    ),
    *(
        ("bind", source, lambda c, source=source: _bind(c, source, "/data", "nosuid", "nodev", "noexec"))
        for source in ("/", "/etc", "/run/docker.sock", "/proc", "/root", "/var/lib/none")
    ),
    ("bind", "without nosuid", lambda c: _bind(c, "/srv/data", "/data", "nodev", "noexec", "ro")),
    ("bind", "over /proc", lambda c: _bind(c, "/srv/data", "/proc/sys", "nosuid", "nodev", "noexec", "ro")),
    *(
        ("allow-call", name, lambda c, name=name: _allow(c, name))
        for name in ("mount", "bpf", "ptrace", "unshare", "init_module", "keyctl", "io_uring_setup", "wirte")
    ),
    ("seccomp", "clone3 allowed", _allow_clone3),
    ("seccomp", "clone unfiltered", _no_clone_rule),
    ("seccomp", "default allows", lambda c: c["linux"]["seccomp"].update(defaultAction="SCMP_ACT_ALLOW")),
    ("seccomp", "default logs", lambda c: c["linux"]["seccomp"].update(defaultAction="SCMP_ACT_LOG")),
    ("seccomp", "default errno 0", lambda c: c["linux"]["seccomp"].update(defaultErrnoRet=0)),
    ("seccomp", "x32", lambda c: c["linux"]["seccomp"]["architectures"].append("SCMP_ARCH_X32")),
    ("seccomp", "i386", lambda c: c["linux"]["seccomp"]["architectures"].append("SCMP_ARCH_X86")),
    ("device", "any", lambda c: _resources(c)["devices"].append({"allow": True, "access": "rwm"})),
    (
        "device",
        "disk",
        lambda c: _resources(c)["devices"].append({"allow": True, "type": "b", "major": 8, "minor": 0}),
    ),
    (
        "device",
        "node",
        lambda c: c["linux"].update(devices=[{"type": "b", "path": "/dev/sda", "major": 8, "minor": 0}]),
    ),
    ("user", "root", lambda c: c["process"].update(user={"uid": 0, "gid": 0})),
    ("user", "group of root", lambda c: c["process"]["user"].update(additionalGids=[0])),
    ("root", "outside", lambda c: c["root"].update(path="../rootfs")),
    ("root", "another", lambda c: c["root"].update(path="/")),
    ("limit", "core", lambda c: _rlimit(c, "RLIMIT_CORE", 2**64 - 1)),
    ("limit", "tmpfs", lambda c: _mount(c, "/dev/shm")["options"].append("size=64g")),
    ("limit", "tmpfs without", lambda c: _mount(c, "/dev/shm").update(options=["nosuid", "nodev", "noexec"])),
    ("limit", "memory -1", lambda c: _resources(c)["memory"].update(limit=-1, swap=-1)),
    ("limit", "memory 512", lambda c: _resources(c)["memory"].update(limit=512, swap=512)),
    ("limit", "swap below", lambda c: _resources(c)["memory"].update(swap=1 << 20)),
    ("limit", "reservation above", lambda c: _resources(c)["memory"].update(reservation=1 << 40)),
    ("limit", "pids -1", lambda c: _resources(c)["pids"].update(limit=-1)),
    ("limit", "heap", lambda c: c["process"]["env"].append("NODE_OPTIONS=--max-old-space-size=65536")),
    ("namespace", "host network", lambda c: c["linux"]["namespaces"][3].update(path="/proc/1/ns/net")),
    ("namespace", "twice", lambda c: c["linux"]["namespaces"].append({"type": "pid"})),
    ("mapping", "host root", lambda c: c["linux"]["uidMappings"][0].update(hostID=0)),
    ("mapping", "overlap", lambda c: c["linux"]["uidMappings"].append(dict(c["linux"]["uidMappings"][0]))),
    ("propagation", "shared", lambda c: c["linux"].update(rootfsPropagation="shared")),
    ("propagation", "of a mount", lambda c: _mount(c, "/dev/shm")["options"].append("rshared")),
    ("sysctl", "host", lambda c: c["linux"].update(sysctl={"kernel.core_pattern": "|/x"})),
    ("hook", "prestart", lambda c: c.update(hooks={"prestart": [{"path": "/bin/x"}]})),
    ("annotation", "obeyed", lambda c: c["annotations"].update({"run.oci.keep_original_groups": "1"})),
    ("environment", "preload", lambda c: c["process"]["env"].append("LD_PRELOAD=/tmp/x.so")),
    ("environment", "secret", lambda c: c["process"]["env"].append("API_TOKEN=abcdef0123456789")),
    ("environment", "malformed", lambda c: c["process"]["env"].append("NAME")),
    ("mount", "tmp executable", lambda c: _mount(c, "/dev/shm")["options"].append("exec")),
    ("mount", "proc elsewhere", lambda c: c["mounts"].append({"destination": "/data", "type": "proc"})),
    ("mount", "order", lambda c: c["mounts"].reverse()),
    ("version", "older", lambda c: c.update(ociVersion="1.0.0")),
    ("version", "unknown", lambda c: c.update(ociVersion="7.0.0")),
)
