"""The command `fit`: train one model on all rows of a data set and save it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcml_misa.cli.files import file_options

if TYPE_CHECKING:
    from rcml_misa.datasets.files import OwnFile
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.training import Progress

__all__ = ["fit", "landmark_note", "megabytes", "refuse_same"]


@click.command()
@click.option(
    "--dataset",
    "dataset_name",
    required=True,
    metavar="NAME|FILE",
    help="A data set, or a csv, tsv, parquet, npz, mat or hdf5 file, or a folder of tables.",
)
@file_options
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="MODEL")
@click.option("--method", default="rcml-misa", show_default=True, metavar="NAME")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Set an option.")
@click.option(
    "--task",
    metavar="2|3|7|regression",
    help="What is predicted of a set of sentiment scores.  [default: 3]",
)
@click.option("--seed", default=0, show_default=True, metavar="S")
@click.option("--epochs", type=int, metavar="E", help="Passes over the rows.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"])
)
@click.option(
    "--no-landmarks",
    is_flag=True,
    help="Fit without kernel experts, which would keep rows of the training data.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to look in for data files first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fit(
    dataset_name: str,
    target: str | None,
    view_spec: str | None,
    id_name: str | None,
    out: Path,
    method: str,
    options: tuple[str, ...],
    task: str | None,
    seed: int,
    epochs: int | None,
    device: str,
    no_landmarks: bool,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Train a model on all rows and write it to one file, for `predict` and `inspect`.

    No rows are held out here: `run` tells how good the method is on this data set.
    """
    from rcml_misa.cli.session import check_numbers, importable_here
    from rcml_misa.datasets import FileOptions, load_labelled
    from rcml_misa.estimators.files import load_with_header
    from rcml_misa.persistence import check_savable, describe, save

    check_numbers(seed=(seed, 0), epochs=(epochs, 1))
    importable_here()
    recipe = _recipe(method, options, device, epochs, no_landmarks, task == "regression")
    estimator = recipe.build(seed)
    check_savable(type(estimator), name=method)
    if not out.parent.is_dir() or out.is_dir():
        raise click.UsageError(f"--out {out} is no file in a folder that exists")
    given = FileOptions(target=target, views=view_spec, id=id_name)
    own, about = load_labelled(dataset_name, given, data_dir=data_dir, task=task, default_task="3")
    refuse_same(out, dataset_name)
    for note in (*own.notes, *_gaps(own)):
        click.echo(f"note: {note}", err=True)
    started = time.perf_counter()
    with _progress(hasattr(estimator, "device")) as callback:
        more = {} if callback is None else {"callback": callback}
        estimator.fit(own.views, own.labels, **more)
    seconds = time.perf_counter() - started
    save(estimator, out, about={**about, "method": method, "layout": own.layout.to_json()})
    model, header = load_with_header(out)  # what was written can be read
    facts = describe(model, header, out)
    if as_json:
        click.echo(json.dumps({**facts, "fit_seconds": seconds}, allow_nan=False))
        return
    listed = ", ".join(f"{name} {width}" for name, width in facts["views"].items())
    target = "scores" if facts["classes"] is None else f"{len(facts['classes'])} classes"
    click.echo(
        f"fitted {method} on {about['dataset']} in {seconds:.1f} s: {facts['train_rows']} rows, "
        f"{target}, views {listed}"
    )
    click.echo(f"written: {out} ({megabytes(facts['bytes'])})")
    click.echo(landmark_note(facts["landmark_rows"], facts["train_rows"], fitting=True))


def _gaps(own: OwnFile) -> Iterator[str]:
    for name, present in zip(own.views.names, own.views.present.T, strict=True):
        if not present.all():
            yield f"view {name} is missing in {int((~present).sum())} of {len(present)} rows"


def refuse_same(out: Path, *read: str | Path) -> None:
    """Refuse to write over a file that is read.

    Raises
    ------
    OptionError
    """
    from rcml_misa.exceptions import OptionError

    for one in read:
        if out.resolve() == Path(one).resolve():
            raise OptionError(f"--out {out} would replace what is read; give another file.")


def _recipe(
    method: str,
    options: tuple[str, ...],
    device: str,
    epochs: int | None,
    no_landmarks: bool,
    regression: bool,
) -> Recipe:
    from rcml_misa.estimators.registry import recipe
    from rcml_misa.exceptions import OptionError

    if no_landmarks and method == "kernel-expert":
        raise OptionError(
            "method kernel-expert is its landmarks; leave --no-landmarks out, or fit rcml-misa "
            "with it."
        )
    if no_landmarks and method == "rcml-misa":
        if any(option.startswith("expert=") for option in options):
            raise OptionError("--no-landmarks means --set expert=none; give one of them.")
        options = (*options, "expert=none")
    configured = recipe(
        method, options=options, device=device, epochs=epochs, regression=regression
    )
    if configured.leaky:
        raise OptionError(
            "scaling=paper-leaky scales with the rows to predict, which are not there yet; choose "
            "scaling=minmax."
        )
    return configured


@contextmanager
def _progress(trained: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A line on stderr that shows the epochs, where stderr is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not trained or not console.is_terminal:
        yield None
        return
    with console.status("fitting") as status:
        yield lambda now: status.update(f"epoch {now.epoch}/{now.epochs}, loss {now.loss:.3f}")


def megabytes(size: int) -> str:
    """Write a size for people.

    Examples
    --------
    >>> megabytes(1_250_000), megabytes(900)
    ('1.2 MB', '0.9 kB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def landmark_note(landmarks: int, rows: int | None, *, fitting: bool = False) -> str:
    """Say whether a model file holds rows of the training data.

    Examples
    --------
    >>> landmark_note(0, 90)
    'landmarks: none, no row of the training data is in the file'
    """
    if not landmarks:
        return "landmarks: none, no row of the training data is in the file"
    way_out = "; --no-landmarks fits without them" if fitting else ""
    return (
        f"landmarks: the kernel experts keep {landmarks} of {rows} rows of the training data in "
        f"the file (scaled, without labels){way_out}"
    )
