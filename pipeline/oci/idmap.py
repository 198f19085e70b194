"""The one id mapping of a bundle: it decides the rootfs's owners, `uidMappings` and the volumes' owners."""

from __future__ import annotations

from pipeline.errors import PipelineError
from pipeline.model.nouns import IdMap

# Above useradd's subordinate ids (SUB_UID_MAX 600100000) and systemd-nspawn's range (to 1879048191), below
# 2**31; a host id less 2,000,000,000 is the container's.
PRIVATE = IdMap(2_000_000_000, 65536)


def id_map(userns: str) -> IdMap:
    """Return the mapping that the spec key `userns` asks for: `private`, `host` or `BASE:SIZE`.

    Raises PipelineError `bad-userns`.
    """
    if userns == "private":
        return PRIVATE
    if userns == "host":
        return IdMap.identity()
    base, _, size = userns.partition(":")
    if not (base.isdecimal() and size.isdecimal()):
        raise PipelineError("bad-userns", f"`{userns}` is no mapping", hint="private, host, or BASE:SIZE")
    return IdMap(int(base), int(size))
