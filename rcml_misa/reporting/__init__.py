"""Tables of results in every form, the pages of experiments, and figures."""

from rcml_misa.reporting.pages import (
    comparison_json,
    experiment_page,
    experiment_tables,
    measures_json,
    results_json,
)
from rcml_misa.reporting.render import PAGE_WIDTH, Form, html_page, render, terminal_width, wrapped
from rcml_misa.reporting.table import Column, Number, Numbers, Table, Text

__all__ = [
    "PAGE_WIDTH",
    "Column",
    "Form",
    "Number",
    "Numbers",
    "Table",
    "Text",
    "comparison_json",
    "experiment_page",
    "experiment_tables",
    "html_page",
    "measures_json",
    "render",
    "results_json",
    "terminal_width",
    "wrapped",
]
