"""Readers of ports, sysctls, resource limits and health checks."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from pipeline.model.bundle import UNLIMITED, HttpProbe, Port, Ulimit
from pipeline.model.linuxnames import MEMORY_SYSCTLS, RLIMITS
from pipeline.model.problems import (
    Problems,
    bad,
    fields_of,
    list_of,
    map_of,
    quoted,
    unknown,
    written,
    wrong_type,
)
from pipeline.model.values import boolean, duration, text_or_number, whole

_PORT_HINT = "[IP:]HOST:CONTAINER[/tcp|/udp], such as 8080:80 or 127.0.0.1:8000-8009:8000-8009"
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(?P<host>[0-9]+(?:-[0-9]+)?):(?P<container>[0-9]+(?:-[0-9]+)?)"
    r"(?:/(?P<protocol>[a-zA-Z]+))?"
)
_LOOPBACK = "127.0.0.1"
_LOOPBACKS = ("", "localhost", "127.0.0.1", "[::1]")
_MOST_PORTS = 1024
_PORT_NUMBER = whole(1, 65535)
_LIMIT = whole(0, UNLIMITED, unlimited=UNLIMITED)
_SYSCTL = re.compile(r"[a-z0-9_]+\.[A-Za-z0-9_:@-]+(?:[./][A-Za-z0-9_:@-]+)*")


def ports(value: Any) -> tuple[Port, ...]:
    """A list of ports in compose's short form; a range becomes one Port for each number."""
    found = [port for some in list_of(_ports, "a list of ports")(value) for port in some]
    if len(found) > _MOST_PORTS:
        raise bad("bad-port", f"these are {len(found)} ports", f"at most {_MOST_PORTS}")
    return tuple(found)


def _ports(value: Any) -> tuple[Port, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        raise bad(
            "bad-port",
            f"{quoted(written(value))} names one port",
            f"write `{written(value)}:{written(value)}`",
        )
    if not isinstance(value, str):
        raise wrong_type(value, "text such as `8080:80`")
    match = _PORT.fullmatch(value)
    if not match:
        hint = f"write `{value}:{value}`" if value.isdecimal() else _PORT_HINT
        raise bad("bad-port", f"{quoted(value)} is not a port", hint)
    protocol = (match["protocol"] or "tcp").lower()
    if protocol not in ("tcp", "udp"):
        raise bad("bad-port", f"{quoted(protocol)} is not a protocol", "tcp or udp")
    outer, inner = _range(match["host"]), _range(match["container"])
    if len(outer) != len(inner):
        message = f"{quoted(value)} leads {len(outer)} ports to {len(inner)}"
        raise bad("bad-port", message, "make both ranges equally long")
    ip, kind = _address(match["ip"]), cast(Literal["tcp", "udp"], protocol)
    return tuple(
        Port(host_ip=ip, host_port=host, container_port=container, protocol=kind)
        for host, container in zip(outer, inner, strict=True)
    )


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    low, high = int(first[:6]), int((last or first)[:6])
    if not 1 <= low <= high <= 65535:
        raise bad(
            "bad-port", f"{quoted(text)} is not a port or a range of ports", "1 to 65535, the smaller first"
        )
    return range(low, high + 1)


def _address(text: str | None) -> str:
    try:
        return str(ipaddress.ip_address((text or _LOOPBACK).strip("[]")))
    except ValueError:
        raise bad("bad-port", f"{quoted(text or '')} is not an IP address", _PORT_HINT) from None


def sysctl(key: str, value: Any) -> str:
    """The value of a sysctl that belongs to a namespace of the container; others would change the host."""
    if not _SYSCTL.fullmatch(key):
        raise bad("bad-value", f"{quoted(key)} is not the name of a sysctl", on_key=True)
    if not key.startswith(("net.", "fs.mqueue.")) and key not in MEMORY_SYSCTLS:
        hint = "a container can set net.*, fs.mqueue.* and the kernel.* of shared memory and messages"
        raise bad("bad-value", f"the sysctl {quoted(key)} belongs to the whole host", hint, on_key=True)
    if isinstance(value, bool):
        raise wrong_type(value, "a number or text", f"write `{int(value)}`")
    if value is None:
        raise bad("bad-value", f"{quoted(key)} has no value")
    return text_or_number(value)


def ulimits(value: Any) -> dict[str, Ulimit]:
    """A mapping of resources of setrlimit(2), lower case, to a number or {soft, hard}."""
    return map_of(_ulimit, "a mapping of resource limits")(value)


def _ulimit(name: str, value: Any) -> Ulimit:
    if name not in RLIMITS:
        fault = unknown(name, "resource", RLIMITS)
        raise bad(fault.problems[0].code, fault.problems[0].message, fault.problems[0].hint, on_key=True)
    if not isinstance(value, dict):
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, "a number, or a mapping with `soft` and `hard`")
        limit = _LIMIT(value)
        return Ulimit(soft=limit, hard=limit)
    found = fields_of(value, {"soft": _LIMIT, "hard": _LIMIT}, "a mapping with `soft` and `hard`")
    if missing := [key for key in ("soft", "hard") if key not in found]:
        raise bad(
            "missing-key", f"the limit has no `{missing[0]}`", "give both `soft` and `hard`, or one number"
        )
    if found["soft"] > found["hard"]:
        message = f"soft limit {written(value['soft'])} is above hard limit {written(value['hard'])}"
        raise bad("bad-value", message, "the kernel refuses it (setrlimit(2)): raise `hard` or lower `soft`")
    return Ulimit(**found)


def healthcheck(value: Any) -> dict[str, Any]:
    """A mapping; returned as those fields of Healthcheck that are written, so that `extends` can merge it."""
    readers = {
        "test": _test,
        "http": _http,
        "tcp": _PORT_NUMBER,
        "interval": duration(0.001),
        "timeout": duration(0.001),
        "start_period": duration(),
        "retries": whole(1, 10_000),
        "disable": boolean,
    }
    found = fields_of(value, readers, "a mapping with `test`, `http` or `tcp`")
    probes = [key for key in ("test", "http", "tcp") if key in found]
    if len(probes) > 1:
        message = f"`{probes[0]}` and `{probes[1]}` are two ways to ask"
        raise bad("bad-combination", message, "keep one of `test`, `http`, `tcp`").below(probes[1])
    if found.get("disable") and probes:
        raise bad("bad-combination", f"`disable: true` and `{probes[0]}` contradict", "keep one").below(
            "disable"
        )
    if found.get("test") == ("NONE",):
        found = {"disable": True}
    names = {"interval": "interval_s", "timeout": "timeout_s", "start_period": "start_period_s"}
    return {names.get(key, key): item for key, item in found.items()}


def _test(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        if not value.strip():
            raise bad("bad-value", "the command is empty")
        return ("CMD-SHELL", value)
    found: tuple[str, ...] = list_of(text_or_number, "a command as text, or a list that starts with CMD")(
        value
    )
    kind, rest = (found[0] if found else ""), found[1:]
    if kind not in ("CMD", "CMD-SHELL", "NONE"):
        hint = f"write [CMD, {shlex.quote(kind)}, …]" if kind else "write [CMD, PROGRAM, …]"
        raise bad("bad-value", "the list does not start with CMD, CMD-SHELL or NONE", hint)
    if (kind == "NONE") == bool(rest) or (kind == "CMD-SHELL" and len(rest) != 1):
        wanted = {"NONE": "nothing", "CMD": "a program", "CMD-SHELL": "one line of shell"}[kind]
        raise bad("bad-value", f"after {kind} comes {wanted}")
    return found


def _http(value: Any) -> HttpProbe:
    if not isinstance(value, str):
        raise wrong_type(value, "a URL such as `http://:8080/`")
    fault = _bad_url(value)
    try:
        url = urlsplit(value)
        port = url.port or 80
    except ValueError:
        raise fault from None
    host = url.netloc.removesuffix(f":{url.netloc.rpartition(':')[2]}") if url.port else url.netloc
    if url.scheme != "http" or url.fragment or host not in _LOOPBACKS or not value.isascii() or " " in value:
        raise fault
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return HttpProbe(port=port, path=path)


def _bad_url(value: str) -> Problems:
    hint = "http://:PORT/PATH; it is asked for on the container's own loopback"
    if value.startswith("https:"):
        hint = "TLS is not probed: use `tcp: PORT`, or http on another port"
    return bad("bad-value", f"{quoted(value)} is not a URL that can be probed", hint)
