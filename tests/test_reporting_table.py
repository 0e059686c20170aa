"""The table type and its renderers: widths, whole numbers, escapes, values for machines."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from rcml_misa.reporting.render import html_page, render, terminal_width
from rcml_misa.reporting.table import Cell, Column, Number, Numbers, Table, Text

SIMPLE = Table.of(
    "A title", ["method", "x %", "y"], [["a_b", "1.0 ± 2", "<0.001"], ["c|d", "-", "†"]]
)
PATIENT: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
HOSTILE = "<script>&\"'\\|*`_#$%{}~^[x]--\x1b[31m\n\t±†"

numbers = st.builds(
    Number,
    st.one_of(st.floats(), st.integers(-(10**15), 10**15)),
    st.integers(0, 6),
    st.sampled_from([1, 100]),
    st.booleans(),
    st.sampled_from([-math.inf, 0.001]),
)
groups = st.builds(
    lambda values, form: Numbers(tuple(values), form),
    st.lists(numbers, min_size=2, max_size=2),
    st.sampled_from(["{} ± {}", "{} / {}", "[{}, {}]", "{} (p {})", "{}/{}"]),
)
texts = st.builds(Text, st.text(max_size=40), st.sampled_from(["", "*", "†"]))
cells: st.SearchStrategy[Cell] = st.one_of(numbers, groups, texts)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    count = draw(st.integers(1, 9))
    stubs = draw(st.integers(1, min(2, count)))
    headings = draw(st.lists(st.text(max_size=25), min_size=count, max_size=count))
    aligns = ["left"] * stubs + draw(
        st.lists(st.sampled_from(["left", "right"]), min_size=count - stubs, max_size=count - stubs)
    )
    rows = draw(
        st.lists(
            st.tuples(*[texts if place < stubs else cells for place in range(count)]), max_size=4
        )
    )
    columns = tuple(Column(*pair) for pair in zip(headings, aligns, strict=True))
    return Table(
        draw(st.text(max_size=50)),
        columns,
        tuple(rows),
        tuple(draw(st.lists(st.text(max_size=200), max_size=2))),
        stubs=stubs,
    )


@settings(max_examples=40, **PATIENT)
@given(tables(), st.integers(40, 130))
def test_text_keeps_to_its_width_and_breaks_no_number(table: Table, width: int) -> None:
    text = render([table], "text", width=width)
    lines = text.splitlines()
    assert max(map(cell_len, lines), default=0) <= width
    words = {word for line in lines for word in line.split()}
    for row in table.rows:
        for cell in row[table.stubs :]:
            if not isinstance(cell, Text):
                assert set(str(cell).split()) <= words


@settings(max_examples=30, **PATIENT)
@given(tables())
def test_csv_and_json_give_the_values_back(table: Table) -> None:
    keys, rows = table.plain()
    read = list(csv.reader(io.StringIO(render([table], "csv"))))
    assert len(read) == len(rows) + 1 or keys == [""]  # an empty line is no row to csv
    for line, row in zip(read[1:], rows, strict=False):
        for cell, value in zip(line, row, strict=False):
            if isinstance(value, (int, float)):
                assert float(cell) == value
            else:
                assert cell == ("" if value is None else value)
    (found,) = json.loads(render([table], "json"))
    assert found["columns"] == keys
    assert found["rows"] == [dict(zip(keys, row, strict=True)) for row in rows]


class Outline(HTMLParser):
    """The tags and the text of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@settings(max_examples=20, **PATIENT)
@given(tables())
def test_html_has_no_tags_but_its_own(table: Table) -> None:
    outline = Outline(render([table], "html"))
    known = {"table", "caption", "thead", "tbody", "tr", "th", "td", "sup", "p"}
    assert {tag for tag, _ in outline.tags} <= known
    count = len(table.columns)
    assert len(outline.cells) == count * (len(table.rows) + 1)
    scopes = [attrs.get("scope") for tag, attrs in outline.tags if tag == "th"]
    assert scopes == ["col"] * count + ["row"] * table.stubs * len(table.rows)


def test_html_page_stands_alone_and_escapes() -> None:
    page = html_page(HOSTILE, [Table.of(HOSTILE, ["m", HOSTILE], [[Text(HOSTILE, "†"), "1"]])])
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r"(?:src|href)=", page)
    assert "<sup>†</sup>" in page
    assert "<caption>&lt;script&gt;&amp;&quot;&#x27;" in page


@settings(max_examples=20, **PATIENT)
@given(tables())
def test_markdown_has_its_columns(table: Table) -> None:
    lines = render([table], "markdown").split("\n")
    rows = lines[2 : 4 + len(table.rows)]
    for line in rows:
        # a bar ends a cell unless an odd number of backslashes stands before it
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == len(table.columns) + 1
    assert {letter for letter in lines[3]} <= set("|-:")


def test_markdown_is_a_table() -> None:
    lines = render([SIMPLE], "markdown").splitlines()
    assert lines[0] == "### A title"
    assert lines[2] == "| method | x % | y |"
    assert lines[3] == "|---|---:|---:|"
    assert lines[5] == "| c\\|d | - | † |"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines[2:])
    marked = Table.of("T", ["m"], [[Text("a", "*")]], ["*: <b> x < y"])
    assert "| a \\* |" in render([marked], "markdown")
    assert render([marked], "markdown").endswith("\\*: \\<b> x < y  ")


@settings(max_examples=20, **PATIENT)
@given(tables())
def test_latex_has_its_columns_and_no_open_specials(table: Table) -> None:
    lines = render([table], "latex").split("\n")
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == len(table.rows) + 1
    for line in rows:
        assert len(re.findall(r"(?<!\\)&", line)) == len(table.columns) - 1
        assert not re.search(r"(?<!\\)[%#]", line)
        assert line.count("{") - line.count(r"\{") == line.count("}") - line.count(r"\}")


def test_latex_escapes_everything() -> None:
    table = Table.of("50 %", ["a", "b"], [["x_1 & 2 % # $ { } ~ ^ \\", "± < > [ -- "]])
    lines = render([table], "latex").splitlines()
    assert lines[:4] == [
        r"\begin{table}",
        r"\caption{50 \%}",
        r"\begin{tabular}{lr}",
        r"\toprule",
    ]
    assert lines[6] == (
        r"x\_1 \& 2 \% \# \$ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} & "
        r"$\pm$ $<$ $>$ {[} -{}-  \\"
    )
    assert lines[-3:] == [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    marked = Table.of("T", ["m"], [[Text("rcml", "†")], [Text("a_b", "*")]])
    assert r"rcml$^{\dagger}$ \\" in render([marked], "latex")
    assert r"a\_b$^{*}$ \\" in render([marked], "latex")


def test_text_aligns_and_wraps_its_notes() -> None:
    noted = Table.of("T", ["m", "x"], [["a", "1"]], ["word " * 40])
    lines = render([SIMPLE, noted], "text").splitlines()
    assert lines[:4] == [
        "A title",
        "method      x %       y",
        "a_b     1.0 ± 2  <0.001",
        "c|d           -       †",
    ]
    assert max(map(len, lines)) <= 100
    table = Table.of(
        "T", ["name", "x", "long head"], [["a", "1.00", "2"], ["longest", "10.00", ""]]
    )
    assert render([table], "text").splitlines()[1:] == [
        "name         x  long head",
        "a         1.00          2",
        "longest  10.00",
    ]


def test_wide_tables_repeat_what_names_their_rows() -> None:
    rows = [
        [f"method {row}", "mean", *(Number(row + place / 7) for place in range(20))]
        for row in range(3)
    ]
    table = Table.of("T", ["method", "", *map(str, range(20))], rows, stubs=2)
    text = render([table], "text", width=80)
    assert max(map(len, text.splitlines())) <= 80
    blocks = text.split("\n\n")
    assert len(blocks) > 1
    for block in blocks:
        assert [line[:14] for line in block.splitlines()[-3:]] == [
            f"method {row}  mean"[:14] for row in range(3)
        ]
    shown = re.findall(r"\d\.\d\d", text)
    assert sorted(shown) == sorted(
        f"{row + place / 7:.2f}" for row in range(3) for place in range(20)
    )


def test_numbers() -> None:
    assert str(Number(math.nan)) == "-"
    assert str(Number(-0.00001, signed=True)) == "+0.00"
    assert str(Number(0.05, scale=100, signed=True)) == "+5.00"
    assert str(Number(1e-9, 3, least=0.001)) == "<0.001"
    assert str(Number(7, digits=0)) == "7"
    assert str(Number(1e300)) == "1.00e+300"
    assert str(Numbers((Number(math.nan), Number(math.nan)), "[{}, {}]")) == "-"
    assert str(Numbers((Number(1), Number(math.nan)), "{} / {}")) == "1.00 / -"


def test_keys_of_machines() -> None:
    pair = Numbers((Number(0.9, scale=100), Number(0.1, scale=100)), "{} ± {}")
    columns = [Column("method", "left"), Column("clean %", parts=("mean", "std")), Column("p")]
    table = Table.of("T", columns, [["a", pair, Number(math.nan)], ["b", "refused", Number(1)]])
    assert table.plain() == (
        ["method", "clean_mean", "clean_std", "p"],
        [["a", 0.9, 0.1, None], ["b", "refused", None, 1]],
    )


@pytest.mark.parametrize(
    ("columns", "width"), [(None, 80), ("120", 120), ("0", 80), ("x", 80), ("-5", 80)]
)
def test_width_without_a_terminal(monkeypatch, capsys, columns, width) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == width
