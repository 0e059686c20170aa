"""Graphs of fitted models in torch, beside the models themselves: each part, and whole answers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from rcml_misa import (
    KernelExpertClassifier,
    MISAClassifier,
    MultiView,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
    RidgeExpertClassifier,
    TablePreparer,
    ViewPipeline,
)
from rcml_misa.calibration import Calibrator, ScaleCalibrator
from rcml_misa.estimators import CCMLClassifier, EDLClassifier, ETMCClassifier, TMCClassifier
from rcml_misa.estimators.published import NotesClassifier
from rcml_misa.estimators.suspicion import Suspicion
from rcml_misa.exceptions import OptionError
from rcml_misa.experts.gaussians import ViewGaussians
from rcml_misa.experts.ridge_experts import RidgeExperts
from rcml_misa.export.answers import Calibration, clear_suspects
from rcml_misa.export.graph import GapFilling
from rcml_misa.export.members import RidgeLogits
from rcml_misa.export.models import Exportable
from rcml_misa.export.networks import ScaleCalibration
from rcml_misa.export.readings import ColumnReading, FeatureReading
from rcml_misa.export.standing import MOST_VIEWS, RowRatios
from rcml_misa.opinions.nig import NIG
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import FeatureMap
from rcml_misa.reading.raw_columns import RawColumns

ROUNDING = 1e-10
SINGLE = 1e-5  # networks are computed in single precision


def toy(classes=3, widths=(6, 4, 5), rows=120, gaps=0.2):
    """Tables that tell the class, whose rows lack some views, and harder rows of the same kind."""
    rng = np.random.default_rng(5)
    codes = np.arange(rows) % classes
    centres = [rng.normal(size=(classes, width)) * 1.5 for width in widths]

    def tables():
        parts = [c[codes] + rng.normal(size=(rows, c.shape[1])) for c in centres]
        parts[0][:, 1] = parts[0][:, 1].round()  # ties
        for place, part in enumerate(parts):
            part[(rng.random(rows) < gaps) & (place > 0)] = np.nan
        return {f"view{place}": part for place, part in enumerate(parts)}

    train, test = tables(), tables()
    for part in test.values():
        part[1] *= 40
        part[2] *= 1e20
        part[3] = part[0]
    test["view0"][4] += 30
    test["view0"][5:9] = np.nan  # one row or more has no view at all
    for place, part in enumerate(test.values()):
        if place:
            part[5] = np.nan
    return SimpleNamespace(train=train, test=test, codes=codes)


def apart(model, test, dtype=torch.float64):
    """Largest difference of a graph's answers from the model's, relative above 1."""
    exportable = Exportable.of(model)
    tables = [torch.from_numpy(np.asarray(part, dtype=np.float64)).to(dtype) for part in test]
    with torch.no_grad():
        answers = exportable.graph(*tables)
    own = exportable.answers(tables)
    assert tuple(own) == exportable.graph.answers.outputs
    differences = []
    for name, answer in zip(own, answers, strict=True):
        assert answer.dtype == dtype
        assert answer.shape == own[name].shape
        values = answer.double().numpy()
        nothing = np.isnan(own[name])  # CCML's, of a row without any view
        assert (np.isnan(values) == nothing).all()
        scaled = np.abs(values - own[name]) / np.maximum(np.abs(own[name]), 1)
        differences.append(scaled[~nothing].max())
    return max(differences)


@pytest.mark.parametrize("scaling", ["minmax", "standard", "quantile", "none"])
@pytest.mark.parametrize("features", ["root-layernorm", "root", "plain", "quantile"])
def test_columns_are_read_as_by_feature_maps(scaling, features):
    rng = np.random.default_rng(0)
    train, rows = rng.normal(size=(2, 200, 5))
    train[:, 1] = train[:, 1].round()
    train[:, 2] = 1.5  # constant
    rows[:60, 1] = rows[:60, 1].round()
    rows[3:6] = [[1e300] * 5, [-1e14] * 5, [3e16, 0, 0, 1, 2]]
    rows[6] = train[7]
    rows[7] = np.nan
    if (scaling, features) == ("none", "root-layernorm"):
        rows[3] = 0  # equal roots of 1e7 differ by rounding alone, which the norm blows up
    maps = [FeatureMap.fit(part, scaling=scaling, features=features) for part in (train, -train)]
    gone = torch.from_numpy(np.isnan(rows[:, :1])).repeat(1, 2)
    clean = torch.from_numpy(np.nan_to_num(rows)).repeat(1, 2)
    for mapping, table in zip(maps, FeatureReading(maps)(clean, gone), strict=True):
        np.testing.assert_allclose(table.numpy(), mapping.transform(rows), atol=ROUNDING)


def test_wide_views_are_reduced_as_by_column_maps():
    rng = np.random.default_rng(1)
    views = [rng.normal(size=(300, width)) for width in (150, 3)]
    columns = [ColumnMap.fit(view) for view in views]
    assert columns[0].components.size
    assert not columns[1].components.size
    gone = torch.zeros(300, 2, dtype=torch.bool)
    gone[5, 0] = True
    tables = ColumnReading(columns)(torch.from_numpy(np.concatenate(views, axis=1)), gone)
    views[0][5] = np.nan
    for own, view, table in zip(columns, views, tables, strict=True):
        np.testing.assert_allclose(table.numpy(), own.transform(view), atol=ROUNDING)
    single = ColumnReading(columns, torch.float32)(
        torch.from_numpy(np.nan_to_num(np.concatenate(views, axis=1))), gone
    )
    own = columns[1].transform(views[1], np.float32)
    assert single[1].dtype == torch.float32
    np.testing.assert_allclose(single[1].numpy(), own, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("widths", [(5,), (4, 3), (4, 3, 6)])
def test_logits_are_those_of_ridge_members(classes, widths):
    toys = toy(classes, widths)
    experts = RidgeExperts(random_state=0).fit(MultiView(toys.train), toys.codes)
    views = MultiView(toys.test)
    logits = experts.logits(views)
    present = torch.from_numpy(np.array(views.present))
    columns = ColumnReading([lift.columns for lift in experts.lifts_])
    clean = torch.from_numpy(np.nan_to_num(np.concatenate(list(toys.test.values()), axis=1)))
    own, joint, witness = RidgeLogits(experts)(columns(clean, ~present), present)
    np.testing.assert_allclose(own, logits.views, atol=1e-9)
    np.testing.assert_allclose(joint, logits.joint, atol=1e-9)
    np.testing.assert_allclose(witness, logits.witness, atol=1e-9)


@pytest.mark.parametrize("widths", [(3,), (3, 2), (4, 3, 2), (3, 2, 1, 2, 1, 2)])
def test_every_set_of_views_is_compared_as_by_gaussians(widths):
    rng = np.random.default_rng(2)
    rows, width, classes = 200, sum(widths), 4
    root = rng.normal(size=(width, width))
    covariance = root @ root.T / width + 0.1 * np.eye(width)
    means = rng.normal(size=(classes, width))
    gaussians = ViewGaussians(means, covariance, widths, rng.dirichlet(np.ones(classes)))
    present = rng.random((rows, len(widths))) > 0.4
    present[:3] = True
    parts = [
        3 * rng.normal(size=(rows, w)) * here[:, None]
        for w, here in zip(widths, present.T, strict=True)
    ]
    others = np.log(rng.dirichlet(np.ones(classes), size=(rows, len(widths))))
    ratio, distance = gaussians(parts, others, present)
    values, flags = torch.from_numpy(np.concatenate(parts, axis=1)), torch.from_numpy(present)
    own = RowRatios(gaussians)(values, torch.from_numpy(others), flags)
    np.testing.assert_allclose(own[0], ratio, atol=ROUNDING)
    np.testing.assert_allclose(own[1], distance, atol=ROUNDING)
    if len(widths) > 1:
        assert len(np.unique(present, axis=0)) > 2 * len(widths) - 2


def test_rows_of_many_views_have_no_answer_where_one_is_missing():
    widths = (2,) * (MOST_VIEWS + 1)
    toys = toy(widths=widths, gaps=0)
    model = RidgeExpertClassifier(random_state=0).fit(toys.train, toys.codes)
    exportable = Exportable.of(model)
    assert "more than 6 views" in exportable.notes[0]
    whole = [part[9:40] for part in toys.test.values()]
    assert apart(model, whole) < 1e-8
    whole[2] = whole[2].copy()
    whole[2][0] = np.nan
    with torch.no_grad():
        probability = exportable.graph(*map(torch.from_numpy, whole))[0]
    assert probability[0].isnan().all()
    assert probability[1:].isfinite().all()


def test_probabilities_are_those_of_the_calibrator():
    rng = np.random.default_rng(3)
    evidence = rng.gamma(0.3, 20, size=(300, 4))
    evidence[0], evidence[1], evidence[2] = 0, [1, 1, 0, 0], [1e9, 0, 0, 0]
    for values in ((1.0, 1.0, 0.0), (6.0, 0.3, 1.2), (0.2, 4.0, -2.0)):
        calibrator = Calibrator(*values)
        own = Calibration(calibrator)(torch.from_numpy(evidence))
        np.testing.assert_allclose(own, calibrator(evidence), atol=ROUNDING)


def test_clear_suspects_are_those_of_an_opinion():
    rng = np.random.default_rng(4)
    for views in (1, 2, 3):
        gains = rng.random((300, views)) ** 3
        gains[rng.random(gains.shape) < 0.2] = np.nan
        for learnt in (False, True):
            names = tuple("abc"[:views])
            suspicion = Suspicion(names, gains, limits=(0.1, 0.3), learnt=learnt)
            clear = clear_suspects(torch.from_numpy(gains), 0.3, learnt=learnt).numpy()
            assert (clear.any(axis=1) == suspicion.clear).all()
            rows = np.flatnonzero(suspicion.clear)
            assert (clear.argmax(axis=1)[rows] == suspicion.view[rows]).all()
            assert len(rows) > 0 or views == 1 or (views == 2 and not learnt)


def test_scales_are_those_of_the_calibrator():
    rng = np.random.default_rng(6)
    private = NIG(*(torch.from_numpy(rng.gamma(2, size=(50, 3)) + 1) for _ in range(4)))
    fused = NIG(*(part[:, 0] for part in private))
    calibrator = ScaleCalibrator(rng.random(3), rng.random(3) + 0.5, rng.normal(size=3), 0.3)
    for part, own in zip(
        calibrator(fused, private), ScaleCalibration(calibrator)(fused, private), strict=True
    ):
        np.testing.assert_allclose(own, part, atol=ROUNDING)


def test_gaps_are_filled_as_by_raw_columns():
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(rng.normal(size=(40, 4)), columns=list("abcd"))
    frame.loc[3:9, "b"] = np.nan
    columns = RawColumns.fit(frame, view="v", indicators=True, levels=50)
    rows = frame.copy()
    rows.loc[0, "a"], rows.loc[1, "d"] = np.nan, np.inf
    rows.loc[2] = np.nan
    own = GapFilling(columns)(torch.tensor(rows.to_numpy()))
    np.testing.assert_array_equal(own, columns.transform(rows, "v")[0])


POOLS = [
    {"classes": 2, "widths": (5, 4)},
    {"classes": 3, "widths": (6,), "gaps": 0},
    {"classes": 9, "widths": (6, 4, 5)},
]


@pytest.mark.parametrize("sizes", POOLS)
@pytest.mark.parametrize("suspect", ["report", "exclude"])
def test_ridge_members_answer_alike(sizes, suspect):
    toys = toy(**sizes)
    model = RidgeExpertClassifier(suspect=suspect, random_state=0).fit(toys.train, toys.codes)
    assert model.membership_ is not None
    if suspect == "exclude" and len(toys.train) > 2:
        assert model.predict_opinion(toys.test).suspicion.clear.any()
    assert apart(model, toys.test.values()) < 1e-6
    assert apart(model, toys.test.values(), torch.float32) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"expert": "none"},
        {"expert": "none", "collectors": "tied-mean", "collector": "softplus"},
        {"expert": "none", "collectors": "private", "readout": "tokens", "features": "plain"},
        {"expert": "ridge", "fusion": "geometric", "scaling": "standard", "features": "root"},
        {"expert": "ridge", "calibration_fraction": 0.0, "stacking": False},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_networks_and_pools_answer_alike(options):
    toys = toy()
    model = RCMLMISAClassifier(**options, epochs=2, networks=2, encoder_width=32, random_state=0)
    model.fit(toys.train, np.array(["x", "y", "z"])[toys.codes])
    model.share_ = model.share_ or 0.4  # as if the network had been worth it
    assert apart(model, toys.test.values()) < 2 * SINGLE  # evidence of few rows: ours is in float64


def test_views_that_are_set_aside_are_read_as_a_constant():
    toys = toy(classes=2, widths=(5, 4, 3), gaps=0)
    toys.train["view1"][toys.codes == 1] = np.nan  # presence tells the class
    with pytest.warns(UserWarning, match="view1"):
        model = RidgeExpertClassifier(random_state=0).fit(toys.train, toys.codes)
    assert model.set_aside_ == ("view1",)
    assert apart(model, toys.test.values()) < 1e-6


@pytest.mark.parametrize(
    "kind",
    [
        *(RCMLClassifier, TMCClassifier, ETMCClassifier),
        *(CCMLClassifier, EDLClassifier, NotesClassifier),
    ],
)
def test_peers_answer_alike(kind):
    toys = toy()
    model = kind(epochs=2, calibration_fraction=0.3, random_state=0).fit(toys.train, toys.codes)
    assert apart(model, toys.test.values()) < SINGLE


@pytest.mark.parametrize("suspect", ["report", "exclude"])
@pytest.mark.parametrize("features", ["plain", "root"])
def test_scores_are_alike(suspect, features):
    toys = toy(rows=90)
    target = 3 + 5 * toys.train["view0"][:, 0]
    model = RCMLMISARegressor(
        epochs=2, hidden=16, suspect=suspect, features=features, random_state=0
    ).fit(toys.train, target)
    model.suspect_limits_ = (0.01, 0.02)
    if suspect == "exclude":
        assert model.predict_opinion(toys.test).suspicion.clear.any()
    rows = [np.delete(part, [1, 2, 5], axis=0) for part in toys.test.values()]
    assert apart(model, rows) < SINGLE


def test_a_preparer_that_fills_gaps_is_part_of_the_graph():
    toys = toy()
    frames = {
        name: pd.DataFrame(part).add_prefix("c").assign(constant=np.nan)
        for name, part in toys.train.items()
    }
    frames["view0"].loc[:20, "c2"] = np.nan
    steps = [("prepare", TablePreparer()), ("model", RidgeExpertClassifier(random_state=0))]
    pipeline = ViewPipeline(steps).fit(frames, toys.codes)
    exportable = Exportable.of(pipeline)
    assert not exportable.notes
    assert exportable.columns["view0"] == [f"c{place}" for place in range(6)]
    assert exportable.widths == [6, 4, 5]
    rows = {name: frame[list(exportable.columns[name])] for name, frame in frames.items()}
    rows["view1"].loc[30:33, "c0"] = np.nan
    with torch.no_grad():
        answers = exportable.graph(*(torch.from_numpy(rows[name].to_numpy()) for name in rows))
    given = {name: frame.assign(constant=np.nan) for name, frame in rows.items()}
    np.testing.assert_allclose(answers[0], pipeline.predict_proba(given), atol=1e-8)


def test_a_graph_begins_behind_a_preparer_that_reads_words():
    toys = toy(widths=(4, 3))
    frames = {name: pd.DataFrame(part).add_prefix("c") for name, part in toys.train.items()}
    frames["view0"]["job"] = np.array(["cook", "clerk", "smith"])[toys.codes]
    steps = [("prepare", TablePreparer()), ("model", RidgeExpertClassifier(random_state=0))]
    exportable = Exportable.of(ViewPipeline(steps).fit(frames, toys.codes))
    (note,) = exportable.notes
    assert "behind the TablePreparer" in note
    assert exportable.columns["view0"][-1] == "job_smith"


def test_what_has_no_graph_is_refused():
    toys = toy(gaps=0)
    kernels = KernelExpertClassifier(landmarks=50, random_state=0).fit(toys.train, toys.codes)
    with pytest.raises(OptionError, match=r"keep train rows.*--no-landmarks"):
        Exportable.of(kernels)
    pool = RCMLMISAClassifier(epochs=1, landmarks=50, encoder_width=8, random_state=0)
    with pytest.raises(OptionError, match="expert=ridge"):
        Exportable.of(pool.fit(toys.train, toys.codes))
    misa = MISAClassifier(epochs=1, random_state=0).fit(toys.train, toys.codes)
    with pytest.raises(OptionError, match="these can: CCMLClassifier"):
        Exportable.of(misa)
    steps = {"a": toys.train["view0"], "b": np.ones((120, 2, 3))}
    network = RCMLMISAClassifier(expert="none", epochs=1, encoder_width=8, random_state=0)
    with pytest.raises(OptionError, match=r"'b' is a sequence.*pooled"):
        Exportable.of(network.fit(steps, toys.codes))
