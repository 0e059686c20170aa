"""What estimators answer, every uncertainty score of it, and what is mended."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from rcml_misa.calibration import recalibrate
from rcml_misa.estimators import FUMLClassifier, RCMLClassifier
from rcml_misa.exceptions import DataError
from rcml_misa.metrics.answers import (
    COVERAGES,
    Answers,
    ask,
    detection,
    ranking,
    ranking_above,
    risk_curve,
    score,
    uncertainty_scores,
)
from rcml_misa.opinions import Opinion, dissonance, mutual_information
from rcml_misa.views import MultiView

K = 3


def views(rows: int = 60, seed: int = 0) -> tuple[MultiView, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % K
    return MultiView([rng.normal(size=(rows, w)) + y[:, None] for w in (3, 4)]), y


class Guess:
    """Answers what it is told to."""

    def __init__(self, probability: np.ndarray, classes: list[int]) -> None:
        self.probability = probability
        self.classes_ = np.array(classes)

    def predict_proba(self, _: MultiView) -> np.ndarray:
        return self.probability

    def predict(self, _: MultiView) -> np.ndarray:
        return self.classes_[self.probability.argmax(axis=1)]


def test_evidential_answers_and_all_their_scores():
    X, y = views()
    model = RCMLClassifier(epochs=5, device="cpu", random_state=0).fit(X, y)
    answers = ask(model, X, K)
    opinion = model.predict_opinion(X)
    found = uncertainty_scores(answers)
    evidence = torch.from_numpy(opinion.evidence)
    p = model.predict_proba(X)
    ordered = np.sort(p, axis=1)
    belief = np.sort(Opinion(evidence).belief.numpy(), axis=1)
    wanted = {
        "own": opinion.uncertainty,
        "vacuity": opinion.uncertainty,
        "max_probability": 1 - p.max(axis=1),
        "entropy": stats.entropy(p, axis=1),
        "margin": 1 - (ordered[:, -1] - ordered[:, -2]),
        "mutual_information": mutual_information(evidence).numpy(),
        "dissonance": dissonance(evidence).numpy(),
        "evidence_margin": 1 - (belief[:, -1] - belief[:, -2]),
        "conflict": opinion.conflict,
    }
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_answers_of_a_method_with_its_own_uncertainty():
    X, y = views()
    model = FUMLClassifier(epochs=3, device="cpu", random_state=0).fit(X, y)
    found = ask(model, X, K)
    np.testing.assert_array_equal(found.uncertainty, model.predict_uncertainty(X))
    np.testing.assert_array_equal(found.conflict, model.predict_conflict(X))
    assert found.evidence is None
    assert set(uncertainty_scores(found)) == {
        "own",
        "max_probability",
        "entropy",
        "margin",
        "conflict",
    }
    one = MultiView([X.arrays[0]])
    alone = FUMLClassifier(epochs=1, device="cpu", random_state=0).fit(one, y)
    assert ask(alone, one, K).conflict is None


def test_answers_of_a_plain_classifier_with_a_class_less():
    X, _ = views(2)
    answers = ask(Guess(np.array([[0.7, 0.3], [0.2, 0.8]]), [0, 2]), X, K)
    assert answers.probability.tolist() == [[0.7, 0.0, 0.3], [0.2, 0.0, 0.8]]
    assert answers.predicted.tolist() == [0, 2]
    np.testing.assert_allclose(answers.uncertainty, [0.3, 0.2])
    assert answers.conflict is None


def test_answers_that_are_no_numbers_are_refused():
    X, _ = views(2)
    with pytest.raises(DataError, match="Guess gives NaN or infinity for 1 of 2 rows"):
        ask(Guess(np.array([[0.5, 0.5], [np.nan, 0.5]]), [0, 1]), X, K)


def make(seed: int, rows: int = 200) -> tuple[Answers, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(K), size=rows)
    target = (np.log(p) + rng.gumbel(size=p.shape)).argmax(axis=1)
    doubt = 1 - p.max(axis=1)
    conflict = rng.random(rows)
    return Answers(p.argmax(axis=1), p, doubt, conflict, np.arange(K)), target


def test_ranking_against_scikit_learn():
    answers, target = make(0)
    wrong = answers.predicted != target
    found = ranking(uncertainty_scores(answers), wrong)
    for name, doubt in uncertainty_scores(answers).items():
        assert found[name]["auroc"] == pytest.approx(roc_auc_score(wrong, doubt))
        assert found[name]["aupr"] == pytest.approx(average_precision_score(wrong, doubt))
        assert 0 <= found[name]["fpr95"] <= 1


def test_risk_curve_is_the_error_of_the_surest():
    answers, target = make(1)
    order = np.argsort(answers.uncertainty)
    wrong = (answers.predicted != target)[order]
    wanted = [wrong[: int(np.ceil(200 * share - 1e-9))].mean() for share in COVERAGES]
    np.testing.assert_allclose(risk_curve(answers, target), wanted)
    found = score(answers, target)
    assert found["accuracy_at_80"] == pytest.approx(1 - wrong[:160].mean())
    assert found["accuracy_at_90"] == pytest.approx(1 - wrong[:180].mean())


def test_detection_compares_rows_with_their_clean_selves():
    (clean, _), (copy, _) = make(0), make(1)
    altered = np.arange(200) % 4 == 0
    found = detection(ranking_above(copy, clean, altered))
    flags = np.repeat([True, False], 50)
    doubt = np.concatenate([copy.uncertainty[altered], clean.uncertainty[altered]])
    degree = np.concatenate([copy.conflict[altered], clean.conflict[altered]])
    assert found["conflict_auroc"] == pytest.approx(roc_auc_score(flags, doubt))
    assert found["conflict_aupr"] == pytest.approx(average_precision_score(flags, doubt))
    assert found["conflict_auroc_degree"] == pytest.approx(roc_auc_score(flags, degree))
    nothing = detection(ranking_above(copy, clean, np.zeros(200, dtype=bool)))
    assert np.isnan(list(nothing.values())).all()


@pytest.mark.parametrize("evidential", [True, False])
def test_mended_answers_are_better_calibrated_and_covered(evidential):
    def overconfident(seed: int) -> tuple[Answers, np.ndarray]:
        answers, target = make(seed, 600)
        p = answers.probability**4
        p /= p.sum(axis=1, keepdims=True)
        evidence = 900 * answers.probability if evidential else None
        return (
            Answers(answers.predicted, p, answers.uncertainty, None, np.arange(K), evidence),
            target,
        )

    (valid, valid_target), (test, target) = overconfident(0), overconfident(1)
    found = recalibrate(valid, valid_target, test, target)
    before = score(test, target)
    assert found["temperature_nll"] < before["nll"]
    assert found["temperature_ece"] < before["ece"]
    assert found["conformal_coverage"] == pytest.approx(0.9, abs=0.04)
    assert 1 < found["conformal_size"] < K


def test_rows_held_back_of_a_class_that_was_not_trained_on_are_left_out():
    answers, target = make(0)
    two = Answers(
        np.minimum(answers.predicted, 1),
        np.column_stack([answers.probability[:, 0], 1 - answers.probability[:, 0], np.zeros(200)]),
        answers.uncertainty,
        None,
        np.array([0, 1]),
    )
    found = recalibrate(two, target, two, np.minimum(target, 1))
    assert all(np.isfinite(value) for value in found.values())
