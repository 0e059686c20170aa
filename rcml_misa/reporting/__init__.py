"""Tables for the terminal, Markdown, CSV and JSON."""

from rcml_misa.reporting.tables import (
    as_csv,
    as_json,
    as_markdown,
    as_text,
    comparison_lines,
    uncertainty_lines,
)

__all__ = [
    "as_csv",
    "as_json",
    "as_markdown",
    "as_text",
    "comparison_lines",
    "uncertainty_lines",
]
