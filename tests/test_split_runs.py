"""Given splits, kept views, regression runs, files beside records, ablations."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import rcml_misa.datasets as datasets_module
from rcml_misa.cli import main
from rcml_misa.datasets import Dataset, as_task, keep_views, load_dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.protocols import Protocol, conflict_views, partition_rows
from rcml_misa.protocols.corruptions import drop_views
from rcml_misa.results import RunRecord, compare, summarise
from rcml_misa.runs.backends import Engine
from rcml_misa.runs.engine import execute
from rcml_misa.runs.single import run_task
from rcml_misa.runs.tasks import RunOutputs, plan_tasks
from rcml_misa.views import MultiView, TokenTexts

QUICK = ["epochs=2", "hidden=8", "feedforward=8", "text_encoder=words", "sequence_hidden=4"]


def _dataset(n: int = 90, *, tables: bool = False, **fields) -> Dataset:
    """Sentiment scores with a view that knows them, in 18 groups of 5 rows."""
    rng = np.random.default_rng(0)
    scores = np.round(np.clip(rng.normal(0, 1.5, n), -3, 3), 1)
    scores[:9] = 0
    words = ["bad" if score < 0 else "good" if score > 0 else "so" for score in scores]
    steps = [rng.normal(score, 1, (rng.integers(1, 5), 2)) for score in scores]
    views = {"a": scores[:, None] + rng.normal(0, 1, (n, 3))}
    views |= {"b": rng.normal(size=(n, 2))} if tables else {"words": words, "steps": steps}
    rows = np.arange(n)
    given = {
        "task": "regression",
        "groups": rows // 5,
        "folds": {"train": rows[:60], "valid": rows[60:70], "test": rows[70:]},
        "scores": scores,
        "ids": np.array([f"row{i}" for i in rows]),
    }
    return Dataset("toy", MultiView(views), scores.copy(), (), "0" * 64, "", **(given | fields))


def _partition(data: Dataset, seed: int):
    return partition_rows(
        data.target,
        protocol=Protocol(),
        seed=seed,
        groups=data.groups,
        folds=data.folds,
        valid_from=data.valid_from,
    )


@given(st.integers(0, 1000), st.sampled_from(["train", "test"]))
def test_validation_takes_whole_groups_from_where_it_may(seed, where) -> None:
    rows = np.arange(90)
    data = _dataset(folds={"train": rows[:60], "test": rows[60:]}, valid_from=where)
    split = _partition(data, seed)
    parts = [set(data.groups[part]) for part in (split.train, split.valid, split.test)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert len(split.train) + len(split.valid) + len(split.test) == 90
    kept = split.train if where == "test" else split.test
    assert sorted(kept) == sorted(data.folds["train" if where == "test" else "test"])
    assert len(parts[1]) == 2  # a third of 6 groups, or 15 % of 12


def test_given_split_is_kept() -> None:
    split = _partition(_dataset(), 3)
    assert split.valid.tolist() == list(range(60, 70))


def test_keep_views() -> None:
    data = keep_views(_dataset(), ("steps", "a"))
    assert data.views.names == ("a", "steps")  # in the data set's order
    assert keep_views(data, ()) is data
    with pytest.raises(OptionError, match="toy has no view 'step'; did you mean steps"):
        keep_views(data, ("step",))


def test_swapped_rows_come_from_the_next_class() -> None:
    data = as_task(_dataset(), "3")
    train, test = data.folds["train"], data.folds["test"]
    rng = np.random.default_rng(0)
    copy = conflict_views(data.views, data.target, train=train, test=test, rng=rng)
    assert copy.replaced.sum() == int(0.4 * len(test))
    assert not copy.noisy.any()
    for row in np.flatnonzero(copy.replaced):
        donor = np.flatnonzero(data.target == (data.target[test[row]] + 1) % 3)[0]
        for place, name in enumerate(data.views.names):
            origin = donor if copy.replaced_view[row] == place else test[row]
            found, expected = copy.views.take([row])[name], data.views.take([origin])[name]
            if name == "words":
                assert found.values == expected.values
            else:
                np.testing.assert_array_equal(
                    getattr(found, "values", found), getattr(expected, "values", expected)
                )


def test_regression_run_selects_on_validation_rows_alone() -> None:
    """Garbage in the test rows changes neither the model nor the validation scores."""
    made = recipe("misa", options=QUICK, regression=True)
    (task,) = plan_tasks([made], datasets=1, runs=1, seed=4)
    data = _dataset()
    record = run_task(data, task)
    assert record.train_rows == 60
    assert record.test_rows == 20
    assert set(record.metrics) == {"clean", "valid"}
    assert {"mae", "corr", "acc7", "acc2_has0", "f1_non0"} <= set(record.metrics["clean"])
    assert RunRecord.from_json(record.to_json()).metrics == record.metrics
    spoilt = np.array(data.target)
    spoilt[70:] = 99.0
    table = np.array(data.views["a"])
    table[70:] = -99.0
    other = run_task(replace(data, target=spoilt, views=data.views.replace({"a": table})), task)
    assert other.metrics["valid"] == record.metrics["valid"]
    assert other.history == record.history


@pytest.mark.parametrize(
    ("method", "options"), [("misa", QUICK), ("rcml-misa", [*QUICK, "sequence_encoder=mean"])]
)
def test_classes_of_mixed_views(method, options) -> None:
    made = recipe(method, options=options)
    (task,) = plan_tasks([made], datasets=1, runs=1, seed=0)
    record = run_task(as_task(_dataset(), "3"), task)
    assert {"accuracy", "acc3", "f1_3", "acc2_non0"} <= set(record.metrics["clean"])
    assert "conflict_auroc" in record.metrics["conflict"]
    assert "noise_flagged" not in record.metrics["clean"]


def test_classes_of_tables_have_the_noise_test_too() -> None:
    made = recipe("lda")
    (task,) = plan_tasks([made], datasets=1, runs=1, seed=0)
    record = run_task(as_task(_dataset(tables=True), "2"), task)
    assert "noise_flagged" in record.metrics["clean"]
    assert record.metrics["clean"]["accuracy"] == record.metrics["clean"]["acc2_has0"]


def test_files_beside_the_record(tmp_path) -> None:
    outputs = RunOutputs(folder=tmp_path, per_epoch=True, samples=True, features=True)
    made = recipe("misa", options=QUICK, regression=True)
    (task,) = plan_tasks([made], datasets=1, runs=1, seed=0, outputs=outputs)
    record = run_task(_dataset(), task)
    assert len(record.history["test mae"]) == len(record.history["valid loss"])
    assert {"train corr", "valid acc7"} <= set(record.history)
    (samples,) = tmp_path.glob("*-samples.csv")
    rows = list(csv.DictReader(samples.open()))
    assert [row["id"] for row in rows] == [f"row{i}" for i in range(70, 90)]
    errors = [abs(float(row["label"]) - float(row["prediction"])) for row in rows]
    assert np.mean(errors) == pytest.approx(record.metrics["clean"]["mae"])
    (features,) = tmp_path.glob("*-features.npz")
    with np.load(features, allow_pickle=False) as content:
        assert content["private"].shape == content["shared"].shape == (90, 3, 8)
        assert content["fused"].shape == (90, 48)
        assert content["id"][3] == "row3"


def test_watching_changes_nothing(tmp_path) -> None:
    made = recipe("misa", options=QUICK, regression=True)
    plain, watched = (
        run_task(_dataset(), plan_tasks([made], datasets=1, runs=1, seed=0, outputs=one)[0])
        for one in (None, RunOutputs(folder=tmp_path, per_epoch=True))
    )
    assert plain.metrics == watched.metrics


def test_uncertainty_of_samples(tmp_path) -> None:
    outputs = RunOutputs(folder=tmp_path, samples=True, per_epoch=True)
    made = recipe("rcml-misa", options=["epochs=1", "landmarks=20"])
    (task,) = plan_tasks([made], datasets=1, runs=1, seed=0, outputs=outputs)
    record = run_task(as_task(_dataset(tables=True), "3"), task)
    assert len(record.history["train accuracy"]) == 1
    (samples,) = tmp_path.glob("*-samples.csv")
    rows = list(csv.DictReader(samples.open()))
    assert {row["label"] for row in rows} <= {"negative", "neutral", "positive"}
    assert all(0 < float(row["uncertainty"]) <= 1 for row in rows)


def test_features_need_a_method_that_has_them(tmp_path) -> None:
    outputs = RunOutputs(folder=tmp_path, features=True)
    (task,) = plan_tasks([recipe("lda")], datasets=1, runs=1, seed=0, outputs=outputs)
    with pytest.raises(OptionError, match="ControlClassifier has no private, shared and fused"):
        run_task(as_task(_dataset(tables=True), "2"), task)


def test_methods_without_regression_are_told() -> None:
    with pytest.raises(
        OptionError, match="method rcml has no regression; choose from rcml-misa, misa"
    ):
        recipe("rcml", regression=True)


def _records(values, variant, measure="mae"):
    return [
        RunRecord(
            dataset="toy",
            method="misa",
            variant=variant,
            default=False,
            run=seed,
            seed=seed,
            config={},
            versions={},
            data_sha256="",
            train_rows=2,
            test_rows=1,
            metrics={"clean": {measure: value}},
            timing={"fit_seconds": 1.0},
            rows=[0],
        )
        for seed, value in enumerate(values)
    ]


def test_moments_and_paired_differences() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=8), rng.normal(size=8)
    (row,) = summarise(_records(a, "-"))
    assert row.moments("mae") == pytest.approx((a.mean(), a.var(), a.std()))
    found = compare(_records(a, "x"), _records(b, "y"), test_set="clean", measure="mae")
    assert found.interval == "student"
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert (found.low, found.high) == pytest.approx(
        tuple(stats.ttest_rel(a, b).confidence_interval())
    )
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(a - b).pvalue)
    assert found.wins == (a < b).sum()  # a lower error is better
    assert (
        compare(
            _records(a, "x", "corr"), _records(b, "y", "corr"), test_set="clean", measure="corr"
        ).wins
        == (a > b).sum()
    )
    single = compare(_records(a[:1], "x"), _records(b[:1], "y"), test_set="clean", measure="mae")
    assert np.isnan(single.low)
    with pytest.raises(DataError, match="share no run"):
        compare(_records(a[:1], "x"), _records(b, "y")[1:], test_set="clean", measure="mae")


@pytest.fixture
def toy(monkeypatch):
    """Let MOSI-words be the toy set, at a few rows and no text model."""
    real = load_dataset

    def load(name, **options):
        return _dataset() if name == "MOSI-words" else real(name, **options)

    monkeypatch.setattr(datasets_module, "load_dataset", load)


def _call(*words: str):
    return CliRunner().invoke(main, list(words))


def _sets(options=QUICK) -> list[str]:
    return [word for option in options for word in ("--set", option)]


def test_run_shows_the_measures(toy, tmp_path) -> None:
    words = ["run", "--dataset", "MOSI-words", "--method", "misa", "--task", "regression"]
    result = _call(*words, "--runs", "2", "--jobs", "1", "--out", str(tmp_path), *_sets())
    assert result.exit_code == 0, result.output
    assert "given split (60 train, 10 valid, 20 test rows)" in " ".join(result.stdout.split())
    # records tell the task, so that those of another one are never taken for these
    (first,) = tmp_path.glob("records/*-seed0-*.json")
    assert json.loads(first.read_text())["dataset"] == "toy-regression"
    for word in ("MAE", "Corr", "Acc-7", "Acc-2 Non0", "F1 Has0", "mean", "var", "std"):
        assert word in result.stdout
    assert (tmp_path / "measures.csv").is_file()
    assert "±" in (tmp_path / "measures.md").read_text()
    result = _call(*words, "--runs", "1", "--jobs", "1", "--json", *_sets())
    found = json.loads(result.stdout)["results"][0]["measures"]
    assert set(found["mae"]) == {"mean", "var", "std", "values"}


def test_run_of_classes_shows_both_tables(toy) -> None:
    result = _call(
        "run", "--dataset", "MOSI-words", "--method", "misa", "--runs", "1", "--jobs", "1",
        "--keep-views", "a,words", *_sets(),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "conflictive" in result.stdout
    assert "Acc-3" in result.stdout


def test_ablate(toy, tmp_path) -> None:
    words = ["ablate", "--dataset", "MOSI-words", "--runs", "2", "--jobs", "1", *_sets()]
    rows = ["--rows", "minus words,inv,iFusion,only a", "--only-views", "--out", str(tmp_path)]
    result = _call(*words, *rows)
    assert result.exit_code == 0, result.output
    for name in ("misa whole", "misa minus words", "misa inv", "misa iFusion", "misa only a"):
        assert name in result.stdout
    assert "minus sim" not in result.stdout
    assert "paired differences" in result.stdout
    records = tmp_path / "records"
    before = {path: path.stat().st_mtime_ns for path in records.glob("*-seed*.json")}
    assert len(before) == 10
    again = _call(*words, *rows)  # what is done is not done again
    assert {path: path.stat().st_mtime_ns for path in records.glob("*-seed*.json")} == before
    assert again.stdout == result.stdout


def test_ablation_of_plain_classes_shows_accuracies(tmp_path) -> None:
    words = ("ablate", "--method", "misa", "--rows", "inv", "--runs", "2", "--jobs", "1")
    result = _call(*words, "--epochs", "1", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    for part in ("digits: accuracy over the runs", "misa inv", "paired differences"):
        assert part in result.stdout
    assert "measures over the runs" not in result.stdout
    assert "accuracy" in (tmp_path / "summary.csv").read_text()


def test_ablation_rows_are_the_papers(toy) -> None:
    from rcml_misa.cli.ablate import _recipes
    from rcml_misa.cli.options import MethodOptions

    views = ("text", "audio")
    made = _recipes("misa", views, MethodOptions(), regression=True, only_views=False)
    assert [one.variant for one in made] == [
        "whole", "minus text", "minus audio", "minus sim", "minus diff", "minus recon",
        "base", "inv", "sFusion", "iFusion",
    ]  # fmt: skip
    assert made[1].keep == ("audio",)
    assert made[3].params["sim_weight"] == 0
    assert made[6].params["variant"] == "base"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--task", "3"], "digits has classes of its own; leave the task out"),
        (["run", "--given-split", "standard"], "digits has no given split"),
        (["run", "--keep-views", "pixel"], "no view 'pixel'; did you mean pixels"),
        (["run", "--per-epoch"], "--per-epoch needs a folder"),
        (["run", "--method", "lda", "--task", "regression"], "lda has no regression"),
        (["ablate", "--method", "lda"], "'lda' has no table of parts"),
        (["ablate", "--runs", "0"], "--runs 0 is below 1"),
        (["ablate", "--rows", "minus pixel"], "no row 'minus pixel'; did you mean minus pixels"),
    ],
)
def test_bad_words_end_with_two_and_a_sentence(words, message) -> None:
    result = _call(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_runs_come_in_the_order_of_their_tasks() -> None:
    data = _dataset()
    made = [recipe("misa", options=[*QUICK, f"epochs={n}"], regression=True) for n in (1, 2)]
    tasks = plan_tasks(made, datasets=1, runs=1, seed=0)
    found = list(execute([data], tasks, engine=Engine(jobs=1)))
    assert [one.config["epochs"] for one in found] == [1, 2]


# one path for every kind of data set


KINDS = {
    "classes of tables": lambda: as_task(_dataset(tables=True), "3"),
    "classes of sequences and texts": lambda: as_task(_dataset(), "3"),
    "scores of tables": lambda: _dataset(tables=True),
    "scores of sequences and texts": _dataset,
    "classes of tables, drawn": lambda: as_task(_dataset(tables=True, folds=None), "3"),
}


def _record(data: Dataset, *, options=QUICK, outputs=None, seed: int = 0, **protocol) -> RunRecord:
    made = recipe("misa", options=options, regression=data.task == "regression")
    rules = Protocol(**protocol)
    tasks = plan_tasks([made], datasets=1, runs=1, seed=seed, protocol=rules, outputs=outputs)
    return run_task(data, tasks[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_has_every_field(kind) -> None:
    data = KINDS[kind]()
    record = _record(data)
    assert len(record.rows) == record.test_rows > 0
    assert record.protocol["split"] == ("grouped" if data.folds is None else "given")
    assert record.history["loss"]
    assert set(record.timing) == {"fit_seconds", "predict_seconds"}
    if data.task == "regression":
        assert list(record.metrics) == ["clean", "valid"]
        assert not record.bins
        assert not record.correct
        assert not record.curves
        assert not record.scores
        return
    for field in (record.metrics, record.correct, record.curves, record.scores):
        assert list(field) == ["clean", "conflict"]
    after = [f"{name} after scaling" for name in ("clean", "conflict")]
    held_back = data.folds is not None  # a given split has validation rows
    assert list(record.bins) == ["clean", "conflict", *(after if held_back else [])]
    assert len(record.correct["clean"]) == record.test_rows
    assert len(record.curves["clean"]) == 20
    assert set(record.scores["conflict"]) == {"errors", "altered"}
    if data.folds is not None:
        assert 0 <= record.metrics["clean"]["conformal_coverage"] <= 1
    assert 0 <= record.metrics["conflict"]["copied_share"] <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_shuffled_views_are_test_sets_of_every_kind(kind) -> None:
    record = _record(KINDS[kind](), test_sets=("clean", "missing:0.5", "shuffle:1"))
    assert not record.failures
    assert record.metrics["missing:0.5"] != record.metrics["clean"]
    assert record.metrics["shuffle:1"] != record.metrics["clean"]


def test_missing_views_of_each_kind() -> None:
    data = _dataset()
    views = data.views.replace({"words": TokenTexts(["so good"] * 90, [[1, 7, 8, 2]] * 90)})
    test = np.arange(40, 90)
    copy, missing = drop_views(views, test=test, rng=np.random.default_rng(0), rate=0.6)
    assert missing.any(axis=0).all()
    assert not missing.all(axis=1).any()
    np.testing.assert_array_equal(np.isnan(copy["a"][:, 0]), missing[:, 0])
    for row in range(50):
        gone = missing[row]
        assert copy["words"].values[row] == ("" if gone[1] else "so good")
        assert copy["words"].tokens[row].tolist() == ([1, 2] if gone[1] else [1, 7, 8, 2])
        steps = copy["steps"]
        assert steps.lengths[row] == (1 if gone[2] else views["steps"].lengths[test[row]])
        assert bool(steps.values[row].any()) != gone[2]


def test_conflict_at_any_rate_is_a_test_set_of_sequences_and_texts() -> None:
    record = _record(as_task(_dataset(), "3"), test_sets=("conflict:1:train", "conflict:0.5"))
    assert record.metrics["conflict:1:train"]["copied_share"] == 1
    assert record.metrics["conflict:0.5"]["copied_share"] == 0


def test_noise_is_a_test_set_of_the_scores_of_tables() -> None:
    record = _record(_dataset(tables=True), test_sets=("noise:5",))
    assert record.metrics["noise:5"]["mae"] > record.metrics["clean"]["mae"]


def test_a_data_set_with_a_split_of_its_own_can_be_split_by_groups() -> None:
    for data in (_dataset(), as_task(_dataset(), "3")):
        record = _record(data, split="grouped", valid_share=0.25)
        owners = {row // 5 for row in record.rows}
        assert sorted(record.rows) == [row for row in range(90) if row // 5 in owners]
        assert record.protocol["split"] == "grouped"
        assert record.train_rows + record.test_rows < 90
    folds = [_record(_dataset(), folds=3, seed=seed).rows for seed in (0, 0)]
    assert folds[0] == folds[1]


@pytest.mark.parametrize(
    ("fields", "protocol", "message"),
    [
        ({}, {"split": "random"}, "a random split would divide the groups of toy"),
        ({"valid_from": "test"}, {"split": "grouped"}, "rows of a grouped split would leak"),
        ({"valid_from": "test"}, {"folds": 5}, "rows of a grouped split would leak"),
        (
            {},
            {"split": "given", "test_share": 0.3},
            "has test rows of its own; leave test_share out",
        ),
        ({}, {"test_sets": ("noise:1",)}, "'noise:1' adds noise to tables"),
        ({}, {"test_sets": ("conflict:0.5",)}, "'conflict:0.5' needs classes"),
        ({}, {"held_out": 1}, "held_out needs classes"),
        ({"folds": None}, {"split": "stratified"}, "split='stratified' needs classes"),
        ({}, {"selection": "best-valid"}, "selection='best-valid' needs classes"),
    ],
)
def test_rules_that_a_data_set_cannot_follow(fields, protocol, message) -> None:
    if protocol.get("selection") == "best-valid":
        protocol = {**protocol, "split": "given"}
    with pytest.raises(OptionError, match=message) as caught:
        Protocol(**protocol).for_dataset(_dataset(**fields))
    assert len(str(caught.value)) <= 300


def test_a_given_split_holds_no_train_rows_back() -> None:
    rules = Protocol(valid_share=0.1, selection="best-valid")
    given = rules.for_dataset(as_task(_dataset(), "3"))
    assert (given.split, given.valid_share, given.selection) == ("given", 0.0, "best-valid")
    assert rules.for_dataset(as_task(_dataset(folds=None), "3")).valid_share == 0.1
    record = _record(as_task(_dataset(), "3"), valid_share=0.1, selection="best-valid")
    assert record.train_rows == 60
    assert set(record.chosen) == {"valid"}


def test_looking_takes_no_time_of_the_fit(tmp_path, monkeypatch) -> None:
    from rcml_misa.runs import watching

    def slow(*_):
        time.sleep(0.5)
        return {"mae": 0.0}

    monkeypatch.setattr(watching, "target_scores", slow)
    outputs = RunOutputs(folder=tmp_path, per_epoch=True)
    record = _record(_dataset(), outputs=outputs)
    assert record.history["train mae"] == [0.0, 0.0]
    assert record.timing["fit_seconds"] < 3 * 2 * 0.5


def test_compare_of_a_given_split_ends_with_its_tables(monkeypatch, tmp_path) -> None:
    data = _dataset(tables=True)
    real = load_dataset
    monkeypatch.setattr(
        datasets_module,
        "load_dataset",
        lambda name, **options: data if name == "MOSI" else real(name, **options),
    )
    words = ["compare", "--datasets", "MOSI", "--methods", "majority,lda", "--runs", "2"]
    result = _call(*words, "--jobs", "1", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "the data set's own split" in result.stdout
    assert (tmp_path / "compare.json").is_file()
    assert "lda" in (tmp_path / "compare.md").read_text()


def test_run_takes_a_split_and_test_sets(toy) -> None:
    words = ["run", "--dataset", "MOSI-words", "--method", "misa", "--runs", "1", "--jobs", "1"]
    result = _call(*words, "--split", "given", "--test-sets", "conflict:0.5", *_sets())
    assert result.exit_code == 0, result.output
    assert "conflict:0.5" in result.stdout
    assert "given split (60 train" in result.stdout
    score = ["--task", "regression", "--split", "grouped", "--test-sets", "missing:0.5"]
    result = _call(*words, *score, *_sets())
    assert result.exit_code == 0, result.output
    assert "grouped 80/20 splits" in result.stdout
    assert "missing:0.5 rows" in result.stdout
    result = _call(*words, "--split", "random", *_sets())
    assert result.exit_code == 2
    assert "would divide the groups" in result.stderr
    assert result.stderr.count("\n") == 1
