"""Sums over chunks of rows: looked rows, penalties tried, workers, what is held at once."""

from __future__ import annotations

import time
from contextlib import nullcontext

import joblib
import numpy as np
import pytest
import torch

from rcml_misa.estimators import KernelExpertClassifier, RCMLMISAClassifier, RidgeExpertClassifier
from rcml_misa.experts import expert, ridge_experts, sums
from rcml_misa.experts.ridge_experts import RidgeExperts
from rcml_misa.experts.sums import Sample, fit_ridges, looked_rows
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.views import MultiView

CLASSES = 3


def problem(rows=120, widths=(3, 5), *, seed=0, gaps=False):
    """Noisy classes in several views; with `gaps` the second view is missing in some rows."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(rows) % CLASSES)
    arrays = {
        f"v{place}": rng.normal(size=(CLASSES, width))[codes] + rng.normal(size=(rows, width))
        for place, width in enumerate(widths)
    }
    if gaps:
        arrays["v1"][2::4] = np.nan
    return MultiView(arrays), codes.astype(np.int64)


@pytest.fixture
def few_looked(monkeypatch):
    """Look at 50 rows, in chunks and blocks of fewer."""
    monkeypatch.setattr(sums, "LOOKED", 50)
    monkeypatch.setattr(sums, "FEWEST_LOOKED", 10)
    monkeypatch.setattr(sums, "SEEN", 3)
    monkeypatch.setattr(sums, "CHUNK", 32)
    monkeypatch.setattr(sums, "BLOCK", 9)
    monkeypatch.setattr(expert, "LOOKED", 50)
    for module in ("kernel_rows", "mapped_views", "ridge_experts"):
        monkeypatch.setattr(f"rcml_misa.experts.{module}.BLOCK", 40)
    monkeypatch.setattr(ridge_experts, "UNITS", 16)


class Features:
    """Rows of two members whose features are held, the first one's being some of the second's."""

    def __init__(self, rows=40, width=6, classes=CLASSES, *, weighted=False, nested=True, seed=0):
        rng = np.random.default_rng(seed)
        self.rows, self.classes = rows, classes
        self.codes = rng.permutation(np.arange(rows) % classes)
        means = rng.normal(size=(classes, width))
        self.features = means[self.codes] + rng.normal(size=(rows, width))
        self.weights = rng.uniform(0.2, 3.0, size=rows) if weighted else None
        self.nested, self.roots = [slice(1, 4) if nested else None, None], [None, None]
        self.asked = []

    def __call__(self, rows):
        self.asked.append(len(self.codes[rows]))
        weights = None if self.weights is None else torch.from_numpy(self.weights[rows])
        features, codes = torch.from_numpy(self.features[rows]), torch.from_numpy(self.codes[rows])
        return [Sample(part, codes, weights) for part in (features[:, 1:4], features)]

    def refitted(self, member, penalty):
        """Scores of each row by a ridge with a free intercept that is fitted without it."""
        features = self.features[:, 1:4] if member == 0 else self.features
        onehot = np.eye(self.classes)[self.codes]
        weights = np.ones(self.rows) if self.weights is None else self.weights
        cost = np.diag([*np.full(features.shape[1], penalty * weights.mean()), 0.0])
        design = np.column_stack([features, np.ones(self.rows)])
        scores = np.empty((self.rows, self.classes))
        for row in range(self.rows):
            others = np.arange(self.rows) != row
            x, w = design[others], weights[others, None]
            scores[row] = design[row] @ np.linalg.solve(
                x.T @ (w * x) + cost, x.T @ (w * onehot[others])
            )
        return scores


PENALTIES = tuple(float(10**power) for power in np.arange(-3.0, 4.25, 0.5))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("looked", [np.arange(40), np.array([0, 3, 4, 5, 17, 39])])
def test_scores_of_looked_rows_are_those_of_refitting(monkeypatch, weighted, nested, looked):
    monkeypatch.setattr(sums, "CHUNK", 15)
    monkeypatch.setattr(sums, "BLOCK", 4)
    source = Features(weighted=weighted, nested=nested)
    for member, ridge in enumerate(fit_ridges(source, looked, [0.3])):
        wanted = source.refitted(member, 0.3)
        np.testing.assert_allclose(ridge.loo_scores, wanted[looked], atol=1e-10)
        assert ridge.penalty == 0.3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("looked", [40, 9])
def test_the_penalty_has_the_least_error_however_few_are_tried(monkeypatch, seed, looked):
    source = Features(seed=seed)
    rows = np.arange(40)[:: 40 // looked]
    whole = fit_ridges(source, rows, PENALTIES)
    monkeypatch.setattr(sums, "MOST_HELD", 0)
    monkeypatch.setattr(sums, "CANDIDATES", 2)
    for member, (ridge, wanted) in enumerate(
        zip(fit_ridges(source, rows, PENALTIES), whole, strict=True)
    ):
        weights = np.eye(CLASSES)[source.codes]
        errors = [((source.refitted(member, p) - weights)[rows] ** 2).sum() for p in PENALTIES]
        assert ridge.penalty == wanted.penalty == PENALTIES[int(np.argmin(errors))]
        np.testing.assert_array_equal(ridge.loo_scores, wanted.loo_scores)


def test_no_more_rows_are_asked_for_at_once_than_a_block(monkeypatch):
    monkeypatch.setattr(sums, "CHUNK", 20)
    monkeypatch.setattr(sums, "BLOCK", 8)
    source = Features(rows=400)
    fit_ridges(source, np.arange(0, 400, 10), PENALTIES)
    assert max(source.asked) == 8
    assert sum(source.asked) == 440  # each row once, and looked rows once more


# which rows are looked at


def test_looked_rows_are_bounded_and_spread(monkeypatch):
    monkeypatch.setattr(sums, "LOOKED", 50)
    monkeypatch.setattr(sums, "FEWEST_LOOKED", 5)
    monkeypatch.setattr(sums, "SEEN", 3)
    present = np.ones((200, 2), dtype=bool)
    rows = looked_rows(present, 4)
    assert len(rows) == 50
    assert (rows[0], rows[-1]) == (0, 199)
    assert set(np.diff(rows)) <= {4, 5}
    monkeypatch.setattr(sums, "MOST_ENTRIES", 160)
    assert len(looked_rows(present, 4)) == 20
    assert len(looked_rows(present, 400)) == 5
    present[:, 1] = False
    present[[7, 8, 9, 11], 1] = True
    rows = looked_rows(present, 400)
    assert present[rows, 1].sum() == 3
    assert (np.diff(rows) > 0).all()


MEMBERS = {"kernel": ViewExperts, "ridge": RidgeExperts}


@pytest.mark.parametrize("kind", MEMBERS)
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_few_looked_rows_have_the_scores_that_they_have_among_all(
    monkeypatch, few_looked, kind, gaps, weighted
):
    for module in (expert, ridge_experts):  # else others may be chosen by other rows
        monkeypatch.setattr(module, "fit_ridges", lambda *given: fit_ridges(*given[:2], [0.5]))
    options = {"landmarks": 20, "kernel": "medium"} if kind == "kernel" else {}
    views, codes = problem(gaps=gaps)
    weights = np.random.default_rng(0).uniform(0.5, 2, size=120) if weighted else None
    found = MEMBERS[kind](random_state=0, **options).fit(views, codes, weights=weights)
    np.testing.assert_array_equal(found.looked_, np.linspace(0, 119, 50).round())
    monkeypatch.setattr(sums, "LOOKED", 1000)
    wanted = MEMBERS[kind](random_state=0, **options).fit(views, codes, weights=weights)
    assert len(wanted.looked_) == 120
    members = [*found.views_, found.joint_] if kind == "kernel" else found.members_
    others = [*wanted.views_, wanted.joint_] if kind == "kernel" else wanted.members_
    present = views.present[found.looked_]
    np.testing.assert_array_equal(found.train_logits_.present is None, not gaps)
    for place, (member, other) in enumerate(zip(members, others, strict=True)):
        mine, theirs = found.train_logits_, wanted.train_logits_.take(found.looked_)
        own, every = (m.weights_ if kind == "kernel" else m.weights for m in (member, other))
        np.testing.assert_allclose(own, every, atol=1e-9)
        if place == 2:
            scores, whole = mine.joint, theirs.joint
            here = np.ones(50, dtype=bool)
        else:
            scores, whole, here = mine.views[:, place], theirs.views[:, place], present[:, place]
        scores, whole = scores[here] / member.temperature_, whole[here] / other.temperature_
        least = np.minimum(member.bound_, other.bound_)
        np.testing.assert_allclose(np.minimum(scores, least), np.minimum(whole, least), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (KernelExpertClassifier, {"landmarks": 30}),
        (RidgeExpertClassifier, {}),
        (RCMLMISAClassifier, {"landmarks": 30, "epochs": 2}),
        (RCMLMISAClassifier, {"expert": "ridge", "epochs": 2}),
        (RCMLMISAClassifier, {"expert": "none", "epochs": 2}),
    ],
)
def test_classifiers_learn_from_few_looked_rows(few_looked, kind, options):
    views, codes = problem(300, gaps=True)
    model = kind(random_state=0, device="cpu", **options).fit(
        views.take(slice(0, 200)), codes[:200]
    )
    new, truth = views.take(slice(200, None)), codes[200:]
    if getattr(model, "experts_", None) is not None:
        assert len(model.experts_.looked_) == 50
        assert len(model.experts_.train_logits_.joint) == 50
    assert (model.predict(new) == truth).mean() > 0.6
    np.testing.assert_allclose(model.predict_proba(new).sum(axis=1), 1)


# workers


def coefficients(kind, engine, views, codes):
    options = {"landmarks": 40} if kind == "kernel" else {}
    with engine:
        fitted = MEMBERS[kind](random_state=0, **options).fit(views, codes)
    if kind == "kernel":
        return [member.weights_ for member in (*fitted.views_, fitted.joint_)]
    return [member.weights for member in fitted.members_]


@pytest.mark.parametrize("kind", MEMBERS)
def test_any_number_of_workers_gives_the_same_coefficients(monkeypatch, kind):
    monkeypatch.setattr(sums, "CHUNK", 200)
    views, codes = problem(1000, gaps=True)
    wanted = coefficients(kind, nullcontext(), views, codes)
    for backend, workers in (("loky", 1), ("loky", 2), ("threading", 3)):
        engine = joblib.parallel_config(backend=backend, n_jobs=workers)
        for found, own in zip(coefficients(kind, engine, views, codes), wanted, strict=True):
            np.testing.assert_array_equal(found, own)


def test_no_thread_is_at_work_after_an_interrupted_call():
    """One that outlived the interpreter would abort the process."""
    at_work, began = set(), []

    def task(part):
        at_work.add(part)
        began.append(part)
        time.sleep(0.05)
        at_work.remove(part)
        return part

    with joblib.parallel_config("threading", n_jobs=2):
        results = sums._in_order(task, list(range(20)))
        assert next(results) == 0
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt())
    assert not at_work
    time.sleep(0.15)
    assert not at_work
    assert len(began) < 20


@pytest.mark.parametrize("kind", MEMBERS)
def test_a_dask_cluster_gives_the_same_coefficients_of_memory_maps(monkeypatch, tmp_path, kind):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(sums, "CHUNK", 200)
    views, codes = problem(600)
    wanted = coefficients(kind, nullcontext(), views, codes)
    for name in views.names:
        np.save(tmp_path / name, views[name])
    mapped = MultiView({n: np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in views.names})
    dump, dumped = joblib.dump, []
    monkeypatch.setattr(joblib, "dump", lambda *given: dumped.append(dump(*given)))
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(processes=False, **options) as client:
        engine = joblib.parallel_config("dask", client=client)
        for found, own in zip(coefficients(kind, engine, mapped, codes), wanted, strict=True):
            np.testing.assert_array_equal(found, own)
    assert len(dumped) == 2
