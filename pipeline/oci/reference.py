"""The image references of `model.reference`, where the rooms above look for them."""

from __future__ import annotations

from pipeline.model.reference import Reference

__all__ = ["Reference"]
