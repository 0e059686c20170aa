"""Commands on a user's own files: what they guess is told, and what gives the label away stops."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import call

N = 90
RNG = np.random.default_rng(0)
QUICK = ("--runs", "1", "--jobs", "1")


def frame(labels, **more):
    columns = {f"a__{place}": RNG.normal(size=N) + 2 * labels for place in range(2)}
    columns["b__0"] = RNG.normal(size=N)
    return pd.DataFrame({**columns, **more, "label": labels})


@pytest.fixture
def numbered(tmp_path):
    """A file sorted by class with a column of row numbers."""
    labels = np.repeat([0, 1, 2], N // 3)
    path = tmp_path / "sorted.csv"
    frame(labels, b__row=np.arange(N)).to_csv(path, index=False)
    return path


def commands(path, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(f"datasets = ['{path}']\nmethods = ['majority']\nruns = 1\n")
    fit = ("fit", "--dataset", path, "--method", "kernel-expert")
    return {
        "run": ("run", "--dataset", path, "--method", "lda", *QUICK),
        "fit": (*fit, "--out", tmp_path / "m.rcml"),
        "compare": ("compare", "--datasets", path, "--methods", "majority,lda", *QUICK),
        "audit": ("audit", "--dataset", path, "--methods", "lda", *QUICK),
        "ablate": ("ablate", "--dataset", path, "--epochs", "1", *QUICK),
        "experiment": ("experiment", plan, "--jobs", "1"),
    }


@pytest.mark.parametrize("name", ["run", "fit", "compare", "audit", "ablate", "experiment"])
def test_commands_stop_at_a_row_number(name, numbered, tmp_path):
    result = call(*commands(numbered, tmp_path)[name])
    assert result.exit_code == 2
    assert "column 'b__row' rises or falls with the row number" in result.stderr
    assert "--leave-out b__row" in result.stderr
    assert "--accept-leak" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "compare"])
def test_both_ways_out(name, numbered, tmp_path):
    command = commands(numbered, tmp_path)[name]
    result = call(*command, "--leave-out", "b__row")
    assert result.exit_code == 0, result.stderr
    assert "accept-leak" not in result.stderr
    text = " ".join(call(*command, "--accept-leak").stderr.split())
    assert "note: sorted.csv: column 'b__row' rises or falls" in text
    assert "read all the same (--accept-leak)" in text


def test_fit_and_predict_without_what_was_left_out(numbered, tmp_path):
    model = tmp_path / "m.rcml"
    result = call("fit", "--dataset", numbered, "--method", "kernel-expert", "--out", model,
                  "--leave-out", "b__row")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "views a 2, b 1" in result.stdout
    result = call("predict", model, numbered, "--out", tmp_path / "out.csv")
    assert result.exit_code == 0, result.stderr


def test_notes_of_reading_stand_once_on_stderr(tmp_path):
    path = tmp_path / "f.csv"
    frame(RNG.permutation(np.arange(N) % 3)).to_csv(path, index=False)
    for name in ("run", "fit", "compare"):
        result = call(*commands(path, tmp_path)[name])
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("target: column 'label' (by its name)") == 1, name
        assert result.stderr.count("views: a, b (columns called view__column)") == 1, name
        assert "by its name" not in result.stdout
    result = call("run", "--dataset", path, "--method", "majority", *QUICK, "--json")
    assert json.loads(result.stdout)["dataset"] == "f.csv"
    given = ("--target", "label", "--views", "u=a__0:a__1,v=b__0")
    assert "note:" not in call(*commands(path, tmp_path)["run"], *given).stderr


def test_check_lists_leaks_and_does_not_stop(numbered):
    result = call("datasets", "check", numbered)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert text.startswith("target: column 'label' (by its name); id: none; views: a, b (columns")
    assert "warning: view b: column 'b__row' rises or falls" in text
    assert text.count("by its name") == 1
    record = json.loads(call("datasets", "check", numbered, "--json").stdout)
    assert record["guessed"][0] == "target: column 'label' (by its name)"
    assert any("b__row" in finding["what"] for finding in record["findings"])


def test_add_records_and_warns(numbered):
    result = call("datasets", "add", numbered, "--name", "mine")
    assert result.exit_code == 0
    assert "note: mine: column 'b__row' rises or falls" in " ".join(result.stderr.split())
    assert call("run", "--dataset", "mine", "--method", "majority", *QUICK).exit_code == 2
    call("datasets", "remove", "mine")
    call("datasets", "add", numbered, "--name", "mine", "--leave-out", "b__row")
    assert call("run", "--dataset", "mine", "--method", "majority", *QUICK).exit_code == 0


def test_copies_of_the_label_among_arrays_stop(tmp_path):
    labels = RNG.permutation(np.arange(N) % 3)
    views = {"a": RNG.normal(size=(N, 5)), "b": np.c_[RNG.normal(size=N), labels]}
    np.savez(tmp_path / "two.npz", **views, y=labels, y_noisy=labels[:, None])
    result = call("run", "--dataset", tmp_path / "two.npz", "--method", "majority", *QUICK)
    assert result.exit_code == 2
    assert "column 1 of view 'b' is in one-to-one correspondence with the label" in result.stderr
    quick = ("--leave-out", "b", "--method", "majority", *QUICK)
    result = call("run", "--dataset", tmp_path / "two.npz", *quick)
    assert result.exit_code == 0
    assert "y_noisy holds labels, as the target y does, and is left out" in result.stderr


@pytest.mark.parametrize(
    ("labels", "new", "right", "unknown"),
    [
        (["01", "1", "001"], ["01", "1", "001"], 3, {}),
        (["01", "1", "001"], ["1", "x", "y"], None, {"x": 1, "y": 1}),
        (["1", "2", "3"], ["1.0", "2.0", ""], 2, {}),
        (["1", "2", "3"], ["01", "2", "3"], None, {"01": 1}),
    ],
)
def test_predict_compares_labels_by_their_identity(labels, new, right, unknown, tmp_path):
    codes = np.arange(N) % 3
    train = frame(codes, a__2=30.0 * codes + RNG.normal(size=N))
    train["label"] = np.array(labels)[codes]
    train.to_csv(tmp_path / "f.csv", index=False)
    result = call("fit", "--dataset", tmp_path / "f.csv", "--method", "kernel-expert", "--out",
                  tmp_path / "m")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    train.iloc[:3].assign(label=new).to_csv(tmp_path / "new.csv", index=False)
    result = call("predict", tmp_path / "m", tmp_path / "new.csv", "--json", "--out",
                  tmp_path / "out.csv")  # fmt: skip
    facts = json.loads(result.stdout)
    assert facts["unknown_labels"] == unknown
    assert facts["labelled"] == sum(bool(label) for label in new)
    if right is not None:
        assert facts["accuracy"] * facts["labelled"] == pytest.approx(right)
    text = call(
        "predict", tmp_path / "m", tmp_path / "new.csv", "--out", tmp_path / "out.csv"
    ).output
    assert ("labels that the model does not know: 'x', 'y'" in " ".join(text.split())) == (
        len(unknown) == 2
    )
