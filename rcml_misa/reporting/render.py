"""The renderers of tables: text by rich, Markdown, LaTeX and HTML by templates, CSV, JSON."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from rcml_misa.exceptions import printable
from rcml_misa.reporting.table import Cell, Table, Text

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "PAGE_WIDTH",
    "Form",
    "html_page",
    "markdown_text",
    "render",
    "table_json",
    "terminal_width",
    "wrapped",
]

Form = Literal["text", "markdown", "latex", "csv", "json", "html"]

PAGE_WIDTH = 100  # characters of pages and files, which must not depend on a terminal
LEAST_WIDTH = 40  # narrower terminals are written to as if they had this width
GAP = 2  # characters between two columns

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "[": "{[}",  # after a line's end it would be an option of that end
    "]": "{]}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
}


def terminal_width() -> int:
    """Width of the terminal; 80 where stdout is none and COLUMNS does not say otherwise."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    declared = os.environ.get("COLUMNS", "")
    return int(declared) if declared.isdecimal() and int(declared) else 80


def wrapped(text: str, width: int) -> str:
    """Wrap a heading at spaces; words that are longer, such as paths, stay whole."""
    return textwrap.fill(printable(text), max(width, LEAST_WIDTH), break_long_words=False)


def render(tables: Sequence[Table], form: Form, *, width: int = PAGE_WIDTH) -> str:
    """Write tables one after the other.

    Parameters
    ----------
    tables : sequence of Table
    form : {"text", "markdown", "latex", "csv", "json", "html"}
        CSV and JSON hold the numbers at full precision and fractions where people see percent.
    width : int
        Most characters of a line of text, at least 40; a table with too many columns is split
        into blocks of columns, each of which repeats the first ones.

    Examples
    --------
    >>> from rcml_misa.reporting.table import Number
    >>> table = Table.of("T", ["method", "clean %"], [["lda", Number(0.5, scale=100)]])
    >>> print(render([table], "text"))
    T
    method  clean %
    lda       50.00
    >>> print(render([table], "csv"))
    method,clean
    lda,0.5
    """
    if form == "json":
        return json.dumps([table_json(table) for table in tables], allow_nan=False)
    return "\n\n".join(_rendered(table, form, max(width, LEAST_WIDTH)) for table in tables)


def html_page(title: str, tables: Sequence[Table]) -> str:
    """Write one self-contained HTML document of tables."""
    template = _templates().get_template("page.html")
    return template.render(title=title, tables=render(tables, "html")) + "\n"


def _rendered(table: Table, form: Form, width: int) -> str:
    """Write one table in a form other than JSON."""
    if form == "text":
        return _text(table, width)
    if form == "csv":
        keys, rows = table.plain()
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([keys, *rows])
        return stream.getvalue().removesuffix("\n")
    ending = {"markdown": "md", "latex": "tex", "html": "html"}[form]
    return _templates().get_template(f"table.{ending}").render(table=table).removesuffix("\n")


@cache
def _templates() -> Environment:
    """Load the templates; their brackets are square, as LaTeX has its own use for braces."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - each form escapes by its own filter
        loader=PackageLoader("rcml_misa.reporting"),
        variable_start_string="[[",
        variable_end_string="]]",
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"markdown": markdown_text, "latex": _latex, "html": _html}
    return environment


# column, emphasis, code, tag, entity, struck text, and the middle of a link or a picture
_MARKUP = re.compile(
    r"[\\|*`]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|~(?=~)|(?<![\w_])_(?=\S)|(?<=\])(?=[(\[:])"
)


def markdown_text(content: Cell | str) -> str:
    r"""Escape what Markdown would read as a column, an emphasis, code, a tag or a link.

    Examples
    --------
    >>> print(markdown_text("[a](b) <b>|* 1 < 2"))
    [a]\(b) \<b>\|\* 1 < 2
    """
    return _MARKUP.sub(lambda found: "\\" + found[0], printable(str(content)))


def _latex(content: Cell | str) -> str:
    """Escape LaTeX's own characters; a mark is raised."""
    if isinstance(content, Text) and content.mark:
        mark = {"†": r"\dagger"}.get(content.mark, _latex(content.mark))
        return f"{_latex(content.text)}$^{{{mark}}}$"
    escaped = "".join(_LATEX.get(letter, letter) for letter in printable(str(content)))
    return escaped.replace("--", "-{}-")  # two hyphens would become a dash


def _html(content: Cell | str) -> str:
    """Escape HTML's own characters; a mark is raised."""
    if isinstance(content, Text) and content.mark:
        return f"{_html(content.text)}<sup>{_html(content.mark)}</sup>"
    return html.escape(printable(str(content)))


def _text(table: Table, width: int) -> str:
    """Write blocks of columns that fit the width, between the title and the notes."""
    from rich.align import Align
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text as Line

    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, legacy_windows=False)
    console.print(Line(printable(table.title), overflow="fold"))
    for number, widths in enumerate(_blocks(table, width)):
        if number:
            console.print()
        grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
        for place, characters in widths.items():
            column = table.columns[place]
            heading = Align(Line(printable(column.heading)), column.align, vertical="bottom")
            grid.add_column(heading, justify=column.align, width=characters, overflow="fold")
        for row in table.rows:
            grid.add_row(*(Line(str(row[place])) for place in widths))
        console.print(grid)
    for note in table.notes:
        console.print(Line(printable(note), overflow="fold"))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _blocks(table: Table, width: int) -> list[dict[int, int]]:
    """Blocks of columns that fit the width: each column's place and its characters."""
    bounds = [_bounds(table, place, width) for place in range(len(table.columns))]
    stubs = list(range(min(table.stubs, len(table.columns))))
    others = range(len(stubs), len(table.columns))

    def filled(most: int) -> list[list[int]]:
        """Fill blocks with at most so many columns each, while their least widths fit."""
        blocks: list[list[int]] = [[]]
        for place in others:
            least = sum(bounds[each][0] + GAP for each in (*stubs, *blocks[-1], place)) - GAP
            if blocks[-1] and (least > width or len(blocks[-1]) == most):
                blocks.append([])
            blocks[-1].append(place)
        return blocks

    blocks = filled(len(others))
    # the same number of blocks with about as many columns each, where they fit
    even = filled(-(-len(others) // len(blocks)))
    blocks = even if len(even) == len(blocks) else blocks
    return [_fitted([*stubs, *block], bounds, width, table) for block in blocks]


def _bounds(table: Table, place: int, width: int) -> tuple[int, int]:
    """Least and natural characters of a column."""
    from rich.cells import cell_len

    column = table.columns[place]
    cells = [row[place] for row in table.rows]
    heading = printable(column.heading)
    natural = max((cell_len(str(cell)) for cell in cells), default=1)
    high = max(natural, cell_len(heading), 1)
    # a number is never broken, a long word of a text or a heading is
    whole = max((_longest(cell) for cell in cells if not isinstance(cell, Text)), default=1)
    words = min(max(map(_longest, cells), default=1), width // 3)
    least = max(whole, words, min(_longest(heading), max(12, width // 4)))
    if column.align == "left":
        return max(least, min(high, width // 4)), high
    # what stands on the right is wrapped only where it would fill half the line
    return max(least, natural) if natural <= width // 2 else least, max(high, least)


def _longest(text: Cell | str) -> int:
    """Characters of the longest word."""
    from rich.cells import cell_len

    return max(map(cell_len, str(text).split()), default=1)


def _fitted(
    places: Sequence[int], bounds: Sequence[tuple[int, int]], width: int, table: Table
) -> dict[int, int]:
    """Share the width among columns: the least of each, then what names rows, then the rest."""
    widths = {place: bounds[place][0] for place in places}
    left = width - sum(widths.values()) - GAP * (len(places) - 1)
    for place in sorted(places, key=lambda each: table.columns[each].align != "left"):
        more = min(max(left, 0), bounds[place][1] - widths[place])
        widths[place] += more
        left -= more
    while left < 0 and max(widths[place] for place in places[: table.stubs]) > 1:
        widest = max(places[: table.stubs], key=lambda each: widths[each])
        widths[widest] -= 1
        left += 1
    return widths


def table_json(table: Table) -> dict[str, Any]:
    """Give a table's numbers at full precision as one JSON object."""
    keys, rows = table.plain()
    return {
        "title": table.title,
        "columns": keys,
        "rows": [dict(zip(keys, row, strict=True)) for row in rows],
        "notes": list(table.notes),
    }
