"""Where a dynamic loader would find a library in the rootfs (ld.so(8); musl, ldso/dynlink.c)."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Mapping

from pipeline.checks.elf import Elf, NotElf, read_elf
from pipeline.checks.ldcache import MOST_BYTES, read_cache
from pipeline.checks.subject import Subject, covering, normal

_MULTIARCH = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
    "ppc64le": "powerpc64le-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
    "s390x": "s390x-linux-gnu",
}
_LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")
_CONF = "/etc/ld.so.conf"
_CONF_BYTES = 1 << 16


def find_library(
    subject: Subject, name: str, owner: str, headers: Elf, rpath: tuple[str, ...], program: Elf
) -> tuple[str, Elf] | None:
    """Return the path and headers of the library `name` that `owner` needs, or None.

    A file for another machine is passed over, as the loader does.
    """
    if "/" in name:
        return _open(subject, name, program)
    for path in _places(subject, name, owner, headers, rpath, program):
        found = _open(subject, path, program)
        if found:
            return found
    return None


def uncached_folder(subject: Subject, name: str, program: Elf) -> str:
    """Return the folder of /etc/ld.so.conf that has a library which /etc/ld.so.cache does not know; or ``."""
    for folder in _configured(subject) if _is_glibc(program) else ():
        if _open(subject, posixpath.join(folder, name), program):
            return folder
    return ""


def _places(
    subject: Subject, name: str, owner: str, headers: Elf, rpath: tuple[str, ...], program: Elf
) -> Iterator[str]:
    """Yield where the loader looks: its own folders come last, what ldconfig noted before them."""
    for folder in _named_folders(subject, owner, headers, rpath, program):
        yield posixpath.join(folder, name)
    if "musl" in program.interpreter:
        yield from (posixpath.join(folder, name) for folder in _musl_folders(subject, program))
        return
    if _is_glibc(program):
        yield from _cached(subject, program).get(name, ())
    else:
        yield from (posixpath.join(folder, name) for folder in _configured(subject))
    for folder in _default_folders(program):
        yield posixpath.join(folder, name)
        yield from (posixpath.join(folder, "glibc-hwcaps", level, name) for level in _LEVELS)


def _is_glibc(program: Elf) -> bool:
    return posixpath.basename(program.interpreter).startswith(("ld-linux", "ld64.so"))


def _named_folders(
    subject: Subject, owner: str, headers: Elf, rpath: tuple[str, ...], program: Elf
) -> Iterator[str]:
    origin = posixpath.dirname(owner)
    given = subject.environment.get("LD_LIBRARY_PATH", "").replace(";", ":")
    for folder in (*rpath, *given.split(":"), *headers.runpath):
        if folder:
            expanded = folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            yield normal(posixpath.join(subject.process.cwd, _library_word(expanded, program)))


def _cached(subject: Subject, program: Elf) -> Mapping[str, tuple[str, ...]]:
    found = subject.cache.get("ld.so.cache")
    if not isinstance(found, dict):
        found = _read_cached(subject, program)
        subject.cache["ld.so.cache"] = found
    return found


def _read_cached(subject: Subject, program: Elf) -> dict[str, tuple[str, ...]]:
    try:
        with subject.rootfs.open("/etc/ld.so.cache") as stream:
            content = stream.read(MOST_BYTES)
    except OSError:
        return {}
    return dict(read_cache(content, big_endian=program.architecture == "s390x") or {})


def _default_folders(program: Elf) -> Iterator[str]:
    triple = _MULTIARCH.get(program.architecture, "")
    for top in ("/lib", "/usr/lib"):
        if triple:
            yield f"{top}/{triple}"
        yield f"{top}64"
        yield top


def _library_word(folder: str, program: Elf) -> str:
    word = "lib64" if program.bits == 64 else "lib"
    return folder.replace("${LIB}", word).replace("$LIB", word)


def _musl_folders(subject: Subject, program: Elf) -> Iterator[str]:
    name = posixpath.basename(program.interpreter).removesuffix(".so.1")
    listed = _text(subject, f"/etc/{name}.path")
    if listed is None:
        yield from ("/lib", "/usr/local/lib", "/usr/lib")
    else:
        yield from (part for part in listed.replace("\n", ":").split(":") if part)


def _configured(subject: Subject) -> tuple[str, ...]:
    found = subject.cache.get("ld.so.conf")
    if not isinstance(found, tuple):
        found = tuple(_conf(subject, _CONF, 0))
        subject.cache["ld.so.conf"] = found
    return found


def _conf(subject: Subject, path: str, depth: int) -> Iterator[str]:
    for line in (_text(subject, path) or "").splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] == "include" and depth < 2:
            for pattern in words[1:]:
                yield from _included(subject, posixpath.join(posixpath.dirname(path), pattern), depth)
        elif words[0].startswith("/"):
            yield words[0]


def _included(subject: Subject, pattern: str, depth: int) -> Iterator[str]:
    folder, wanted = posixpath.split(pattern)
    try:
        names = subject.rootfs.names(folder)
    except OSError:
        return
    for name in sorted(fnmatch.filter(names, wanted)):
        yield from _conf(subject, posixpath.join(folder, name), depth + 1)


def _open(subject: Subject, path: str, program: Elf) -> tuple[str, Elf] | None:
    cover = covering(subject, normal(path))
    if cover is not None:
        return _mounted(subject, path, cover, program)
    try:
        real = subject.rootfs.realpath(path)
        with subject.rootfs.open(real) as stream:
            elf = read_elf(stream)
    except (OSError, NotElf):
        return None
    return (real, elf) if (elf.machine, elf.bits) == (program.machine, program.bits) else None


def _mounted(
    subject: Subject, path: str, cover: tuple[str, str, bool], program: Elf
) -> tuple[str, Elf] | None:
    """A library that a bind mount brings in is there when the host has it; it is not read."""
    target, source, bound = cover
    if not bound or subject.host_view.stat(source + normal(path)[len(target) :]) is None:
        return None
    return path, Elf(program.machine, program.bits, "", (), (), ())


def _text(subject: Subject, path: str) -> str | None:
    try:
        with subject.rootfs.open(path) as stream:
            return stream.read(_CONF_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
