"""Temperatures, conformal sets and intervals, and scales of scores, fitted on held-out rows."""

__all__: list[str] = []
