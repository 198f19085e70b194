"""ELF headers, read here and by pyelftools: both must say the same of what this machine has."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.elf import NotElf, read_elf
from pipeline.checks.ldcache import read_cache
from tests.judged import elf
from tests.test_checks_rules import OLD_TABLE, ld_cache

SAMPLES = sorted(
    {
        Path(sys.executable).resolve(),
        *(
            path.resolve()
            for name in ("ls", "busybox", "runc", "crun", "node")
            for path in Path("/usr/bin").glob(name)
        ),
        *(path.resolve() for path in list(Path("/usr/lib").glob("*-linux-gnu/lib*.so.*"))[:60]),
    }
)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_headers_are_read_as_pyelftools_reads_them(path: Path) -> None:
    with open(path, "rb") as stream:
        found = read_elf(stream)
        other = ELFFile(stream)
        tags: list[Any] = [
            tag
            for part in other.iter_segments()
            if isinstance(part, DynamicSegment)
            for tag in part.iter_tags()
        ]
        interpreters = [s.get_interp_name() for s in other.iter_segments() if isinstance(s, InterpSegment)]
        assert found.bits == other.elfclass
        assert found.needed == tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")
        assert ":".join(found.runpath) == "".join(
            tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"
        )
        assert found.interpreter == "".join(interpreters)


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF", elf()[:40], elf("/lib/ld.so", ("a",))[:70]]
)
def test_what_is_no_elf_file_is_refused(content: bytes) -> None:
    with pytest.raises(NotElf):
        read_elf(io.BytesIO(content))


def test_a_made_up_file_reads_back() -> None:
    found = read_elf(
        io.BytesIO(elf("/lib/ld-musl-x86_64.so.1", ("liba.so", "libb.so"), rpath="/x:/y", machine=183))
    )
    assert found.architecture == "arm64"
    assert (found.interpreter, found.needed) == ("/lib/ld-musl-x86_64.so.1", ("liba.so", "libb.so"))
    assert (found.rpath, found.runpath) == (("/x", "/y"), ())


def test_a_loaders_cache_is_read_in_both_formats_and_bounded() -> None:
    new = ld_cache({"liba.so": "/opt/liba.so", "libb.so": "/opt/b/libb.so"})
    expected = {"liba.so": ("/opt/liba.so",), "libb.so": ("/opt/b/libb.so",)}
    assert read_cache(new) == read_cache(OLD_TABLE + new) == expected
    assert read_cache(b"") is read_cache(new[:60]) is read_cache(b"x" * 100) is None
    # One name as often as the table has room; a text without an end.
    entry = struct.pack("<iIIIQ", 3, 48, 48, 0, 0)
    many = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI3I", 1 << 30, 0, 2, 0, 0, 0, 0) + entry * (1 << 17)
    assert read_cache(many) == {"\x03": ("\x03",) * 16}
    assert read_cache(new + b"x" * 5000, big_endian=True) is None
    assert read_cache(ld_cache({"a" * 2000: "/a"})) is None


@given(st.binary(max_size=400))
def test_no_cache_upsets_its_reader(content: bytes) -> None:
    read_cache(content)
    read_cache(b"glibc-ld.so.cache1.1" + content)
    read_cache(b"ld.so-1.7.0\0" + content)
