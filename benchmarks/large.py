"""A table larger than memory: written, fitted by `rcml-misa fit`, judged on fresh rows.

`make` writes parquet in row groups of 65,536 rows at constant memory; rows are those of
`benchmarks/mixtures.py`: classes overlap, and neither a linear method nor a small network is
enough. `measure` fits the file's first rows in several numbers and a random sample of it, each in a
process of its own on one core, and asks every model about fresh rows of the same classes. Bars:
processor seconds grow with an exponent of at most 1.05, the largest fit takes at most 2 GB of
resident memory, and its accuracy is not lower by more than .1 points than that of the sample's. The
first rows are written before the clock starts. Results are appended to `results.csv` in the work
folder as they come, and the same command, on the same commit, goes on where it was stopped. `check`
makes a file of a million rows and measures it.

    python benchmarks/large.py make big.parquet --rows 10000000 --views 3 --columns 100 --classes 20
    python benchmarks/large.py measure big.parquet --rows 100000,1000000,10000000 [--expert ridge]
    python benchmarks/large.py check [--expert ridge]
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from journal import append, read
from mixtures import Mixture
from processes import commit_of, run_bounded
from scipy import stats

ROOT = Path(__file__).parents[1]
GROUP = 65_536  # rows of a row group
BYTES = 1.35  # of a value in the file, rounded up
LABEL = "label"
TRAIN_SEED, FRESH_SEED = 0, 1
KEY = b"rcml_misa_mixture"
EXPONENT, GIGABYTES, POINTS = 1.05, 2.0, 0.1  # bars


def schema(mixture: Mixture, rows: int) -> Any:
    """Columns of a file, with the generator's sizes among its metadata."""
    import pyarrow as pa

    fields = [
        pa.field(f"{name}__{column}", pa.float32())
        for name in mixture.names
        for column in range(mixture.columns)
    ]
    about = json.dumps({**asdict(mixture), "rows": rows})
    return pa.schema([*fields, pa.field(LABEL, pa.int32())], metadata={KEY: about.encode()})


def writer(path: Path, form: Any) -> Any:
    """Open a parquet file for writing."""
    from pyarrow.parquet import ParquetWriter

    return ParquetWriter(path, form, compression="zstd", compression_level=1)


def facts_of(path: Path) -> tuple[Mixture, int]:
    """Generator and number of rows of a file that `make` wrote."""
    from pyarrow.parquet import read_schema

    about = json.loads(read_schema(path).metadata[KEY])
    rows = about.pop("rows")
    return Mixture(**about), rows


def need_disk(folder: Path, need: float) -> None:
    """End with one sentence where a folder's disk has too little space."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise SystemExit(
            f"about {need / 1e9:.1f} GB are needed and {folder} has {free / 1e9:.1f} GB free; "
            "name a folder on a larger disk, or fewer rows."
        )


def make(path: Path, mixture: Mixture, rows: int, *, seed: int = TRAIN_SEED) -> None:
    """Write rows to a parquet file; one that is there already stays as it is."""
    import pyarrow as pa

    if path.exists():
        if facts_of(path) != (mixture, rows):
            raise SystemExit(f"{path} holds other rows; give another name, or remove it.")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    need_disk(path.parent, BYTES * rows * mixture.views * mixture.columns)
    part, started, done = path.with_suffix(".part"), time.perf_counter(), 0
    form = schema(mixture, rows)
    with writer(part, form) as file:
        for tables, codes in mixture.blocks(rows, seed=seed, size=GROUP):
            columns = [
                pa.array(column)
                for table in tables.values()
                for column in np.ascontiguousarray(table.T)
            ]
            arrays = [*columns, pa.array(codes.astype(np.int32))]
            file.write_table(pa.Table.from_arrays(arrays, schema=form), row_group_size=GROUP)
            done += len(codes)
            if done == rows or done // GROUP % 16 == 0:
                print(f"{done} of {rows} rows, {time.perf_counter() - started:.0f} s", flush=True)
    part.rename(path)
    print(f"written: {path} ({path.stat().st_size / 1e9:.2f} GB)")


def select(source: Path, path: Path, rows: np.ndarray) -> None:
    """Copy rows, by ascending number, to another file, a row group at a time."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    if path.exists():
        return
    part, start = path.with_suffix(".part"), 0
    with ParquetFile(source) as file, writer(part, file.schema_arrow) as target:
        for number in range(file.num_row_groups):
            end = start + file.metadata.row_group(number).num_rows
            first, last = np.searchsorted(rows, [start, end])
            if first < last:
                group = file.read_row_group(number)
                target.write_table(group.take(pa.array(rows[first:last] - start)))
            start = end
    part.rename(path)


@dataclass(frozen=True)
class Result:
    """One command's figures: a row of `results.csv`.

    Attributes
    ----------
    command : {"fit", "predict"}
    options : str
        Options of the fit.
    model : str
        Rows that the model was fitted on, the file's first, or ``sample`` with their number.
    rows : int
        Rows that were read.
    ending : str
        See `processes.Usage`.
    seconds, processor, peak_mb, accuracy : float
        Wall clock, processor time and peak of the whole command; accuracy on fresh rows of
        ``predict``.
    note, commit : str
        What a failed command said, and the state of the code.
    """

    command: str
    options: str
    model: str
    rows: int
    ending: str
    seconds: float
    processor: float
    peak_mb: float
    accuracy: float
    note: str
    commit: str

    def __str__(self) -> str:
        told = (
            f"{self.command}, model of {self.model}: {self.seconds:.0f} s, "
            f"{self.processor:.0f} s of processor, {self.peak_mb:.0f} MB"
        )
        if self.ending != "done":
            return f"{told}, {self.ending} {self.note}".rstrip()
        return told if math.isnan(self.accuracy) else f"{told}, accuracy {self.accuracy:.4f}"


class Session:
    """Commands of one file and one kind of model, whose results a work folder keeps."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.given, self.work = given, work
        words = ["--set", f"expert={given.expert}"] if given.expert else []
        self.options = [*words, *shlex.split(given.fit_options)]
        self.csv, self.commit = work / "results.csv", commit_of(given.code)
        self.results: dict[tuple[str, str], Result] = {}
        work.mkdir(parents=True, exist_ok=True)
        for result in read(self.csv, Result):
            if (result.options, result.commit) == (shlex.join(self.options), self.commit):
                self.results[result.command, result.model] = result

    def model(self, name: str) -> Path:
        """File of a model."""
        expert = self.given.expert or "default"
        return self.work / f"{expert}-{name}.rcml"

    def fit(self, file: Path, name: str, rows: int) -> Result:
        """Fit a model to a file."""
        words = ["fit", "--dataset", str(file), "--target", LABEL, "--json", *self.options]
        return self._run("fit", name, rows, [*words, "--out", str(self.model(name))])

    def predict(self, file: Path, name: str, rows: int) -> Result:
        """Ask a model about a file."""
        out = self.work / "answers.csv"
        words = ["predict", str(self.model(name)), str(file), "--json", "--out", str(out)]
        result = self._run("predict", name, rows, words)
        out.unlink(missing_ok=True)
        return result

    def _run(self, command: str, name: str, rows: int, words: Sequence[str]) -> Result:
        before = self.results.get((command, name))
        if before is not None and before.ending == "done" and before.rows == rows:
            return before
        usage = run_bounded(
            [sys.executable, "-m", "rcml_misa", *words],
            seconds=self.given.seconds,
            gigabytes=self.given.gigabytes,
            environment={"PYTHONPATH": str(self.given.code)},
        )
        done = usage.ending == "done"
        facts = json.loads(usage.output) if done else {}
        result = Result(
            command,
            shlex.join(self.options),
            name,
            rows,
            usage.ending,
            usage.seconds,
            usage.processor,
            usage.peak_mb,
            facts["accuracy"] if command == "predict" and done else math.nan,
            "" if done else usage.error,
            self.commit,
        )
        append(self.csv, result)
        self.results[command, name] = result
        print(result, flush=True)
        return result


def measure(path: Path, given: argparse.Namespace) -> bool:
    """Fit, ask and compare; whether all bars are met."""
    mixture, total = facts_of(path)
    work = given.work or path.with_name(f"{path.stem}-measured")
    sizes = sorted(set(given.rows))
    if sizes[-1] > total:
        raise SystemExit(f"{path} has {total} rows and not {sizes[-1]}; make a larger file.")
    sample = min(given.sample, total)
    smaller = [size for size in sizes if size < total]
    session = Session(given, work)
    need_disk(work, BYTES * mixture.views * mixture.columns * (sum(smaller) + sample + given.fresh))
    fresh = work / f"fresh-{given.fresh}.parquet"
    make(fresh, mixture, given.fresh, seed=FRESH_SEED)
    chosen = np.random.default_rng(0).choice(total, size=sample, replace=False)
    parts = [(f"rows-{size}", size, np.arange(size)) for size in sizes]
    fits, answers = {}, {}
    for name, size, rows in [*parts, (f"sample-{sample}", sample, np.sort(chosen))]:
        file = path if size == total else work / f"{name}.parquet"
        if file != path:
            select(path, file, rows)
        fits[name] = session.fit(file, name, size)
        if fits[name].ending == "done":
            answers[name] = session.predict(fresh, name, given.fresh)
    some = next(mixture.blocks(min(given.fresh, GROUP), seed=FRESH_SEED, size=GROUP))
    best = float((mixture.best(some[0]) == some[1]).mean())
    return report(fits, answers, best)


def _exponent(fits: Sequence[Result], name: str) -> float:
    """Slope of the logarithm of a figure against that of rows; NaN of a single fit."""
    if len(fits) < 2:
        return math.nan
    line = stats.linregress(*np.log([(fit.rows, getattr(fit, name)) for fit in fits]).T)
    return float(line.slope)


def report(fits: dict[str, Result], answers: dict[str, Result], best: float) -> bool:
    """Print all figures and the bars; whether these are met."""
    for name, fit in fits.items():
        print("\n".join(str(result) for result in (fit, answers.get(name)) if result is not None))
    print(f"the true densities have accuracy {best:.4f} on at most {GROUP} of the fresh rows")
    *names, sample = fits
    done = [fits[name] for name in names if fits[name].ending == "done"]
    slope = _exponent(done, "processor")
    largest = fits[names[-1]]
    peak = largest.peak_mb / 1e3 if largest.ending == "done" else math.nan
    gain, gain_error = math.nan, math.nan
    if names[-1] in answers and sample in answers:
        first, second = answers[names[-1]].accuracy, answers[sample].accuracy
        gain = 100 * (first - second)
        gain_error = 100 * math.sqrt(2 * second * (1 - second) / answers[sample].rows)
    checks = (
        (
            f"exponent of processor seconds against rows: {slope:.3f} (of wall clock "
            f"{_exponent(done, 'seconds'):.3f})",
            slope <= EXPONENT,
            f"at most {EXPONENT}",
        ),
        (f"peak of the largest fit: {peak:.2f} GB", peak <= GIGABYTES, f"at most {GIGABYTES:g} GB"),
        (
            f"accuracy of the largest fit minus the sample's: {gain:+.2f} points, standard error "
            f"{gain_error:.2f} at most",
            gain >= -POINTS,
            f"at least -{POINTS:g} points",
        ),
    )
    for words, met, bar in checks:
        state = "not measured" if "nan" in words else "met" if met else "not met"
        print(f"{words}; bar, {bar}: {state}")
    return all(met for _, met, _ in checks)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(float(part)) for part in text.split(","))

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    making = actions.add_parser("make", help="write a file")
    making.add_argument("file", type=Path)
    measuring = actions.add_parser("measure", help="fit a file's rows and judge the models")
    measuring.add_argument("file", type=Path)
    measuring.add_argument("--rows", type=numbers, default=(100_000, 1_000_000, 10_000_000))
    checking = actions.add_parser("check", help="make a small file and measure it")
    for action, rows in ((making, 10_000_000), (checking, 1_000_000)):
        action.add_argument("--rows", type=lambda text: int(float(text)), default=rows)
        action.add_argument("--views", type=int, default=3)
        action.add_argument("--columns", type=int, default=100, help="of each view")
        action.add_argument("--classes", type=int, default=20)
        action.add_argument("--seed", type=int, default=0)
    for action, fresh in ((measuring, 1_000_000), (checking, 200_000)):
        action.add_argument("--expert", help="ridge or none; by default the default's")
        action.add_argument("--fit-options", default="", help="more options of fit, in one text")
        action.add_argument("--sample", type=int, default=200_000, help="rows of the random sample")
        action.add_argument("--fresh", type=int, default=fresh, help="rows to predict")
        action.add_argument("--seconds", type=float, default=6 * 3600, help="most of one command")
        action.add_argument("--gigabytes", type=float, default=16.0, help="most of one command")
        action.add_argument("--work", type=Path, help="folder of results, models and parts")
        action.add_argument("--code", type=Path, default=ROOT, help="checkout that is measured")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    given = arguments(words)
    if given.action == "measure":
        return 0 if measure(given.file, given) else 1
    mixture = Mixture(given.views, given.columns, given.classes, given.seed)
    if given.action == "make":
        make(given.file, mixture, given.rows)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        make(folder / "rows.parquet", mixture, given.rows)
        given.work, total = folder, given.rows
        given.rows, given.sample = (total // 10, total // 3, total), min(given.sample, total // 5)
        return 0 if measure(folder / "rows.parquet", given) else 1


if __name__ == "__main__":
    sys.exit(main())
