"""umoci: its argv for unpacking, and what its failures mean."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap
from pipeline.run import Result, require, run

# umoci is fed tars without content (oci/skeleton.py): a file that grows beyond this is a fault.
_FILE_BYTES = 1 << 20
_LINES_SHOWN = 3
_NOISE = re.compile(r"[^\x20-\x7e]+")


def raw_unpack(
    folder: Path, layout: str, tag: str, rootfs: str, mapping: IdMap, *, timeout_s: float, log: Path
) -> None:
    """Unpack the image `tag` of the layout `folder/layout` into `folder/rootfs`, owners mapped.

    `raw` writes no config.json and never looks at the image's /etc/passwd, which `umoci unpack` would follow
    out of the rootfs, and no mtree. Raises PipelineError `umoci-failed`, `no-space`, `missing-tool`.
    """
    require("umoci", "unpack images")
    argv = [
        *("umoci", "raw", "unpack"),
        # Relative, since umoci takes what follows the first colon of a path for a tag.
        *("--image", f"{layout}:{tag}"),
        *_maps(mapping),
        rootfs,
    ]
    limits = {resource.RLIMIT_FSIZE: _FILE_BYTES}
    result = run(argv, timeout_s=timeout_s, check=False, cwd=folder, limits=limits)
    with log.open("a") as file:
        file.write(f"{result.stdout}{result.stderr}")
    if result.returncode:
        raise _failure(result, log)


def _maps(mapping: IdMap) -> list[str]:
    if mapping.is_identity:
        return []
    mapped = f"0:{mapping.host_id}:{mapping.size}"
    return ["--uid-map", mapped, "--gid-map", mapped]


def _failure(result: Result, log: Path) -> PipelineError:
    said = result.stderr + result.stdout
    if "no space left on device" in said or "disk quota exceeded" in said:
        return PipelineError(
            "no-space", f"umoci found no space left below {log.parents[1]}", hint="make room and run again"
        )
    # A Go trace helps nobody here; the log has it.
    traced = re.search(r"^(panic:|fatal error:|goroutine \d+)", said, re.MULTILINE)
    lines = ["it crashed"] if traced else _last_lines(said)
    return PipelineError(
        "umoci-failed",
        "\n".join([f"umoci {result.ended} while unpacking", *(f"  {line}" for line in lines)]),
        hint=f"the whole output is in {log}",
    )


def _last_lines(said: str) -> list[str]:
    lines = [_NOISE.sub(" ", line).strip() for line in said.splitlines()]
    return [line for line in lines if line][-_LINES_SHOWN:]
