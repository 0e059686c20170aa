"""Figures of runs, in one look: losses, subspaces, attention, conflict, uncertainty, calibration.

They need the extra `plot`. Draw them inside `in_style`.
"""

from rcml_misa.reporting.figures.runs import FIGURES, Runs, draw, find_runs
from rcml_misa.reporting.figures.style import in_style, save

__all__ = ["FIGURES", "Runs", "draw", "find_runs", "in_style", "save"]
