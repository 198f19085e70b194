"""A build of the stand-in against the plain commands, and a changed spec against both; paired in one run.

    python -m tests.bench.coldbuild [ROUNDS]

"plain" is what a user would script: skopeo copy from the registry, umoci unpack. Outputs are moved
aside between rounds, not deleted, so that no deletion is charged to the next row.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.files import remove_tree
from pipeline.paths import STATE_HOME
from tests.conftest import Workspace, make_workspace, remove_workspace
from tests.registry import running_registry
from tests.standin.build import REFERENCE, layout

NAME = "bench-standin"
_PLAIN = """
skopeo copy --quiet --src-tls-verify=false docker://{image} oci:image:latest
umoci unpack --uid-map 0:2000000000:65536 --gid-map 0:2000000000:65536 --image image:latest bundle
"""


def main(rounds: int) -> None:
    """Measure `rounds` times each row, interleaved, and print medians and ratios."""
    rows: dict[str, list[float]] = {name: [] for name in ("plain", "cold", "spec", "seccomp", "tmpfs")}
    scratch = Path(tempfile.mkdtemp(prefix="cooperage-bench-", dir="/var/tmp"))
    workspace = make_workspace()
    try:
        with running_registry(scratch / "registry") as registry:
            registry.push(f"oci:{layout()}:{REFERENCE}", "stremio:server")
            image = f"{registry.address}/stremio:server"
            workspace.spec(NAME, f"extends: stremio-server\nimage: docker://{image}\n")
            workspace.doit("update", NAME)
            for number in range(rounds):
                _round(workspace, scratch, image, number, rows)
    finally:
        remove_workspace(workspace)
        remove_tree(scratch)
        remove_tree(STATE_HOME / "volumes" / NAME)
    medians = {name: statistics.median(times) for name, times in rows.items()}
    for name, median in medians.items():
        print(
            f"{name:8} {median:6.2f} s  ({min(rows[name]):.2f}-{max(rows[name]):.2f}, n={rounds})"
            f"  x plain {median / medians['plain']:.3f}  x cold {median / medians['cold']:.3f}"
        )


def _round(
    workspace: Workspace, scratch: Path, image: str, number: int, rows: dict[str, list[float]]
) -> None:
    plain = scratch / f"plain{number}"
    plain.mkdir()
    rows["plain"].append(_time(lambda: _script(plain, _PLAIN.format(image=image))))
    if workspace.out.exists():
        workspace.out.rename(scratch / f"out{number}")
    build = f"bundle:{NAME}"
    rows["cold"].append(_time(lambda: workspace.doit(build)))
    spec = workspace.root / "specs" / f"{NAME}.yaml"
    before = spec.read_text()
    spec.write_text(f"{before}environment: {{ROUND: '{number}'}}\n")
    rows["spec"].append(_time(lambda: workspace.doit(build)))
    profile = workspace.root / "specs" / "seccomp" / "node-server.yaml"
    text = profile.read_text()
    profile.write_text(text.replace("description:", f"description: Round {number}.", 1))
    rows["seccomp"].append(_time(lambda: workspace.doit(build)))
    spec.write_text(f"{before}tmpfs: ['/tmp:size=256m', '/mnt/round{number}:size=1m']\n")
    rows["tmpfs"].append(_time(lambda: workspace.doit(build)))
    spec.write_text(before)
    profile.write_text(text)


def _script(folder: Path, text: str) -> None:
    subprocess.run(["sh", "-euc", text], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _time(action: object) -> float:
    begun = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
