"""The multi-view classifiers as scikit-learn estimators and as opinions."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from rcml_misa.estimators import (
    KernelExpertClassifier,
    NotesClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
)
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView

WIDTHS = {"view1": 3, "view2": 4, "view3": 2}
SHARING = {"rcml-misa": {"calibration_fraction": 0.0}}
SMALL = {"hidden": 8, "feedforward": 16, "epochs": 2, "batch_size": 32, "device": "cpu"}
MAKERS = {
    "rcml-misa": lambda **options: RCMLMISAClassifier(**(SMALL | {"random_state": 0} | options)),
    "rcml": lambda **options: RCMLClassifier(
        **({"epochs": 5, "batch_size": 32, "device": "cpu", "random_state": 0} | options)
    ),
    "notes": lambda **options: NotesClassifier(
        **({"epochs": 2, "batch_size": 32, "device": "cpu", "random_state": 0} | options)
    ),
    "kernel-expert": lambda **options: KernelExpertClassifier(**({"random_state": 0} | options)),
    "ridge-expert": lambda **options: RidgeExpertClassifier(**({"random_state": 0} | options)),
}
MEMBERS = ("kernel-expert", "ridge-expert")
NETWORKS = ("rcml-misa", "rcml", "notes")
every = pytest.mark.parametrize("name", MAKERS)


def problem(views=2, *, rows=60, classes=3, seed=0):
    """Classes a little apart in every view."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    arrays = {
        name: 2 * rng.normal(size=(classes, width))[y] + rng.normal(size=(rows, width))
        for name, width in list(WIDTHS.items())[:views]
    }
    return arrays, np.array(["ant", "bee", "cat", "dog"])[y]


def shared_count(name, views):
    # closed-form members, pooled with a network or not, have one opinion about all views
    return {"rcml": 0, "notes": views}.get(name, 1)


@every
@pytest.mark.parametrize("views", [1, 2, 3])
def test_predictions_and_opinions(name, views):
    X, y = problem(views)
    model = MAKERS[name]().fit(X, y)
    assert model.classes_.tolist() == ["ant", "bee", "cat"]
    assert model.view_names_ == tuple(X)
    assert model.widths_ == tuple(WIDTHS.values())[:views]
    assert model.n_features_in_ == sum(model.widths_)
    labels, probability, opinion = (
        model.predict(X),
        model.predict_proba(X),
        model.predict_opinion(X),
    )
    assert labels.shape == (60,)
    assert set(labels) <= set(y)
    assert probability.shape == (60, 3)
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    assert (labels == model.classes_[opinion.evidence.argmax(axis=1)]).all()
    assert (labels == model.classes_[probability.argmax(axis=1)]).all()
    assert model.score(X, y) == (labels == y).mean()
    assert opinion.evidence.shape == (60, 3)
    assert list(opinion.views) == list(X)
    assert {one.shape for one in opinion.views.values()} == {(60, 3)}
    assert opinion.shared.shape == (60, shared_count(name, views), 3)
    assert opinion.conflict.shape == opinion.uncertainty.shape == (60,)
    for evidence in (opinion.evidence, *opinion.views.values(), opinion.shared):
        assert evidence.dtype == np.float64
        assert np.isfinite(evidence).all()
        assert (evidence >= 0).all()
    assert ((opinion.uncertainty > 0) & (opinion.uncertainty <= 1)).all()
    assert ((opinion.conflict >= 0) & (opinion.conflict <= 1)).all()
    if views == 1:
        assert (opinion.conflict == 0).all()
    np.testing.assert_allclose(opinion.projected_probability.sum(axis=1), 1)
    np.testing.assert_allclose(opinion.belief.sum(axis=1) + opinion.uncertainty, 1)


@pytest.mark.parametrize("name", ["rcml-misa", *MEMBERS])
def test_accurate_on_new_rows_of_an_easy_problem(name):
    X, y = problem(3, rows=160)
    train, test = ({k: v[rows] for k, v in X.items()} for rows in (slice(0, 100), slice(100, 160)))
    model = MAKERS[name]().fit(train, y[:100])
    assert model.score(test, y[100:]) > 0.9
    # probabilities are worth more than the base rate's
    codes = np.searchsorted(model.classes_, y[100:])
    assert -np.log(model.predict_proba(test)[np.arange(60), codes]).mean() < 0.5


@every
def test_random_state_alone_decides(name):
    X, y = problem(2)

    def go(seed, noise):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        # a network with a share in the pool, for certain
        model = MAKERS[name](random_state=seed, **SHARING.get(name, {}))
        found = model.fit(X, y).predict_opinion(X).evidence
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        np.testing.assert_array_equal(model.fit(X, y).predict_opinion(X).evidence, found)
        return found

    first = go(0, 1)
    np.testing.assert_array_equal(first, go(0, 2))
    if name != "kernel-expert":  # where every row is a landmark, none is drawn
        assert not np.allclose(first, go(1, 1))


@every
def test_parameters_round_trip(name):
    model = MAKERS[name](random_state=7)
    parameters = model.get_params()
    assert parameters["random_state"] == 7
    assert clone(model).get_params() == parameters
    assert repr(clone(model)) == repr(model)
    other = type(model)().set_params(**parameters)
    assert other.get_params() == parameters


@every
def test_init_only_assigns(name):
    kind = type(MAKERS[name]())
    names = [one for one in inspect.signature(kind).parameters]
    marks = {one: object() for one in names}
    assert vars(kind(**marks)) == marks


@every
def test_fit_leaves_parameters_and_data_alone(name):
    X, y = problem(2)
    kept = {view: array.copy() for view, array in X.items()}
    model = MAKERS[name]()
    before = model.get_params()
    assert model.fit(X, y) is model
    assert model.get_params() == before
    for view, array in kept.items():
        np.testing.assert_array_equal(X[view], array)


@every
def test_all_forms_of_input_agree(name):
    X, y = problem(2)
    table = np.concatenate(list(X.values()), axis=1)
    wanted = MAKERS[name]().fit(X, y).predict_proba(X)
    forms = {
        "list": (list(X.values()), None),
        "multiview": (MultiView(X), None),
        "table": (table, [3, 4]),
        "frame": (MultiView(X).to_frame(), "__"),
        "sparse": ({view: csr_array(array) for view, array in X.items()}, None),
    }
    for form, views in forms.values():
        found = MAKERS[name](views=views).fit(form, y).predict_proba(form)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@every
def test_a_row_is_predicted_alike_alone_and_among_others(name):
    X, y = problem(3)
    model = MAKERS[name]().fit(X, y)
    whole = model.predict_opinion(X)
    part = model.predict_opinion({view: array[5:6] for view, array in X.items()})
    np.testing.assert_allclose(part.evidence, whole.evidence[5:6], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(part.conflict, whole.conflict[5:6], atol=1e-4)


@every
def test_pickled_models_predict_the_same(name):
    X, y = problem(2)
    model = MAKERS[name]().fit(X, y)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@every
def test_unusable_training_data_is_refused(name):
    X, y = problem(2)
    model = MAKERS[name]()
    with pytest.raises(DataError, match=r"y holds one class only \(ant\)"):
        model.fit(X, np.full(60, "ant"))
    with pytest.raises(DataError, match="y has 59 labels but X has 60 rows"):
        model.fit(X, y[:-1])
    with pytest.raises(DataError, match="y is missing"):
        model.fit(X, None)
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(X, np.linspace(0, 1, 60))
    with pytest.raises(DataError):
        model.fit({**X, "view1": np.full((60, 3), np.nan)}, y)
    with pytest.raises(DataError, match="different numbers of rows"):
        model.fit({**X, "view1": X["view1"][:-1]}, y)
    with pytest.raises(OptionError, match="scaling='max'"):
        clone(model).set_params(scaling="max").fit(X, y)


@every
def test_unusable_rows_are_refused(name):
    X, y = problem(2)
    model = MAKERS[name]().fit(X, y)
    with pytest.raises(DataError, match="X has the view 'a', which fit did not see"):
        model.predict({"a": X["view1"], "view2": X["view2"]})
    in_any_order = model.predict_proba(dict(reversed(X.items())))
    np.testing.assert_array_equal(in_any_order, model.predict_proba(X))
    with pytest.raises(DataError, match="'view3', which fit did not see; did you mean view"):
        model.predict_opinion({"view1": X["view1"], "view3": X["view2"]})
    with pytest.raises(DataError, match="view 'view2' has 3 columns but fit saw 4"):
        model.predict({"view1": X["view1"], "view2": X["view2"][:, :3]})
    with pytest.raises(DataError):
        model.predict({"view1": X["view1"], "view2": np.full((60, 4), np.inf)})


@pytest.mark.parametrize("method", ["predict_proba", "predict_opinion", "predict"])
@every
def test_not_fitted(name, method):
    with pytest.raises(NotFittedError):
        getattr(MAKERS[name](), method)(problem(2)[0])


@every
def test_classes_that_the_train_rows_lack(name):
    X, y = problem(2, classes=4)
    kept = y != "cat"
    model = MAKERS[name]().fit({view: array[kept] for view, array in X.items()}, y[kept])
    assert model.classes_.tolist() == ["ant", "bee", "dog"]
    assert "cat" not in model.predict(X)
    assert model.predict_proba(X).shape == (60, 3)


@every
def test_two_classes_few_rows_and_constant_columns(name):
    y = np.array([3, 7] * 4)
    X = [np.column_stack([y + np.arange(8.0), np.ones(8)]), np.zeros((8, 1))]
    model = MAKERS[name]().fit(X, y)
    found = model.predict_proba(X)
    assert np.isfinite(found).all()
    assert set(model.predict(X)) <= {3, 7}
    assert model.classes_.dtype == y.dtype


@every
def test_far_rows_stay_finite(name):
    X, y = problem(2)
    far = {view: 1e6 * array for view, array in X.items()}
    model = MAKERS[name]().fit(X, y)
    assert np.isfinite(model.predict_proba(far)).all()
    if name in ("rcml-misa", *MEMBERS):
        # what is unlike the train rows is vacuous
        assert model.predict_opinion(far).uncertainty.min() > 0.95
        assert np.median(model.predict_opinion(X).uncertainty) < 0.6


@pytest.mark.parametrize("name", NETWORKS)
def test_history_and_callback(name):
    X, y = problem(2)
    told = []
    model = MAKERS[name](epochs=3).fit(X, y, callback=told.append)
    assert [(one.epoch, one.epochs) for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert [one.loss for one in told] == model.history_["loss"]
    for values in model.history_.values():
        assert len(values) == 3
        assert np.isfinite(values).all()
    assert not model.module_.training


@pytest.mark.parametrize("name", NETWORKS)
def test_unusable_devices_and_rates(name):
    X, y = problem(2)
    with pytest.raises(OptionError, match="device='tpu'"):
        MAKERS[name](device="tpu").fit(X, y)
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="no usable CUDA device"):
            MAKERS[name](device="cuda").fit(X, y)


@pytest.mark.parametrize("name", ["rcml", "notes"])
def test_epochs_below_one(name):
    with pytest.raises(OptionError, match="epochs=0 is not a whole number of 1 or more"):
        MAKERS[name](epochs=0).fit(*problem(2))


# RCML-MISA


@pytest.mark.parametrize("views", [1, 2, 3])
def test_plain_rcml_misa_without_experts(views):
    X, y = problem(views)
    model = MAKERS["rcml-misa"](expert="none", collector="softplus", fusion="mean", epochs=40)
    model.fit(X, y)
    assert model.experts_ is None
    assert model.stack_.shape == (views + 1,)
    assert model.share_ == 1
    opinion = model.predict_opinion(X)
    assert opinion.evidence.shape == (60, 3)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    for term in ("edl", "recon", *(("sim",) if views > 1 else ())):
        assert model.history_[term][-1] < model.history_[term][0]
    assert model.score(X, y) > 0.6


@pytest.mark.parametrize("collectors", ["separate", "tied", "tied-mean", "private"])
def test_shared_opinions_of_each_kind_of_collectors(collectors):
    X, y = problem(3)
    alone = MAKERS["rcml-misa"](collectors=collectors, expert="none", epochs=1).fit(X, y)
    count = {"separate": 3, "tied": 3, "tied-mean": 1, "private": 0}[collectors]
    _, outputs = next(alone._outputs(alone._check_rows(X)))
    assert outputs.shared.shape == (60, count, 3)
    # all shared opinions of the network make one, with members or without
    shared = alone.predict_opinion(X).shared
    assert shared.shape == (60, 1, 3)
    assert shared.any() == (count > 0)
    pooled = MAKERS["rcml-misa"](collectors=collectors, calibration_fraction=0.0, epochs=1)
    assert pooled.fit(X, y).share_ == 0.5
    assert pooled.predict_opinion(X).shared.shape == (60, 1, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"features": "quantile"},
        {"features": "plain", "scaling": "standard"},
        {"attention_mask": "none", "layers": 2},
        {"conflict_discount": False, "fusion": "geometric"},
        {"fusion": "dempster"},
        {"mixup": 0.4},
        {"batch_size": 7},
        {"collector": "softplus"},
        {"readout": "tokens"},
        {"readout": "encoders"},
        {"subspace_gradient": "encoders"},
        {"encoder_width": 16},
        {"encoder_depth": 1},
        {"encoder_dropout": 0.0},
        {"dropout": 0.3},
        {"calibration_fraction": 0.4},
        {"networks": 2},
        {"learning_rate": 0.02},
    ],
    ids=str,
)
def test_options_of_the_network(options):
    X, y = problem(2)
    base = {"expert": "none", "epochs": 1}
    model, plain = (MAKERS["rcml-misa"](**base | more).fit(X, y) for more in (options, {}))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    found, other = (one.predict_opinion(X) for one in (model, plain))
    assert not np.allclose(found.evidence, other.evidence, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"expert": "ridge"},
        {"expert": "none"},
        {"landmarks": 10},
        {"kernel": "fine"},
        {"stacking": False},
        {"scaling": "standard"},
        {"fusion": "geometric"},
        {"fusion": "geometric", "conflict_discount": False},
        {"fusion": "dempster"},
    ],
    ids=str,
)
def test_options_of_the_members(options):
    X, y = problem(2)
    without = dict(list(options.items())[:-1])  # the last one is what is tested
    base = {"epochs": 1, "calibration_fraction": 0.05}  # no row is set apart: no share
    model, plain = (MAKERS["rcml-misa"](**base | more).fit(X, y) for more in (options, without))
    assert plain.share_ == 0
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    found, other = (one.predict_opinion(X) for one in (model, plain))
    assert not np.allclose(found.evidence, other.evidence, rtol=1e-6)


def test_history_names_every_loss_and_the_loss_is_their_weighted_sum():
    model = MAKERS["rcml-misa"]().fit(*problem(3))
    history = model.history_
    assert list(history) == ["loss", "edl", "conflict", "sim", "diff", "recon"]
    weights = {"edl": 1.0, "conflict": 0.1, "sim": 0.8, "diff": 0.3, "recon": 0.8}
    wanted = sum(weight * np.array(history[term]) for term, weight in weights.items())
    np.testing.assert_allclose(history["loss"], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "epochs", "rate"),
    [
        ({"expert": "kernel"}, 30, 4e-3),
        ({"expert": "ridge"}, 40, 4e-3),
        ({"expert": "none"}, 40, 4e-3),
        ({"expert": "none", "epochs": 3, "learning_rate": 0.02}, 3, 0.02),
    ],
    ids=str,
)
def test_length_and_rate_of_training(monkeypatch, options, epochs, rate):
    asked = []

    def spy(estimator, rows, loss, **more):
        asked.append((more["length"](1)["epochs"], more["learning_rate"]))
        estimator.module_ = estimator._build().eval()
        estimator.history_ = {"loss": [0.0]}

    monkeypatch.setattr("rcml_misa.estimators.rcml_misa.train_tables", spy)
    monkeypatch.setattr("rcml_misa.estimators.rcml_misa.pool_share", lambda *args: 10)
    MAKERS["rcml-misa"](**{"epochs": None, **options}).fit(*problem(2))
    assert asked == [(epochs, rate)]


def test_contradicting_views_leave_more_uncertainty():
    X, y = problem(2, rows=90)
    model = MAKERS["rcml-misa"]().fit(X, y)
    crossed = {"view1": X["view1"], "view2": np.roll(X["view2"], 1, axis=0)}
    fine, clash = model.predict_opinion(X), model.predict_opinion(crossed)
    assert clash.conflict.mean() > fine.conflict.mean() + 0.1
    assert clash.uncertainty.mean() > fine.uncertainty.mean() + 0.1


def test_unknown_expert():
    with pytest.raises(OptionError, match="expert='tree' does not exist"):
        MAKERS["rcml-misa"](expert="tree").fit(*problem(2))


def test_unknown_fusion():
    for name in ("rcml", "rcml-misa"):
        with pytest.raises(OptionError, match="fusion='sum'"):
            MAKERS[name](fusion="sum").fit(*problem(2))


@pytest.mark.parametrize(
    "option",
    [
        {"collectors": "both"},
        {"collector": "relu"},
        {"attention_mask": "shared"},
        {"features": "log"},
        {"epochs": 0},
        {"batch_size": 0},
        {"layers": 0},
        {"landmarks": 0},
        {"heads": 3},
        {"dropout": 1.0},
        {"attention_dropout": -0.1},
    ],
    ids=str,
)
def test_unusable_options_of_the_network(option):
    with pytest.raises(OptionError, match=next(iter(option))):
        MAKERS["rcml-misa"](**option).fit(*problem(2))


# RCML and the notes


def test_rcml_pairwise_folding_differs_from_the_mean_at_three_views():
    X, y = problem(3)
    mean, pairwise = (MAKERS["rcml"](fusion=one).fit(X, y) for one in ("mean", "pairwise"))
    assert not np.allclose(mean.predict_opinion(X).evidence, pairwise.predict_opinion(X).evidence)
    for model, weights in ((mean, (1 / 3, 1 / 3, 1 / 3)), (pairwise, (1 / 4, 1 / 4, 1 / 2))):
        found = model.predict_opinion(X)
        wanted = sum(w * e for w, e in zip(weights, found.views.values(), strict=True))
        np.testing.assert_allclose(found.evidence, wanted, rtol=1e-5)
    X, y = problem(2)
    mean, pairwise = (MAKERS["rcml"](fusion=one).fit(X, y) for one in ("mean", "pairwise"))
    np.testing.assert_allclose(mean.predict_proba(X), pairwise.predict_proba(X), atol=1e-6)


def test_rcml_learns():
    X, y = problem(2)
    model = MAKERS["rcml"](epochs=60, learning_rate=0.03).fit(X, y)
    assert model.score(X, y) > 0.8
    np.testing.assert_allclose(
        model.predict_proba(X), model.predict_opinion(X).projected_probability
    )


class Recorder(RCMLClassifier):
    """RCML that keeps the KL weights it is given."""

    def _terms(self, output, target, kl_weight):
        self.weights_ = [*getattr(self, "weights_", []), kl_weight]
        return super()._terms(output, target, kl_weight)


def test_kl_weight_rises_by_whole_epochs():
    X, y = problem(2)
    model = Recorder(epochs=100, batch_size=30, annealing_epochs=50, device="cpu", random_state=0)
    wanted = [min(1, epoch / 50) for epoch in range(100) for _ in range(2)]
    assert model.fit(X, y).weights_ == pytest.approx(wanted)


def test_notes_collectors():
    X, y = problem(2)
    tied, separate = (MAKERS["notes"](collectors=one) for one in ("tied", "separate"))
    assert len(tied.fit(X, y).module_.collect_shared) == 1
    assert len(separate.fit(X, y).module_.collect_shared) == 2
    with pytest.raises(
        OptionError, match="collectors='private' does not exist; did you mean separate"
    ):
        MAKERS["notes"](collectors="private").fit(X, y)


def test_rows_beyond_a_block_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = {name: rng.normal(size=(3, 4))[y] + rng.normal(size=(90, 4)) for name in ("a", "b")}
    options = {"epochs": 2, "batch_size": 30, "device": "cpu", "random_state": 0}
    whole = RCMLMISAClassifier(**options).fit(X, y)
    wanted = whole.predict_opinion(X)
    monkeypatch.setattr("rcml_misa.reading.rows.KEPT", 10)
    monkeypatch.setattr("rcml_misa.estimators.base.BLOCK", 40)
    blocked = RCMLMISAClassifier(**options).fit(X, y)
    found = blocked.predict_opinion(X)
    np.testing.assert_allclose(found.evidence, wanted.evidence, rtol=1e-4)
    np.testing.assert_allclose(found.shared, wanted.shared, rtol=1e-4)
    np.testing.assert_allclose(found.conflict, wanted.conflict, rtol=1e-4)
    assert list(found.views) == ["a", "b"]
