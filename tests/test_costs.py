"""The benchmarks of costs at tiny sizes: processes, made tables, points, the page, large files."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import linregress, multivariate_normal

if sys.platform != "linux":
    pytest.skip("peak memory is read as Linux counts it", allow_module_level=True)
for _name in ("psutil", "pyarrow", "matplotlib"):
    pytest.importorskip(_name)

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = (
    "journal",
    "large",
    "measurements",
    "methods",
    "mixtures",
    "processes",
    "scale",
    "scaling",
    "scaling_page",
)


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield {name: importlib.import_module(name) for name in NAMES}


@pytest.fixture
def bounded(modules):
    def run(code, *, seconds=60.0, gigabytes=1.0):
        command = [sys.executable, "-c", code]
        return modules["processes"].run_bounded(command, seconds=seconds, gigabytes=gigabytes)

    return run


@pytest.mark.parametrize("name", ["mixtures", "processes", "scaling_page"])
def test_examples(modules, name):
    assert doctest.testmod(modules[name]).failed == 0


# processes


def test_output_and_memory_of_a_command(bounded):
    usage = bounded(
        "import time; block = bytearray(b'x') * 100_000_000; print(len(block)); time.sleep(0.5)"
    )
    assert (usage.ending, usage.output) == ("done", "100000000\n")
    assert 100 < usage.peak_mb < 150


def test_memory_of_descendants_counts_with_that_of_the_command(bounded):
    child = "block = bytearray(b'x') * 60_000_000; import time; time.sleep(.5)"
    code = f"import subprocess, sys; block = bytearray(b'x') * 60_000_000; \
subprocess.run([sys.executable, '-c', {child!r}])"
    assert 120 < bounded(code).peak_mb < 200


def test_a_command_is_stopped_beyond_its_bounds(bounded):
    waiting = "import time; time.sleep(60)"
    late = bounded(waiting, seconds=0.3)
    assert late.ending == "time"
    assert late.seconds < 10
    assert bounded(f"block = bytearray(b'x') * 90_000_000; {waiting}", gigabytes=0.05).ending == (
        "memory"
    )


def test_a_failed_command_says_why(bounded):
    usage = bounded("raise ValueError('no rows')")
    assert (usage.ending, usage.error) == ("failed", "ValueError: no rows")


def test_journal_gives_back_what_was_appended(modules, tmp_path):
    scale = modules["scale"]
    rows = [
        scale.Result("now", "abc", 5, "done", 1.25, 300.0, 0.5, 'a "b", c'),
        scale.Result("before", "", 7, "time", 2.0, 100.0, 0.75, ""),
    ]
    for row in rows:
        modules["journal"].append(tmp_path / "new" / "rows.csv", row)
    assert modules["journal"].read(tmp_path / "new" / "rows.csv", scale.Result) == rows
    assert modules["journal"].read(tmp_path / "none.csv", scale.Result) == []


# made tables


def test_rows_depend_on_seeds_alone(modules):
    mixture = modules["mixtures"].Mixture(views=2, columns=6, classes=4, seed=3)

    def draw(rows, seed):
        blocks = list(mixture.blocks(rows, seed=seed, size=50))
        tables = [np.concatenate([block[name] for block, _ in blocks]) for name in mixture.names]
        return np.hstack(tables), np.concatenate([codes for _, codes in blocks])

    (few, codes), (many, all_codes), (other, _) = draw(60, 1), draw(130, 1), draw(60, 2)
    assert few.shape == (60, 12)
    np.testing.assert_array_equal(many[:60], few)
    np.testing.assert_array_equal(all_codes[:60], codes)
    assert not np.isin(other, few).all()
    np.testing.assert_array_equal(many * 64, np.round(many * 64))
    assert len(np.unique(all_codes)) == 4


def test_best_is_the_bayes_rule_of_the_columns(modules):
    mixtures = modules["mixtures"]
    mixture = mixtures.Mixture(views=2, columns=12, classes=4)
    tables, codes = next(mixture.blocks(400, seed=1))
    scores = np.zeros((400, 4))
    for table, view in zip(tables.values(), mixture._parameters, strict=True):
        for code in range(4):
            spread = view.spreads[code] @ view.spreads[code].T + mixtures.WIDTH**2 * np.eye(10)
            covariance = view.loadings.T @ spread @ view.loadings + mixtures.NOISE**2 * np.eye(12)
            densities = [
                multivariate_normal(centre @ view.loadings, covariance).logpdf(table)
                for centre in view.centres[code]
            ]
            scores[:, code] += logsumexp(densities, axis=0)
    np.testing.assert_array_equal(mixture.best(tables), scores.argmax(axis=1))
    assert (mixture.best(tables) == codes).mean() > 0.8


def test_classes_need_more_than_a_linear_method(modules):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mixture = modules["mixtures"].Mixture(views=3, columns=20, classes=10)
    (train, codes), (test, truth) = mixture.blocks(6000, seed=1, size=3000)
    linear = LinearDiscriminantAnalysis().fit(np.hstack(list(train.values())), codes)
    best = (mixture.best(test) == truth).mean()
    assert 0.9 < best < 0.99
    assert linear.score(np.hstack(list(test.values())), truth) < best - 0.2


def test_arrays_are_mapped_as_they_were_written(modules, tmp_path):
    mixtures = modules["mixtures"]
    mixture = mixtures.Mixture(views=2, columns=3, classes=2)
    mixtures.write_arrays(tmp_path, mixture, 10, seed=1)
    views, codes = mixtures.mapped(tmp_path, mixture)
    tables, truth = next(mixture.blocks(10, seed=1))
    assert all(isinstance(view, np.memmap) and not view.flags.writeable for view in views.values())
    for name, table in tables.items():
        np.testing.assert_array_equal(views[name], table)
    np.testing.assert_array_equal(codes, truth)


# points


BASE = "200,2,10,3"
NONE = ["--views", "", "--columns", "", "--classes", ""]


def invented(modules, base, *, methods, power=1.0, stop=np.inf):
    """Measurements whose seconds and memory grow by known powers, up to a number of seconds."""
    measurements = modules["measurements"]
    for method in methods:
        for axis, sizes in measurements.AXES.items():
            for point in measurements.along(axis, sizes, base):
                ratio = getattr(point, axis) / getattr(base, axis)
                seconds = 3 * ratio**power
                yield measurements.Measurement(
                    method=method,
                    **asdict(point),
                    ending="done" if seconds < stop else "time",
                    seconds_bound=100.0,
                    gigabytes_bound=16.0,
                    fit_seconds=2 * seconds,
                    cpu_seconds=seconds,
                    predict_ms=2.0,
                    peak_mb=150 + 20 * ratio ** (power / 2),
                    start_mb=150.0,
                    accuracy=0.75,
                    commit="abc",
                )


def test_exponent_is_the_slope_of_the_upper_half(modules):
    exponent = modules["scaling_page"].exponent
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 1e6, 8)
    values = np.where(sizes < 1e3, 1.0, sizes**1.5) * np.exp(0.1 * rng.normal(size=8))
    line = linregress(np.log(sizes[4:]), np.log(values[4:]))
    assert exponent(sizes, values) == pytest.approx((line.slope, line.stderr))
    assert np.isnan(exponent(sizes[:2], values[:2])).all()


def test_names_of_lines_are_moved_apart(modules):
    places = modules["scaling_page"].spread([0.98, 0.2, 0.99, 1.0, 0.21], 0.1)
    assert np.diff(np.sort(places)).min() > 0.1 - 1e-6
    assert list(np.argsort(places)) == [1, 4, 0, 2, 3]
    assert max(places) <= 1


def test_points_are_measured_once_and_shown(modules, tmp_path, capsys):
    scaling, page = modules["scaling"], tmp_path / "costs.md"
    common = ["--base", BASE, *NONE, "--csv", str(tmp_path / "costs.csv")]
    scaling.main(["--methods", "rbf-svm", "--rows", "200,400", *common])
    assert capsys.readouterr().out.count("rbf-svm: ") == 2
    scaling.main(["--methods", "rbf-svm,ridge-expert", "--rows", "200", *common])
    told = capsys.readouterr().out
    assert "rbf-svm" not in told
    assert re.fullmatch(
        r"rows 200: ridge-expert: [\d.]+ s, [\d.]+ s of processor, peak \d+ MB, predict \d+ ms per "
        r"1000 rows, accuracy 0\.\d+\n",
        told,
    )
    results = modules["measurements"].measured(tmp_path / "costs.csv")
    assert len(results) == 3
    for (method, _), row in results.items():
        assert row.ending == "done"
        assert row.accuracy > 0.6
        assert 50 < row.start_mb < row.peak_mb < 2000
        # a peer alone does not carry torch along
        assert row.start_mb > 250 or method == "rbf-svm"
        assert row.mapped == 0
    scaling.main(["--page", str(page), *common])
    assert "| ridge-expert | " in page.read_text(encoding="utf-8")


def test_large_tables_are_given_as_memory_maps(modules, monkeypatch):
    from rcml_misa.estimators import RidgeExpertClassifier

    scaling, point, kinds = modules["scaling"], modules["measurements"].Point(120, 2, 10, 3), []
    fit = RidgeExpertClassifier.fit

    def noted(self, X, y):
        kinds.append(type(X).__name__)
        return fit(self, X, y)

    monkeypatch.setattr(RidgeExpertClassifier, "fit", noted)
    with scaling.Folder(point) as folder:
        path = folder.tables()
        assert scaling.measure(path, "ridge-expert", point)["mapped"] == 0
        monkeypatch.setattr(scaling, "MAPPED_ROWS", 100)
        facts = scaling.measure(path, "ridge-expert", point)
    assert facts["mapped"] == 1
    assert facts["accuracy"] > 0.6
    assert kinds == ["MultiView", "MultiView"]
    assert not path.exists()


def test_a_stopped_point_leaves_larger_ones_out_until_bounds_grow(
    modules, tmp_path, monkeypatch, capsys
):
    scaling, tried = modules["scaling"], []

    def run_point(folder, method, point, given):
        tried.append(point.rows)
        seconds = point.rows / 100
        ending = "done" if seconds <= given.seconds else "time"
        common = {"ending": ending, "fit_seconds": seconds, "accuracy": 1.0, "peak_mb": 1.0}
        bounds = {"seconds_bound": given.seconds, "gigabytes_bound": given.gigabytes}
        return modules["measurements"].Measurement(
            method=method, **asdict(point), **common, **bounds
        )

    monkeypatch.setattr(scaling, "run_point", run_point)
    words = ["--methods", "mlp", "--rows", "100,200,300,400,3000", "--base", BASE, *NONE]
    words += ["--csv", str(tmp_path / "costs.csv")]
    scaling.main([*words, "--seconds", "2.5"])
    assert tried == [100, 200, 300]
    assert "rows 400: mlp: left out" in capsys.readouterr().out
    scaling.main([*words, "--seconds", "2.5"])
    assert tried == [100, 200, 300]
    scaling.main([*words, "--seconds", "4.5"])
    assert tried == [100, 200, 300, 300, 400]
    results = modules["measurements"].measured(tmp_path / "costs.csv")
    endings = {point.rows: row.ending for (_, point), row in results.items()}
    assert endings == {100: "done", 200: "done", 300: "done", 400: "done", 3000: "expected"}


def test_plan_counts_what_is_lacking(modules, tmp_path, capsys):
    scaling, base = modules["scaling"], modules["measurements"].Point()
    words = ["--methods", "mlp", "--plan", *NONE, "--rows", "1000,10000,1000000"]
    words += ["--csv", str(tmp_path / "costs.csv"), "--seconds", "100"]
    assert scaling.plan(scaling.arguments(words)) > 0
    assert "left out: 1000000" in capsys.readouterr().out
    for row in invented(modules, base, methods=["mlp"]):
        modules["journal"].append(tmp_path / "costs.csv", row)
    assert scaling.plan(scaling.arguments(words)) == 0


def test_page_says_what_the_csv_holds(modules, tmp_path):
    scaling_page, methods = modules["scaling_page"], modules["methods"]
    base = modules["measurements"].Point()
    rows = [
        *invented(modules, base, methods=methods.OURS),
        *invented(modules, base, methods=["mlp"], power=0.5),
        *invented(modules, base, methods=["rbf-svm"], power=2.0, stop=1000),
    ]
    text = scaling_page.page(rows, base)
    assert text == scaling_page.page(rows[::-1], base)  # the order of lines is no matter
    assert text.startswith("# Costs\n\n`python benchmarks/scaling.py` measures")
    assert "Code: abc." in text
    assert (
        "**Rows**, 1,000 to 10,000,000: the exponents of time and memory are 1.00 and 0.50 for "
        "`rcml-misa`, 1.00 (`expert=none`) to 1.00 (`ridge-expert`) and " in text
    )
    assert "and 0.50 (`mlp`) to 2.00 (`rbf-svm`) and 0.25 (`mlp`) to 1.00 (`rbf-svm`) for" in text
    assert "| mlp | 3.00 | 170 | 2.0 | 75.0 |" in text
    assert "| rbf-svm | 2.00 ± 0.00 | 1.00 ± 0.00 |" in text
    assert "- `rbf-svm`, rows 300,000, 1,000,000, 3,000,000, 10,000,000: stopped after 100 s" in (
        text
    )
    assert "- not measured: rcml, hist-gradient-boosting, lightgbm" in text
    assert all(text.count(f"**{axis}**") == 1 for axis in ("Rows", "Views", "Columns", "Classes"))
    scaling_page.write(tmp_path / "costs.md", rows, base)
    assert (tmp_path / "costs.md").read_text(encoding="utf-8") == text
    drawn = (tmp_path / "costs.svg").read_text(encoding="utf-8")
    assert drawn.rstrip().endswith("</svg>")
    for name in ("rcml-misa", "mlp", "processor seconds of a fit", "peak memory, MB", "classes"):
        assert drawn.count(f"<!-- {name} -->") >= 1


def test_page_bears_an_axis_without_points(modules):
    base = modules["measurements"].Point()
    failed = next(invented(modules, base, methods=["mlp"]))
    failed = replace(failed, ending="failed", note="ValueError: x")
    text = modules["scaling_page"].page([failed], base)
    assert "**Views**: not measured." in text
    assert "- `mlp`, rows 1,000: failed (ValueError: x)" in text


# large files


def test_large_file_is_written_fitted_and_judged(modules, tmp_path, monkeypatch, capsys):
    import pandas as pd
    from click.testing import CliRunner

    from rcml_misa.cli import main

    large, path = modules["large"], tmp_path / "rows.parquet"
    monkeypatch.setattr(large, "GROUP", 700)
    sizes = ["--rows", "1500", "--views", "2", "--columns", "6", "--classes", "3"]
    large.main(["make", str(path), *sizes])
    frame = pd.read_parquet(path)
    assert list(frame) == [*(f"{v}__{c}" for v in "ab" for c in range(6)), "label"]
    mixture = modules["mixtures"].Mixture(2, 6, 3)
    blocks = list(mixture.blocks(1500, seed=0, size=700))
    np.testing.assert_array_equal(frame["label"], np.concatenate([codes for _, codes in blocks]))
    np.testing.assert_array_equal(
        frame.filter(like="b__"), np.concatenate([tables["b"] for tables, _ in blocks])
    )
    with pytest.raises(SystemExit, match="holds other rows"):
        large.main(["make", str(path), *sizes, "--seed", "1"])

    def run_bounded(command, *, environment, **bounds):
        assert command[:3] == [sys.executable, "-m", "rcml_misa"]
        assert environment["PYTHONPATH"] == str(BENCHMARKS.parent)
        answer = CliRunner().invoke(main, command[3:])
        assert answer.exit_code == 0, answer.output
        return modules["processes"].Usage("done", 1.0, 1.0, 500.0, answer.stdout, "")

    # processes of their own have tests of their own, and these have torch at hand
    monkeypatch.setattr(large, "run_bounded", run_bounded)
    words = ["measure", str(path), "--rows", "1500", "--sample", "300", "--fresh", "500"]
    words += ["--fit-options", "--method ridge-expert"]
    capsys.readouterr()
    assert large.main(words) == 1  # one size has no exponent
    told = capsys.readouterr().out
    results = modules["journal"].read(tmp_path / "rows-measured" / "results.csv", large.Result)
    assert [(row.command, row.model, row.rows, row.ending) for row in results] == [
        ("fit", "rows-1500", 1500, "done"),
        ("predict", "rows-1500", 500, "done"),
        ("fit", "sample-300", 300, "done"),
        ("predict", "sample-300", 500, "done"),
    ]
    assert all(row.accuracy > 0.6 for row in results if row.command == "predict")
    assert "(of wall clock nan); bar, at most 1.05: not measured" in told
    assert "peak of the largest fit: 0.50 GB; bar, at most 2 GB: met" in told
    sample = pd.read_parquet(tmp_path / "rows-measured" / "sample-300.parquet")
    chosen = np.sort(np.random.default_rng(0).choice(1500, size=300, replace=False))
    np.testing.assert_array_equal(sample, frame.iloc[chosen])
    assert large.main(words) == 1  # and nothing is made again
    assert (tmp_path / "rows-measured" / "results.csv").read_text().count("\n") == 5


def test_bars_of_large_files(modules, capsys):
    large = modules["large"]

    def fit(rows, seconds, peak, ending="done"):
        return large.Result(
            "fit", "", f"rows-{rows}", rows, ending, seconds, seconds, peak, np.nan, "", ""
        )

    def answers(first, second):
        return {
            name: large.Result("predict", "", name, 10_000, "done", 1, 1, 1, accuracy, "", "")
            for name, accuracy in (("rows-10000", first), ("sample-10", second))
        }

    fits = {f"rows-{n}": fit(n, n / 100, 1900.0) for n in (100, 1000, 10_000)}
    fits["sample-10"] = fit(10, 1.0, 100.0)
    assert large.report(fits, answers(0.8995, 0.9), 0.95)
    assert (
        "exponent of processor seconds against rows: 1.000 (of wall clock 1.000); bar"
        in capsys.readouterr().out
    )
    assert not large.report(fits, answers(0.898, 0.9), 0.95)
    assert (
        "-0.20 points, standard error 0.42 at most; bar, at least -0.1" in capsys.readouterr().out
    )
    for last in (fit(10_000, 100.0, 2100.0), fit(10_000, 130.0, 100.0), fit(10_000, 9, 9, "time")):
        assert not large.report({**fits, "rows-10000": last}, answers(0.9, 0.9), 0.95)


def test_disk_is_looked_at_before_a_file_is_written(modules, tmp_path):
    mixture = modules["mixtures"].Mixture(3, 100, 20)
    with pytest.raises(SystemExit, match="GB free; name a folder on a larger disk") as caught:
        modules["large"].make(tmp_path / "rows.parquet", mixture, 10**15)
    assert len(str(caught.value)) <= 300
    assert not list(tmp_path.iterdir())


# an earlier state


def test_states_are_compared_in_turns(modules, tmp_path, monkeypatch, capsys):
    scale, order = modules["scale"], []

    def run_bounded(command, *, environment, **bounds):
        code = environment["PYTHONPATH"]
        folder = Path(command[-1])
        order.append(Path(code).name)
        assert np.load(folder / "view3.npy").shape == (60, 300)
        assert np.load(folder / "target.npy").max() < 50
        seconds = 1.0 if code == str(scale.ROOT) else 8.0
        facts = {"seconds": seconds, "accuracy": 0.5, "code": code}
        return modules["processes"].Usage("done", 9.0, 9.0, 500.0, json.dumps(facts), "")

    monkeypatch.setattr(scale, "run_bounded", run_bounded)
    words = ["--rows", "60", "--before", str(tmp_path), "--csv", str(tmp_path / "scale.csv")]
    scale.main(words)
    told = capsys.readouterr().out
    assert order == [scale.ROOT.name, tmp_path.name]
    assert "0.125 of the earlier state's seconds, 1.00 of its peak; bar, at most 0.2" in told
    assert told.endswith("of its seconds: met\n")
    scale.main(words)
    assert len(order) == 2
    monkeypatch.setattr(scale, "ROOT", Path("elsewhere"))
    monkeypatch.setattr(
        scale,
        "run_bounded",
        lambda *_, **__: modules["processes"].Usage(
            "done", 1.0, 1.0, 1.0, '{"seconds": 1, "accuracy": 1, "code": "x"}', ""
        ),
    )
    with pytest.raises(SystemExit, match="the code of x ran in place of that of elsewhere"):
        scale.main(["--rows", "60"])
