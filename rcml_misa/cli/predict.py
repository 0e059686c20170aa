"""The command `predict`: opinions of a model about the rows of a file, as csv.

Rows are answered chunk by chunk at constant memory, but for nine bytes per row.
"""

from __future__ import annotations

import csv
import math
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from rcml_misa.bounds import check_least
from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, echo_json, listed, refuse_same
from rcml_misa.cli.tally import Tally
from rcml_misa.exceptions import DataError, OptionError, shortened

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from rcml_misa.datasets.files import FileLayout, FileRows
    from rcml_misa.reading.preparer import TablePreparer
    from rcml_misa.training import Device

__all__ = ["predict"]

DIGITS = "%.6g"
_REJECT = "Mark rows of a larger uncertainty, from 0 to 1, as refused."


@click.command()
@click.argument("model", type=opt.PATH)
@click.argument("file", type=opt.PATH)
@opt.value("--out", "CSV", "Write the answers here.  [default: standard output]", opt.PATH)
@opt.flag("--per-view", "Add each view's own class, belief, uncertainty, gain.")
@opt.flag("--exclude-suspect", "Follow the other views in rows with one clear suspect.")
@opt.value("--reject-above", "U", _REJECT, float)
@opt.value("--coverage", "C", "Accept this share of the rows, those of least uncertainty.", float)
@click.option("--device", type=opt.device_kinds, help="[default: as it was fitted]")
@opt.value("--chunk", "N", "Rows at a time.", default=8192)
@opt.json_option
def predict(
    model: Path,
    file: Path,
    out: Path | None,
    per_view: bool,
    exclude_suspect: bool,
    reject_above: float | None,
    coverage: float | None,
    device: Device | None,
    chunk: int,
    as_json: bool,
) -> None:
    """Answer the rows of FILE by the model file MODEL.

    FILE has the columns or arrays that `fit` saw, of any kind that `fit` reads; the target is not
    needed. Csv, tsv, parquet, feather, npz and HDF5 files and folders of parts of one table
    may be larger than memory. Each row gets its class,
    probability, uncertainty, degree of conflict and the two views in greatest conflict, or its
    score with scale and interval, and the view that does not seem to belong to it (suspect) with
    its gain, as far as the method states them. A row whose answer is NaN or infinite is refused:
    it gets no answer and the largest uncertainty.
    """
    from rcml_misa.estimators.registry import load_with_header
    from rcml_misa.reading.raw_columns import describe_surprises
    from rcml_misa.storage import check_writable

    check_least(chunk=(chunk, 1))
    if reject_above is not None and coverage is not None:
        raise click.UsageError("--reject-above and --coverage both refuse rows; give one of them")
    for name, share in (("reject-above", reject_above), ("coverage", coverage)):
        if share is not None and not 0 < share <= 1:
            raise OptionError(f"--{name} {share} is not above 0 and up to 1.")
    if out is not None:
        refuse_same(out, model, file)
        check_writable(out, remedy=opt.WRITABLE)
    loaded, header = load_with_header(model, device=device)
    if _is_train_file(file, header):
        note = "the model was fitted on this file: answers about its train rows are no test"
        echo(f"note: {file.name}: {note}", err=True)
    preparer, fitted = _preparer_and_model(loaded)
    _check_model(
        fitted, reject_above=reject_above, coverage=coverage, exclude_suspect=exclude_suspect
    )
    tally, limit = Tally(), reject_above
    layout = _layout(preparer or fitted, header)
    shown = _Shown(per_view, exclude_suspect)
    with (
        closing(_answers(preparer, fitted, layout, file, tally, shown, rows=chunk)) as tables,
        _output(out) as stream,
    ):
        if coverage is None:
            _write_answers(tables, stream, tally, limit=limit)
        else:
            with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as written:
                _write_answers(tables, written, tally, limit=None)
                limit = tally.threshold(coverage)
                written.seek(0)
                _mark_refused(written, stream, tally, limit=limit)
    facts = {
        "rows": tally.rows,
        "labelled": sum(mark < 2 for mark in tally.correct) + tally.scored,
        "accuracy": tally.accuracy(),
        "unknown_labels": dict(tally.unknown.most_common()),
        "mae": tally.mae,
        "reject_above": limit,
        "refused": tally.refused,
        "not_finite": tally.not_finite,
        "suspects": None if tally.suspects is None else dict(tally.suspects.most_common()),
        "excluded": tally.excluded,
        "accuracy_of_kept": None if limit is None else tally.accuracy(limit),
        "prepared": describe_surprises(tally.surprises),
        "out": None if out is None else str(out),
    }
    for text in describe_surprises(tally.surprises):
        echo(f"note: {text}", err=True)
    if as_json:
        echo_json(facts, err=out is None)
    else:
        for line in _summary(facts):
            echo(line, err=out is None)


class _Shown(NamedTuple):
    """Columns that a table of answers has beside the usual ones."""

    per_view: bool
    exclude_suspect: bool


def _preparer_and_model(loaded: Any) -> tuple[TablePreparer | None, Any]:
    """Part what a model file holds: the preparer of its tables, if it has one, and the model."""
    from rcml_misa.persistence import parted
    from rcml_misa.reading.preparer import TablePreparer

    steps, model = parted(loaded)
    if not steps:
        return None, model
    (_, first), *others = steps
    if others or not isinstance(first, TablePreparer):
        names = ", ".join(type(step).__name__ for _, step in steps)
        raise OptionError(
            f"the model has steps of a Pipeline before it ({names}), which take no file; read it "
            "with rcml_misa.load and call its predict."
        )
    return first, model


def _check_model(
    model: Any, *, reject_above: float | None, coverage: float | None, exclude_suspect: bool
) -> None:
    """Refuse models whose views are in no file, and options for what the method does not state."""
    method = type(model).__name__
    for view, kind in zip(model.view_names_, model.kinds_, strict=True):
        if kind in ("sequence", "text"):
            raise OptionError(
                f"the {method} reads view {view!r} as a {kind}, which no file of predict holds; "
                "read the model with rcml_misa.load and call its predict."
            )
    if exclude_suspect and not hasattr(model, "predict_opinion"):
        raise _without_suspects(model)
    if hasattr(model, "classes_"):
        return
    if reject_above is not None or (coverage is not None and not hasattr(model, "predict_opinion")):
        option = "coverage" if reject_above is None else "reject-above"
        raise OptionError(
            f"--{option} needs an uncertainty{' from 0 to 1' * (option != 'coverage')}, which "
            f"{method} does not state; leave it out."
        )


def _without_suspects(model: Any) -> OptionError:
    """Error of a method that names no suspects, or has one view only."""
    count = len(model.view_names_)
    return OptionError(
        f"--exclude-suspect needs a method that names suspect views, which {type(model).__name__} "
        f"of {count} {'view' if count == 1 else 'views'} does not; leave it out."
    )


def _table(model: Any, views: Mapping[str, Any], shown: _Shown) -> pd.DataFrame:
    """Lay out predictions with what the model states of its uncertainty, a row per row."""
    import pandas as pd
    from scipy.stats import entropy

    is_classifier = hasattr(model, "classes_")
    table: pd.DataFrame
    if hasattr(model, "predict_opinion"):
        table = _opinions(model, views, shown)
        if not is_classifier:
            reach = model.interval_factor_ * table["scale"]  # NaN where nothing fixed the intervals
            table.insert(1, "low", table["score"] - reach)
            table.insert(2, "high", table["score"] + reach)
    elif is_classifier:
        shares = model.predict_proba(views)
        table = pd.DataFrame({"class": model.predict(views), "probability": shares.max(axis=1)})
        if hasattr(model, "predict_uncertainty"):
            table["uncertainty"] = model.predict_uncertainty(views)
        else:
            table["uncertainty"] = entropy(shares, axis=1, base=shares.shape[1])
        if hasattr(model, "predict_conflict"):
            table["conflict"] = model.predict_conflict(views)
        if shown.per_view and hasattr(model, "predict_reliability"):
            names = [f"{name}__reliability" for name in model.view_names_]
            table[names] = model.predict_reliability(views)
    else:
        table = pd.DataFrame({"score": model.predict(views)})
    return table


def _opinions(model: Any, views: Mapping[str, Any], shown: _Shown) -> pd.DataFrame:
    """Lay out opinions, and which of them follow the other views where a suspect is left out."""
    opinion = model.predict_opinion(views)
    if shown.exclude_suspect:
        if opinion.view_gains is None or len(opinion.views) < 2:
            raise _without_suspects(model)
        opinion = opinion.without_suspect
    table: pd.DataFrame = opinion.to_frame(per_view=shown.per_view)
    if shown.exclude_suspect or (getattr(model, "suspect", "") == "exclude" and "suspect" in table):
        place = list(table).index("suspect_gain") + 1
        table.insert(place, "excluded", opinion.suspicion.clear)
    return table


def _layout(model: Any, header: Mapping[str, Any]) -> FileLayout:
    """Read the layout of a model's views in files: by their own names where its file has none."""
    from rcml_misa.datasets.files import FileLayout

    names = tuple(getattr(model, "given_widths_", model.view_names_))
    stored = header.get("about", {}).get("layout")
    if stored is None:
        return FileLayout({name: (name,) for name in names})
    layout = FileLayout.from_json(stored)
    if tuple(layout.views) != names:
        raise DataError("the model file's views and its layout of files do not fit.")
    return layout


def _is_train_file(path: Path, header: Mapping[str, Any]) -> bool:
    """Ask whether a model was fitted on a file; one of another size is not read for that."""
    from rcml_misa.datasets.files import file_bytes, file_sha256

    about = header.get("about", {})
    if not path.exists() or about.get("file_bytes") not in (None, str(file_bytes(path))):
        return False
    return bool(about.get("file_sha256") == file_sha256(path))


def _answers(
    preparer: TablePreparer | None,
    model: Any,
    layout: FileLayout,
    path: Path,
    tally: Tally,
    shown: _Shown,
    *,
    rows: int,
) -> Generator[pd.DataFrame, None, None]:
    """Yield a table of answers per chunk of a file, and count them."""
    from rcml_misa.datasets.files import file_rows, reading_ahead

    layout, widths, texts = _expected(preparer, model, layout)
    with reading_ahead(file_rows(path, layout, widths, rows=rows, texts=texts)) as chunks:
        for chunk in chunks:
            yield _answered(preparer, model, layout, path, tally, shown, chunk)


def _answered(
    preparer: TablePreparer | None,
    model: Any,
    layout: FileLayout,
    path: Path,
    tally: Tally,
    shown: _Shown,
    chunk: FileRows,
) -> pd.DataFrame:
    """Lay out the answers about some rows, and count them."""
    import numpy as np

    classes = model.classes_.tolist() if hasattr(model, "classes_") else None
    if not len(chunk):
        raise DataError(f"{path} has no rows; give a file with rows to predict.")
    end = chunk.start + len(chunk)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # counted and said at the end
            table = _table(model, _prepared(preparer, chunk, tally), shown)
    except DataError as error:
        raise DataError(f"{path}, rows {chunk.start} to {end - 1}: {error}") from error
    certainty = "uncertainty" if classes is not None else "scale"
    not_finite = _clear_not_finite(table, certainty)
    if chunk.ids is None:
        table.insert(0, "row", range(chunk.start, end))
    else:
        table.insert(0, layout.id, list(chunk.ids))
    tally.rows += len(chunk)
    tally.not_finite += int(not_finite.sum())
    tally.count_suspects(table)
    if certainty in table:
        values = table[certainty].mask(not_finite, math.inf)
        tally.uncertainty.frombytes(values.to_numpy(dtype=np.float64).tobytes())
    if classes is None and chunk.labels is not None:
        tally.count_errors(chunk.labels, table["score"])
    if classes is None or chunk.labels is None:
        tally.correct.extend(b"\2" * len(chunk))
    else:
        tally.correct.extend(_correct(chunk.labels, table["class"], classes, tally))
    return table.assign(refused=not_finite)


def _expected(
    preparer: TablePreparer | None, model: Any, layout: FileLayout
) -> tuple[FileLayout, dict[str, int], Mapping[str, tuple[str, ...]]]:
    """Count the columns of each view in a file, and name those to be read as they are written."""
    from rcml_misa.reading.preparer import expected_columns

    if preparer is None:
        return layout, dict(zip(model.view_names_, model.widths_, strict=True)), {}
    return expected_columns(preparer, layout)


def _prepared(preparer: TablePreparer | None, chunk: FileRows, tally: Tally) -> Any:
    """Turn a chunk's tables into numbers as those of fit were, and count what is new in them."""
    if preparer is None:
        return chunk.views
    prepared, surprises = preparer.transform_counted(chunk.views, first_row=chunk.start)
    tally.surprises.update(surprises)
    return prepared


def _clear_not_finite(table: pd.DataFrame, certainty: str) -> NDArray[np.bool_]:
    """Empty the rows with NaN or infinity in what decides, and flag them (n,).

    They are left at the largest uncertainty: 1, or an infinite scale. The probability and
    uncertainty of a class, or a score and its scale, decide. Intervals and deviations follow from
    these, or are NaN in every row where nothing fixed them.
    """
    import numpy as np

    decisive = [name for name in ("probability", "score", certainty) if name in table]
    finite = np.isfinite(table[decisive].to_numpy(dtype=np.float64))
    flags: NDArray[np.bool_] = ~finite.all(axis=1)
    if flags.any():
        for name in table:
            column = table[name]
            # numbers that are no floats, such as classes, would turn into floats
            column = column if column.dtype.kind == "f" else column.astype(object)
            table[name] = column.mask(flags, None if column.dtype == object else np.nan)
        if certainty in table:
            table.loc[flags, certainty] = 1.0 if certainty == "uncertainty" else np.inf
    return flags


def _correct(labels: Any, predicted: Any, classes: Sequence[Any], tally: Tally) -> bytes:
    """Compare classes with labels by the rules of `fit`, and count labels of no class."""
    import numpy as np
    import pandas as pd

    from rcml_misa.datasets.files.labels import match_labels

    stated, different = pd.factorize(np.ravel(np.asarray(labels)), use_na_sentinel=False)
    answers, given = pd.factorize(np.asarray(predicted), use_na_sentinel=False)
    texts, names = match_labels(different, classes), match_labels(given, classes)
    names_of_classes = {*match_labels(classes, classes)}
    for place, text in enumerate(texts):
        if text is not None and text not in names_of_classes:
            tally.count_unknown(text, int((stated == place).sum()))
    right = np.array([[text == name for name in names] for text in texts])
    marks = right[stated, answers].astype(np.uint8)
    marks[np.array([text is None for text in texts])[stated]] = 2
    return marks.tobytes()


def _write_answers(
    tables: Iterator[pd.DataFrame], stream: TextIO, tally: Tally, *, limit: float | None
) -> None:
    """Write tables one after the other as csv; with a limit, mark rows above it as refused."""
    writer = csv.writer(stream, lineterminator="\n")
    for number, table in enumerate(tables):
        if limit is not None:
            table["refused"] |= table["uncertainty"] > limit
        tally.refused += int(table["refused"].sum())
        if number == 0:
            writer.writerow(table.columns)
        writer.writerows(zip(*(_cells(table[name]) for name in table), strict=True))


def _cells(column: pd.Series[Any]) -> list[Any]:
    """Write the values of a column as they stand in a csv, floats with six digits, gaps empty."""
    if column.dtype.kind == "f":
        return ["" if value != value else DIGITS % value for value in column.tolist()]  # noqa: PLR0124
    if column.dtype.kind in "biu":
        return column.tolist()
    return column.astype(object).where(column.notna(), "").tolist()


def _mark_refused(written: TextIO, stream: TextIO, tally: Tally, *, limit: float) -> None:
    """Copy a csv of answers and mark the rows above a limit that depends on all of them."""
    lines, writer = csv.reader(written), csv.writer(stream, lineterminator="\n")
    writer.writerow(next(lines))
    tally.refused = 0  # rows without a finite answer are counted again
    for line, uncertainty in zip(lines, tally.uncertainty, strict=True):
        refused = uncertainty > limit
        tally.refused += refused
        writer.writerow([*line[:-1], refused])


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is written whole or not at all."""
    from rcml_misa.storage import whole_file

    if out is None:
        yield sys.stdout
        return
    with (
        whole_file(out, remedy=opt.WRITABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        yield stream


def _summary(facts: dict[str, Any]) -> list[str]:
    """Counts and accuracy in words, line by line."""
    lines = [f"{facts['rows']} rows"]
    if facts["mae"] is not None:
        lines.append(f"MAE {facts['mae']:.6g} over {facts['labelled']} with a label")
    elif facts["labelled"]:
        lines.append(f"{100 * facts['accuracy']:.2f} % right of {facts['labelled']} with a label")
    if unknown := facts["unknown_labels"]:
        named = ", ".join(shortened(repr(label), 40) for label in [*unknown][:3])
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        count = sum(unknown.values())
        rows = "1 row has a label" if count == 1 else f"{count} rows have labels"
        lines.append(f"note: {rows} that the model does not know: {named}{more}; counted as wrong")
    if facts["suspects"] is not None:
        lines.append(f"suspects: {listed(facts['suspects']) or 'none'} of {facts['rows']} rows")
        if facts["excluded"] is not None:
            lines[-1] += f"; {facts['excluded']} rows answered without their suspect"
    if facts["reject_above"] is not None:
        accepted = facts["rows"] - facts["refused"]
        text = f"{facts['refused']} refused, of uncertainty above {facts['reject_above']:.4g}"
        if facts["accuracy_of_kept"] is not None:
            text += f"; {100 * facts['accuracy_of_kept']:.2f} % right of the {accepted} kept"
        lines.append(text)
    if facts["not_finite"]:
        among = "" if facts["reject_above"] is None else "among them "
        lines.append(f"{among}{facts['not_finite']} refused, whose answer is NaN or infinite")
    if facts["out"] is not None:
        lines.append(f"written: {facts['out']}")
    return lines
