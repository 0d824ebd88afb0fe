"""Confidence that can be believed: temperature scaling, and when to say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.metrics import calibration_error
from napari_ectkd.models.checkpoint import Calibration

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PRECISION = 0.95
"""Share of the predictions at or above the threshold that are to be right."""
LEAST_CONFIDENCE = 0.5
"""No prediction is claimed that is more likely wrong than right."""
MOST_UNKNOWN = 0.5
"""Share of the validation part that the threshold may turn into `unknown`, at most."""
_COLDEST, _HOTTEST = 1e-2, 1e2


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return class probabilities `(n, k)` of logits `(n, k)`, divided by a temperature.

    In float64, so that probabilities near 1 can still be told apart.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = scaled / scaled.sum(axis=1, keepdims=True)
    return probabilities


def fit_temperature(logits: ArrayLike, truth_index: ArrayLike) -> float:
    """Return the temperature that makes the truth most likely.

    The negative log-likelihood is convex in 1/T, so that its minimum is where its
    derivative, the mean logit expected less that of the truth, is zero. A few picks
    that are all right would ask for T = 0, which is certainty: as in Platt's scaling,
    one more right and one more wrong answer than were seen are assumed, so that `n`
    picks allow a confidence of about (n + 1) / (n + 2).

    Parameters
    ----------
    logits
        `(n, k)` of picks that the model did not learn from.
    truth_index
        `(n,)` index of the right class.

    Returns
    -------
    temperature
        What logits are to be divided by, from 0.01 to 100; 1 changes nothing.

    Raises
    ------
    DataError
        If there is nothing to fit to, or the shapes do not fit.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), arXiv:1706.04599, section 4.2; Platt (1999),
    "Probabilistic outputs for support vector machines", section 2.2.
    """
    from scipy.optimize import brentq

    table, truth = _checked(logits, truth_index)
    n, k = table.shape
    wrong = 1 / (n + 2)
    target = np.full((n, k), wrong / (k - 1))
    target[np.arange(n), truth] = 1 - wrong
    wanted = (target * table).sum()

    def slope(log_temperature: float) -> float:
        expected = softmax(table, np.exp(log_temperature))
        return float((expected * table).sum() - wanted)

    ends = np.log(_COLDEST), np.log(_HOTTEST)
    if slope(ends[0]) <= 0:  # even certainty is less than the truth deserves
        return _COLDEST
    if slope(ends[1]) >= 0:  # logits that know nothing, or say the opposite
        return _HOTTEST
    return float(np.exp(brentq(slope, *ends, xtol=1e-9)))


def choose_threshold(confidence: ArrayLike, is_right: ArrayLike) -> float:
    """Return the confidence below which a prediction is to be `unknown`.

    The lowest of 0.50, 0.51, … 0.99 from which on at least `PRECISION` of the
    predictions are right. Where that would leave less than half of them
    (`MOST_UNKNOWN`), the highest that still leaves half: a model that claims nothing is
    of no use, and the precision reached is reported.

    Parameters
    ----------
    confidence
        `(n,)` calibrated probability of the predicted class.
    is_right
        `(n,)` whether the prediction is the truth.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(is_right, dtype=bool)
    chosen = 0.0
    for threshold in np.arange(round(100 * LEAST_CONFIDENCE), 100) / 100:
        kept = sure >= threshold
        if kept.mean() < 1 - MOST_UNKNOWN:
            break
        chosen = float(threshold)
        if right[kept].mean() >= PRECISION:
            break
    return chosen


def calibrate(logits: ArrayLike, truth_index: ArrayLike) -> Calibration:
    """Return temperature and threshold from a validation part, and what they do.

    The errors are measured on the picks that the temperature was fitted to; it is one
    number, so that this flatters little once there are a hundred picks.

    Parameters
    ----------
    logits
        `(n, k)` of picks that the model did not learn from.
    truth_index
        `(n,)` index of the right class.

    Raises
    ------
    DataError
        If there is nothing to fit to, or the shapes do not fit.
    """
    table, truth = _checked(logits, truth_index)
    temperature = fit_temperature(table, truth)
    raw, calibrated = softmax(table), softmax(table, temperature)
    confidence = calibrated.max(axis=1)
    is_right = calibrated.argmax(axis=1) == truth
    threshold = choose_threshold(confidence, is_right)
    kept = confidence >= threshold
    return Calibration(
        temperature=temperature,
        min_confidence=threshold,
        n=len(table),
        error_before=calibration_error(raw, truth),
        error_after=calibration_error(calibrated, truth),
        precision=float(is_right[kept].mean()),
        kept=float(kept.mean()),
    )


def in_words(found: Calibration | None) -> str:
    """Return what a calibration found, in a sentence."""
    if found is None:
        return "never calibrated, for want of a validation part"
    text = (
        f"calibrated on {found.n} validation picks: temperature "
        f"{found.temperature:.2f}, expected calibration error "
        f"{found.error_before:.1%} → {found.error_after:.1%}; "
    )
    if not found.min_confidence:
        return text + (
            f"no threshold makes predictions reliable, {found.precision:.1%} of all "
            "are right"
        )
    return text + (
        f"predictions below {found.min_confidence:.2f} are unknown, "
        f"{found.precision:.1%} of the other {found.kept:.0%} are right"
    )


def _checked(
    logits: ArrayLike, truth_index: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    table = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(truth_index, dtype=np.int64)
    if table.ndim != 2 or truth.shape != table.shape[:1] or table.size == 0:
        raise DataError(f"logits of shape {table.shape} for {truth.size} true classes")
    return table, truth
