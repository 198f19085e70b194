"""The Makefile page: one task for each thing that a user can ask for."""

import sys
from pathlib import Path

from pipeline import commands, tasks

make = tasks.Makefile(Path(__file__).parent, sys.argv[1:])
DOIT_CONFIG = make.config()


def task_bundle():
    yield from make.bundle()


def task_copy():
    yield from make.pin()
    yield from make.stage("copy")


def task_unpack():
    yield from make.stage("unpack")


def task_seccomp():
    yield from make.stage("seccomp")


def task_spec():
    yield from make.stage("spec")


def task_validate():
    yield from make.stage("validate")


def task_smoke():
    yield from make.smoke()


def task_status():
    return commands.status(make)


def task_explain():
    return commands.explain(make)


def task_verify():
    return commands.verify(make)


def task_update():
    return commands.update(make)


def task_outdated():
    return commands.outdated(make)


def task_doctor():
    return commands.doctor(make)


def task_report():
    return commands.report(make)


def task_new():
    return commands.new(make)
