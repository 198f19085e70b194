"""Meaning of `process`, namespaces and sysctls: what the specification requires and few runtimes look at.

Sources: runtime-spec config.md (process), config-linux.md (namespaces, sysctl), namespaces(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations

from pipeline.checks.subject import HIGH, INFO, LOW, MEDIUM, Findings, Subject
from pipeline.checks.versions import is_known, release_of
from pipeline.errors import suggest
from pipeline.model.nouns import Finding
from pipeline.model.runtime import Capabilities, IdMapping

_CAPABILITIES = frozenset(
    "CAP_" + name
    for name in (
        "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE "
        "DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE "
        "MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID "
        "SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE "
        "SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM"
    ).split()
)
_RLIMITS = frozenset(
    "RLIMIT_" + name
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK"
    ).split()
)
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)
# Its three standard streams and one file to read; itself; the 32 pages that execve(2) grants to arguments;
# and less address space than any program with its stack takes.
_LEAST = {"RLIMIT_NOFILE": 4, "RLIMIT_NPROC": 1, "RLIMIT_STACK": 32 << 12, "RLIMIT_AS": 2 << 20}
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


def arguments(subject: Subject) -> Findings:
    """There is a program to start (config.md: args is REQUIRED on start)."""
    if subject.config.process is None:
        yield Finding("no-program", HIGH, "there is no `process`: nothing can start", "", "add `process`")
    elif not subject.process.args or not subject.process.args[0]:
        mend = "name the program: `command:` in the spec"
        yield Finding("no-program", HIGH, "`process.args` names no program", "process.args", mend)
    elif "/" in subject.process.args[0] and not subject.process.args[0].startswith("/"):
        message = f"`{subject.process.args[0]}` is relative to the working directory: PATH is not asked"
        mend = "write the whole path"
        yield Finding("program-relative", MEDIUM, message, "process.args[0]", mend, "execvp(3)")


def working_directory(subject: Subject) -> Findings:
    """The working directory is absolute (config.md: MUST be an absolute path)."""
    cwd = subject.process.cwd
    if not cwd.startswith("/"):
        message = f"the working directory `{cwd}` is relative: runc refuses it, crun takes it"
        yield Finding("cwd-relative", HIGH, message, "process.cwd", f"write `/{cwd}`", "config.md, process")


def environment(subject: Subject) -> Findings:
    """Every variable is NAME=VALUE and there once (environ(7))."""
    seen: set[str] = set()
    for index, entry in enumerate(subject.process.env or ()):
        name, separator, _ = entry.partition("=")
        path = f"process.env[{index}]"
        if not name or not separator:
            yield Finding(
                "env-malformed", MEDIUM, f"`{entry[:40]}` is not NAME=VALUE", path, "", "environ(7)"
            )
        elif name in seen:
            message = f"`{name}` is there twice: which one counts depends on the program"
            yield Finding("env-duplicate", LOW, message, path, "keep one", "environ(7)")
        seen.add(name)


def search_path(subject: Subject) -> Findings:
    """There is a PATH: without one each program has its own idea of where others are (execvp(3))."""
    if subject.config.process and "PATH" not in subject.environment:
        message = (
            "there is no PATH: what the program starts by name is looked for in places of its own choice"
        )
        yield Finding("env-no-path", MEDIUM, message, "process", "add PATH=/usr/bin:/bin", "execvp(3)")


def capabilities(subject: Subject) -> Findings:
    """Capabilities exist, and each set lies in those that bound it (capabilities(7))."""
    sets = subject.process.capabilities or Capabilities()
    named = {name: tuple(getattr(sets, name) or ()) for name in Capabilities.__struct_fields__}
    for kind, group in named.items():
        for index, name in enumerate(group):
            if name not in _CAPABILITIES:
                close = suggest(name, _CAPABILITIES)
                message = f"`{name}` is no capability: runc refuses or ignores it"
                path = f"process.capabilities.{kind}[{index}]"
                mend = (
                    f"did you mean `{close}`?" if close else "names are those of capabilities(7), with CAP_"
                )
                yield Finding("capability-unknown", HIGH, message, path, mend, "capabilities(7)")
    yield from _consistent(named, subject.process.user.uid)


def _consistent(named: dict[str, tuple[str, ...]], uid: int) -> Findings:
    """Each set lies in those that bound it, and what is granted outlives execve (capabilities(7))."""
    for inner, outer, severity, effect in (
        ("effective", "permitted", HIGH, "the kernel refuses that"),
        ("inheritable", "bounding", HIGH, "the kernel refuses that"),
        ("ambient", "permitted", MEDIUM, "it is dropped without a word"),
        ("ambient", "inheritable", MEDIUM, "it is dropped without a word"),
        ("permitted", "bounding", MEDIUM, "it is gone once the program starts"),
    ):
        extra = sorted(set(named[inner]) - set(named[outer]))
        if extra:
            message = f"{', '.join(extra)} is {inner} and not {outer}: {effect}"
            path, mend = f"process.capabilities.{inner}", f"add it to `{outer}`"
            yield Finding("capability-inconsistent", severity, message, path, mend, "capabilities(7)")
    lost = sorted(set(named["effective"]) - set(named["ambient"])) if uid else []
    if lost:
        message = f"{', '.join(lost)} is not ambient: a user other than root loses it when the program starts"
        mend = "add it to `ambient` and `inheritable`"
        path = "process.capabilities.effective"
        yield Finding("capability-lost", MEDIUM, message, path, mend, "capabilities(7), execve")
    for kind, group in named.items():
        twice = sorted({name for name in group if group.count(name) > 1})
        if twice:
            path = f"process.capabilities.{kind}"
            yield Finding("capability-duplicate", LOW, f"{twice[0]} is there twice", path, "keep one")


def rlimits(subject: Subject) -> Findings:
    """Each limit is known, there once, and its soft value not above the hard one (getrlimit(2))."""
    seen: set[str] = set()
    for index, limit in enumerate(subject.process.rlimits or ()):
        path = f"process.rlimits[{index}]"
        if limit.type not in _RLIMITS:
            close = suggest(limit.type, _RLIMITS)
            mend = f"did you mean `{close}`?" if close else ""
            yield Finding(
                "rlimit-unknown", HIGH, f"`{limit.type}` is no limit", f"{path}.type", mend, "getrlimit(2)"
            )
        if limit.type in seen:
            yield Finding(
                "rlimit-duplicate", HIGH, f"`{limit.type}` is there twice", path, "keep one", "config.md"
            )
        if limit.soft > limit.hard:
            message = f"{limit.type}: the soft limit {limit.soft} is above the hard limit {limit.hard}"
            yield Finding("rlimit-soft-above-hard", HIGH, message, f"{path}.soft", "", "getrlimit(2)")
        least = _LEAST.get(limit.type, 0)
        if limit.hard < least or limit.soft < least:
            message = f"{limit.type} {min(limit.soft, limit.hard)}: no program starts with fewer than {least}"
            which = "hard" if limit.hard < least else "soft"
            yield Finding("rlimit-too-small", HIGH, message, f"{path}.{which}", "", "getrlimit(2)")
        seen.add(limit.type)


def namespaces(subject: Subject) -> Findings:
    """Each namespace is there once; a joined one has an absolute path (config-linux.md, namespaces)."""
    linux = subject.config.linux
    seen: set[str] = set()
    for index, namespace in enumerate((linux.namespaces if linux else None) or ()):
        path = f"linux.namespaces[{index}]"
        if namespace.type in seen:
            message = f"the namespace `{namespace.type}` is there twice"
            yield Finding("namespace-duplicate", HIGH, message, path, "keep one", "config-linux.md")
        if namespace.path and not namespace.path.startswith("/"):
            message = f"the namespace path `{namespace.path}` is relative"
            yield Finding("namespace-path-relative", HIGH, message, f"{path}.path", "", "config-linux.md")
        seen.add(namespace.type)


def mappings(subject: Subject) -> Findings:
    """Mappings and the user namespace go together; ranges do not overlap (user_namespaces(7))."""
    linux = subject.config.linux
    types = {namespace.type for namespace in (linux.namespaces if linux else None) or ()}
    for name, listed in (
        ("uidMappings", (linux.uid_mappings if linux else None) or ()),
        ("gidMappings", (linux.gid_mappings if linux else None) or ()),
    ):
        path = f"linux.{name}"
        if listed and "user" not in types:
            message = f"`{path}` without a user namespace: ids are not mapped, though the file looks as if"
            mend = 'add {"type": "user"} to linux.namespaces'
            yield Finding("mapping-without-userns", HIGH, message, path, mend, "config-linux.md")
        if not listed and "user" in subject.namespaces:
            message = f"a new user namespace without `{path}`: no id is mapped"
            yield Finding(
                "userns-without-mapping", HIGH, message, "linux.namespaces", "", "user_namespaces(7)"
            )
        yield from overlaps(listed, path)


def overlaps(listed: Iterable[IdMapping], path: str) -> Findings:
    """Ranges are not empty and do not overlap, inside or outside (user_namespaces(7))."""
    entries = list(enumerate(listed))
    for index, entry in entries:
        if entry.size == 0:
            yield Finding(
                "mapping-empty",
                HIGH,
                "a mapping of size 0",
                f"{path}[{index}].size",
                "",
                "user_namespaces(7)",
            )
    for (_, a), (index, b) in combinations(entries, 2):
        inside = a.container_id < b.container_id + b.size and b.container_id < a.container_id + a.size
        outside = a.host_id < b.host_id + b.size and b.host_id < a.host_id + a.size
        if inside or outside:
            message = "two mappings overlap: the kernel refuses them"
            yield Finding("mapping-overlap", HIGH, message, f"{path}[{index}]", "", "user_namespaces(7)")


def host_name(subject: Subject) -> Findings:
    """A hostname needs its own uts namespace and must be one (hostname(7), uts_namespaces(7))."""
    yield from _one_name(subject, "hostname", subject.config.hostname)
    yield from _one_name(subject, "domainname", subject.config.domainname)


def _one_name(subject: Subject, what: str, name: str | None) -> Findings:
    types = {ns.type for ns in (subject.config.linux.namespaces if subject.config.linux else None) or ()}
    if name and "uts" not in types:
        message = f"`{what}` without a uts namespace would rename the host"
        yield Finding(
            "hostname-without-uts", HIGH, message, what, 'add {"type": "uts"}', "config.md, hostname"
        )
    if name and not _HOST_NAME.fullmatch(name) and (what, name) != ("domainname", "(none)"):
        message = f"`{name[:80]}` is no {what}: letters, digits, `-` and `.`, at most 64"
        yield Finding("hostname-bad", MEDIUM, message, what, "", "hostname(7)")


def sysctls(subject: Subject) -> Findings:
    """Each sysctl belongs to a namespace of the container's own (namespaces(7))."""
    linux = subject.config.linux
    # A joined namespace serves as well, unless it is the host's, which `joined namespaces` asks about.
    types = {namespace.type for namespace in (linux.namespaces if linux else None) or ()}
    seen: set[str] = set()
    for key in (linux.sysctl if linux else None) or {}:
        path = f'linux.sysctl["{key}"]'
        needed = _sysctl_namespace(_dotted(key))
        if _dotted(key) == "kernel.hostname":
            message = f"`{key}` would be a second `hostname`: runc refuses it"
            yield Finding(
                "sysctl-hostname", HIGH, message, path, "write `hostname`", "runc, config validation"
            )
        elif needed is None:
            message = f"`{key}` belongs to no namespace: it would change the whole host, and runc refuses it"
            yield Finding(
                "sysctl-of-host", HIGH, message, path, "set it on the host with sysctl(8)", "namespaces(7)"
            )
        elif needed not in types:
            message = f"`{key}` needs a {needed} namespace of the container's own"
            yield Finding("sysctl-without-namespace", HIGH, message, path, "", "namespaces(7)")
        if _dotted(key) in seen:
            message = f"`{key}` is there twice, in two spellings: which one counts is chance"
            yield Finding("sysctl-duplicate", MEDIUM, message, path, "keep one", "sysctl.d(5)")
        seen.add(_dotted(key))


def _dotted(key: str) -> str:
    """Return a sysctl's name with dots; the first of `.` and `/` is the separator (sysctl.d(5))."""
    first = re.search(r"[./]", key)
    return key.translate(str.maketrans("./", "/.")) if first and first[0] == "/" else key


def _sysctl_namespace(dotted: str) -> str | None:
    if not all(part and part != ".." for part in re.split(r"[./]", dotted)):
        return None
    if dotted.startswith("net."):
        return "network"
    if dotted.startswith("fs.mqueue.") or dotted in _IPC_SYSCTLS:
        return "ipc"
    return "uts" if dotted == "kernel.domainname" else None


def version(subject: Subject) -> Findings:
    """The declared version is one that this judge and its runtimes know."""
    release = release_of(subject.config.oci_version)
    if release is None or not is_known(release):
        message = f"`ociVersion` {subject.config.oci_version} is no release of 1.0.0 to 1.3"
        mend = "write 1.1.0: crun 1.8 refuses what is newer"
        yield Finding("oci-version-unknown", MEDIUM, message, "ociVersion", mend, "config.md, ociVersion")


def first_process(subject: Subject) -> Findings:
    """A program that is PID 1 ends on SIGTERM only if it has a handler (kill(2), notes)."""
    args = subject.process.args or ()
    if (
        "pid" in subject.namespaces
        and args
        and not args[0].endswith(("/init", "/tini", "/tini-static", "/dumb-init"))
    ):
        message = f"`{args[0]}` will be PID 1, where a signal without a handler does nothing"
        mend = "if `smoke` reports that it does not stop: `init: true`"
        yield Finding("no-init", INFO, message, "process.args[0]", mend, "kill(2)")
