"""Findings as text for people; what `validate` itself says when it fails is the same text."""

from __future__ import annotations

from pipeline.checks.text import counts, finding_value, read_finding, render_findings, summary

__all__ = ["counts", "finding_value", "read_finding", "render_findings", "summary"]
