"""The commands `fit` and `inspect`: train one model on all rows and save it; show a model file."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rcml_misa.bounds import MOST, check_least
from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, echo_json, file_size, listed
from rcml_misa.cli.train_table import peak_bytes, train_table
from rcml_misa.exceptions import DataError, OptionError, shortened

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.training import Progress

__all__ = ["fit", "inspect"]

_DATASET = "A data set, a file of your own (table or arrays), or a folder of tables."
_NO_CHECKSUM = "none, as in all files before format version 4; save the model again to have one"
_IN_MEMORY = (
    "Size up to which a file's table is held in memory; a larger one is read in blocks.  [default: "
    "a quarter of the free memory]"
)
_NO_LANDMARKS = "Ridge in place of kernel experts, which would keep rows of the training data."


@click.command()
@opt.value("--dataset name", "NAME|FILE", _DATASET, required=True)
@opt.data_options("file", "task", "folder")
@opt.value("--out", "MODEL", "File of the model.", opt.PATH, required=True)
@opt.value("--method", "NAME", default="rcml-misa")
@opt.method_options
@opt.value("--seed", "S", default=0)
@opt.flag("--no-landmarks", _NO_LANDMARKS)
@opt.value("--in-memory gigabytes", "GB", _IN_MEMORY, float)
@opt.fit_workers_options
@opt.json_option
def fit(
    name: str,
    data: opt.DataOptions,
    out: Path,
    method: str,
    settings: opt.MethodOptions,
    seed: int,
    no_landmarks: bool,
    gigabytes: float | None,
    workers: opt.Workers,
    as_json: bool,
) -> None:
    """Train a model on all rows and write it to one file, for `predict` and `inspect`.

    No rows are held out here: `run` tells how good the method is on this data set. The test rows
    of a file's own split are left out all the same, so that `predict` can be judged on them. A
    file's table that is large beside the memory is read in blocks and trained on from the disk.
    """
    from rcml_misa.estimators import ViewPipeline
    from rcml_misa.estimators.registry import check_weights, load_with_header
    from rcml_misa.persistence import check_savable, describe
    from rcml_misa.storage import check_writable, work_folder

    check_least(seed=(seed, 0))
    if gigabytes is not None and not 0 <= gigabytes < math.inf:
        raise OptionError(f"--in-memory {gigabytes} is no number of gigabytes; give 0 or more.")
    if data.test_file is not None:
        raise OptionError("fit reads no test rows; leave --test-file out, and give it to predict.")
    regression = data.predicts_scores([name])
    recipe = _recipe(method, settings, no_landmarks, regression=regression)
    estimator = recipe.build(seed)
    check_savable(type(estimator), name=method)
    check_writable(out, remedy=opt.WRITABLE)

    def check(weighted: bool) -> None:
        if weighted:
            check_weights(estimator, method=method)

    with train_table(
        name,
        data,
        out=out,
        method=method,
        streams=getattr(estimator, "_streams", False),
        gigabytes=gigabytes,
        check=check,
    ) as table:
        started = time.perf_counter()
        more: dict[str, Any] = {} if table.weights is None else {"sample_weight": table.weights}
        engine = workers.choose(runs=workers.jobs or (MOST["jobs"] if table.mapped else 1))
        place = nullcontext(Path()) if engine.name == "local" else work_folder()
        with (
            place as folder,
            engine.spread(folder),
            _progress(hasattr(estimator, "device")) as callback,
        ):
            more |= {} if callback is None else {"callback": callback}
            estimator.fit(table.views, table.labels, **more)
        seconds = time.perf_counter() - started
    fitted = ViewPipeline([("prepare", table.preparer), ("model", estimator)])
    about = {**table.about, "method": method, "layout": table.layout.to_json()}
    _save(fitted, out, about=about)
    model, header = load_with_header(out)  # what was written can be read
    facts = describe(model, header, out)
    if as_json:
        more_facts = {
            "rows": table.rows,
            "sample_rows": table.sampled,
            "in_blocks": table.mapped,
            "read_seconds": table.seconds,
            "fit_seconds": seconds,
            "peak_bytes": peak_bytes(),
        }
        echo_json({**facts, **more_facts})
        return
    target = "scores" if facts["classes"] is None else f"{len(facts['classes'])} classes"
    echo(f"fitted {method} on {about['dataset']} in {seconds:.1f} s:")
    echo(f"  {facts['train_rows']} rows, {target}, views {listed(facts['views'])}")
    if table.mapped:
        sample = f"a sample of {table.sampled} of {table.rows} rows"
        echo(f"  read in blocks in {table.seconds:.1f} s, prepared by {sample}")
    click.echo(f"written: {out} ({file_size(facts['bytes'])})")
    way_out = "; --no-landmarks fits without them" if facts["landmark_rows"] else ""
    echo(f"landmarks: {_landmarks(facts)}{way_out}")


def _save(model: Any, out: Path, *, about: Mapping[str, Any]) -> None:
    """Write a model file; where that fails, another one, which the error names."""
    from rcml_misa.persistence import save

    try:
        save(model, out, about=about)
    except DataError as error:
        fallback = _fallback(model, about)
        if fallback is None:
            raise
        raise DataError(
            f"{shortened(error, 120).rstrip('.')}; the fitted model is in {fallback}: move it from "
            "there."
        ) from error


def _fallback(model: Any, about: Mapping[str, Any]) -> Path | None:
    """Write a model file into a temporary folder, else into the current one; None if none can be.

    A model that no file can hold has none either.
    """
    from rcml_misa.persistence import save

    places: tuple[Callable[[], str], ...] = (
        lambda: tempfile.mkdtemp(prefix="rcml-misa-"),
        lambda: tempfile.mkdtemp(prefix="rcml-misa-", dir=Path.cwd()),
    )
    for make_folder in places:
        folder = None
        try:
            folder = make_folder()
            save(model, path := Path(folder) / "model.rcml", about=about)
        except (OSError, DataError):
            if folder is not None:
                with suppress(OSError):
                    os.rmdir(folder)
        else:
            return path
    return None


@click.command()
@click.argument("model", type=opt.PATH)
@opt.json_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what the model file MODEL was fitted on, with which options, and what it keeps."""
    from rcml_misa.estimators.registry import load_with_header
    from rcml_misa.persistence import describe

    estimator, header = load_with_header(model, device="cpu")
    facts = describe(estimator, header, model)
    if as_json:
        echo_json(facts)
        return
    about = {"method": facts["method"], "dataset": "unnamed", **(facts["about"] or {})}
    about = {name: shortened(value, 80) for name, value in about.items()}
    target = "none, scores are predicted"
    if facts["classes"] is not None:
        classes = [str(label) for label in facts["classes"]]
        more = ", ..." if classes[12:] else ""
        target = f"{len(classes)}: {', '.join(classes[:12])}{more}"
    shown = {
        "file": f"{model} ({file_size(facts['bytes'])}, format version {facts['format_version']})",
        "method": f"{about['method']} ({facts['method']})",
        "views": listed(facts["views"]),
        **_views_told(facts),
        **({"steps": listed(facts["steps"])} if facts["steps"] else {}),
        **({"prepared": ". ".join(facts["prepared"])} if facts["prepared"] else {}),
        "classes": target,
        "data": f"{about['dataset']}, {facts['train_rows']} rows, sha256 of rows "
        f"{facts['data_sha256']}",
        "options": ", ".join(
            f"{name}={shortened(value, 80)}" for name, value in facts["options"].items()
        ),
        "network": f"{facts['network_parameters']} parameters{_networks(facts)}{_share(facts)}",
        "versions": listed(facts["versions"] or {}),
        "landmarks": _landmarks(facts),
        "checksum": f"sha256 {facts['sha256']}" if facts["sha256"] else _NO_CHECKSUM,
    }
    for name, text in shown.items():
        echo(f"{name:<11}{text}", indent=11)


def _views_told(facts: dict[str, Any]) -> dict[str, str]:
    """Say what the views are worth, which are set aside, and what makes one of them suspect."""
    told: dict[str, str] = {}
    if facts["view_worth"] is not None:
        worth = {name: f"{nats:.2f}" for name, nats in facts["view_worth"].items()}
        told["worth"] = f"{listed(worth)} (nats that each view alone tells of the class)"
    if facts["set_aside"]:
        names = ", ".join(facts["set_aside"])
        told["set aside"] = f"{names} (presence tells the class, so that no value is read)"
    if facts["suspect_limits"] is not None:
        named, clear = facts["suspect_limits"]
        rows = facts["suspect_rows"]
        told["suspects"] = f"above a gain of {named:.3g}, clear above {clear:.3g} (set on: {rows})"
    return told


def _networks(facts: dict[str, Any]) -> str:
    """Say how many networks they are of, where there are several."""
    count = facts["networks"]
    return f" of {count} networks" if count and count > 1 else ""


def _share(facts: dict[str, Any]) -> str:
    """Say how much of the answers is the networks'."""
    share, expert = facts["network_share"], facts["options"].get("expert")
    if share is None or expert == "none":
        return ""
    return f", share {share:.2f} in the pool with {expert} members"


def _landmarks(facts: dict[str, Any]) -> str:
    """Say whether a model file holds rows of the training data."""
    if not facts["landmark_rows"]:
        return "none, no row of the training data is in the file"
    return (
        f"the kernel experts keep {facts['landmark_rows']} of {facts['train_rows']} rows of the "
        "training data in the file (scaled, without labels)"
    )


def _recipe(
    method: str, settings: opt.MethodOptions, no_landmarks: bool, *, regression: bool
) -> Recipe:
    """Configure the method, without what a saved model can't do."""
    if no_landmarks and method == "kernel-expert":
        raise OptionError(
            "method kernel-expert is its landmarks; leave --no-landmarks out, or fit ridge-expert "
            "or rcml-misa with it."
        )
    without = no_landmarks and method == "rcml-misa"
    if without and any(option.startswith("expert=") for option in settings.options):
        raise OptionError("--no-landmarks means --set expert=ridge; give one of them.")
    more = ["expert=ridge"] if without else []
    recipe = settings.recipe(method, more=more, regression=regression)
    if recipe.leaky:
        raise OptionError(
            "scaling=paper-leaky scales with the rows to predict, which are not there yet; choose "
            "scaling=minmax."
        )
    return recipe


@contextmanager
def _progress(trained: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Show the epochs in a line on stderr, where stderr is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not trained or not console.is_terminal:
        yield None
        return
    with console.status("fitting") as status:
        yield lambda now: status.update(f"epoch {now.epoch}/{now.epochs}, loss {now.loss:.3f}")
