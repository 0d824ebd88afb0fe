import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.calibration import (
    PRECISION,
    calibrate,
    choose_threshold,
    fit_temperature,
    softmax,
)


def opinions(n=4000, k=5, sharpness=3.0, seed=0):
    """Logits, and truths drawn by their softmax: they are calibrated at T = 1."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(n, k))
    drawn = logits + rng.gumbel(size=(n, k))
    return logits, drawn.argmax(axis=1)


class Says(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn whose logits are its input."""

    def __init__(self, k=5):
        self.k = k
        self.classes_ = np.arange(k)

    def fit(self, x, y):
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)


def test_softmax_is_scipys():
    logits = np.random.default_rng(0).normal(size=(7, 3)) * 300
    np.testing.assert_allclose(softmax(logits), scipy_softmax(logits, axis=1))
    np.testing.assert_allclose(softmax(logits, 2.5), scipy_softmax(logits / 2.5, 1))


@pytest.mark.parametrize("factor", [0.2, 1.0, 7.0])
def test_the_temperature_is_what_the_logits_were_scaled_by(factor):
    logits, truth = opinions()
    assert fit_temperature(factor * logits, truth) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_is_that_of_scikit_learn(factor):
    logits, truth = opinions()
    theirs = CalibratedClassifierCV(FrozenEstimator(Says()), method="temperature")
    theirs.fit(factor * logits, truth)
    probabilities = theirs.predict_proba(factor * logits)
    ours = softmax(factor * logits, fit_temperature(factor * logits, truth))
    # Two assumed answers beside 4,000 that were seen make the difference.
    np.testing.assert_allclose(ours, probabilities, atol=3e-3)


def test_the_temperature_makes_the_smoothed_truth_most_likely():
    logits, truth = opinions(n=30, k=4, seed=1)
    target = np.full((30, 4), 1 / 32 / 3)
    target[np.arange(30), truth] = 31 / 32

    def loss(log_t):
        return -(target * log_softmax(logits / np.exp(log_t), axis=1)).sum()

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    assert fit_temperature(logits, truth) == pytest.approx(np.exp(best.x), rel=1e-3)


@pytest.mark.parametrize("n", [3, 10, 100])
def test_a_few_right_answers_are_no_certainty(n):
    logits = np.zeros((n, 2))
    logits[:, 1] = 50.0
    truth = np.ones(n, dtype=int)
    sure = softmax(logits, fit_temperature(logits, truth))[:, 1]
    np.testing.assert_allclose(sure, (n + 1) / (n + 2))


def test_logits_that_know_nothing_become_flat():
    logits = np.array([[9.0, 0.0], [0.0, 9.0]] * 20)
    truth = np.array([1, 0] * 20)
    assert softmax(logits, fit_temperature(logits, truth)).max() < 0.55


def test_the_order_of_predictions_stays():
    logits, truth = opinions(n=300)
    scaled = softmax(4 * logits, fit_temperature(4 * logits, truth))
    np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))


def test_calibrating_lowers_the_error_and_says_what_it_did():
    logits, truth = opinions(sharpness=2.0)
    found = calibrate(5 * logits, truth)
    assert found.n == 4000
    assert found.temperature == pytest.approx(5, rel=0.06)
    assert found.error_before > 0.15
    assert found.error_after < 0.02
    confidence = softmax(5 * logits, found.temperature).max(axis=1)
    kept = confidence >= found.min_confidence
    right = (logits.argmax(axis=1) == truth)[kept]
    assert found.kept == pytest.approx(kept.mean())
    assert found.precision == pytest.approx(right.mean())


def test_the_threshold_is_the_lowest_that_reaches_the_precision():
    confidence = np.array([0.3, 0.55, 0.6, 0.7] + [0.9] * 36)
    right = np.array([False, True, False, False] + [True] * 36)
    assert (right[confidence >= 0.60].mean()) < PRECISION  # 36 of 38, 94.7 %
    assert (right[confidence >= 0.61].mean()) >= PRECISION
    assert choose_threshold(confidence, right) == 0.61
    assert choose_threshold(confidence, np.ones(40)) == 0.5


def test_the_threshold_leaves_half_of_the_predictions():
    confidence = np.linspace(0.6, 0.99, 40)
    chosen = choose_threshold(confidence, np.zeros(40))
    assert (confidence >= chosen).mean() == pytest.approx(0.5, abs=0.03)
    # Nobody is sure enough: then nothing is turned into unknown.
    assert choose_threshold(np.full(10, 0.3), np.zeros(10)) == 0.0


@pytest.mark.parametrize(
    ("logits", "truth"), [(np.zeros((0, 3)), []), (np.zeros((2, 3)), [0])]
)
def test_what_cannot_be_calibrated_is_an_error(logits, truth):
    with pytest.raises(DataError, match="logits of shape"):
        calibrate(logits, truth)
