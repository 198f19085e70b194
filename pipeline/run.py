"""The only door to a process: argv lists, a clean environment, a log, a time limit, death with the parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from pipeline.errors import PipelineError

# All that a tool may see of our environment: enough to find programs, an authfile, a proxy, a CA.
_PASSED_ON = frozenset(
    "PATH HOME TMPDIR XDG_RUNTIME_DIR REGISTRY_AUTH_FILE DOCKER_CONFIG SSL_CERT_FILE SSL_CERT_DIR "
    "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy".split()
)
# Debian keeps runtimes and mount tools here, outside an ordinary user's PATH.
_SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_STOP_GRACE_S = 2.0

Argument = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """A process that has ended. `returncode` is minus the signal's number when one ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        if self.returncode < 0:
            return f"was ended by {signal.Signals(-self.returncode).name}"
        if self.returncode == 127:
            return "was not found (exit 127)"
        return f"exited {self.returncode}"


class ToolFailed(PipelineError):
    """A tool that exited non-zero or ran out of time; `result` has what it said."""

    def __init__(self, result: Result, message: str, hint: str | None = None) -> None:
        super().__init__("tool-failed", message, hint=hint)
        self.result = result


class Process:
    """A process that is running; ended by `stop()` if it outlives its block."""

    def __init__(self, popen: subprocess.Popen[bytes], argv: tuple[str, ...], opened: ExitStack) -> None:
        self._popen = popen
        self._opened = opened
        self._started = time.monotonic()
        self.argv = argv
        self.pid = popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._popen.poll()

    def stop(self) -> None:
        """End the whole process group, gently and then for sure; a process that has ended is fine."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._popen.poll() is not None:
                break
            _signal_group(self.pid, number)
            try:
                self._popen.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        self._opened.close()

    def wait(self, timeout_s: float, input: bytes | None = None) -> Result:
        """Wait for the end and return it. Raises ToolFailed when `timeout_s` passes first."""
        try:
            out, err = self._popen.communicate(input, self._await_end(timeout_s))
        except subprocess.TimeoutExpired:
            self.stop()
            raise ToolFailed(
                self._result(b"", b""), f"{self.argv[0]} did not end within {timeout_s:g} s and was stopped"
            ) from None
        except BaseException:
            self.stop()
            raise
        self._opened.close()
        return self._result(out or b"", err or b"")

    def _await_end(self, timeout_s: float) -> float:
        """Wait where there is no pipe to read; return the seconds that are left.

        `subprocess` would look for the end every 50 ms; pidfd_open(2) tells it at once.
        """
        if self._popen.stdin or self._popen.stdout or self._popen.stderr:
            return timeout_s
        begun = time.monotonic()
        pidfd = os.pidfd_open(self.pid)
        try:
            watch = select.poll()
            watch.register(pidfd, select.POLLIN)
            watch.poll(timeout_s * 1000)
        finally:
            os.close(pidfd)
        return max(0.0, begun + timeout_s - time.monotonic())

    def _result(self, out: bytes, err: bytes) -> Result:
        return Result(
            self.argv,
            self._popen.returncode,
            out.decode(errors="replace"),
            err.decode(errors="replace"),
            time.monotonic() - self._started,
        )


def run(
    argv: Sequence[Argument],
    *,
    timeout_s: float,
    check: bool = True,
    input: bytes | None = None,
    **options: Any,
) -> Result:
    """Run a program to its end and return what it said.

    `options` are those of `start`. Raises ToolFailed when it runs longer than `timeout_s` seconds or,
    with `check`, exits non-zero; PipelineError `missing-tool` when there is no such program.
    """
    process = start(argv, stdin=subprocess.PIPE if input is not None else None, **options)
    result = process.wait(timeout_s, input)
    if check and result.returncode:
        said = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()][-5:]
        log = options.get("log")
        raise ToolFailed(
            result,
            "\n".join([f"{result.argv[0]} {result.ended}", *(f"  {line.strip()}" for line in said)]),
            hint=f"the whole output is in {log}" if log else None,
        )
    return result


def start(
    argv: Sequence[Argument],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    limits: Mapping[int, int] | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a program in its own process group; it dies with the thread that started it.

    The environment is `_PASSED_ON` of ours plus `env`. Output is captured, or appended to the file
    `log`, or goes where `stdout` and `stderr` say. `limits` maps RLIMIT_AS, _CPU, _FSIZE or _NOFILE
    to bytes, seconds or a count.
    """
    words = tuple(os.fspath(word) for word in argv)
    program = _find(words[0])
    with ExitStack() as opened:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            sink = opened.enter_context(open(log, "ab"))
            stdout, stderr = stdout or sink, stderr or sink
        popen = subprocess.Popen(
            [*_wrapper(limits or {}), program, *words[1:]],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr,
            cwd=cwd,
            env=_environment(env or {}),
            pass_fds=pass_fds,
            process_group=0,
            umask=0o022,
        )
        return Process(popen, (os.path.basename(words[0]), *words[1:]), opened.pop_all())
    raise AssertionError("unreachable")


def which(name: str) -> Path | None:
    """Return the program's path, looking in the system folders as well as in PATH, or None."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in (*folders, *_SYSTEM_PATHS):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return Path(path)
    return None


def require(name: str, purpose: str) -> Path:
    """Return the program's path. Raises PipelineError `missing-tool` with the lines that install it."""
    path = which(name)
    if path is None:
        raise PipelineError(
            "missing-tool", f"{name}, needed to {purpose}, is not installed", hint=_how_to_install(name)
        )
    return path


def _how_to_install(name: str) -> str | None:
    from pipeline.packages import install_lines

    try:
        return "\n".join(["./bootstrap installs it; or:", *install_lines([name]).values()])
    except KeyError:
        return None


def _find(name: str) -> str:
    return name if os.sep in name else os.fspath(require(name, "go on"))


def _wrapper(limits: Mapping[int, int]) -> list[str]:
    # setpriv sets the death signal after fork and before exec without Python code in the child,
    # which is not safe in a process with threads.
    setpriv = require("setpriv", "start any tool")
    wrapper = [os.fspath(setpriv), "--pdeathsig", "KILL", "--"]
    if limits:
        import resource

        names = {
            getattr(resource, f"RLIMIT_{name}"): name.lower() for name in ("AS", "CPU", "FSIZE", "NOFILE")
        }
        flags = [f"--{names[number]}={value}" for number, value in limits.items()]
        wrapper = ["prlimit", *flags, "--", *wrapper]
    return wrapper


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    env["PATH"] = os.pathsep.join([env.get("PATH", os.defpath), *_SYSTEM_PATHS])
    return {**env, "LANG": "C.UTF-8", **extra}


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
