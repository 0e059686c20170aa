"""Finite values of any size, at prediction and in train rows, and answers that are no numbers."""

from __future__ import annotations

from functools import cache
from inspect import signature
from io import StringIO
from itertools import product
from json import loads
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier

from rcml_misa.cli import main
from rcml_misa.datasets import FileOptions
from rcml_misa.datasets.files import read_own_file
from rcml_misa.estimators import (
    KernelExpert,
    KernelExpertClassifier,
    MISARegressor,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
    RidgeExpertClassifier,
)
from rcml_misa.estimators.foreign import build_foreign
from rcml_misa.estimators.opinion import ScoreOpinion
from rcml_misa.estimators.registry import exported_estimators
from rcml_misa.exceptions import DataError
from rcml_misa.metrics.answers import ask, ask_scores
from rcml_misa.persistence import save
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import MultiView, Sequences

KINDS = exported_estimators()
SEQUENTIAL = [name for name, kind in KINDS.items() if getattr(kind, "_reads_sequences", False)]
SIZES = (1e30, 3.4028235e38, 1e100, 1e300, 1e308)
HUGE = [sign * size for size in SIZES for sign in (1.0, -1.0)]
SCALINGS = ("minmax", "standard", "quantile", "none")
FEATURES = ("root-layernorm", "root", "plain", "quantile")


def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    return rng.normal(size=(60, 6)) + 2 * np.eye(3)[y] @ rng.normal(size=(3, 6)), y


def with_huge_cells(X, columns=range(6)):
    """The first row once for each huge value and column that holds it."""
    cells = list(product(HUGE, columns))
    rows = np.repeat(X[:1], len(cells), axis=0)
    for row, (value, column) in zip(rows, cells, strict=True):
        row[column] = value
    return rows


def tables(X):
    return {"a": X[:, :3], "b": X[:, 3:]}


def sequences(X):
    return {"a": X[:, :3], "steps": Sequences(np.stack([X[:, 3:], X[:, 3:] / 2], axis=1))}


def form(kind, layout, X):
    return X if kind is KernelExpert else layout(X)


def new(kind, **options):
    """An estimator that trains for an epoch, where it trains at all."""
    taken = signature(kind).parameters
    quick = {"epochs": 1, "random_state": 0, "device": "cpu", "trees": 5, "rounds": 3} | options
    if isinstance(getattr(taken.get("hidden"), "default", None), int):
        quick["hidden"] = 8
    return kind(**{name: value for name, value in quick.items() if name in taken})


@cache
def fitted(name, layout, **options):
    kind, (X, y) = KINDS[name], data()
    return new(kind, **options).fit(form(kind, layout, X), target(kind, X, y))


def target(kind, X, y):
    return y if is_classifier(kind()) else X[:, 0]


def assert_finite(model, X):
    """Whatever a model states of rows is finite, and its probabilities and shares are some."""
    if is_classifier(model):
        probability = model.predict_proba(X)
        assert np.isfinite(probability).all()
        np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-5)
    else:
        assert np.isfinite(model.predict(X)).all()
    for name in ("predict_uncertainty", "predict_conflict"):
        if hasattr(model, name):
            assert np.isfinite(getattr(model, name)(X)).all(), name
    if not hasattr(model, "predict_opinion"):
        return
    opinion = model.predict_opinion(X)
    if isinstance(opinion, ScoreOpinion):
        for own in (opinion, *opinion.views.values()):
            for part in (own.score, own.scale, own.deviation):
                assert np.isfinite(part).all()
        return
    assert np.isfinite(opinion.conflict).all()
    for own in (opinion, *map(opinion.of, opinion.views)):
        assert ((own.uncertainty >= 0) & (own.uncertainty <= 1)).all()


@pytest.mark.parametrize("name", KINDS)
def test_huge_cells_of_tables_get_finite_answers(name):
    X, _ = data()
    assert_finite(fitted(name, tables), form(KINDS[name], tables, with_huge_cells(X)))


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_huge_cells_of_sequences_get_finite_answers(name):
    X, _ = data()
    assert_finite(fitted(name, sequences), sequences(with_huge_cells(X)))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", [n for n in KINDS if "scaling" in signature(KINDS[n]).parameters])
def test_every_scaling_gives_finite_answers(name, scaling):
    X, _ = data()
    rows = with_huge_cells(X, columns=(0, 4))
    assert_finite(fitted(name, tables, scaling=scaling), form(KINDS[name], tables, rows))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(
    "model",
    [RCMLMISAClassifier, KernelExpertClassifier, RidgeExpertClassifier],
    ids=lambda kind: kind.__name__,
)
def test_a_huge_cell_rules_its_view_out_and_no_other(model, scaling):
    X, y = data()
    own = fitted(model.__name__, tables, scaling=scaling)
    whole = own.predict_opinion(tables(X))
    assert whole.uncertainty.mean() < 0.3
    for view, columns in (("a", (0, 1, 2)), ("b", (3, 4, 5))):
        opinion = own.predict_opinion(tables(with_huge_cells(X, columns)))
        other = {"a": "b", "b": "a"}[view]
        assert opinion.of(view).uncertainty.min() > 0.95
        np.testing.assert_allclose(
            opinion.of(other).evidence,
            np.broadcast_to(whole.of(other).evidence[0], opinion.evidence.shape),
            rtol=1e-5,
            atol=1e-9,
        )
        assert (opinion.suspect == view).all()
        assert (opinion.predicted == y[0]).all()
        assert opinion.uncertainty.min() > whole.uncertainty[0] + 0.1
        assert opinion.uncertainty.max() < 0.95
        nothing = own.predict_opinion({view: tables(with_huge_cells(X, columns))[view]})
        assert nothing.uncertainty.min() > 0.95


def test_a_huge_cell_among_many_is_unfamiliar_too():
    rng, y = np.random.default_rng(1), np.arange(90) % 3
    X = rng.normal(size=(90, 400)) + rng.normal(size=(3, 400))[y]
    model = KernelExpertClassifier(random_state=0).fit(X, y)
    rows = X[:4].copy()
    rows[:, 7] = -3.4028235e38
    assert model.predict_opinion(X[:4]).uncertainty.max() < 0.3
    assert model.predict_opinion(rows).uncertainty.min() > 0.95


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_maps_of_huge_values_are_finite_in_float32(scaling, features):
    X, _ = data()
    mapping = FeatureMap.fit(X, scaling=scaling, features=features)
    columns = ColumnMap.fit(X, scaling=scaling, readings="both")
    rows = with_huge_cells(X)
    for dtype, reading in product((np.float32, np.float64), (mapping, columns)):
        mapped = reading.transform(rows, dtype).astype(np.float32)
        with np.errstate(over="raise"):
            assert np.isfinite((mapped**2).sum(axis=1)).all()


@pytest.mark.parametrize("far", [1.0, 30.0, 1e5])
def test_ordinary_far_values_are_mapped_as_the_formulas_say(far):
    X, _ = data()
    rows = far * X
    least, most = X.min(axis=0), X.max(axis=0)
    scaled = (rows - least) / (most - least)
    plain = FeatureMap.fit(X, features="plain").transform(rows)
    np.testing.assert_array_equal(plain, scaled)
    unscaled = FeatureMap.fit(X, scaling="none", features="plain").transform(1e9 * rows)
    np.testing.assert_array_equal(unscaled, 1e9 * rows)
    standard = FeatureMap.fit(X, scaling="standard", features="plain").transform(rows)
    np.testing.assert_array_equal(standard, (rows - X.mean(axis=0)) / X.std(axis=0))
    roots = np.sign(scaled) * np.sqrt(np.abs(scaled))
    train = np.sqrt((X - least) / (most - least))
    found = FeatureMap.fit(X, features="root").transform(rows)
    np.testing.assert_allclose(
        found, np.clip((roots - train.mean(axis=0)) / train.std(axis=0), -5, 5), atol=1e-12
    )


def test_a_column_of_rounding_errors_makes_no_row_a_stray():
    X, _ = data()
    rows = X.copy()
    rows[0, 0] = 1e300
    X[:, 2] *= 1e-16  # such as the last components of few train rows
    for scaling, features in product(("minmax", "standard"), ("root", "root-layernorm")):
        mapping = FeatureMap.fit(X, scaling=scaling, features=features)
        mapped = np.abs(mapping.transform(rows))
        assert mapped[0].max() == 100
        assert mapped[1:].max() <= 5


def test_values_as_large_as_the_train_rows_are_no_strays():
    X, _ = data()
    for scaling, features in product(("minmax", "standard", "quantile"), FEATURES):
        mapping = FeatureMap.fit(1e40 * X, scaling=scaling, features=features)
        small = FeatureMap.fit(X, scaling=scaling, features=features)
        np.testing.assert_allclose(mapping.transform(3e40 * X), small.transform(3 * X), atol=1e-6)


@pytest.mark.parametrize("value", [1e30, -3.4028235e38, 1e100])
@pytest.mark.parametrize("name", KINDS)
def test_large_values_of_train_rows_give_a_finite_model(name, value):
    kind, (X, y) = KINDS[name], data()
    numbers = target(kind, X, y)
    X = X.copy()
    X[3, 1], X[5, 1], X[7, 4] = value, -value, value
    layouts = (tables, sequences) if name in SEQUENTIAL else (tables,)
    for layout in layouts:
        model = new(kind).fit(form(kind, layout, X), numbers)
        assert_finite(model, form(kind, layout, X))


@pytest.mark.parametrize("value", [1e101, -1e300, 1e308])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "KernelExpert"])
def test_train_rows_that_would_overflow_are_refused_in_one_sentence(name, value):
    kind, (X, y) = KINDS[name], data()
    numbers = target(kind, X, y)
    X = X.copy()
    X[7, 4] = value
    layouts = {"b": tables} | ({"steps": sequences} if name in SEQUENTIAL else {})
    for view, layout in layouts.items():
        with pytest.raises(DataError, match=r"has the value .* in train row 7, above 1e\+100") as e:
            new(kind).fit(layout(X), numbers)
        assert f"view {view!r} has the value {value:g}" in str(e.value)
        assert len(str(e.value)) <= 300


def test_huge_values_of_sparse_train_rows_and_beside_missing_views():
    X, y = data()
    X[7, 4] = -1e200
    sparse = {"a": csr_array(X[:, :3]), "b": csr_array(X[:, 3:])}
    with pytest.raises(DataError, match="view 'b' has the value -1e\\+200 in train row 7"):
        RCMLClassifier(epochs=1, device="cpu").fit(sparse, y)
    holes = tables(X.copy())
    holes["b"][:3] = np.nan
    with pytest.raises(DataError, match="view 'b' has the value -1e\\+200 in train row 7"):
        RCMLClassifier(epochs=1, device="cpu").fit(holes, y)


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_ranges_that_no_float_holds_are_refused(scaling):
    X, y = data()
    X[2, 0], X[5, 0] = 1.7e308, -1.7e308
    with pytest.raises(DataError, match="of which no range or deviation can be computed"):
        KernelExpert(scaling=scaling).fit(X, y)


@pytest.mark.parametrize("kind", [MISARegressor, RCMLMISARegressor])
def test_huge_targets_are_refused(kind):
    X, _ = data()
    with pytest.raises(DataError, match=r"the target has the value -?[\d.]+e\+300, above 1e\+100"):
        new(kind).fit(tables(X), 1e300 * (1 + X[:, 0]))


def test_pooled_sequences_of_huge_values_are_finite():
    X, _ = data()
    for how in ("mean", "max", "mean-std"):
        pooled = MultiView(sequences(with_huge_cells(X))).pooled(how)
        assert np.isfinite(pooled["steps"]).all()


# infinity in the input


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("name", ["RCMLClassifier", "ControlClassifier", "RCMLMISARegressor"])
def test_infinity_is_refused_at_prediction(name, value):
    X, _ = data()
    model = fitted(name, tables)
    names = ("predict", "predict_proba", "predict_opinion")
    calls = [getattr(model, method) for method in names if hasattr(model, method)]
    one, whole = X.copy(), X.copy()
    one[4, 1], whole[4, :3] = value, value
    for rows, call in product((one, whole), calls):
        with pytest.raises(DataError, match="view 'a' has NaN or infinity in 1 of 60 rows") as e:
            call(tables(rows))
        assert len(str(e.value)) <= 300


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("huge")
    X, y = data()
    own = read_own_file(
        write(folder / "train.csv", X, target=np.array(["x", "y", "z"])[y]),
        FileOptions(target="target"),
    )
    model = new(RCMLClassifier).fit(own.views, own.labels)
    save(model, folder / "m.rcml", about={"layout": own.layout.to_json()})
    return folder / "m.rcml"


def write(path, X, **more):
    if path.suffix == ".npz":
        np.savez(path, **tables(X))
        return path
    columns = [f"{view}__{number}" for view in "ab" for number in range(3)]
    pd.DataFrame(X, columns=columns).assign(**more).to_csv(path, index=False)
    return path


def predict(*words):
    return CliRunner().invoke(main, ["predict", *map(str, words)])


@pytest.mark.parametrize("name", ["new.csv", "new.npz"])
def test_infinity_in_a_file_is_refused(name, model_file, tmp_path, monkeypatch):
    X, _ = data()
    X[4, 1] = np.inf
    write(tmp_path / name, X)
    monkeypatch.chdir(tmp_path)  # a long path would shorten the sentence
    result = predict(model_file, Path(name))
    assert result.exit_code == 2
    assert "view 'a' has NaN or infinity in 1 of 60 rows (the first is row 4" in " ".join(
        result.stderr.split()
    )


def test_a_number_that_no_float_holds_is_refused(model_file, tmp_path):
    X, _ = data()
    text = write(tmp_path / "new.csv", X).read_text().splitlines()
    text[3] = "1e400," + text[3].partition(",")[2]
    (tmp_path / "new.csv").write_text("\n".join(text))
    assert "NaN or infinity" in predict(model_file, tmp_path / "new.csv").stderr


def test_huge_values_in_a_file_are_answered(model_file, tmp_path):
    X, _ = data()
    result = predict(model_file, write(tmp_path / "new.csv", with_huge_cells(X)), "--json")
    assert result.exit_code == 0, result.stderr
    lines = pd.read_csv(StringIO(result.stdout))
    assert np.isfinite(lines[["probability", "uncertainty", "conflict"]]).all(axis=None)
    assert loads(result.stderr)["not_finite"] == 0


# answers that are no numbers

BAD = [3, 17, 40]


def no_numbers(monkeypatch, kind, value):
    """Let what a class of models says of the rows `BAD` of 60 be no numbers."""
    whole = kind.predict_opinion

    def predict_opinion(self, X):
        opinion = whole(self, X)
        numbers = opinion.gamma if isinstance(opinion, ScoreOpinion) else opinion.evidence
        if len(numbers) == 60:
            numbers[BAD] = value
        return opinion

    monkeypatch.setattr(kind, "predict_opinion", predict_opinion)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "options",
    [(), ("--per-view",), ("--reject-above", 1), ("--coverage", 0.5), ("--coverage", 1)],
    ids=str,
)
def test_rows_without_a_finite_answer_are_refused(
    options, value, model_file, tmp_path, monkeypatch
):
    X, y = data()
    file = write(tmp_path / "new.csv", X, target=np.array(["x", "y", "z"])[y])
    usual = pd.read_csv(StringIO(predict(model_file, file, *options).stdout))
    no_numbers(monkeypatch, RCMLClassifier, value)
    result = predict(model_file, file, *options, "--json")
    assert result.exit_code == 0, result.stderr
    lines, facts = pd.read_csv(StringIO(result.stdout)), loads(result.stderr)
    others = lines.drop(index=BAD)
    assert lines.loc[BAD, "refused"].all()
    assert (lines.loc[BAD, "uncertainty"] == 1).all()
    empty = lines.columns.drop(["row", "uncertainty", "refused"])
    assert lines.loc[BAD, empty].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        others.drop(columns="refused"), usual.drop(index=BAD).drop(columns="refused")
    )
    assert facts["not_finite"] == 3
    assert facts["refused"] == lines["refused"].sum()
    limit = facts["reject_above"]
    if options[:1] == ("--coverage",):
        # refused rows count among the rows, so that a share of all of them is accepted
        assert (~lines["refused"]).sum() == min(60 * options[1], 57)
        assert limit == pytest.approx(others.loc[~others["refused"], "uncertainty"].max(), rel=1e-5)
    if limit is not None:
        wanted = (lines["class"] == np.array(["x", "y", "z"])[y])[~lines["refused"]].mean()
        assert facts["accuracy_of_kept"] == pytest.approx(wanted)
    said = " ".join(predict(model_file, file, *options).stderr.split())
    assert "3 refused, whose answer is NaN or infinite" in said


def test_a_file_of_rows_without_finite_answers_is_refused_as_a_whole(
    model_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("test_huge_values.BAD", slice(None))
    no_numbers(monkeypatch, RCMLClassifier, np.nan)
    file = write(tmp_path / "new.csv", data()[0])
    for options in (("--coverage", 0.5), ("--reject-above", 0.5), ()):
        result = predict(model_file, file, *options, "--json")
        assert result.exit_code == 0, result.stderr
        facts = loads(result.stderr)
        assert (facts["refused"], facts["not_finite"]) == (60, 60)


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.bool_])
def test_classes_that_are_numbers_stay_as_they_are(dtype, tmp_path, monkeypatch):
    X, y = data()
    save(new(RCMLClassifier).fit(tables(X), (y > 0).astype(dtype)), tmp_path / "m.rcml")
    file = write(tmp_path / "new.csv", X)
    usual = predict(tmp_path / "m.rcml", file).stdout.splitlines()
    no_numbers(monkeypatch, RCMLClassifier, np.nan)
    lines = predict(tmp_path / "m.rcml", file).stdout.splitlines()
    different = [row for row in range(60) if usual[row + 1] != lines[row + 1]]
    assert different == BAD


@pytest.mark.parametrize("kind", [MISARegressor, RCMLMISARegressor])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_scores_that_are_no_numbers_are_refused(kind, value, tmp_path, monkeypatch):
    X, _ = data()
    save(new(kind).fit(tables(X), X[:, 0]), tmp_path / "m.rcml")
    file = write(tmp_path / "new.csv", X)
    if kind is RCMLMISARegressor:
        no_numbers(monkeypatch, kind, value)
    else:
        whole = kind.predict

        def predict_scores(self, X):
            scores = whole(self, X)
            scores[3:4] = value if len(scores) == 60 else scores[3:4]
            return scores

        monkeypatch.setattr(kind, "predict", predict_scores)
    result = predict(tmp_path / "m.rcml", file, "--json")
    lines = pd.read_csv(StringIO(result.stdout))
    bad = BAD if kind is RCMLMISARegressor else [3]
    assert np.flatnonzero(lines["refused"]).tolist() == bad
    assert lines.loc[bad, "score"].isna().all()
    assert loads(result.stderr)["not_finite"] == len(bad)
    if kind is RCMLMISARegressor:
        assert np.isposinf(lines.loc[bad, "scale"]).all()
        result = predict(tmp_path / "m.rcml", file, "--coverage", 0.5)
        lines = pd.read_csv(StringIO(result.stdout))
        assert (~lines["refused"]).sum() == 30
        assert lines.loc[bad, "refused"].all()


class Broken(ClassifierMixin, BaseEstimator):
    """Another project's classifier, which is sure of a class and knows no number for it."""

    def __init__(self, what: str = "probability") -> None:
        self.what = what

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def predict_proba(self, X):
        shares = np.full((len(X), len(self.classes_)), 1 / len(self.classes_))
        shares[3] = np.nan
        return shares


class Doubtful(RCMLClassifier):
    """Its shares are numbers, `broken` of its other answers is none."""

    broken = "predict_uncertainty"

    def __getattribute__(self, name):
        if name == "predict_opinion":
            raise AttributeError(name)
        if name in ("predict_uncertainty", "predict_conflict"):
            bad = np.inf if name == type(self).broken else 0.0
            return lambda X: np.where(np.arange(len(X["a"])) == 3, bad, 0.5)
        if name in ("predict_proba", "predict"):
            shares = np.full((60, 3), 1 / 3)
            return lambda X: shares if name == "predict_proba" else np.zeros(60, dtype=int)
        return super().__getattribute__(name)


def test_answers_of_classes_that_are_no_numbers_are_refused(monkeypatch):
    X, y = data()
    views = MultiView(tables(X))
    foreign = build_foreign(f"{__name__}:Broken", {}, 0).fit(views, y)
    with pytest.raises(DataError, match="gives NaN or infinity for 1 of 60 rows"):
        ask(foreign, views, 3)
    for broken in ("predict_uncertainty", "predict_conflict"):
        monkeypatch.setattr(Doubtful, "broken", broken)
        model = Doubtful(epochs=1, device="cpu", random_state=0).fit(views, y)
        with pytest.raises(DataError, match="Doubtful gives NaN or infinity for 1 of 60 rows"):
            ask(model, views, 3)
    monkeypatch.setattr(Doubtful, "broken", "")
    assert ask(model, views, 3).uncertainty.tolist() == [0.5] * 3 + [0.0] + [0.5] * 56


def test_opinions_of_no_uncertainty_are_refused(monkeypatch):
    X, y = data()
    views = MultiView(tables(X))
    model = new(RCMLClassifier).fit(views, y)
    whole = type(model).predict_opinion(model, views)
    assert np.isfinite(ask(model, views, 3).uncertainty).all()
    vague = type("Vague", (type(whole),), {"uncertainty": np.where(y == 0, np.nan, 0.5)})
    object.__setattr__(whole, "__class__", vague)
    monkeypatch.setattr(type(model), "predict_opinion", lambda self, X: whole)
    with pytest.raises(DataError, match="gives NaN or infinity for 20 of 60 rows"):
        ask(model, views, 3)


def test_scores_and_intervals_that_are_no_numbers_are_refused(monkeypatch):
    X, _ = data()
    views = MultiView(tables(X))
    model = new(MISARegressor).fit(views, X[:, 0])
    assert np.isfinite(ask_scores(model, views).predicted).all()
    monkeypatch.setattr(type(model), "predict", lambda self, X: np.full(60, np.inf))
    with pytest.raises(DataError, match="MISARegressor gives NaN or infinity for 60 of 60 rows"):
        ask_scores(model, views)
    opinions = new(RCMLMISARegressor)
    wide = np.where(np.arange(60) == 3, np.inf, 1.0)
    monkeypatch.setattr(RCMLMISARegressor, "predict_interval", lambda self, X: (-wide, wide))
    with pytest.raises(DataError, match="gives NaN or infinity for 1 of 60 rows"):
        ask_scores(opinions, views)
