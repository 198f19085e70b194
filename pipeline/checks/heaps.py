"""Heaps that a language's runtime is told to use, against the memory that the container may use.

Sources: node's CLI documentation (--max-old-space-size, in MiB; NODE_OPTIONS), java(1) (-Xmx,
-XX:MaxHeapSize, -XX:MaxRAMPercentage, JDK_JAVA_OPTIONS), JVMTI (JAVA_TOOL_OPTIONS), Go's runtime
documentation (GOMEMLIMIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.checks.meaning_linux import resources
from pipeline.checks.subject import HIGH, MEDIUM, Findings, Subject
from pipeline.model.nouns import Finding

_NODE = re.compile(r"--max[-_]old[-_]space[-_]size=([0-9]+)")
_JAVA = re.compile(r"(?:-Xmx|-XX:MaxHeapSize=)([0-9]+)([kKmMgGtT]?)")
_SHARE = re.compile(r"-XX:(?:Max|Initial)RAMPercentage=([0-9]+(?:\.[0-9]+)?)")
_GO = re.compile(r"([0-9]+)(B|KiB|MiB|GiB|TiB)?")
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "JAVA_OPTS")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# What is not the heap: code, threads' stacks, buffers. Less than this is left, and the kernel kills first.
_HEAP_SHARE = 0.9
_Heap = tuple[str, str, int]


def heaps(subject: Subject) -> Findings:
    """A heap fits in the memory limit, with room for what is beside it."""
    found = resources(subject).memory
    limit = found.limit if found and found.limit and found.limit > 0 else None
    for path, option, size in _told(subject):
        if limit is None:
            continue
        mend = f"write at most {int(limit * _HEAP_SHARE) >> 20} MiB, or raise `mem_limit`"
        told = f"`{option}` lets the heap grow to {size >> 20} MiB"
        if size >= limit:
            message = (
                f"{told}, above the memory limit of {limit >> 20} MiB: the kernel kills before it collects"
            )
            yield Finding("heap-above-memory", HIGH, message, path, mend, "node, CLI; java(1); Go, runtime")
        elif size > limit * _HEAP_SHARE:
            message = f"{told} of {limit >> 20} MiB: too little is left for code, stacks and buffers"
            yield Finding("heap-fills-memory", MEDIUM, message, path, mend, "node, CLI; java(1); Go, runtime")


def java_limits(subject: Subject) -> Findings:
    """The JVM looks at the container's limit, and leaves some of it (java(1))."""
    for path, word in _words(subject):
        share = _SHARE.fullmatch(word)
        if word == "-XX:-UseContainerSupport":
            message = "the JVM is told to size its heap by the host's memory"
            yield Finding("heap-by-host", HIGH, message, path, "drop -XX:-UseContainerSupport", "java(1)")
        elif share and float(share[1]) > _HEAP_SHARE * 100:
            message = f"`{word}` leaves too little for code, stacks and buffers"
            yield Finding("heap-fills-memory", MEDIUM, message, path, "write 75", "java(1)")


def _told(subject: Subject) -> Iterator[_Heap]:
    for path, word in _words(subject):
        node, java = _NODE.fullmatch(word), _JAVA.fullmatch(word)
        if node:
            yield path, word, int(node[1]) << 20
        elif java:
            yield path, word, int(java[1]) * _UNITS[java[2].lower()]
    for path, name, value in _variables(subject):
        match = _GO.fullmatch(value) if name == "GOMEMLIMIT" else None
        if match:
            yield path, f"{name}={value}", int(match[1]) * _UNITS[(match[2] or "B")[0].lower().strip("b")]


def _words(subject: Subject) -> Iterator[tuple[str, str]]:
    """Every word of the command line, and of the variables that add to it."""
    for index, word in enumerate(subject.process.args or ()):
        yield f"process.args[{index}]", word
    for path, name, value in _variables(subject):
        if name == "NODE_OPTIONS" or name in _JAVA_VARIABLES:
            yield from ((path, word.strip("'\"")) for word in value.split())


def _variables(subject: Subject) -> Iterator[tuple[str, str, str]]:
    for index, entry in enumerate(subject.process.env or ()):
        name, _, value = entry.partition("=")
        yield f"process.env[{index}]", name, value
