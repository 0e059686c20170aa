"""The pool of RCML-MISA's network and the closed-form members: share, calibration, rows apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from rcml_misa.calibration import IDENTITY, Calibrator, choose_calibrator
from rcml_misa.estimators import (
    KernelExpertClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
)
from rcml_misa.estimators import rcml_misa as module
from rcml_misa.estimators.answering import log_opinions
from rcml_misa.estimators.blocks import Blocks
from rcml_misa.estimators.outputs import present_views
from rcml_misa.estimators.pooling import SHARES, Fusion, pool_share
from rcml_misa.exceptions import OptionError
from rcml_misa.experts.logits import ExpertLogits
from rcml_misa.experts.membership import Standing
from rcml_misa.nn.networks import NetworkMean

SMALL = {"hidden": 8, "feedforward": 16, "encoder_width": 16, "epochs": 1, "device": "cpu"}
CONTROLS = {"kernel": KernelExpertClassifier, "ridge": RidgeExpertClassifier}


def problem(rows=60, *, seed=0, gaps=False):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    X = {
        name: rng.normal(size=(3, width))[y] + rng.normal(size=(rows, width))
        for name, width in (("a", 3), ("b", 4))
    }
    if gaps:
        X["b"][::4] = np.nan
    return X, y


def model(**options):
    return RCMLMISAClassifier(**(SMALL | {"random_state": 0} | options))


def members_seed(seed):
    return int(np.random.SeedSequence(seed).spawn(7)[0].generate_state(1)[0])


def random_logits(rows=7, views=2, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    own, joint = rng.normal(size=(rows, views, classes)), rng.normal(size=(rows, classes))
    witness = rng.dirichlet(np.ones(classes), size=(rows, views))
    return ExpertLogits(5 * own, 5 * joint, witness), rng


def random_standing(rng, rows=7, views=2):
    posterior = rng.dirichlet(np.ones(views + 1), size=rows)
    return Standing(posterior, rng.random((rows, views)))


# pooled opinions


@given(share=st.floats(0, 1), seed=st.integers(0, 99), classes=st.integers(2, 5))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_pooled_opinions_are_normalised_geometric_means(share, seed, classes):
    logits, rng = random_logits(classes=classes, seed=seed)
    own = log_softmax(3 * rng.normal(size=logits.views.shape), axis=-1)
    joint = log_softmax(3 * rng.normal(size=logits.joint.shape), axis=-1)
    pooled = logits.pooled(own, joint, share)
    pairs = [(pooled.views, logits.views, own), (pooled.joint, logits.joint, joint)]
    for found, member, other in pairs:
        p, q = np.exp(member) / np.exp(member).sum(axis=-1, keepdims=True), np.exp(other)
        product = q**share * p ** (1 - share)
        wanted = product / product.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(softmax(found, axis=-1), wanted, atol=1e-12)
    np.testing.assert_array_equal(pooled.witness, logits.witness)


def test_share_zero_is_the_members_and_share_one_the_other_model():
    logits, rng = random_logits()
    own = log_softmax(rng.normal(size=logits.views.shape), axis=-1)
    joint = log_softmax(rng.normal(size=logits.joint.shape), axis=-1)
    none, all_ = (logits.pooled(own, joint, share) for share in (0.0, 1.0))
    np.testing.assert_allclose(softmax(none.views, axis=-1), softmax(logits.views, axis=-1))
    np.testing.assert_allclose(softmax(none.joint, axis=-1), softmax(logits.joint, axis=-1))
    np.testing.assert_allclose(all_.views, own)
    np.testing.assert_allclose(all_.joint, joint)
    # and so are the opinions and what they are fused to
    fuse = Fusion("mixture", True, np.array([0.5, 0.7, 0.9]), np.array([0.3, 0.6]))
    standing = random_standing(rng)
    for found, wanted in zip(fuse(none, standing), fuse(logits, standing), strict=True):
        torch.testing.assert_close(found, wanted)


def test_without_another_joint_opinion_the_members_stays():
    logits, rng = random_logits()
    own = log_softmax(rng.normal(size=logits.views.shape), axis=-1)
    pooled = logits.pooled(own, None, 0.3)
    np.testing.assert_array_equal(pooled.joint, logits.joint)
    wanted = 0.3 * own + 0.7 * log_softmax(logits.views, axis=-1)
    np.testing.assert_allclose(pooled.views, wanted)


# the share that a network deserves


def loss_of(evidence, code):
    """Negative log-likelihood of one row, a hundredth of the shares spread evenly."""
    shares = np.asarray(evidence) + 1e-6
    shares = 0.99 * shares / shares.sum() + 0.01 / len(shares)
    return -np.log(shares[code])


def plain_share(evidence, codes, weights):
    losses = [[loss_of(e, c) for e, c in zip(each, codes, strict=True)] for each in evidence]
    total = sum(weights)

    def mean(values):
        return sum(w * v for w, v in zip(weights, values, strict=True)) / total

    means = [mean(values) for values in losses]
    best = means.index(min(means))
    gains = [a - b for a, b in zip(losses[0], losses[best], strict=True)]
    middle = mean(gains)
    squares = sum((w * (g - middle)) ** 2 for w, g in zip(weights, gains, strict=True))
    return best if middle > squares**0.5 / total else 0


@given(
    seed=st.integers(0, 999),
    rows=st.integers(2, 30),
    lead=st.floats(-1.0, 1.5),
    weighted=st.booleans(),
)
@settings(deadline=None, max_examples=80, derandomize=True)
def test_share_is_that_of_the_plain_computation(seed, rows, lead, weighted):
    rng = np.random.default_rng(seed)
    codes = rng.integers(3, size=rows)
    evidence = [rng.gamma(1.0, size=(rows, 3)) for _ in range(4)]
    evidence[2][np.arange(rows), codes] *= np.exp(lead)
    weights = rng.uniform(0.1, 3.0, size=rows) if weighted else None
    found = pool_share(evidence, codes, weights)
    assert found == plain_share(evidence, codes, np.ones(rows) if weights is None else weights)


def pools(members, network):
    """Evidence of pools of two models' shares."""
    logs = np.log(members), np.log(network)
    return [softmax((1 - share) * logs[0] + share * logs[1], axis=1) for share in SHARES]


def guesses(rng, codes, skill, classes=3):
    scores = rng.normal(size=(len(codes), classes))
    scores[np.arange(len(codes)), codes] += skill
    return softmax(scores, axis=1)


def test_a_better_network_gets_a_share_and_noise_none():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=200)
    members = guesses(rng, codes, 1.0)
    assert SHARES[pool_share(pools(members, guesses(rng, codes, 3.0)), codes)] > 0.5
    both = SHARES[pool_share(pools(members, guesses(rng, codes, 1.0)), codes)]
    assert 0 < both < 1  # two that err on different rows are worth more together
    assert pool_share(pools(members, members), codes) == 0
    assert pool_share(pools(guesses(rng, codes, 3.0), guesses(rng, codes, 0.0)), codes) == 0


def test_a_gain_within_one_standard_error_is_no_gain():
    codes = np.zeros(40, dtype=int)
    members = np.tile([0.5, 0.5], (40, 1))
    # a little better on 21 rows, a little worse on 19
    network = np.where(np.arange(40)[:, None] < 21, [0.6, 0.4], [0.41, 0.59])
    means = [-np.log(part[:, 0]).mean() for part in (members, network)]
    assert pool_share([members, network], codes) == 0
    better = np.where(np.arange(40)[:, None] < 30, [0.6, 0.4], [0.41, 0.59])
    assert pool_share([members, better], codes) == 1
    assert means[1] - means[0] < 0.02
    assert pool_share([members, np.tile([0.6, 0.4], (40, 1))], codes) == 1  # no spread at all


def test_weights_scale_nothing_and_weigh_the_losses():
    rng = np.random.default_rng(1)
    codes = rng.integers(3, size=60)
    evidence = pools(guesses(rng, codes, 1.0), guesses(rng, codes, 1.2))
    plain = pool_share(evidence, codes)
    assert pool_share(evidence, codes, np.full(60, 7.0)) == plain
    # rows of no weight are not there
    weights = np.where(np.arange(60) < 40, 1.0, 0.0)
    without = pool_share([part[:40] for part in evidence], codes[:40])
    assert pool_share(evidence, codes, weights) == without
    # the mean losses are those of repeated rows, so that where the gain is sure the share is too
    sure = pools(guesses(rng, codes, 0.0), guesses(rng, codes, 2.0))
    counts = rng.integers(1, 4, size=60)
    repeated = np.repeat(np.arange(60), counts)
    wanted = pool_share([part[repeated] for part in sure], codes[repeated])
    assert pool_share(sure, codes, counts.astype(float)) == wanted > 0


# the whole fit


@pytest.fixture
def trained(monkeypatch):
    """Rows, parts and hold-outs of each training, in order."""
    calls = []
    train = module.train_tables

    def spy(estimator, rows, loss, *, blocks, **more):
        calls.append((rows, blocks.parts, more.get("held")))
        train(estimator, rows, loss, blocks=blocks, **more)

    monkeypatch.setattr(module, "train_tables", spy)
    return calls


def give_share(monkeypatch, share):
    """Let every network have a share; the arguments of `pool_share` are kept."""
    asked = []

    def fixed(evidence, codes, weights=None):
        asked.append((evidence, codes, weights))
        return int(np.flatnonzero(np.isclose(SHARES, share))[0])

    monkeypatch.setattr(module, "pool_share", fixed)
    return asked


@pytest.mark.parametrize("expert", CONTROLS)
@pytest.mark.parametrize("gaps", [False, True])
def test_without_a_share_the_members_decide_alone(monkeypatch, expert, gaps):
    give_share(monkeypatch, 0.0)
    X, y = problem(gaps=gaps)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, size=60)
    pool = model(expert=expert).fit(X, y, sample_weight=weights)
    assert pool.share_ == 0
    control = CONTROLS[expert](random_state=members_seed(0)).fit(X, y, sample_weight=weights)
    new = problem(20, seed=1, gaps=gaps)[0]
    found, wanted = pool.predict_opinion(new), control.predict_opinion(new)
    np.testing.assert_array_equal(found.evidence, wanted.evidence)
    np.testing.assert_array_equal(found.probability, wanted.probability)
    np.testing.assert_array_equal(found.shared, wanted.shared)
    np.testing.assert_array_equal(found.conflict, wanted.conflict)
    for view in X:
        np.testing.assert_array_equal(found.views[view], wanted.views[view])
    np.testing.assert_array_equal(pool.stack_, control.stack_)
    assert pool.calibrator_ == control.calibrator_


@pytest.mark.parametrize("expert", CONTROLS)
@pytest.mark.parametrize("collectors", ["separate", "private"])
def test_a_share_pools_the_opinions(monkeypatch, expert, collectors):
    give_share(monkeypatch, 0.4)
    X, y = problem(gaps=True)
    pool = model(expert=expert, collectors=collectors).fit(X, y)
    assert pool.share_ == pytest.approx(0.4)
    views = pool._check_rows(problem(20, seed=1, gaps=True)[0])
    states = pool._states(views)
    present = present_views(views, torch.device("cpu"))
    own, joint = log_opinions(*states, present)
    assert (joint is None) == (collectors == "private")
    logits = pool.experts_.logits(views).pooled(own, joint, pool.share_)
    standing = pool.membership_(views, logits.witness)
    wanted = Fusion("mixture", True, pool.stack_, pool.worth_, pool.power_)(logits, standing)
    found = pool.predict_opinion(views)
    np.testing.assert_allclose(found.evidence, wanted.fused.numpy(), rtol=1e-5)  # in float32
    np.testing.assert_allclose(found.shared, wanted.shared.numpy(), rtol=1e-5)
    assert (found.views["b"][::4] == 0).all()
    # the network's log-probabilities are those of its evidence
    private, shared = states
    here = views.present
    q = private.numpy()[here]
    np.testing.assert_allclose(np.exp(own)[here], q / q.sum(axis=1, keepdims=True), atol=1e-9)
    if joint is not None:  # the geometric mean of the shared opinions that a row has
        for found_shares, evidence, exists in zip(np.exp(joint), shared.numpy(), here, strict=True):
            q = evidence[exists] / evidence[exists].sum(axis=1, keepdims=True)
            mean = np.exp(np.log(q).mean(axis=0))
            np.testing.assert_allclose(found_shares, mean / mean.sum(), atol=1e-9)


@pytest.mark.parametrize("expert", ["kernel", "ridge", "none"])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("networks", [None, 1, 2])
def test_share_and_calibration_see_only_rows_that_the_network_did_not(
    monkeypatch, trained, expert, share, networks
):
    asked, calibrated, heard = give_share(monkeypatch, share), [], []
    own_network = RCMLMISAClassifier._states

    def states(estimator, views, network=None):
        heard.append((views, network))
        return own_network(estimator, views, network)

    def choose(evidence, codes, weights=None):
        calibrated.append((evidence, codes, weights))
        return IDENTITY

    monkeypatch.setattr(RCMLMISAClassifier, "_states", states)
    monkeypatch.setattr(module, "choose_calibrator", choose)
    X, y = problem(100)
    X["a"][:, 0] = np.arange(100)  # a row's number, so that rows can be told apart
    weights = np.arange(1.0, 101.0)
    fitted = model(expert=expert, networks=networks).fit(X, y, sample_weight=weights)
    [(rows, parts, _)] = trained
    if expert == "none":  # what all networks say of self-made noise tells which views belong
        noise, network = heard.pop()
        assert network is None
        assert noise.n_samples == sum(views.n_samples for views, _ in heard)
    count, size = networks or module.NETWORKS[expert][0], 10 if expert == "kernel" else 5
    size = size if count > 1 else 2 * size
    assert len(parts) == len(heard) == count
    assert sorted(rows.views["a"][:, 0]) == list(range(100))
    blocks = [views["a"][:, 0].astype(int) for views, _ in heard]
    apart = np.concatenate(blocks)
    assert [len(block) for block in blocks] == [size] * count
    assert len(set(apart)) == len(apart)
    # of the rows of a block speak all networks that were kept from it, two where there are more
    learnt = [set(part) for part in parts]
    own = list(heard[0][1].networks) if count == 1 else [each.networks[0] for _, each in heard]
    for block, (_, asked_of) in zip(blocks, heard, strict=True):
        new_to = [net for net, known in zip(own, learnt, strict=True) if not known & set(block)]
        assert len(new_to) == min(count, 2)
        assert {id(net) for net in asked_of.networks} == {id(net) for net in new_to}
    for part in parts:
        assert set(y[part]) == {0, 1, 2}
        assert len(part) == 100 - size * min(count, 2)
    decide = expert == "none" or share > 0
    assert len(fitted.module_.networks) == fitted.networks_ == (count if decide else 1)
    if decide:
        assert all(a is b for a, b in zip(fitted.module_.networks, own, strict=True))
    scaled = weights / weights.mean()
    if expert == "none":
        assert not asked
    else:
        [(evidence, codes, own_weights)] = asked
        assert len(evidence) == len(SHARES)
        np.testing.assert_array_equal(codes, y[apart])
        np.testing.assert_allclose(own_weights, scaled[apart])
        # the members speak as they do without the row
        logits = fitted.experts_.train_logits_.take(apart)
        standing = fitted.membership_.train_standing_.take(apart)
        wanted = fitted._fuse(logits, standing).fused
        np.testing.assert_allclose(evidence[0], wanted.numpy())
    if decide:
        [(fused, codes, own_weights)] = calibrated
        np.testing.assert_array_equal(codes, y[apart])
        np.testing.assert_allclose(own_weights, scaled[apart])
        if expert != "none":
            np.testing.assert_array_equal(fused, evidence[10])
        assert fitted.calibrator_ is IDENTITY
    else:
        assert not calibrated
        assert isinstance(fitted.calibrator_, Calibrator)


def test_a_network_learns_from_its_own_rows_alone():
    X, y = problem(100)
    one = model(expert="none", networks=3, epochs=2).fit(X, y)
    rng = np.random.default_rng(np.random.SeedSequence(0).spawn(6)[5])
    blocks = Blocks.draw(y, 0.1, 3, rng, usual=5).blocks
    new = [*blocks[0], *blocks[2]]
    y[new] = (y[new] + 1) % 3  # the first network never sees these labels
    other = model(expert="none", networks=3, epochs=2).fit(X, y)
    first, *others = (
        [a.equal(b) for a, b in zip(p.state_dict().values(), q.state_dict().values(), strict=True)]
        for p, q in zip(one.module_.networks, other.module_.networks, strict=True)
    )
    assert all(first)
    assert not any(all(each) for each in others)


def test_networks_side_by_side_are_those_of_trainings_apart():
    X, y = problem(100)
    both = model(expert="none", networks=2, calibration_fraction=0.0, epochs=2, layers=1)
    both = both.set_params(encoder_dropout=0.0, attention_dropout=0.0).fit(X, y)
    outputs = [both._states(both._check_rows(X), network) for network in both.module_.networks]
    assert not torch.equal(outputs[0][0], outputs[1][0])  # drawn and shuffled apart
    mean = both._states(both._check_rows(X))
    for whole, *each in zip(mean, *outputs, strict=True):
        wanted = torch.expm1(torch.stack([torch.log1p(part) for part in each]).mean(dim=0))
        torch.testing.assert_close(whole, wanted, rtol=1e-4, atol=1e-5)


def test_early_stopping_rows_are_neither_trained_on_nor_set_apart(trained):
    X, y = problem(100)
    X["a"][:, 0] = np.arange(100)
    fitted = model(early_stopping=True, expert="none").fit(X, y)
    [(rows, parts, held)] = trained
    known, selecting = set(rows.views["a"][:, 0]), set(held.views["a"][:, 0])
    assert len(selecting) == 10
    assert not known & selecting
    assert [len(part) for part in parts] == [90 - 8] * 5
    assert fitted.calibrator_ is not None


@pytest.mark.parametrize("expert", ["kernel", "ridge", "none"])
@pytest.mark.parametrize("networks", [None, 2])
def test_nothing_set_apart_gives_an_equal_share_and_no_calibration(trained, expert, networks):
    X, y = problem()
    fitted = model(expert=expert, calibration_fraction=0.0, networks=networks).fit(X, y)
    [(_, parts, _)] = trained
    assert [len(part) for part in parts] == [60] * (networks or 1)
    assert fitted.share_ == (1.0 if expert == "none" else 0.5)
    assert fitted.calibrator_ is None
    opinion = fitted.predict_opinion(X)
    np.testing.assert_allclose(opinion.probability, opinion.projected_probability)


@pytest.mark.parametrize("expert", ["kernel", "ridge", "none"])
def test_too_few_rows_to_keep_any_from_a_network(trained, expert):
    X, y = problem(12)  # five rows at most in all blocks
    fitted = model(expert=expert).fit(X, y)
    [(_, parts, _)] = trained
    assert [len(part) for part in parts] == [12]
    if expert == "none":
        assert fitted.share_ == 1
        assert fitted.calibrator_ is None
    else:
        assert fitted.share_ == 0  # the members alone, with their own calibration
        control = CONTROLS[expert](random_state=members_seed(0)).fit(X, y)
        assert fitted.calibrator_ == control.calibrator_
    trained.clear()
    model(expert=expert).fit(*problem(45))
    wanted = {"kernel": [37] * 3, "ridge": [41] * 5, "none": [41] * 5}
    assert [len(part) for part in trained[0][1]] == wanted[expert]


def test_classes_of_one_row_leave_too_few_to_set_apart(trained):
    X, _ = problem()
    y = np.minimum(np.arange(60), 50)  # 51 classes, nine rows to spare
    with pytest.warns(UserWarning, match="number of unique classes"):
        model().fit(X, y)
    assert [len(part) for part in trained[0][1]] == [60]


@pytest.mark.parametrize("expert", ["kernel", "ridge", "none"])
@pytest.mark.parametrize(("share", "rows"), [(0.0, 60), (0.5, 60), (0.0, 12)])
@pytest.mark.parametrize("fraction", [0.2, 0.0])
def test_callback_is_told_of_each_epoch_once(monkeypatch, expert, share, rows, fraction):
    give_share(monkeypatch, share)
    X, y = problem(rows)
    told, answers, states = [], [], []

    def callback(progress):
        told.append(progress)
        answers.append(fitted.predict_opinion(X))
        states.append(fitted._states(fitted._check_rows(X))[0])

    fitted = model(expert=expert, epochs=3, calibration_fraction=fraction)
    fitted.fit(X, y, callback=callback)
    assert [(each.epoch, each.epochs) for each in told] == [(1, 3), (2, 3), (3, 3)]
    assert [each.loss for each in told] == fitted.history_["loss"]
    # the answers of an epoch are those of its networks, in an even pool, uncalibrated
    assert not np.array_equal(answers[0].evidence, answers[-1].evidence)
    for each in answers:
        np.testing.assert_allclose(each.probability, each.projected_probability)
    alone, last = expert == "none", fitted.predict_opinion(X)
    if fraction == 0 or (rows == 12 if alone else share == 0.5 and rows == 60):
        np.testing.assert_array_equal(answers[-1].evidence, last.evidence)
    elif alone:  # what the views' opinions are worth is learnt afterwards
        torch.testing.assert_close(states[-1], fitted._states(fitted._check_rows(X))[0])


def test_more_parts_than_rows_are_refused():
    with pytest.raises(OptionError, match="networks=5 with"):
        model(networks=5, calibration_fraction=0.5).fit(*problem())
    assert model(networks=4, calibration_fraction=0.5, expert="none").fit(*problem()).networks_ == 4


@pytest.mark.parametrize("before", [{"expert": "kernel"}, {"expert": "none"}], ids=str)
def test_a_second_fit_forgets_the_first(before):
    X, y = problem()
    again = model(**before).fit(*problem(90, seed=3)).set_params(expert="ridge").fit(X, y)
    fresh = model(expert="ridge").fit(X, y)
    assert again.share_ == fresh.share_
    np.testing.assert_array_equal(again.predict_proba(X), fresh.predict_proba(X))


def test_an_alone_network_is_fused_and_calibrated_by_itself():
    X, y = problem(100)
    fitted = model(expert="none", epochs=2).fit(X, y)
    assert fitted.experts_ is None
    assert fitted.stack_.shape == (3,)
    assert fitted.share_ == 1
    assert isinstance(fitted.calibrator_, Calibrator)
    opinion = fitted.predict_opinion(X)
    views = fitted._check_rows(X)
    logits = fitted._network_logits(*fitted._states(views), views)
    wanted = fitted._fuse(logits, fitted.membership_(views, logits.witness))
    np.testing.assert_allclose(opinion.evidence, wanted.fused.numpy(), rtol=1e-5)  # in float32
    assert opinion.shared.shape == (100, 1, 3)
    familiar, shares = opinion.familiarity[:, None], np.array([0.34, 0.33, 0.33])
    calibrated = familiar * fitted.calibrator_(opinion.evidence) + (1 - familiar) * shares
    np.testing.assert_allclose(opinion.probability, calibrated)
    np.testing.assert_allclose(fitted.class_shares_, shares)


# the blocks that networks are kept from


@given(
    rows=st.integers(2, 120),
    classes=st.integers(1, 20),
    fraction=st.sampled_from([0.0, 0.1, 0.2, 0.35, 0.5]),
    usual=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_each_row_of_a_block_is_new_to_two_networks(rows, classes, fraction, usual, seed):
    codes = np.random.default_rng(seed).integers(classes, size=rows)
    found = Blocks.draw(codes, fraction, None, np.random.default_rng(seed), usual=usual)
    parts, apart = found.parts, found.apart
    assert len(parts) == len(found.blocks) <= usual
    assert len(np.unique(apart)) == len(apart)
    new_to = sum(~np.isin(np.arange(rows), part) for part in parts)
    assert set(new_to[apart]) <= {min(len(parts), 2)}
    assert not np.delete(new_to, apart).any()
    assert all(set(codes[part]) == set(codes) for part in parts)
    assert len(apart) == 0 or len(apart) >= 10
    if not fraction:
        assert len(parts) == 1
    if len(apart) and rows > 20 * classes + 60:  # every network is kept from the same share
        for part in parts:
            assert abs(rows - len(part) - fraction * rows) <= 1 + len(parts)


def test_blocks_are_asked_of_the_networks_that_they_are_new_to():
    found = Blocks.draw(np.arange(60) % 2, 0.2, 3, np.random.default_rng(0), usual=5)
    networks = [torch.nn.Identity() for _ in range(3)]
    place = {id(network): k for k, network in enumerate(networks)}
    asked = []

    def states(rows, mean):
        asked.append([place[id(network)] for network in mean.networks])
        return torch.from_numpy(rows), torch.ones(len(rows))

    numbers, _ = found.ask(NetworkMean(networks), states)
    np.testing.assert_array_equal(numbers.numpy(), found.apart)
    assert asked == [[0, 1], [1, 2], [2, 0]]
    for block, pair in zip(found.blocks, asked, strict=True):
        for network in range(3):
            seen = np.isin(block, found.parts[network])
            assert not seen.any() if network in pair else seen.all()


def test_networks_without_blocks_all_learn_from_all_rows():
    found = Blocks.draw(np.arange(60) % 2, 0.0, 4, np.random.default_rng(0), usual=5)
    assert [len(part) for part in found.parts] == [60] * 4
    assert not len(found.apart)


# the choice of a calibrator


def said(rng, rows, sharpness, classes=3):
    """Shares that are `sharpness` times as sharp as they should be, and true classes."""
    scores = 1.5 * rng.normal(size=(rows, classes))
    shares = softmax(scores, axis=1)
    codes = np.array([rng.choice(classes, p=row) for row in shares])
    return softmax(sharpness * scores, axis=1), codes


@pytest.mark.parametrize("sharpness", [0.3, 3.0, 6.0])
def test_shares_that_are_off_are_calibrated(sharpness):
    rng = np.random.default_rng(0)
    evidence, codes = said(rng, 300, sharpness)
    chosen = choose_calibrator(evidence, codes)
    assert chosen == Calibrator.fit(evidence, codes)
    new, truth = said(rng, 1000, sharpness)
    rows = np.arange(1000)
    after, before = (-np.log(p[rows, truth]).mean() for p in (chosen(new), new))
    assert after < before


@given(seed=st.integers(0, 30), rows=st.integers(0, 60), weighted=st.booleans())
@settings(deadline=None, max_examples=20, derandomize=True)
def test_choice_is_by_the_likelihood_of_rows_left_out(seed, rows, weighted):
    rng = np.random.default_rng(seed)
    evidence, codes = said(rng, rows, 1.5) if rows else (np.empty((0, 3)), np.empty(0, dtype=int))
    weights = rng.uniform(0.2, 3.0, size=rows) if weighted else None
    chosen = choose_calibrator(evidence, codes, weights)
    if rows < 5:
        assert chosen == IDENTITY
        return
    gains = np.empty(rows)
    for fold in range(5):
        apart = np.arange(rows) % 5 == fold
        own = None if weights is None else weights[~apart]
        fitted = Calibrator.fit(evidence[~apart], codes[~apart], own)
        for row in np.flatnonzero(apart):
            after = fitted(evidence[[row]])[0, codes[row]]
            plain = evidence[row, codes[row]] / evidence[row].sum()
            gains[row] = np.log(max(after, 1e-12)) - np.log(max(plain, 1e-12))
    mean = np.average(gains, weights=weights)
    if abs(mean) > 1e-4:
        assert (chosen == IDENTITY) == (mean < 0)
        assert chosen in (IDENTITY, Calibrator.fit(evidence, codes, weights))


def test_the_identity_leaves_shares_and_their_order_as_they_are():
    evidence = np.random.default_rng(0).gamma(1.0, size=(50, 4))
    found = IDENTITY(evidence)
    wanted = evidence / evidence.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (found.argmax(axis=1) == evidence.argmax(axis=1)).all()
    np.testing.assert_allclose(IDENTITY(np.zeros((1, 4))), 0.25)
