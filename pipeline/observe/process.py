"""What the kernel shows of a container's process: who it is, what it may, which namespaces it is in."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline import proc
from pipeline.observe.fact import Config, Fact, equal, words

# include/uapi/linux/capability.h, by number.
_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
""".split()
# config-linux.md, Namespaces -> /proc/PID/ns
_NAMESPACES = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "time": "time",
    "user": "user",
    "uts": "uts",
}
_SECCOMP_FILTER = 2  # proc(5): 0 disabled, 1 strict, 2 filter
_STATUS = "/proc/PID/status"


def process_facts(config: Config, pid: int) -> Iterator[Fact]:
    """Yield what there is to see of one process of a container that runs by `config`."""
    status = proc.status(pid)
    yield from _identity(config, status)
    yield from _privileges(config, status)
    yield from _limits(config, pid)
    yield from _labels(config, pid)


def namespace_facts(config: Config, pid: int) -> Iterator[Fact]:
    """Yield, for each namespace, whether it is the container's own or the host's, and the id maps."""
    asked = {item["type"]: item.get("path", "") for item in config["linux"].get("namespaces", [])}
    ours, theirs = proc.namespaces(), proc.namespaces(pid)
    for kind, name in _NAMESPACES.items():
        if name in theirs and name in ours:
            observed = "the host's" if ours[name] == theirs[name] else "its own"
            yield equal(f"namespace {kind}", _wanted(kind, asked), observed, f"/proc/PID/ns/{name}")
    for kind in ("uid", "gid"):
        expected = _mappings(config, kind) if "user" in asked else proc.id_map("self", f"{kind}_map")
        yield equal(f"{kind}_map", expected, proc.id_map(pid, f"{kind}_map"), f"/proc/PID/{kind}_map")


def _wanted(kind: str, asked: dict[str, str]) -> str:
    # One joined by path is not the host's either, or else it should not have been asked for.
    return "its own" if kind in asked else "the host's"


def _mappings(config: Config, kind: str) -> list[tuple[int, int, int]]:
    rows = config["linux"].get(f"{kind}Mappings", [])
    return sorted((row["containerID"], row["hostID"], row["size"]) for row in rows)


def _to_host(config: Config, kind: str, number: int) -> int:
    """What an id of the container is on the host; 65534, the kernel's overflow id, when nothing maps it."""
    rows = _mappings(config, kind)
    for inside, outside, count in rows:
        if inside <= number < inside + count:
            return outside + number - inside
    return 65534 if rows else number


def _identity(config: Config, status: dict[str, str]) -> Iterator[Fact]:
    user = config["process"]["user"]
    for kind in ("uid", "gid"):
        # Real, effective, saved and file-system id: proc(5).
        expected = words([_to_host(config, kind, user[kind])] * 4)
        observed = words(status[kind.capitalize()].split())
        ok = expected == observed or _may_change(config, kind, observed)
        yield Fact(kind, expected, observed, ok, f"{_STATUS} {kind.capitalize()}")
    groups = sorted({_to_host(config, "gid", gid) for gid in user.get("additionalGids", [])})
    seen = sorted({int(gid) for gid in status["Groups"].split()})
    # crun counts the primary group among the supplementary ones in some versions, which gives nothing more.
    extra = set(seen) - {_to_host(config, "gid", user["gid"])}
    ok = (set(groups) <= set(seen) and extra <= set(groups)) or _may_change(config, "gid", words(seen))
    yield Fact("groups", words(groups), words(seen), ok, f"{_STATUS} Groups")


def _may_change(config: Config, kind: str, observed: str) -> bool:
    """A program that was given CAP_SETUID or CAP_SETGID may have become any other mapped user, but root."""
    given = (config["process"].get("capabilities") or {}).get("bounding", [])
    root = str(_to_host(config, kind, 0))
    return f"CAP_SET{kind.upper()}" in given and root not in observed.split(",")


def _privileges(config: Config, status: dict[str, str]) -> Iterator[Fact]:
    process = config["process"]
    wanted = 1 if process.get("noNewPrivileges") else 0
    yield _at_least("no_new_privileges", wanted, status["NoNewPrivs"], f"{_STATUS} NoNewPrivs")
    mode = _SECCOMP_FILTER if config["linux"].get("seccomp") else 0
    yield _at_least("seccomp", mode, status["Seccomp"], f"{_STATUS} Seccomp")
    for field, expected in _expected_capabilities(config).items():
        seen = int(status[field], 16)
        # Fewer is fine: a program may give up what it was given.
        ok = seen & ~expected == 0
        yield Fact(f"capabilities {field}", _names(expected), _names(seen), ok, f"{_STATUS} {field}")


def _at_least(name: str, wanted: int, seen: str, where: str) -> Fact:
    """A value that a program can only raise, to its own disadvantage."""
    return Fact(name, str(wanted), seen, seen.lstrip("-").isdigit() and int(seen) >= wanted, where)


def _expected_capabilities(config: Config) -> dict[str, int]:
    """The most that each set may hold after execve(2): capabilities(7), Transformation during execve."""
    process = config["process"]
    given = {kind: _mask(names) for kind, names in (process.get("capabilities") or {}).items()}
    bounding, inheritable = given.get("bounding", 0), given.get("inheritable", 0)
    permitted, ambient = given.get("permitted", 0), given.get("ambient", 0)
    kept = ambient & permitted & inheritable
    if process["user"]["uid"] == 0:
        kept = bounding | inheritable
        # With no_new_privs, not even root gains by execve.
        kept &= permitted if process.get("noNewPrivileges") else kept
    return {"CapInh": inheritable, "CapPrm": kept, "CapEff": kept, "CapBnd": bounding, "CapAmb": ambient}


def _mask(names: list[str]) -> int:
    return sum(1 << _CAPABILITIES.index(name.removeprefix("CAP_")) for name in set(names))


def _names(mask: int) -> str:
    known = [name for number, name in enumerate(_CAPABILITIES) if mask >> number & 1]
    return "all" if known == _CAPABILITIES else words(known)


def _limits(config: Config, pid: int) -> Iterator[Fact]:
    seen = proc.limits(pid)
    for limit in config["process"].get("rlimits", []):
        soft, hard = seen.get(limit["type"], (-1, -1))
        expected, observed = f"{limit['soft']}:{limit['hard']}", f"{soft}:{hard}"
        # A program may move the soft limit up to the hard one (Node.js does), and the hard one down.
        ok = 0 <= hard <= limit["hard"]
        yield Fact(f"rlimit {limit['type'][7:].lower()}", expected, observed, ok, "/proc/PID/limits")


def _labels(config: Config, pid: int) -> Iterator[Fact]:
    process = config["process"]
    if "oomScoreAdj" in process:
        seen = proc.text(pid, "oom_score_adj")
        yield _at_least("oom_score_adj", process["oomScoreAdj"], seen, "/proc/PID/oom_score_adj")
    for key in ("apparmorProfile", "selinuxLabel"):
        if process.get(key):
            # AppArmor adds the mode: `name (enforce)`.
            label = proc.text(pid, "attr/current").removesuffix("(enforce)").strip("\0 ")
            yield equal(key, process[key], label, "/proc/PID/attr/current")
