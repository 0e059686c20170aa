"""Looking at a model while it trains: checkpoints, and the epoch that counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rcml_misa.datasets import Dataset
from rcml_misa.estimators import RCMLClassifier, RCMLMISAClassifier
from rcml_misa.estimators.registry import Recipe, recipe
from rcml_misa.protocols import Protocol
from rcml_misa.runs.single import fit_task, run_task
from rcml_misa.runs.tasks import Task
from rcml_misa.runs.watching import Watcher
from rcml_misa.training import Progress
from rcml_misa.views import MultiView

ROWS = 90


def data(shift: float = 0.8) -> Dataset:
    rng = np.random.default_rng(0)
    target = np.arange(ROWS) % 3
    views = MultiView([rng.normal(size=(ROWS, w)) + shift * target[:, None] for w in (3, 4)])
    return Dataset("toy", views, target, ("a", "b", "c"), "00" * 32, "made here")


class Scripted:
    """Its accuracy at each epoch is what the script says; it has one weight, the epoch."""

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    script: tuple[float, ...] = ()

    def get_params(self, deep: bool = False) -> dict[str, int | None]:
        return {"random_state": self.random_state}

    def fit(self, X, y, *, callback) -> None:
        self.classes_ = np.unique(y)
        self.module_ = nn.Linear(1, 1)
        self.module_.train()
        self.modes = []
        for epoch in range(1, len(self.script) + 1):
            with torch.no_grad():
                self.module_.weight.fill_(float(epoch))
            callback(Progress(epoch, len(self.script), 0.0))
            assert self.module_.training

    def predict(self, X: MultiView) -> np.ndarray:
        self.modes.append(self.module_.training)
        epoch = int(self.module_.weight.item())
        truth = X.arrays[-1][:, -1].astype(int)
        wrong = round((1 - self.script[epoch - 1]) * len(truth))
        guess = truth.copy()
        guess[:wrong] = (truth[:wrong] + 1) % 3
        return guess

    def predict_proba(self, X: MultiView) -> np.ndarray:
        return 0.8 * np.eye(3)[self.predict(X)] + 0.2 / 3


def told() -> Dataset:
    """The last column of the last view is the class."""
    plain = data()
    arrays = [plain.views.arrays[0], np.column_stack([plain.views.arrays[1], plain.target])]
    return Dataset("toy", MultiView(arrays), plain.target, plain.classes, "0", "here")


def scripted(monkeypatch, accuracies: tuple[float, ...], **protocol):
    monkeypatch.setattr(Scripted, "script", accuracies)
    made = Recipe("scripted", "-", True, f"{__name__}:Scripted", {}, False)
    return Task(made, 0, 0, 3, Protocol(**protocol))


UP_AND_DOWN = (*[0.5] * 9, 0.9, *[0.6] * 9, 0.8, 0.7)


def test_the_last_epoch_counts_by_default(monkeypatch):
    task = scripted(monkeypatch, UP_AND_DOWN)
    record = run_task(told(), task)
    assert record.metrics["clean"]["accuracy"] == pytest.approx(0.7, abs=0.03)
    assert record.chosen == record.checkpoints == {}


def test_the_best_epoch_on_rows_held_back(monkeypatch):
    task = scripted(monkeypatch, UP_AND_DOWN, selection="best-valid", valid_share=0.25)
    fitted = fit_task(told(), task)
    assert fitted.watcher.chosen == {"valid": 10}
    assert fitted.estimator.module_.weight.item() == 10
    assert not any(fitted.estimator.modes)  # asked out of training
    record = run_task(told(), task)
    assert record.metrics["clean"]["accuracy"] == pytest.approx(0.9, abs=0.03)
    assert record.chosen == {"valid": 10}
    assert not record.leaky


def test_the_best_epoch_on_test_rows_is_marked(monkeypatch):
    task = scripted(monkeypatch, UP_AND_DOWN, selection="best-test-epoch")
    record = run_task(told(), task)
    assert record.chosen["clean"] == 10
    assert record.metrics["clean"]["accuracy"] == pytest.approx(0.9, abs=0.03)
    assert record.leaky
    # other test sets are scored with the weights that are best on the clean rows
    task = scripted(
        monkeypatch, UP_AND_DOWN, selection="best-test-epoch", test_sets=("noise:0", "conflict")
    )
    found = run_task(told(), task).metrics
    assert found["noise:0"]["accuracy"] == found["clean"]["accuracy"]


def test_only_every_tenth_epoch_and_the_last_are_looked_at(monkeypatch):
    script = tuple(0.99 if epoch == 5 else 0.5 + 0.01 * epoch for epoch in range(1, 14))
    task = scripted(monkeypatch, script, selection="best-valid", valid_share=0.25)
    assert fit_task(told(), task).watcher.chosen == {"valid": 13}


def test_checkpoints_of_both_test_sets(monkeypatch):
    task = scripted(monkeypatch, UP_AND_DOWN, checkpoints=(10, 20, 99))
    record = run_task(told(), task)
    assert set(record.checkpoints) == {"10", "20"}
    assert record.checkpoints["10"]["clean"] == pytest.approx(0.9, abs=0.03)
    assert record.checkpoints["20"]["clean"] == pytest.approx(0.8, abs=0.03)
    assert set(record.checkpoints["10"]) == {"clean", "conflict"}
    assert record.metrics["clean"]["accuracy"] == pytest.approx(0.7, abs=0.03)


def test_equally_accurate_epochs_are_told_apart_by_likelihood():
    X, y = data().views, data().target
    model = RCMLClassifier(epochs=30, device="cpu", random_state=0)
    protocol = Protocol(selection="best-valid", valid_share=0.1)
    watcher = Watcher(model, protocol=protocol, valid=(X, y), tests={})
    model.fit(X, y, callback=watcher)
    kept = model.predict_opinion(X)
    plain = RCMLClassifier(epochs=watcher.chosen["valid"], device="cpu", random_state=0).fit(X, y)
    np.testing.assert_allclose(kept.evidence, plain.predict_opinion(X).evidence, rtol=1e-6)
    assert watcher.seconds > 0


def test_looking_changes_nothing_and_takes_no_time_of_the_fit():
    tasks = [
        Task(recipe("rcml", epochs=20, device="cpu"), 0, 0, 3, protocol)
        for protocol in (Protocol(), Protocol(checkpoints=(5, 10, 20)))
    ]
    one, two = (run_task(data(), task) for task in tasks)
    np.testing.assert_equal(one.metrics, two.metrics)
    assert two.checkpoints["20"]["clean"] == two.metrics["clean"]["accuracy"]
    assert two.checkpoints["20"]["conflict"] == two.metrics["conflict"]["accuracy"]


@pytest.mark.parametrize("expert", ["none", "ridge"])
def test_the_best_epoch_is_put_back_into_the_default(expert):
    X, y = data(0.4).views, data().target
    model = RCMLMISAClassifier(expert=expert, epochs=20, device="cpu", random_state=0)
    protocol = Protocol(selection="best-valid", valid_share=0.2)
    watcher = Watcher(model, protocol=protocol, valid=(X, y), tests={})
    model.fit(X, y, callback=watcher)
    assert model.calibrator_ is not None
    kept = watcher._states["valid"]
    for name, value in model.module_.state_dict().items():  # without a share, of one network
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


def test_methods_without_epochs_train_as_ever():
    task = Task(recipe("lda"), 0, 0, 3, Protocol(selection="best-valid", valid_share=0.2))
    record = run_task(data(), task)
    assert record.chosen == {}
    assert record.train_rows == 58
