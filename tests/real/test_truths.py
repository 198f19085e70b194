"""Every truth about the runtimes of this host, seen in real containers.

Each phenomenon is looked for under each runtime, whether the table has a row for that version or not: a look
that could not fail would be seen through at the other runtime.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline import proc
from pipeline.files import remove_tree
from pipeline.model.truths.nouns import Kind
from pipeline.model.truths.table import TRUTHS, truths_of
from pipeline.paths import Project
from pipeline.tools import libseccomp
from pipeline.tools.runtimes import registry
from pipeline.tools.runtimes.container import Container, RuntimeRefused
from tests.judged import elf
from tests.real.busybox_bundle import BASE, USER, make_bundle
from tests.real.traces import assert_no_traces

pytestmark = [pytest.mark.real, pytest.mark.root]

NAME = "truths"
_END_TIMEOUT_S = 20.0
_TIME_OFFSET_S = 10_000_000
_CLONE3, _EPERM, _ENOSYS = 435, 1, 38
_SAFE = ["nosuid", "nodev", "noexec"]


@dataclass
class Box:
    """A bundle to be changed and run under a runtime."""

    folder: Path
    runtime: str
    config: dict[str, Any]

    @property
    def linux(self) -> dict[str, Any]:
        """`linux` of the config."""
        found: dict[str, Any] = self.config["linux"]
        return found

    def run(self, *args: str, spoil: Callable[[str], str] = lambda text: text) -> Ran:
        """Run a program in the container to its end; `spoil` changes the text of config.json."""
        if args:
            self.config["process"]["args"] = list(args)
        (self.folder / "box/config.json").write_text(spoil(json.dumps(self.config)))
        project, log = Project(self.folder), self.folder / "log"
        container = Container(
            registry.get(self.runtime),
            self.folder / "box",
            name=NAME,
            project=project,
            scratch=project.tmp,
            log=log,
        )
        try:
            with container:
                container.start()
                ended = container.wait(_END_TIMEOUT_S)
                assert container.output_ended()
        except RuntimeRefused as refusal:
            return Ran(False, refusal.message)
        assert not container.left
        assert ended is not None
        return Ran(True, log.read_text(), ended.code)

    def shell(self, line: str, spoil: Callable[[str], str] = lambda text: text) -> Ran:
        """Run one line of busybox's shell."""
        return self.run("/bin/sh", "-c", line, spoil=spoil)

    def bind(self, *options: str, **keys: Any) -> None:
        """Mount the folder `data` on /data."""
        source = self.folder / "data"
        source.mkdir()
        os.chown(source, BASE + USER, BASE + USER)
        mount = {"destination": "/data", "type": "bind", "source": str(source)}
        self.config["mounts"].append({**mount, "options": ["bind", *options], **keys})

    def leave_to_host(self, kind: str) -> None:
        """Take a namespace out."""
        self.linux["namespaces"] = [ns for ns in self.linux["namespaces"] if ns["type"] != kind]


@dataclass(frozen=True)
class Ran:
    """Whether the runtime started it, what it or the runtime said, and its exit code."""

    started: bool
    said: str
    code: int | None = None

    def refused(self, words: str) -> bool:
        """True when the runtime refused for this reason; any other refusal fails the test."""
        assert self.started or words in self.said, self.said
        return not self.started


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A hardened bundle in a folder that a mapped root can pass."""
    folder = Path(tempfile.mkdtemp(prefix="cooperage-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    config = make_bundle(folder / "box")
    project = Project(folder)
    for place in (project.tmp, project.running):
        place.mkdir(parents=True)
    yield Box(folder, request.param, config)
    remove_tree(folder)
    assert_no_traces(f"cooperage-{NAME}")


def _mode(box: Box, wanted: str) -> str:
    """The mode that a tmpfs gets over a folder of mode 0755."""
    (box.folder / "box/rootfs/tmp").chmod(0o755)
    mount = next(mount for mount in box.config["mounts"] if mount["destination"] == "/tmp")
    mount["options"] = [*_SAFE, f"mode={wanted}", "size=16m"]
    mode = box.shell("/bin/busybox stat -c %a /tmp").said.strip()
    assert mode in ("755", wanted)
    return mode


def tmpfs_takes_a_wider_mode(box: Box) -> bool:
    return _mode(box, "700") == "755"


def tmpfs_takes_a_narrower_mode(box: Box) -> bool:
    return _mode(box, "1777") == "755"


def mount_ids_passed_over(box: Box) -> bool:
    mapping = [{"containerID": 0, "hostID": BASE, "size": 65536}]
    box.bind(*_SAFE, uidMappings=mapping, gidMappings=mapping)
    os.chown(box.folder / "data", 0, 0)
    owner = box.shell("/bin/busybox stat -c %u /data").said.strip()
    assert owner in ("0", "65534")
    return owner == "65534"


def pids_zero_is_no_limit(box: Box) -> bool:
    box.linux["resources"]["pids"] = {"limit": 0}
    ran = box.shell("for i in 1 2 3 4; do sleep 0.1 & done; wait; echo forked")
    return ran.started and "forked" in ran.said


def _unified(box: Box) -> Ran:
    if not Path("/sys/fs/cgroup/memory").is_dir():
        pytest.skip("needs a host with the controllers of cgroup v1")
    box.linux["resources"]["unified"] = {"pids.max": "7"}
    del box.linux["resources"]["pids"]
    return box.shell("cat /sys/fs/cgroup/pids/pids.max")


def unified_refused(box: Box) -> bool:
    return _unified(box).refused("cannot use unified on cgroup v1")


def unified_passed_over(box: Box) -> bool:
    ran = _unified(box)
    return ran.started and ran.said.strip() == "max"


def linked_rootfs_refused(box: Box) -> bool:
    rootfs = box.folder / "box/rootfs"
    rootfs.rename(rootfs.with_name("tree"))
    rootfs.symlink_to("tree")
    return box.run("/bin/true").refused("invalid rootfs: not an absolute path, or a symlink")


def _time(box: Box) -> Ran:
    box.config["ociVersion"] = "1.1.0"
    box.linux["namespaces"].append({"type": "time"})
    box.linux["timeOffsets"] = {"boottime": {"secs": _TIME_OFFSET_S}}
    return box.shell("cat /proc/uptime")


def time_namespace_refused(box: Box) -> bool:
    ran = _time(box)
    return not ran.started and 'namespace {"time" ""} does not exist' in ran.said


def time_offsets_passed_over(box: Box) -> bool:
    ran = _time(box)
    return ran.started and float(ran.said.split()[0]) < _TIME_OFFSET_S


def time_offsets_refused(box: Box) -> bool:
    ran = _time(box)
    # crun 1.28 says nothing of the reason; a runtime without the namespace says that.
    return not ran.started and "does not exist" not in ran.said


def seccomp_flags_refused(box: Box) -> bool:
    box.linux["seccomp"]["flags"] = ["SECCOMP_FILTER_FLAG_LOG"]
    return box.run("/bin/true").refused("seccomp flags are not yet supported by runc")


def wait_killable_refused(box: Box) -> bool:
    box.linux["seccomp"]["flags"] = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    return box.run("/bin/true").refused("seccomp flag")


def _mount_lines(target: str) -> str:
    """The words that print the mounts on a target (proc(5), mountinfo)."""
    return f"/bin/busybox awk '$5 == \"{target}\"' /proc/self/mountinfo"


def _sysfs(box: Box) -> Ran:
    box.leave_to_host("network")
    return box.shell(_mount_lines("/sys"))


def sysfs_on_host_network_refused(box: Box) -> bool:
    return _sysfs(box).refused('error mounting "sysfs" to rootfs at "/sys"')


def sysfs_of_the_host_without_flags(box: Box) -> bool:
    ran = _sysfs(box)
    return ran.started and "noexec" not in ran.said.splitlines()[-1]


def device_not_there_refused(box: Box) -> bool:
    box.linux["devices"] = [{"path": "/dev/cooperage-none", "type": "c", "major": 1, "minor": 3}]
    return box.run("/bin/true").refused("error creating device nodes")


def _bind_data(box: Box) -> Ran:
    box.bind(*_SAFE, "size=1m")
    return box.shell("echo started")


def bind_data_refused(box: Box) -> bool:
    return _bind_data(box).refused("invalid mount")


def bind_data_passed_over(box: Box) -> bool:
    return _bind_data(box).started


def domainname_passed_over(box: Box) -> bool:
    box.config |= {"ociVersion": "1.1.0", "domainname": "example.org"}
    return box.shell("cat /proc/sys/kernel/domainname").said.strip() != "example.org"


def personality_passed_over(box: Box) -> bool:
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("needs a machine with a 32-bit name of its own")
    box.linux["personality"] = {"domain": "LINUX32"}
    return box.shell("/bin/busybox uname -m").said.strip() == platform.machine()


def scheduler_passed_over(box: Box) -> bool:
    box.config["ociVersion"] = "1.1.0"
    box.config["process"]["scheduler"] = {"policy": "SCHED_BATCH"}
    # proc(5), stat: the policy is field 41, SCHED_BATCH is 3 (sched(7)).
    policy = box.shell("/bin/busybox awk '{print $41}' /proc/1/stat").said.strip()
    assert policy in ("0", "3")
    return policy == "0"


def io_priority_passed_over(box: Box) -> bool:
    box.config["ociVersion"] = "1.1.0"
    box.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    return box.shell("/bin/busybox ionice -p 1").said.strip() != "idle"


def shared_root_stays_private(box: Box) -> bool:
    box.linux["rootfsPropagation"] = "shared"
    return "shared:" not in box.shell("/bin/busybox head -n 1 /proc/self/mountinfo").said


def writable_bind_without_flags(box: Box) -> bool:
    box.bind("rw", *_SAFE)
    program = box.folder / "data/busybox"
    program.write_bytes(Path("/usr/bin/busybox").read_bytes())
    program.chmod(0o755)
    said = box.shell(f"/data/busybox true && echo executed; {_mount_lines('/data')}").said
    assert ("executed" in said) is not ("noexec" in said)
    return "executed" in said


def readonly_path_without_flags(box: Box) -> bool:
    box.linux["readonlyPaths"].append("/tmp")
    line = box.shell(_mount_lines("/tmp")).said.splitlines()[-1]
    assert " ro," in line
    return "noexec" not in line


def hybrid_refused(box: Box) -> bool:
    """Typed as people type it, without the adapter's way round."""
    if not proc.is_hybrid():
        pytest.skip("needs a host where cgroup2 lies beside v1 controllers")
    (box.folder / "box/config.json").write_text(json.dumps({**box.config, **_args("/bin/true", box)}))
    program, container = registry.get(box.runtime).path, f"cooperage-{NAME}-{os.getpid()}"
    words = [str(program), "run", "--bundle", str(box.folder / "box"), container]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    subprocess.run([str(program), "delete", "--force", container], capture_output=True, timeout=60)
    assert done.returncode == 0 or "cgroups in hybrid mode not supported" in done.stderr, done.stderr
    return done.returncode != 0


def _args(program: str, box: Box) -> dict[str, Any]:
    return {"process": {**box.config["process"], "args": [program]}}


def new_version_refused(box: Box) -> bool:
    box.config["ociVersion"] = "1.2.0"
    return box.run("/bin/true").refused("unknown version specified")


def _clone3(box: Box) -> int | None:
    """The errno of clone3 under a profile that names every older call, and neither it nor a newer one."""
    if platform.machine() != "x86_64":
        pytest.skip("the program that calls is x86_64 code")
    program = box.folder / "box/rootfs/bin/clone3"
    program.write_bytes(_calling(_CLONE3))
    program.chmod(0o755)
    os.chown(program, BASE, BASE)
    known_calls = libseccomp.numbers(libseccomp.Architecture.SCMP_ARCH_X86_64)
    names = sorted(name for name, number in known_calls.items() if number < _CLONE3)
    rule = {"names": names, "action": "SCMP_ACT_ALLOW"}
    # Without its architecture listed, runc before 1.1.15 has no answer of its own for any call.
    box.linux["seccomp"] |= {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": _EPERM, "syscalls": [rule]}
    ran = box.run("/bin/clone3")
    if not ran.started:
        pytest.skip(f"this {box.runtime} itself needs a call that is newer than clone3")
    return ran.code


def _calling(number: int) -> bytes:
    """A program that makes one system call with zeroes and exits with the errno that it got."""
    code = bytes.fromhex("31ff31f6b8") + number.to_bytes(4, "little")  # xor edi, edi; xor esi, esi; mov eax
    code += bytes.fromhex("0f05f7d889c7b8e70000000f05")  # syscall; neg eax; mov edi, eax; exit_group
    base, head = 0x400000, elf()
    head = head[:24] + (base + 120).to_bytes(8, "little") + head[32:64]
    segment = (1).to_bytes(4, "little") + (5).to_bytes(4, "little")
    for value in (0, base, base, 120 + len(code), 120 + len(code), 4096):
        segment += value.to_bytes(8, "little")
    return head + segment + code


def clone3_is_not_there(box: Box) -> bool:
    return _clone3(box) == _ENOSYS


def clone3_gets_the_default(box: Box) -> bool:
    return _clone3(box) == _EPERM


def _no_new_privileges(box: Box, old: str, new: str) -> str:
    line = "/bin/busybox grep NoNewPrivs /proc/self/status"
    return box.shell(line, spoil=lambda text: text.replace(old, new)).said.split()[-1]


def last_key_taken(box: Box) -> bool:
    key = '"noNewPrivileges": true'
    return _no_new_privileges(box, key, f"{key}, {key.replace('true', 'false')}") == "0"


def first_key_taken(box: Box) -> bool:
    key = '"noNewPrivileges": true'
    return _no_new_privileges(box, key, f"{key}, {key.replace('true', 'false')}") == "1"


def any_case_taken(box: Box) -> bool:
    return _no_new_privileges(box, '"noNewPrivileges"', '"NoNewPrivileges"') == "1"


def wrong_case_passed_over(box: Box) -> bool:
    return _no_new_privileges(box, '"noNewPrivileges"', '"NoNewPrivileges"') == "0"


Look = Callable[[Box], bool]
OBSERVED: dict[str, Look] = {
    "runc-tmpfs-mode-wider": tmpfs_takes_a_wider_mode,
    "runc-tmpfs-mode-narrower": tmpfs_takes_a_narrower_mode,
    "runc-idmapped-mounts": mount_ids_passed_over,
    "runc-pids-zero": pids_zero_is_no_limit,
    "runc-unified-on-v1": unified_refused,
    "runc-symlinked-rootfs": linked_rootfs_refused,
    "runc-time-namespace": time_namespace_refused,
    "runc-seccomp-flags": seccomp_flags_refused,
    "runc-seccomp-wait-killable": wait_killable_refused,
    "runc-host-net-sysfs": sysfs_on_host_network_refused,
    "runc-device-not-on-host": device_not_there_refused,
    "runc-bind-data-ignored": bind_data_passed_over,
    "runc-domainname": domainname_passed_over,
    "runc-personality": personality_passed_over,
    "runc-scheduler": scheduler_passed_over,
    "runc-io-priority": io_priority_passed_over,
    "runc-propagation": shared_root_stays_private,
    "runc-clone3-stub": clone3_is_not_there,
    "runc-duplicate-keys": last_key_taken,
    "runc-key-case": any_case_taken,
    "crun-rw-bind-flags": writable_bind_without_flags,
    "crun-unified-on-v1": unified_passed_over,
    "crun-pids-zero": pids_zero_is_no_limit,
    "crun-host-net-sysfs": sysfs_of_the_host_without_flags,
    "crun-readonly-path-flags": readonly_path_without_flags,
    "crun-hybrid-cgroup": hybrid_refused,
    "crun-oci-version": new_version_refused,
    "crun-time-offsets-ignored": time_offsets_passed_over,
    "crun-scheduler": scheduler_passed_over,
    "crun-io-priority": io_priority_passed_over,
    "crun-bind-data-ignored": bind_data_passed_over,
    "crun-clone3": clone3_gets_the_default,
    "crun-duplicate-keys-first": first_key_taken,
    "crun-key-case": wrong_case_passed_over,
    # Rows of newer versions than Debian 12 has: there the look sees that the older ones are otherwise.
    "runc-bind-data-refused": bind_data_refused,
    "crun-time-offsets-refused": time_offsets_refused,
    "crun-duplicate-keys-last": last_key_taken,
}
_NOT_PACKAGED = "youki is in no distribution's packages; seen by hand with 0.7.0"
_NO_ADAPTER = "runsc is not set up by ./bootstrap; seen by hand with Debian's 20221219 and 20240729"
_NO_KVM = "Kata needs KVM, a guest image and containerd; its rows are read, not seen"
UNOBSERVED = {
    **dict.fromkeys(
        (
            "youki-default-build youki-unified-on-v1 youki-pids-zero youki-selinux youki-key-case "
            "youki-duplicate-keys youki-idmapped-mounts youki-propagation-recursive youki-oci-version "
            "youki-host-net-sysfs youki-device-not-on-host youki-bind-data-ignored youki-lo"
        ).split(),
        _NOT_PACKAGED,
    ),
    **dict.fromkeys(
        (
            "runsc-seccomp runsc-exec-seccomp runsc-seccomp-errno runsc-seccomp-actions runsc-masked-paths "
            "runsc-readonly-paths runsc-recursive-read-only runsc-idmapped-mounts runsc-umask runsc-apparmor "
            "runsc-selinux runsc-unified runsc-pids-too-few runsc-pids-few runsc-propagation "
            "runsc-no-new-privileges runsc-id-map runsc-mount-flags runsc-lo runsc-sysctl "
            "runsc-time-namespace runsc-domainname"
        ).split(),
        _NO_ADAPTER,
    ),
    **dict.fromkeys(
        (
            "kata-user-namespace kata-seccomp kata-apparmor kata-host-network kata-joined-network "
            "kata-no-command"
        ).split(),
        _NO_KVM,
    ),
}
"""The rows that no test sees, and why."""


def test_every_row_is_seen_or_said_not_to_be() -> None:
    names = {truth.name for truth in TRUTHS}
    assert OBSERVED.keys() | UNOBSERVED.keys() == names
    assert not OBSERVED.keys() & UNOBSERVED.keys()
    only_read = {truth.name for truth in TRUTHS if truth.kind is Kind.DOCUMENTED}
    assert only_read == {name for name, reason in UNOBSERVED.items() if reason == _NO_KVM}


@cache
def known(runtime: str) -> frozenset[str]:
    """The names of the rows that cover this host's version of a runtime."""
    return frozenset(truth.name for truth in truths_of(runtime, registry.get(runtime).version().number))


@pytest.mark.parametrize("box", sorted(registry.ADAPTERS), indirect=True)
@pytest.mark.parametrize("look", dict.fromkeys(OBSERVED.values()), ids=lambda look: look.__name__)
def test_the_table_says_what_is_seen(look: Look, box: Box) -> None:
    rows = {name for name, found in OBSERVED.items() if found is look and name in known(box.runtime)}
    assert look(box) is bool(rows)
