"""Which spellings of a platform mean the same one."""

from __future__ import annotations

from pipeline.model.nouns import Platform

# The variant that an architecture means when it names none (image-index.md, "Platform Variants";
# containerd's `platforms.Normalize` has the same table).
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64", "x86-64": "amd64", "armhf": "arm", "i386": "386"}


def canonical_platform(platform: Platform | str) -> str:
    """Return the shortest spelling: linux/arm64/v8 is linux/arm64. Raises PipelineError `bad-platform`."""
    parsed = Platform.parse(str(platform))
    architecture = _ARCHITECTURES.get(parsed.architecture, parsed.architecture)
    variant = parsed.variant if not parsed.variant.isdigit() else f"v{parsed.variant}"
    if variant == _DEFAULT_VARIANTS.get(architecture):
        variant = ""
    return str(Platform(parsed.os, architecture, variant))
