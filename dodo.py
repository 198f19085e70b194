"""The Makefile page: one task for each thing that a user can ask for."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import commands, profilecommands, tasks

Tasks = Iterator[tasks.Task]

# A start makes many objects and drops few: collecting after each 700 is a tenth of its time.
gc.set_threshold(50_000)

make = tasks.Makefile(Path(__file__).parent, sys.argv[1:])
DOIT_CONFIG = make.config()


def task_bundle() -> Tasks:
    yield from make.bundle()


def task_copy() -> Tasks:
    yield from make.pin()
    yield from make.rest()
    yield from make.stage("copy")


def task_unpack() -> Tasks:
    yield from make.stage("unpack")


def task_seccomp() -> Tasks:
    yield from make.stage("seccomp")


def task_spec() -> Tasks:
    yield from make.stage("spec")


def task_validate() -> Tasks:
    yield from make.stage("validate")


def task_smoke() -> Tasks:
    yield from make.smoke()


def task_trace() -> Tasks:
    yield from make.trace()


def task_status() -> tasks.Task:
    return commands.status(make)


def task_explain() -> tasks.Task:
    return commands.explain(make)


def task_check() -> tasks.Task:
    return commands.check(make)


def task_verify() -> tasks.Task:
    return commands.verify(make)


def task_update() -> tasks.Task:
    return commands.update(make)


def task_outdated() -> tasks.Task:
    return commands.outdated(make)


def task_doctor() -> tasks.Task:
    return commands.doctor(make)


def task_floor() -> tasks.Task:
    return commands.floor(make)


def task_report() -> tasks.Task:
    return commands.report(make)


def task_new() -> tasks.Task:
    return commands.new(make)


def task_seccomp_diff() -> tasks.Task:
    return profilecommands.seccomp_diff(make)


def task_seccomp_accept() -> tasks.Task:
    return profilecommands.seccomp_accept(make)


def task_verdicts() -> tasks.Task:
    return profilecommands.verdicts(make)
