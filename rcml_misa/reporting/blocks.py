"""Tables that can be shown in any form: text, Markdown, LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Block", "Form", "grid", "render"]

Form = Literal["text", "markdown", "latex"]
WIDTH = 100  # of notes as text

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
    "±": r"$\pm$",
    "†": r"$\dagger$",
}


@dataclass(frozen=True)
class Block:
    """A titled table with notes below it.

    Attributes
    ----------
    title : str
    header : sequence of str
    rows : sequence of sequence of str
        The first column names the row.
    notes : sequence of str
    level : int
        Depth of the title's heading in Markdown.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)
    level: int = 3


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first on the left, the others on the right.

    Examples
    --------
    >>> grid(["a", "b"], [["x", "10"], ["long", "2"]])
    ['a      b', 'x     10', 'long   2']
    """
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def render(blocks: Sequence[Block], form: Form) -> str:
    r"""Write tables one after the other.

    Examples
    --------
    >>> print(render([Block("T", ["a", "b %"], [["x_1", "2"]])], "latex"))
    % T
    \begin{tabular}{lr}
    \hline
    a & b \% \\
    \hline
    x\_1 & 2 \\
    \hline
    \end{tabular}
    """
    forms = {"text": _text, "markdown": _markdown, "latex": _latex}
    return "\n\n".join("\n".join(forms[form](block)) for block in blocks)


def _text(block: Block) -> list[str]:
    notes = [line for note in block.notes for line in textwrap.wrap(note, WIDTH)]
    return [block.title, *grid(block.header, block.rows), *notes]


def _markdown(block: Block) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    ruler = "|---|" + "---:|" * (len(block.header) - 1)
    table = [line(block.header), ruler, *map(line, block.rows)]
    notes = ["", *(f"{note}  " for note in block.notes)] if block.notes else []
    return [f"{'#' * block.level} {block.title}", "", *table, *notes]


def _latex(block: Block) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    return [
        f"% {block.title}",
        rf"\begin{{tabular}}{{l{'r' * (len(block.header) - 1)}}}",
        r"\hline",
        line(block.header),
        r"\hline",
        *map(line, block.rows),
        r"\hline",
        r"\end{tabular}",
        *(f"% {note}" for note in block.notes),
    ]


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
