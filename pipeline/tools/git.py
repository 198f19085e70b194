"""git: the content of a file as it was in a revision."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.run import require, run

_TIMEOUT_S = 30.0


def show(root: Path, revision: str, path: str) -> bytes:
    """Return a file of the checkout `root` as it was in a revision.

    Raises PipelineError `unknown-revision` when there is no such file in it.
    """
    require("git", f"read {path} of {revision}")
    # ":./" counts from the checkout's own folder, wherever in a repository that lies. `--end-of-options`:
    # what begins with a dash is a revision too.
    asked = ["git", "-C", str(root), "show", "--end-of-options", f"{revision}:./{path}"]
    # A checkout may belong to somebody else than root; reading it runs nothing of it.
    safe = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    result = run(asked, timeout_s=_TIMEOUT_S, check=False, env=safe)
    if result.returncode:
        said = next((line for line in result.stderr.splitlines() if line.strip()), "nothing")
        raise PipelineError(
            "unknown-revision", f"there is no {path} in `{revision}`", hint=f"git said: {said}"
        )
    return result.stdout.encode()
