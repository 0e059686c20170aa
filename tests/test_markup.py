"""Titles, labels and names reach pages as text and terminals without control codes."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from rcml_misa.cli import console, session
from rcml_misa.reporting import experiment_page, html_page, render
from rcml_misa.reporting.render import markdown_text
from rcml_misa.reporting.table import Number, Table
from rcml_misa.results import RunRecord

HOSTILE = (
    "<script>alert(1)</script>",
    "![x](http://tracker/x.png)",
    "[x](javascript:alert(1))",
    "[x][y]",
    "[x]: http://tracker",
    "a | b | c",
    "```",
    "`code` **bold** _slanted_ ~~struck~~",
    "&lt;b&gt; &#60;",
    "two\n\n# lines",
    "\x1b[31mred\x1b[0m \x07\x9b2J",
    "\u202etxt.exe",
    "[red]rich[/] [/nothing] [link=http://x]y[/link]",
)
CONTROLS = re.compile(r"[^\n -~\u00a1-\u200a\u2010-\u2027\u2030-\uffff]")


def records(text: str) -> list[RunRecord]:
    """Make two runs of a method and of one that is called by a text, on a set that is, too."""
    common = {
        "default": True,
        "config": {},
        "versions": {"rcml-misa": text},
        "data_sha256": "0" * 64,
        "train_rows": 8,
        "test_rows": 4,
        "timing": {"fit_seconds": 1.0, "predict_seconds": 0.5},
    }
    return [
        RunRecord(
            dataset=text,
            method=method,
            variant=variant,
            run=run,
            seed=run,
            metrics={"clean": {"accuracy": 0.5 + 0.1 * run}},
            correct={"clean": "1100"},
            rows=[1, 2, 3, 4],
            **common,
        )
        for method, variant in (("lda", "-"), ("rcml", text))
        for run in range(2)
    ]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("full", [False, True])
def test_pages_of_experiments(text, full) -> None:
    page = experiment_page(records(text), title=text, command=f"a/{text}.toml", full=full)
    assert not CONTROLS.search(page)
    lines = page.splitlines()
    assert sum(line.startswith("# ") for line in lines) == 1
    fences = [line for line in lines if set(line) == {"`"} and len(line) > 2]
    inside = fenced = None
    outside = []
    for line in lines:  # a fence ends at a line of as many ticks or more
        if inside is None and re.fullmatch("`{3,}", line):
            inside = line
        elif inside is not None and line.startswith(inside) and set(line) == {"`"}:
            inside, fenced = None, True
        elif inside is None:
            outside.append(line)
    assert inside is None
    assert bool(fenced) == full == bool(fences)
    bare = [re.sub(r"\\.", "", line) for line in outside]
    written = "\n".join(re.sub(r"`[^`]*`", "", line) for line in bare)
    assert not re.search(r"<[a-z/!]|\]\(|\]\[|\]: |&lt;|`|\*\*|(?<!\w)_\w|~~", written)
    # every row of a table has the cells that its head has
    for line in outside:
        if line.startswith("|") and "|---" not in line:
            head = next(x for x in reversed(outside[: outside.index(line) + 1]) if "|" in x)
            assert line.replace(r"\|", "").count("|") == head.replace(r"\|", "").count("|")


@pytest.mark.parametrize("text", HOSTILE)
def test_every_form_of_a_table(text) -> None:
    table = Table.of(text, [text, "clean %"], [[text, Number(0.5)]], [text])
    for form in ("text", "markdown", "latex", "html"):
        assert not CONTROLS.search(render([table], form).replace("†", ""))
    page = html_page(text, [table])
    assert not CONTROLS.search(page)
    assert not re.search(r"<script|<b>|<img", page)
    rows = render([table], "markdown").splitlines()
    assert rows[2].replace(r"\|", "").count("|") == 3


def test_plain_words_are_left_as_they_are() -> None:
    for text in ("tied 1/0.5/1", "C=0.5", "a_b__c", "p < 0.05", "[0, 1]", "R&D", "~2 s", "50 %"):
        assert markdown_text(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_of_commands(text, capsys) -> None:
    console.echo(f"digits: {text}")
    console.echo(text, err=True)
    out, err = capsys.readouterr()
    assert not CONTROLS.search(out + err)
    assert not CONTROLS.search(console.sentence(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_progress_shows_labels_as_they_are(text, monkeypatch) -> None:
    stream = io.StringIO()
    made = records(text)[2:]

    def on_stream(**options) -> Console:
        return Console(file=stream, width=200, **{**options, "stderr": False})

    monkeypatch.setattr("rich.console.Console", on_stream)
    board = session._Board([], [], cells=True)
    board.planned.update({(text, f"rcml {text}"): 2})
    for record in made:
        board.count(record)
    shown = stream.getvalue()
    assert not CONTROLS.search(shown)
    assert console.printable(text).strip()[:9] in shown
    assert shown.count("accuracy") <= 1
    assert replace(made[0], variant="x").label == "rcml x"
