"""Accuracy on a raw table: this package's own preparation beside scikit-learn's.

The table has four groups of columns, 12 % gaps, rows that lack a whole group, a category, a date,
an identifier and labels that are texts; nothing is done to it before. Both sides split the same
rows and train the same estimator. Usage:

    python benchmarks/raw.py [--rows 3000] [--seeds 5] [--method rcml-misa] [--write FILE.csv]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.protocols import Protocol
from rcml_misa.runs.single import fit_task, task_rows
from rcml_misa.runs.tasks import Task

GROUPS = {"blood": (6, 0.7), "scan": (8, 0.6), "gait": (5, 0.5), "chart": (3, 0.4)}
GAPS, ABSENT = 0.12, 0.05  # shares of cells, and of rows that lack a group


def raw_table(rows: int = 3000, *, seed: int = 0) -> pd.DataFrame:
    """Make the table: three classes, whose means differ in every group."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rows)
    columns: dict[str, Any] = {"patient": [f"P{n:05d}" for n in rng.permutation(rows)]}
    for group, (width, distance) in GROUPS.items():
        means = distance * rng.normal(size=(3, width))
        values = means[codes] + rng.normal(size=(rows, width)) * rng.lognormal(size=width)
        values[rng.random(values.shape) < GAPS] = np.nan
        values[rng.random(rows) < ABSENT] = np.nan
        columns |= {f"{group}__{place}": values[:, place] for place in range(width)}
    towns = np.array(["Bonn", "Kiel", "Ulm"])
    town = np.where(rng.random(rows) < 0.4, towns[codes], rng.choice([*towns, "Trier"], rows))
    columns["chart__town"] = pd.Series(town).mask(rng.random(rows) < GAPS)
    visit = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D")
    columns["chart__visit"] = visit.strftime("%Y-%m-%d")
    columns["label"] = np.array(["healthy", "mild", "severe"])[codes]
    return pd.DataFrame(columns)


def by_scikit_learn(table: pd.DataFrame) -> ColumnTransformer:
    """Prepare each group by scikit-learn's own transformers, as its guide has it."""
    parts: list[Any] = []
    for group in GROUPS:
        numbers = [f"{group}__{place}" for place in range(GROUPS[group][0])]
        parts.append((group, SimpleImputer(strategy="median"), numbers))
    town = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    days = FunctionTransformer(_days, feature_names_out="one-to-one")
    others = ColumnTransformer([("town", town, ["chart__town"]), ("visit", days, ["chart__visit"])])
    parts.append(("chart2", others, ["chart__town", "chart__visit"]))
    transformer = ColumnTransformer(parts).set_output(transform="pandas")
    return transformer.fit(table)


def _days(frame: pd.DataFrame) -> pd.DataFrame:
    days = (pd.to_datetime(frame["chart__visit"]) - pd.Timestamp(0)) / pd.Timedelta(1, "D")
    return days.to_frame()


def main() -> None:
    """Print the accuracies of both sides, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--method", default="rcml-misa")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.write:
        raw_table(given.rows).to_csv(given.write, index=False)
        return
    print(f"{given.method}, {given.rows} rows, accuracy on a fifth of the rows, %")
    print("seed   TablePreparer   ColumnTransformer")
    differences = []
    for seed in range(given.seeds):
        ours, theirs = accuracies(given.rows, seed, given.method)
        differences.append(ours - theirs)
        print(f"{seed:4}   {100 * ours:13.2f}   {100 * theirs:17.2f}", flush=True)
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(len(differences))
    print(f"difference {100 * mean:+.2f} points, standard error {100 * error:.2f}")


def accuracies(rows: int, seed: int, method: str) -> tuple[float, float]:
    """Accuracies of both sides on the same split of one table."""
    table = raw_table(rows, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.csv"
        table.to_csv(path, index=False)
        data = load_dataset(str(path))
    task = Task(recipe(method), 0, 0, seed, Protocol().for_dataset(data))
    part = task_rows(data, task)
    fitted = fit_task(data, task, part=part)
    answers = fitted.ask(fitted.dataset.views.take(part.test))
    ours = float((answers.predicted == data.target[part.test]).mean())
    transformer = by_scikit_learn(table.iloc[part.train])
    frames = [
        transformer.transform(table.iloc[numbers]).rename(columns=_to_chart)
        for numbers in (part.train, part.test)
    ]
    estimator = recipe(method).build(fitted.seeds.model).set_params(views="__")
    estimator.fit(frames[0], data.target[part.train])
    theirs = float(estimator.score(frames[1], data.target[part.test]))
    return ours, theirs


def _to_chart(column: str) -> str:
    return column.replace("chart2__", "chart__")


if __name__ == "__main__":
    main()
