"""The audit's measures against plain counts, and its Mondrian sets against simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from audit_toys import toy
from scipy import stats
from sklearn.metrics import roc_auc_score

from rcml_misa.calibration import ConformalSets, MondrianSets
from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import OptionError
from rcml_misa.metrics import rank_correlation
from rcml_misa.protocols import Protocol, conflict_views, make_test_set, partition_rows, spawn_seeds
from rcml_misa.protocols.corruptions import drop_views, far_views
from rcml_misa.reporting.audit import WORST, audit_tables, pooled_coverage
from rcml_misa.reporting.tables import by_label
from rcml_misa.results import RunRecord, summarise
from rcml_misa.runs.audit import PARTS, audit_task, parse_parts
from rcml_misa.runs.tasks import Task
from rcml_misa.views import MultiView, Sequences

RULES = Protocol(valid_share=0.2)


def audited(dataset: Dataset, method: str, *parts: str, seed: int = 0, **more: object) -> RunRecord:
    chosen = recipe(method, **more)  # type: ignore[arg-type]
    task = Task(chosen, 0, seed, seed, RULES, parts=parts or PARTS)
    return audit_task(dataset, task)


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return audited(toy(), "kernel-expert")


@pytest.fixture(scope="module")
def by_hand() -> dict[str, object]:
    """The same fit without the audit's code."""
    data, seeds = toy(), spawn_seeds(0)
    part = partition_rows(data.target, protocol=RULES, seed=0)
    model = recipe("kernel-expert").build(seeds.model)
    model.fit(data.views.take(part.train), data.target[part.train])
    return {"data": data, "seeds": seeds, "part": part, "model": model}


def test_calibration_rows_are_not_trained_on(record, by_hand) -> None:
    part = by_hand["part"]
    assert len(part.valid) > 0
    assert record.train_rows == len(part.train) == record.metrics["rows:1"]["rows"]
    opinion = by_hand["model"].predict_opinion(by_hand["data"].views.take(part.test))
    assert record.metrics["clean"]["uncertainty"] == float(opinion.uncertainty.mean())


def test_detection_against_hand_computation(record, by_hand) -> None:
    data, part, model = (by_hand[name] for name in ("data", "part", "model"))
    test = data.views.take(part.test)
    clean = model.predict_opinion(test)
    top = 1 - model.predict_proba(test).max(axis=1)
    wrong = model.predict(test) != data.target[part.test]
    errors = record.metrics["detection:errors"]
    assert 0 < wrong.sum() == errors["rows"]
    assert errors["auroc"] == pytest.approx(roc_auc_score(wrong, clean.uncertainty))
    assert errors["auroc_top"] == pytest.approx(roc_auc_score(wrong, top))
    for condition, name in (("conflict", "conflict"), ("shuffled", "shuffle:1")):
        made = make_test_set(name, data.views, data.target, part=part, seeds=by_hand["seeds"])
        upper = model.predict_opinion(made.views).uncertainty[made.altered]
        flags = np.repeat([1, 0], len(upper))
        scores = np.concatenate([upper, clean.uncertainty[made.altered]])
        measures = record.metrics[f"detection:{condition}"]
        assert measures["rows"] == made.altered.sum()
        assert measures["auroc"] == pytest.approx(roc_auc_score(flags, scores))
    deviation = [array[part.train].std(axis=0) for array in data.views.arrays]
    shifted = MultiView(
        {
            name: array[part.test] + 10 * std
            for (name, array), std in zip(data.views.items(), deviation, strict=True)
        }
    )
    far = np.concatenate([model.predict_opinion(shifted).uncertainty, clean.uncertainty])
    flags = np.repeat([1, 0], len(part.test))
    assert record.metrics["detection:far"]["auroc"] == pytest.approx(roc_auc_score(flags, far))


def test_unseen_classes_are_those_of_the_protocol(record) -> None:
    data = toy()
    part = partition_rows(data.target, protocol=replace(RULES, held_out=1), seed=0)
    model = recipe("kernel-expert").build(spawn_seeds(0).model)
    model.fit(data.views.take(part.train), data.target[part.train])
    parts = [
        model.predict_opinion(data.views.take(rows)).uncertainty
        for rows in (part.held_out, part.test)
    ]
    flags = np.repeat([1, 0], [len(values) for values in parts])
    measures = record.metrics["detection:unseen"]
    assert measures["rows"] == len(part.held_out)
    assert measures["auroc"] == pytest.approx(roc_auc_score(flags, np.concatenate(parts)))


def test_fewer_rows_are_nested_halves(record) -> None:
    shares = ("1", "0.5", "0.25", "0.125")
    rows = [record.metrics[f"rows:{share}"]["rows"] for share in shares]
    for more, fewer in pairwise(rows):
        assert abs(fewer - more / 2) <= 1.5
    assert "mutual_information" in record.metrics["rows:0.125"]
    lda = audited(toy(), "lda", "rows")
    assert "mutual_information" not in lda.metrics["rows:1"]
    assert set(lda.metrics) == {
        "clean",
        *(f"rows:{share}" for share in shares),
    }


def test_entropy_correlation(record, by_hand) -> None:
    data, part, model = (by_hand[name] for name in ("data", "part", "model"))
    test = data.views.take(part.test)
    entropy = stats.entropy(model.predict_proba(test), axis=1)
    expected = stats.spearmanr(model.predict_opinion(test).uncertainty, entropy).statistic
    assert record.metrics["entropy"]["correlation"] == pytest.approx(float(expected))


def test_sensitivity_refits_with_other_weights() -> None:
    data, options = toy(rows=120), ["epochs=3"]
    record = audited(data, "edl", "sensitivity", options=options)
    names = {name for name in record.metrics if name != "clean"}
    weights = ("kl_weight", "prior_weight")
    assert names == {f"sensitivity:{name}:{factor}" for name in weights for factor in ("0.5", "2")}
    part = partition_rows(data.target, protocol=RULES, seed=0)
    test, means, accuracies, values = data.views.take(part.test), [], [], []
    for prior in (1.0, 2.0):
        model = recipe("edl", options=[*options, f"prior_weight={prior}"]).build(
            spawn_seeds(0).model
        )
        model.fit(data.views.take(part.train), data.target[part.train])
        values.append(model.predict_opinion(test).uncertainty)
        means.append(values[-1].mean())
        accuracies.append((model.predict(test) == data.target[part.test]).mean())
    measures = record.metrics["sensitivity:prior_weight:2"]
    assert measures["value"] == 2
    assert measures["uncertainty_change"] == pytest.approx(means[1] - means[0], abs=1e-9)
    assert measures["accuracy_change"] == pytest.approx(accuracies[1] - accuracies[0])
    assert measures["correlation"] == pytest.approx(float(stats.spearmanr(*values).statistic))
    # 0 has no half
    plain = audited(data, "re-edl", "sensitivity", options=options)
    assert {name.split(":")[1] for name in plain.metrics if name != "clean"} == {"prior_weight"}


def test_conformal_counts_against_hand_computation(record, by_hand) -> None:
    data, part, model, seeds = (by_hand[name] for name in ("data", "part", "model", "seeds"))
    valid, test = (data.views.take(rows) for rows in (part.valid, part.test))
    target = data.target[part.test]
    sets = ConformalSets.fit(model.predict_proba(valid), data.target[part.valid], level=0.9)

    def counts(probability, rows) -> dict[str, float]:
        members = sets(probability)
        covered = sum(row[code] for row, code in zip(members, rows, strict=True))
        return {"covered": covered, "members": members.sum(), "rows": len(rows)}

    assert record.metrics["conformal:all:clean"] == counts(model.predict_proba(test), target)
    missing = make_test_set("missing:0.3", data.views, data.target, part=part, seeds=seeds)
    gaps = ~missing.views.present.all(axis=1)
    expected = counts(model.predict_proba(missing.views)[gaps], target[gaps])
    assert record.metrics["conformal:all:missing"] == expected
    for code in range(3):
        rows = target == code
        expected = counts(model.predict_proba(test)[rows], target[rows])
        assert record.metrics[f"conformal:all:class {code}"] == expected
    # sets of rows that lack a view are calibrated on such copies of the calibration rows
    rng = seeds.test_set("calibration missing")
    thinned, dropped = drop_views(data.views, test=part.valid, rng=rng, rate=0.3)
    thin = dropped.any(axis=1)
    sets = ConformalSets.fit(model.predict_proba(thinned)[thin], data.target[part.valid][thin])
    expected = counts(model.predict_proba(missing.views)[gaps], target[gaps])
    assert record.metrics["conformal:view:missing"] == expected
    # those of conflict on a conflictive copy whose donors are no test rows
    rows = np.concatenate([part.train, part.valid])
    copy = conflict_views(
        data.views.take(rows),
        data.target[rows],
        train=np.arange(len(part.train)),
        test=np.arange(len(part.train), len(rows)),
        rng=seeds.test_set("calibration conflict"),
        conflict_share=1,
    )
    assert copy.replaced.all()
    sets = ConformalSets.fit(model.predict_proba(copy.views), data.target[part.valid])
    assert record.metrics["conformal:conflict:clean"] == counts(model.predict_proba(test), target)


def test_pooled_coverage_pools_counts() -> None:
    data = toy()
    records = [audited(data, "lda", "conformal", seed=seed) for seed in (0, 1)]
    (conditions,) = by_label(summarise(records)).values()
    both = [record.metrics["conformal:all:clean"] for record in records]
    covered, size = pooled_coverage(conditions, "all", "clean")
    rows = sum(run["rows"] for run in both)
    assert covered == pytest.approx(sum(run["covered"] for run in both) / rows)
    assert size == pytest.approx(sum(run["members"] for run in both) / rows)
    shares = []
    for code in range(3):
        runs = [record.metrics[f"conformal:class:class {code}"] for record in records]
        shares.append(sum(run["covered"] for run in runs) / sum(run["rows"] for run in runs))
    assert pooled_coverage(conditions, "class", WORST)[0] == pytest.approx(min(shares))
    assert math.isnan(pooled_coverage(conditions, "view", "conflict")[0])


def test_one_view_has_no_conflict_and_two_classes_none_unseen() -> None:
    single = audited(toy(views=1), "lda", "detection", "conformal")
    assert not any("conflict" in name or "missing" in name for name in single.metrics)
    assert {"detection:errors", "detection:far", "detection:unseen"} < set(single.metrics)
    tables = audit_tables([single])
    assert [str(cell) for cell in tables["auroc"].rows[0][2:4]] == ["-", "-"]
    pair = audited(toy(classes=2), "lda", "detection")
    assert "detection:unseen" not in pair.metrics
    assert str(audit_tables([pair])["auroc"].rows[0][5]) == "-"


def test_sequences_have_no_far_rows() -> None:
    data = toy(rows=60)
    sequences = data.views.map(
        lambda _, table: Sequences(np.repeat(table[:, None], 3, axis=1), np.full(60, 3))
    )
    record = audited(
        replace(data, views=sequences), "misa", "detection", "conformal", options=["epochs=1"]
    )
    assert "detection:far" not in record.metrics
    assert {"detection:shuffled", "conformal:all:missing", "conformal:view:missing"} <= set(
        record.metrics
    )
    assert not record.failures
    assert str(audit_tables([record])["auroc"].rows[0][4]) == "-"


PICKY = """
import numpy as np
from sklearn.linear_model import LogisticRegression

class Picky(LogisticRegression):
    def predict_proba(self, X):
        if np.abs(X).max() > 8:
            raise ValueError("too far\\nfor me")
        return super().predict_proba(X)
"""


def test_a_method_that_refuses_rows_gets_a_sentence(tmp_path, monkeypatch) -> None:
    (tmp_path / "picky_method.py").write_text(PICKY)
    monkeypatch.syspath_prepend(tmp_path)
    record = audited(toy(), "picky_method:Picky", "detection")
    assert "detection:far" not in record.metrics
    assert record.failures == {"detection:far": "too far for me"}
    assert "detection:conflict" in record.metrics
    table = audit_tables([record])["auroc"]
    assert str(table.rows[0][4]) == "-"
    assert any("too far for me" in note for note in table.notes)


def test_scores_and_unknown_parts_are_refused() -> None:
    data = replace(toy(), target=np.linspace(-1, 1, 240), classes=(), task="regression")
    with pytest.raises(OptionError, match="toy has scores to predict"):
        audited(data, "lda", "detection")
    with pytest.raises(OptionError, match=r"'conformable'; did you mean conformal\?"):
        parse_parts("rows,conformable")


def test_records_tell_the_parts(record) -> None:
    assert record.config["parts"] == list(PARTS)
    again = RunRecord.from_json(record.to_json())
    assert audit_tables([again]) == audit_tables([record])
    assert set(audit_tables([audited(toy(), "lda", "selection")])) == {"selection"}


def test_rank_correlation() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, 50), rng.normal(size=50)
    ranks = [stats.rankdata(values) for values in (a, b)]
    assert rank_correlation(a, b) == pytest.approx(np.corrcoef(ranks)[0, 1])
    assert math.isnan(rank_correlation(np.ones(4), np.arange(4)))


def test_far_views_leave_constant_columns_and_gaps() -> None:
    table = np.array([[0.0, 1.0], [2.0, 1.0], [np.nan, np.nan], [4.0, 1.0]])
    moved = far_views(MultiView([table]), train=np.array([0, 1, 2]), rows=np.array([2, 3]))
    np.testing.assert_array_equal(moved.arrays[0], [[np.nan, np.nan], [14.0, 1.0]])


# Mondrian sets


def draw(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are too sure in group 1, where the class is random half of the time."""
    groups, codes = rng.integers(0, 2, rows), rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    shown = np.where((groups == 1) & (rng.random(rows) < 0.5), rng.integers(0, 3, rows), codes)
    scores = rng.normal(size=(rows, 3)) + 3 * np.eye(3)[shown] - np.array([0.0, 0.3, 1.5])
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), codes, groups


@pytest.mark.parametrize("by_class", [False, True])
def test_mondrian_sets_cover_every_group(by_class) -> None:
    rng, runs, covered, plain = np.random.default_rng(0), 300, {}, {}
    for _ in range(runs):
        held, new = draw(rng, 300), draw(rng, 300)
        groups = (None, None) if by_class else (held[2], new[2])
        sets = MondrianSets.fit(held[0], held[1], groups=groups[0], by_class=by_class, level=0.9)
        members, common = sets(new[0], groups[1]), ConformalSets.fit(held[0], held[1])(new[0])
        for key in range(3 if by_class else 2):
            rows = np.flatnonzero(new[1 if by_class else 2] == key)
            covered.setdefault(key, []).extend(members[rows, new[1][rows]])
            plain.setdefault(key, []).extend(common[rows, new[1][rows]])
    assert min(map(np.mean, plain.values())) < 0.85  # one threshold leaves a group out
    for key, rows in covered.items():
        # at least the level, and above it by less than one over the rows of the group held back
        assert 0.89 < np.mean(rows) < 0.9 + 1 / 20, key


def test_mondrian_sets_without_groups_are_conformal_sets() -> None:
    probability, codes, groups = draw(np.random.default_rng(2), 100)
    sets, common = MondrianSets.fit(probability, codes), ConformalSets.fit(probability, codes)
    assert (sets.thresholds == common.threshold).all()
    np.testing.assert_array_equal(sets(probability), common(probability))
    # too few rows of a group, and a group never seen, exclude nothing
    few = MondrianSets.fit(probability[:8], codes[:8])
    assert few(probability).all()
    assert sets(probability, groups + 1)[:, :].all()
    empty = MondrianSets.fit(probability[:0], codes[:0])
    assert empty(probability).all()
