"""What is seen of a rootfs without a record, and of this host."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from pipeline.checks.subject import TreeFacts
from pipeline.files import remove_tree, scan_tree
from pipeline.observe.host import _address, host_facts
from pipeline.observe.rootfs import HostLook
from pipeline.observe.tree import recorded_facts, walked_facts

OWNER = os.getuid()


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A tree with one of each; device nodes need root and have a test of their own."""
    root = tmp_path / "rootfs"
    for name in ("bin", "tmp", "open", "etc"):
        (root / name).mkdir(parents=True)
    for name, mode in (("bin/su", 0o4755), ("bin/wall", 0o2755), ("bin/ls", 0o755), ("etc/motd", 0o666)):
        (root / name).write_bytes(b"x")
        (root / name).chmod(mode)
    (root / "tmp").chmod(0o1777)
    (root / "open").chmod(0o777)
    (root / "etc/link").symlink_to("/bin/su")
    (root / "etc/loop").symlink_to("..")
    return root


def test_a_walk_finds_what_gives_rights(rootfs: Path) -> None:
    found = walked_facts(rootfs, OWNER)
    assert found == TreeFacts(set_id=("/bin/su", "/bin/wall"), world_writable=("/etc/motd", "/open"))


def test_a_record_says_the_same_as_a_walk(rootfs: Path) -> None:
    recorded = recorded_facts(scan_tree(rootfs), OWNER)
    walked = walked_facts(rootfs, OWNER)
    assert {key: sorted(value) for key, value in vars(recorded).items()} == {
        key: sorted(value) for key, value in vars(walked).items()
    }


def test_another_owner_is_not_root(rootfs: Path) -> None:
    assert walked_facts(rootfs, OWNER + 1).world_writable == ()


@pytest.mark.root
def test_device_nodes_and_file_capabilities_are_seen(rootfs: Path) -> None:
    os.mknod(rootfs / "etc/null", 0o020666, os.makedev(1, 3))
    # A version 2 capability set that holds CAP_NET_BIND_SERVICE (linux/capability.h).
    value = (0x02000000).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + bytes(12)
    os.setxattr(rootfs / "bin/ls", "security.capability", value)
    for found in (walked_facts(rootfs, OWNER), recorded_facts(scan_tree(rootfs), OWNER)):
        assert found.devices == ("/etc/null",)
        assert found.capabilities == ("/bin/ls",)


def test_a_walk_has_bounds_and_says_what_it_left_out(rootfs: Path) -> None:
    found = walked_facts(rootfs, OWNER, most_entries=3)
    assert found.unread
    assert walked_facts(rootfs / "absent", OWNER) == TreeFacts()


def test_a_tree_deeper_than_pythons_stack_is_walked(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    for depth in range(1200):
        os.mkdir(f"{root}{'/d' * depth}")
    found = walked_facts(root, OWNER)
    remove_tree(root)
    assert found.unread == ()


def test_this_host_is_seen() -> None:
    found = host_facts("runc", "1.1.5")
    assert {"pid", "mount", "network", "user", "uts", "ipc"} <= found.namespaces
    assert {"proc", "tmpfs", "sysfs"} <= found.filesystems
    assert found.kernel >= (4, 0)
    assert found.seccomp_actions is None or {"allow", "errno"} <= found.seccomp_actions
    assert found.controllers is None or found.controllers & {"memory", "pids", "cpu"}


def test_a_socket_that_listens_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ("tcp", "127.0.0.1", port) in host_facts("runc", "1.1.5").listening
    assert ("tcp", "127.0.0.1", port) not in host_facts("runc", "1.1.5").listening


def test_addresses_as_the_kernel_writes_them() -> None:
    if sys.byteorder != "little":
        pytest.skip("written down for a little-endian machine")
    assert _address("0100007F") == "127.0.0.1"
    assert _address("0" * 32) == "::"
    assert _address("00000000000000000000000001000000") == "::1"


def test_flags_of_a_mount_of_the_host() -> None:
    """As /proc/mounts has them; of two mounts on one place, the later counts."""
    wanted = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, _, flags = line.split()[:4]
        wanted[path] = {"ro", "nosuid", "nodev", "noexec"} & set(flags.split(","))
    seen = {path: HostLook().flags(path) for path in wanted if os.path.isdir(path)}
    assert seen == {path: wanted[path] for path in seen}
    assert "/" in seen
    assert HostLook().flags("/absent/from/here") == frozenset()
