"""The command `predict`: a model's answers about the rows of a file, as csv."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from uuid import uuid4

import click

if TYPE_CHECKING:
    from rcml_misa.cli.answers import Tally

__all__ = ["predict"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Write the answers here.  [default: standard output]",
)
@click.option("--per-view", is_flag=True, help="Add each view's own class, belief, uncertainty.")
@click.option(
    "--reject-above",
    type=float,
    metavar="U",
    help="Mark rows of a larger uncertainty, from 0 to 1, as refused.",
)
@click.option(
    "--coverage", type=float, metavar="C", help="Keep this share of the rows, the surest ones."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: as it was fitted]"
)
@click.option("--chunk", default=2048, show_default=True, metavar="N", help="Rows at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def predict(
    model: Path,
    file: Path,
    out: Path | None,
    per_view: bool,
    reject_above: float | None,
    coverage: float | None,
    device: str | None,
    chunk: int,
    as_json: bool,
) -> None:
    """Answer the rows of FILE by the model file MODEL.

    FILE has the columns or arrays that `fit` saw, of any kind that `fit` reads; the target is not
    needed. Csv, tsv, parquet and HDF5 files may be larger than memory. Each row gets its class,
    probability, uncertainty, degree of conflict and the two views in greatest conflict.
    """
    from rcml_misa.cli.answers import Tally, answers, mark_refused, model_layout, write_answers
    from rcml_misa.cli.fit import refuse_same
    from rcml_misa.cli.session import check_numbers
    from rcml_misa.estimators.files import load_with_header
    from rcml_misa.exceptions import OptionError

    check_numbers(chunk=(chunk, 1))
    if reject_above is not None and coverage is not None:
        raise click.UsageError("--reject-above and --coverage both refuse rows; give one of them")
    for name, value in (("reject-above", reject_above), ("coverage", coverage)):
        if value is not None and not 0 < value <= 1:
            raise OptionError(f"--{name} {value} is not above 0 and up to 1.")
    if out is not None:
        refuse_same(out, model, file)
    fitted, header = load_with_header(model, device=device)  # type: ignore[arg-type]
    if not hasattr(fitted, "predict_opinion") or not hasattr(fitted, "classes_"):
        raise OptionError(
            f"{model} holds a {type(fitted).__name__}, which gives no opinion of classes; read it "
            "with rcml_misa.load and call its predict."
        )
    layout = model_layout(fitted, header)
    tally = Tally()
    tables = answers(fitted, file, layout, tally, per_view=per_view, rows=chunk)
    limit = reject_above
    with _output(out) as stream:
        if coverage is None:
            write_answers(tables, stream, tally, limit=limit)
        else:
            with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as written:
                write_answers(tables, written, tally, limit=None)
                limit = tally.threshold(coverage)
                written.seek(0)
                mark_refused(written, stream, tally, limit=limit)
    facts = _facts(tally, limit, out)
    text = json.dumps(facts, allow_nan=False) if as_json else _summary(facts)
    click.echo(text, err=out is None)


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is written whole or not at all."""
    from rcml_misa.exceptions import DataError

    if out is None:
        yield sys.stdout
        return
    if out.is_dir():
        raise DataError(f"{out} is a folder; give --out the name of a file in it.")
    temporary = out.with_name(f".writing-{uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        temporary.replace(out)
    except OSError as error:
        raise DataError(
            f"{out} can't be written ({error.strerror}); give a file in a folder that exists."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _facts(tally: Tally, limit: float | None, out: Path | None) -> dict[str, Any]:
    return {
        "rows": tally.rows,
        "labelled": sum(one < 2 for one in tally.right),
        "accuracy": tally.accuracy(),
        "reject_above": limit,
        "refused": tally.refused if limit is not None else None,
        "accuracy_of_kept": None if limit is None else tally.accuracy(limit),
        "out": None if out is None else str(out),
    }


def _summary(facts: dict[str, Any]) -> str:
    lines = [f"{facts['rows']} rows"]
    if facts["labelled"]:
        lines.append(f"{100 * facts['accuracy']:.2f} % right of {facts['labelled']} with a label")
    if facts["refused"] is not None:
        kept = facts["rows"] - facts["refused"]
        text = f"{facts['refused']} refused, of uncertainty above {facts['reject_above']:.4g}"
        if facts["accuracy_of_kept"] is not None:
            text += f"; {100 * facts['accuracy_of_kept']:.2f} % right of the {kept} kept"
        lines.append(text)
    if facts["out"] is not None:
        lines.append(f"written: {facts['out']}")
    return "\n".join(lines)
