"""The commands `fit`, `predict`, `inspect` and `datasets check`, `add`, `remove`."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from commands import call, done
from foreign_files import mmsa, save

import rcml_misa
from rcml_misa import persistence
from rcml_misa.datasets import FileOptions
from rcml_misa.datasets.files import FileLayout, read_own_file
from rcml_misa.datasets.imported import import_dataset
from rcml_misa.estimators import KernelExpertClassifier, MISAClassifier, RCMLClassifier
from rcml_misa.estimators.registry import recipe
from rcml_misa.views import MultiView

QUICK = ("--set", "hidden=8", "--set", "feedforward=8", "--epochs", 2, "--device", "cpu")


def table(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    centres = np.random.default_rng(99)
    views = {
        name: 2 * centres.normal(size=(3, width))[y] + rng.normal(size=(rows, width))
        for name, width in {"face": 3, "voice": 4}.items()
    }
    frame = MultiView(views).to_frame()
    frame.insert(0, "id", [f"r{number}" for number in range(rows)])
    return frame.assign(who=np.array(["ant", "bee", "cat"])[y])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model fitted on one csv, and another csv to predict."""
    folder = tmp_path_factory.mktemp("files")
    table().to_csv(folder / "train.csv", index=False)
    table(40, seed=1).to_csv(folder / "new.csv", index=False)
    result = done(
        "fit", "--dataset", folder / "train.csv", "--target", "who", "--out", folder / "m.rcml",
        *QUICK,
    )  # fmt: skip
    assert "fitted rcml-misa on train.csv" in result.stdout
    assert "90 rows, 3 classes, views face 3, voice 4" in result.stdout
    assert "keep 90 of 90 rows of the training data" in result.stdout
    assert "--no-landmarks" in result.stdout
    return folder


def test_predictions_are_those_of_the_model(files, tmp_path):
    result = done("predict", files / "m.rcml", files / "new.csv", "--out", tmp_path / "p.csv")
    found = pd.read_csv(tmp_path / "p.csv")
    assert found.columns.tolist() == [
        "id", "class", "probability", "uncertainty", "conflict", "conflicting_views", "suspect",
        "suspect_gain", "refused",
    ]  # fmt: skip
    assert not found["refused"].any()
    model = rcml_misa.load(files / "m.rcml")
    own = read_own_file(files / "new.csv", FileOptions(target="who"))
    opinion = model.predict_opinion(own.views)
    assert found["id"].tolist() == own.ids.tolist()
    assert found["class"].tolist() == opinion.predicted.tolist()
    np.testing.assert_allclose(found["uncertainty"], opinion.uncertainty, rtol=1e-5)
    np.testing.assert_allclose(found["conflict"], opinion.conflict, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found["probability"], opinion.probability.max(axis=1), rtol=1e-5)
    assert found["suspect"].fillna("").tolist() == opinion.suspect.tolist()
    np.testing.assert_allclose(found["suspect_gain"], opinion.suspect_gain, rtol=1e-4, atol=1e-9)
    right = 100 * np.mean(opinion.predicted == own.labels)
    np.testing.assert_allclose(found["suspect_gain"], opinion.suspect_gain, rtol=1e-5, atol=1e-9)
    assert found["suspect"].fillna("").tolist() == opinion.suspect.tolist()
    assert f"40 rows\n{right:.2f} % right of 40 with a label\nsuspects: " in result.stdout
    assert result.stderr == ""


def test_standard_output_holds_the_csv_alone(files):
    result = done("predict", files / "m.rcml", files / "new.csv", "--per-view")
    lines = result.stdout.splitlines()
    assert len(lines) == 41
    assert lines[0].endswith("voice__belief,voice__uncertainty,voice__gain,refused")
    assert result.stderr.startswith("40 rows\n")


@pytest.mark.parametrize("chunk", [1, 7, 2048])
def test_chunks_change_nothing(files, tmp_path, chunk):
    options = ("--coverage", 0.75, "--per-view", "--out", tmp_path / "p.csv", "--chunk", chunk)
    done("predict", files / "m.rcml", files / "new.csv", *options)
    found = pd.read_csv(tmp_path / "p.csv")
    kept = found[~found["refused"]]
    assert len(kept) == 30
    assert kept["uncertainty"].max() <= found.loc[found["refused"], "uncertainty"].min()
    whole = rcml_misa.load(files / "m.rcml").predict_opinion(
        read_own_file(files / "new.csv", FileOptions(target="who")).views
    )
    np.testing.assert_allclose(found["uncertainty"], whole.uncertainty, rtol=1e-4)


def test_rows_above_an_uncertainty_are_refused(files, tmp_path):
    result = done(
        "predict", files / "m.rcml", files / "new.csv", "--reject-above", 0.2, "--json",
        "--out", tmp_path / "p.csv",
    )  # fmt: skip
    facts, found = json.loads(result.stdout), pd.read_csv(tmp_path / "p.csv")
    np.testing.assert_array_equal(found["refused"], found["uncertainty"] > 0.2)
    assert facts["refused"] == found["refused"].sum()
    kept = ~found["refused"]
    truth = pd.read_csv(files / "new.csv")["who"]
    assert facts["accuracy_of_kept"] == pytest.approx((found["class"] == truth)[kept].mean())
    assert (facts["rows"], facts["labelled"], facts["reject_above"]) == (40, 40, 0.2)


@pytest.mark.parametrize("form", ["parquet", "h5", "npz"])
def test_other_kinds_of_files_give_the_same(files, tmp_path, form):
    frame = pd.read_csv(files / "new.csv")
    views = {name: frame.filter(like=f"{name}__").to_numpy() for name in ("face", "voice")}
    path = tmp_path / f"new.{form}"
    if form == "parquet":
        frame.drop(columns="who").to_parquet(path)
    elif form == "npz":
        np.savez(path, **views)
    else:
        import h5py

        with h5py.File(path, "w") as file:
            for name, values in views.items():
                file[name] = values
    outputs = [done("predict", files / "m.rcml", one).stdout for one in (files / "new.csv", path)]
    first, second = ([line.split(",")[1:] for line in text.splitlines()] for text in outputs)
    assert first == second


def test_missing_views_in_a_file_to_predict(files, tmp_path):
    frame = pd.read_csv(files / "new.csv").drop(columns=["who", "id"])
    frame.filter(like="face").to_csv(tmp_path / "face.csv", index=False)
    done("predict", files / "m.rcml", tmp_path / "face.csv", "--per-view", "--out",
         tmp_path / "p.csv")  # fmt: skip
    found = pd.read_csv(tmp_path / "p.csv")
    assert found["row"].tolist() == list(range(40))
    assert found["voice__class"].isna().all()
    assert (found["voice__uncertainty"] == 1).all()
    assert found["conflicting_views"].isna().all()
    frame.loc[3, "face__1"] = np.nan
    frame.to_csv(tmp_path / "hole.csv", index=False)
    result = done("predict", files / "m.rcml", tmp_path / "hole.csv", "--chunk", 2, "--out",
                  tmp_path / "q.csv")  # fmt: skip
    told = " ".join(result.stderr.split())
    assert "note: gaps filled in columns without gaps in training: face__1 1" in told
    filled = pd.read_csv(files / "train.csv")["face__1"].median()
    frame.assign(face__1=frame["face__1"].fillna(filled)).to_csv(tmp_path / "f.csv", index=False)
    done("predict", files / "m.rcml", tmp_path / "f.csv", "--out", tmp_path / "r.csv")
    assert (tmp_path / "q.csv").read_text() == (tmp_path / "r.csv").read_text()
    frame["face__1"] = frame["face__1"].astype(object)
    frame.loc[3, "face__1"] = "?!"
    frame.to_csv(tmp_path / "word.csv", index=False)
    result = call("predict", files / "m.rcml", tmp_path / "word.csv", "--chunk", 2, "--out",
                  tmp_path / "s.csv")  # fmt: skip
    assert result.exit_code == 2
    assert "view 'face', column 'face__1' has '?!' in row 3, which is no number" in result.stderr
    assert not (tmp_path / "s.csv").exists()
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_without_landmarks(files, tmp_path):
    done("fit", "--dataset", files / "train.csv", "--target", "who", "--no-landmarks",
         "--out", tmp_path / "m", *QUICK)  # fmt: skip
    result = done("inspect", tmp_path / "m")
    assert "landmarks  none, no row of the training data is in the file" in result.stdout
    assert "in the pool with ridge members" in result.stdout
    assert json.loads(done("inspect", tmp_path / "m", "--json").stdout)["landmark_rows"] == 0
    result = call("fit", "--dataset", "digits", "--method", "kernel-expert", "--no-landmarks",
                  "--out", tmp_path / "x")  # fmt: skip
    assert result.exit_code == 2
    assert "kernel-expert is its landmarks" in result.stderr


def test_inspect_tells_what_a_model_is(files):
    text = done("inspect", files / "m.rcml").stdout
    for part in (
        "rcml-misa (RCMLMISAClassifier)",
        "face 3, voice 4",
        "3: ant, bee, cat",
        "train.csv, 90 rows, sha256",
        "hidden=8",
        "torch 2.",
        "keep 90 of 90 rows",
    ):
        assert part in text
    facts = json.loads(done("inspect", files / "m.rcml", "--json").stdout)
    assert facts["about"]["layout"]["target"] == "who"
    assert facts["about"]["dataset"] == "train.csv"


@pytest.mark.parametrize("method", ["rcml", "kernel-expert"])
def test_other_methods(files, tmp_path, method):
    options = ("--epochs", 5) if method == "rcml" else ()
    result = done("fit", "--dataset", files / "train.csv", "--target", "who", "--method", method,
                  "--out", tmp_path / "m", "--json", *options)  # fmt: skip
    facts = json.loads(result.stdout)
    assert facts["train_rows"] == 90
    assert facts["fit_seconds"] > 0
    assert done("predict", tmp_path / "m", files / "new.csv").stdout.count("\n") == 41


def test_a_known_data_set(tmp_path):
    done("fit", "--dataset", "digits", "--method", "rcml", "--epochs", 1, "--out", tmp_path / "m")
    model = rcml_misa.load(tmp_path / "m")
    assert model.classes_.tolist() == [str(number) for number in range(10)]
    data = rcml_misa.load_dataset("digits")
    data.views.take(range(5)).to_frame().to_csv(tmp_path / "few.csv", index=False)
    assert done("predict", tmp_path / "m", tmp_path / "few.csv").stdout.count("\n") == 6


def test_a_model_saved_in_python_reads_files_by_the_names_of_its_views(files, tmp_path):
    own = read_own_file(files / "train.csv", FileOptions(target="who"))
    RCMLClassifier(epochs=1).fit(own.views, own.labels).save(tmp_path / "m")
    assert done("predict", tmp_path / "m", files / "new.csv").stdout.count("\n") == 41


@pytest.mark.parametrize("more", [(), ("--coverage", 0.5)])
def test_a_file_without_rows_is_refused(files, tmp_path, more):
    pd.read_csv(files / "new.csv").iloc[:0].to_csv(tmp_path / "none.csv", index=False)
    result = call("predict", files / "m.rcml", tmp_path / "none.csv", *more)
    assert result.exit_code == 2
    assert "none.csv has no rows; give a file with rows to predict." in result.stderr


def test_whole_number_labels_are_compared_as_numbers(files, tmp_path):
    for name in ("train", "new"):
        frame = pd.read_csv(files / f"{name}.csv")
        codes = frame["who"].map({"ant": 1, "bee": 2, "cat": 3}).astype(float)
        codes[0] = codes[0] if name == "train" else np.nan
        frame.assign(who=codes).to_csv(tmp_path / f"{name}.csv", index=False)
    done("fit", "--dataset", tmp_path / "train.csv", "--target", "who", "--out", tmp_path / "m",
         "--method", "kernel-expert")  # fmt: skip
    result = done("predict", tmp_path / "m", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert "of 39 with a label" in result.stdout
    assert float(result.stdout.split("\n")[1].split(" ")[0]) > 80
    assert pd.read_csv(tmp_path / "p.csv")["class"].isin([1, 2, 3]).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("fit", "--dataset", "{f}/train.csv", "--out", "{t}/m"), "no column is called target"),
        (("fit", "--dataset", "{f}/none.csv", "--out", "{t}/m"), "there is no file"),
        (("fit", "--dataset", "digit", "--out", "{t}/m"), "did you mean digits?"),
        (("fit", "--dataset", "digits", "--target", "y", "--out", "{t}/m"), "known views"),
        (("fit", "--dataset", "digits"), "Missing option '--out'"),
        (("fit", "--dataset", "digits", "--out", "{t}/no/m"), "file in a folder that exists"),
        (("fit", "--dataset", "digits", "--out", "{t}"), "is a folder"),
        (("fit", "--dataset", "digits", "--out", "{t}/m", "--method", "lda"), "lda can't be saved"),
        (
            ("fit", "--dataset", "digits", "--out", "{t}/m", "--method", "sklearn.svm:SVC"),
            "sklearn.svm:SVC can't be saved",
        ),
        (("fit", "--dataset", "digits", "--out", "{t}/m", "--method", "x"), "no method 'x'"),
        (("fit", "--dataset", "digits", "--out", "{t}/m", "--set", "h=1"), "no option 'h'"),
        (("fit", "--dataset", "digits", "--out", "{t}/m", "--set", "expert=none",
          "--no-landmarks"), "give one of them"),
        (("fit", "--dataset", "digits", "--out", "{t}/m", "--set", "scaling=paper-leaky"),
         "not there yet"),
        (("fit", "--dataset", "digits", "--out", "{t}/m", "--epochs", "0"), "--epochs 0 is below"),
        (("predict", "{f}/train.csv", "{f}/new.csv"), "is not a whole model file"),
        (("predict", "{f}/none", "{f}/new.csv"), "can't be read"),
        (("predict", "{f}/m.rcml", "{f}/none.csv"), "there is no file"),
        (("predict", "{f}/m.rcml", "{f}/m.rcml"), "of no known kind"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--coverage", "1.5"), "--coverage 1.5 is not"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--reject-above", "0"), "--reject-above 0.0"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--coverage", "nan"), "--coverage nan is not"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--coverage", ".5", "--reject-above", ".5"),
         "give one of them"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--chunk", "0"), "--chunk 0 is below 1"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--out", "{t}/no/p"), "can't be written"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--out", "{t}"), "is a folder"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--out", "{f}/new.csv"), "would replace"),
        (("predict", "{f}/m.rcml", "{f}/new.csv", "--out", "{f}/m.rcml"), "would replace"),
        (("fit", "--dataset", "{f}/train.csv", "--target", "who", "--out", "{f}/train.csv"),
         "would replace"),
        (("inspect", "{f}/train.csv"), "is not a whole model file"),
        (("datasets", "check", "{f}/none.csv"), "there is no file"),
        (("datasets", "check", "{f}/train.csv", "--target", "whom"), "did you mean who?"),
        (("datasets", "add", "{f}/train.csv", "--target", "who"), "Missing option '--name'"),
        (("datasets", "add", "{f}/train.csv", "--target", "who", "--name", "PIE"), "already"),
        (("datasets", "remove", "faces"), "your catalogue has no data set 'faces'"),
        (("run", "--dataset", "{f}/train.csv"), "no column is called target"),
        (("run", "--dataset", "digits", "--views", "a=b"), "known views"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence_and_exit_2(files, tmp_path, words, sentence):
    result = call(*(word.format(f=files, t=tmp_path) for word in words))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_check_add_run_show_remove(files, own_settings):
    text = done("datasets", "check", files / "train.csv", "--target", "who").stdout
    assert text.startswith(
        "target: who; id: column 'id' (by its name); views: face, voice (columns"
    )
    assert "\n90 rows, 3 classes, 2 views\n" in text
    record = json.loads(
        done("datasets", "check", files / "train.csv", "--target", "who", "--json").stdout
    )
    assert FileLayout.from_json(record["layout"]).id == "id"
    assert record["findings"][0]["level"] == "fact"
    assert "1797 rows, 10 classes, 6 views" in done("datasets", "check", "digits").stdout
    done("datasets", "add", files / "train.csv", "--name", "mine", "--target", "who")
    assert "mine" in done("datasets").stdout
    shown = json.loads(done("datasets", "show", "mine", "--json").stdout)
    assert (shown["samples"], shown["status"], shown["note"]) == (90, "here", "--target who")
    result = done("run", "--dataset", "mine", "--method", "rcml", "--epochs", 2, "--runs", 1,
                  "--jobs", 1)  # fmt: skip
    assert "mine: 1 run, seed 0" in result.stdout
    done("datasets", "remove", "mine")
    assert "mine" not in done("datasets").stdout


def test_a_run_with_missing_views_on_a_file_of_one_s_own(files, tmp_path):
    frame = pd.read_csv(files / "train.csv")
    frame.loc[::4, [one for one in frame if one.startswith("voice")]] = np.nan
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    for method in ("rcml", "kernel-expert", "lda"):
        options = ("--epochs", 5) if method == "rcml" else ()
        done("run", "--dataset", tmp_path / "gaps.csv", "--target", "who", "--method", method,
             "--runs", 1, "--jobs", 1, *options)  # fmt: skip
    result = done("fit", "--dataset", tmp_path / "gaps.csv", "--target", "who", "--out",
                  tmp_path / "m", *QUICK)  # fmt: skip
    assert "note: missing views: voice in 23 of 90 rows" in result.stderr


def test_scores_are_checked_and_fitted_as_classes_or_as_they_are(need_data, tmp_path):
    data = ("--data-dir", need_data("MOSI"))
    checked = done("datasets", "check", "MOSI").stdout
    assert "2199 rows, scores, 3 views" in checked
    assert "scores from -3 to 3" in checked
    model = tmp_path / "m.rcml"
    fit = ("fit", "--dataset", "MOSI", *data, "--out", model)
    few = ("--method", "kernel-expert", "--set", "landmarks=40")
    assert "2199 rows, 3 classes" in done(*fit, *few).stdout
    assert rcml_misa.load(model).classes_.tolist() == ["negative", "neutral", "positive"]
    assert "2199 rows, 2 classes" in done(*fit, *few, "--task", 2).stdout
    result = call(*fit, *few, "--task", "4")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    scores = ("--method", "misa", "--task", "regression", "--epochs", 1)
    assert "2199 rows, scores, views text 100" in done(*fit, *scores).stdout
    assert json.loads(done("inspect", model, "--json").stdout)["about"]["task"] == "regression"
    assert "none, scores are predicted" in done("inspect", model).stdout
    result = call("predict", model, tmp_path / "x.csv")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "there is no file" in result.stderr


@pytest.mark.parametrize("text", ["states", "raw"])
def test_sequences_and_texts_with_a_given_split_are_checked_and_fitted(tmp_path, monkeypatch, text):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")
    import_dataset(save(tmp_path / "x.pkl", mmsa()), "mine", text=text)
    checked = done("datasets", "check", "mine").stdout
    assert "104 rows, scores, 3 views" in checked
    assert f"view text: {'sequence' if text == 'states' else 'text'}, not looked into" in checked
    assert "repeat" not in checked
    fit = ("fit", "--dataset", "mine", "--out", tmp_path / "m.rcml")
    quick = (*QUICK, "--set", "text_encoder=words", "--set", "sequence_hidden=4")
    assert "104 rows, 3 classes" in done(*fit, *quick).stdout
    result = call(*fit, "--method", "kernel-expert")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "reads tables only" in result.stderr


def test_the_classes_of_a_set_are_no_task(tmp_path):
    assert "1797 rows, 10 classes, 6 views" in done("datasets", "check", "digits").stdout
    result = call("fit", "--dataset", "digits", "--task", 3, "--out", tmp_path / "m.rcml")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "digits has classes of its own; leave the task out" in result.stderr


@pytest.mark.parametrize(
    ("method", "columns"),
    [
        ("fuml", ["class", "probability", "uncertainty", "conflict"]),
        ("misa", ["class", "probability", "uncertainty"]),
    ],
)
def test_methods_without_opinions_fit_and_predict(files, tmp_path, method, columns):
    done(
        "fit", "--dataset", files / "train.csv", "--target", "who", "--method", method,
        "--epochs", 3, "--device", "cpu", "--out", tmp_path / "m.rcml",
    )  # fmt: skip
    assert "classes    3: ant, bee, cat" in done("inspect", tmp_path / "m.rcml").stdout
    result = done("predict", tmp_path / "m.rcml", files / "new.csv", "--coverage", 0.5, "--json")
    lines = pd.read_csv(StringIO(result.stdout))
    assert lines.columns.tolist() == ["id", *columns, "refused"]
    model = rcml_misa.load(tmp_path / "m.rcml")
    own = read_own_file(files / "new.csv", FileOptions(target="who"))
    assert lines["class"].tolist() == model.predict(own.views).tolist()
    assert lines["uncertainty"].between(0, 1).all()
    facts = json.loads(result.stderr)
    assert facts["accuracy"] == np.mean(model.predict(own.views) == own.labels)
    assert facts["refused"] == 20


@pytest.mark.parametrize("method", ["rcml-misa", "misa"])
def test_regressors_predict_scores_of_a_file(method, files, tmp_path):
    own = read_own_file(files / "train.csv", FileOptions(target="who"))
    model = recipe(method, epochs=2, device="cpu", regression=True).build(0)
    model.fit(own.views, 2 * own.views["face"][:, 0])
    persistence.save(model, tmp_path / "m.rcml", about={"layout": own.layout.to_json()})
    assert "scores" in done("inspect", tmp_path / "m.rcml").stdout
    result = done("predict", tmp_path / "m.rcml", files / "new.csv", "--json")
    lines = pd.read_csv(StringIO(result.stdout))
    more = ["low", "high", "scale", "deviation", "suspect", "suspect_gain"]
    more = more if method == "rcml-misa" else []
    assert lines.columns.tolist() == ["id", "score", *more, "refused"]
    new = read_own_file(files / "new.csv", FileOptions(target="who"))
    np.testing.assert_allclose(lines["score"], model.predict(new.views), rtol=1e-4, atol=1e-5)
    assert json.loads(result.stderr)["accuracy"] is None
    refused = call("predict", tmp_path / "m.rcml", files / "new.csv", "--reject-above", 0.5)
    assert "--reject-above needs an uncertainty from 0 to 1" in refused.stderr
    result = call("predict", tmp_path / "m.rcml", files / "new.csv", "--coverage", 0.5)
    if method == "misa":
        assert "--coverage needs an uncertainty, which MISARegressor" in result.stderr
    else:
        lines = pd.read_csv(StringIO(result.stdout))
        assert lines["refused"].sum() == 20
        assert lines["scale"][lines["refused"]].min() >= lines["scale"][~lines["refused"]].max()


def test_what_no_file_holds_is_refused_before_the_file_is_read(tmp_path):
    voice = np.random.default_rng(0).normal(size=(20, 3, 2))
    model = MISAClassifier(epochs=1, hidden=8, random_state=0, device="cpu")
    model.fit({"voice": voice}, np.arange(20) % 2).save(tmp_path / "m.rcml")
    refused = call("predict", tmp_path / "m.rcml", tmp_path / "rows.csv")
    assert refused.exit_code == 2
    assert "reads view 'voice' as a sequence, which no file of predict holds" in refused.stderr


def three_views(rows, seed):
    rng, centres = np.random.default_rng(seed), np.random.default_rng(99)
    codes = np.arange(rows) % 3
    views = {
        name: 3 * centres.normal(size=(3, width))[codes] + rng.normal(size=(rows, width))
        for name, width in {"vib": 4, "temp": 3, "sound": 5}.items()
    }
    return views, codes


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A model of three views, and a csv whose first 20 of 60 rows have the vib of another class."""
    folder = tmp_path_factory.mktemp("broken")
    views, codes = three_views(240, 0)
    MultiView(views).to_frame().assign(who=codes).to_csv(folder / "train.csv", index=False)
    views, codes = three_views(60, 1)
    views["vib"][:20] = views["vib"][1:21]
    MultiView(views).to_frame().assign(who=codes).to_csv(folder / "new.csv", index=False)
    done("fit", "--dataset", folder / "train.csv", "--target", "who", "--method", "kernel-expert",
         "--out", folder / "m.rcml")  # fmt: skip
    return folder


@pytest.mark.parametrize("chunk", [7, 2048])
def test_suspects_are_counted_and_left_out(broken, tmp_path, chunk):
    model = rcml_misa.load(broken / "m.rcml")
    opinion = model.predict_opinion(
        read_own_file(broken / "new.csv", FileOptions(target="who")).views
    )
    plain, path = done("predict", broken / "m.rcml", broken / "new.csv"), tmp_path / "p.csv"
    words = ("predict", broken / "m.rcml", broken / "new.csv", "--out", path, "--chunk", chunk)
    facts = json.loads(done(*words, "--exclude-suspect", "--per-view", "--json").stdout)
    found = pd.read_csv(path)
    names, counts = np.unique(opinion.suspect[opinion.suspect != ""], return_counts=True)
    assert facts["suspects"] == dict(zip(names.tolist(), counts.tolist(), strict=True))
    assert (found["suspect"][:20] == "vib").sum() >= 15
    assert facts["excluded"] == found["excluded"].sum() == opinion.suspicion.clear.sum() > 0
    np.testing.assert_allclose(found["vib__gain"], opinion.view_gains[:, 0], rtol=1e-5, atol=1e-9)
    rest = opinion.without_suspect
    np.testing.assert_allclose(found["uncertainty"], rest.uncertainty, rtol=1e-4)
    assert found["class"].tolist() == rest.predicted.tolist()
    changed = found["excluded"].to_numpy()
    assert found.loc[changed, "vib__class"].isna().any()
    assert (rest.conflict[changed] <= opinion.conflict[changed]).all()
    named = "".join(
        found.loc[changed & (found["suspect"] == "vib"), "conflicting_views"].fillna("")
    )
    assert "vib" not in named
    # without the option nothing is left out
    told = pd.read_csv(StringIO(plain.stdout))
    assert "excluded" not in told
    np.testing.assert_allclose(told["uncertainty"], opinion.uncertainty, rtol=1e-4)
    text = done(*words, "--exclude-suspect").stdout
    assert f"suspects: vib {facts['suspects']['vib']}" in text
    assert f"{facts['excluded']} rows answered" in " ".join(text.split())
    assert max(map(len, text.split("written:")[0].splitlines())) <= 80


def test_a_model_that_leaves_suspects_out_says_so(broken, tmp_path):
    own = read_own_file(broken / "train.csv", FileOptions(target="who"))
    model = KernelExpertClassifier(suspect="exclude", random_state=0).fit(own.views, own.labels)
    model.save(tmp_path / "m")
    result = done("predict", tmp_path / "m", broken / "new.csv", "--json")
    assert json.loads(result.stderr)["excluded"] > 0
    assert "excluded" in pd.read_csv(StringIO(result.stdout))


@pytest.mark.parametrize("method", ["edl", "fuml", "bml", "misa"])
def test_methods_without_suspects_say_so(broken, tmp_path, method):
    done("fit", "--dataset", broken / "train.csv", "--target", "who", "--method", method,
         "--epochs", 1, "--out", tmp_path / "m")  # fmt: skip
    words = ("predict", tmp_path / "m", broken / "new.csv")
    result = call(*words, "--exclude-suspect", "--out", tmp_path / "p.csv")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--exclude-suspect needs a method that names suspect views" in result.stderr
    assert not (tmp_path / "p.csv").exists()
    result = done(*words, "--per-view", "--json")
    assert json.loads(result.stderr)["suspects"] is None
    table = pd.read_csv(StringIO(result.stdout))
    assert ("vib__reliability" in table) == (method == "bml")
    facts = json.loads(done("inspect", tmp_path / "m", "--json").stdout)
    assert (facts["suspect_limits"], facts["suspect_rows"]) == (None, None)
    assert "\nsuspects" not in done("inspect", tmp_path / "m").stdout


def test_inspect_tells_worth_and_limits(broken):
    model = rcml_misa.load(broken / "m.rcml")[-1]
    facts = json.loads(done("inspect", broken / "m.rcml", "--json").stdout)
    assert facts["suspect_limits"] == list(model.suspect_limits_)
    assert facts["view_worth"] == dict(
        zip(["vib", "temp", "sound"], model.worth_.tolist(), strict=True)
    )
    assert (facts["set_aside"], facts["suspect_rows"]) == ([], "leave-one-out, train rows")
    text = " ".join(done("inspect", broken / "m.rcml").stdout.split())
    named, clear = model.suspect_limits_
    assert f"suspects above a gain of {named:.3g}, clear above {clear:.3g}" in text
    assert f"worth vib {model.worth_[0]:.2f}, temp" in text
    assert "set aside" not in text


@pytest.mark.parametrize(
    ("fraction", "rows"), [(0.0, "none, usual values"), (0.3, "train rows set apart")]
)
def test_inspect_tells_which_rows_set_the_limits_of_peers(broken, tmp_path, fraction, rows):
    setting = f"calibration_fraction={fraction}"
    done("fit", "--dataset", broken / "train.csv", "--target", "who", "--method", "rcml",
         "--epochs", 1, "--set", setting, "--out", tmp_path / "m")  # fmt: skip
    facts = json.loads(done("inspect", tmp_path / "m", "--json").stdout)
    assert (facts["suspect_rows"], facts["view_worth"]) == (rows, None)
    assert (facts["suspect_limits"] == [0.1, 0.2]) == (not fraction)


def test_inspect_tells_views_that_are_set_aside(tmp_path):
    views, codes = three_views(240, 0)
    views["temp"][codes != 0] = np.nan
    with pytest.warns(UserWarning, match="set aside"):
        KernelExpertClassifier(random_state=0).fit(views, codes).save(tmp_path / "m")
    assert json.loads(done("inspect", tmp_path / "m", "--json").stdout)["set_aside"] == ["temp"]
    assert "set aside  temp (presence tells the class" in done("inspect", tmp_path / "m").stdout
