import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import precision_recall_fscore_support

from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.metrics import (
    calibration_error,
    class_report,
    confusion_matrix,
)

NAMES = ["proteasome", "ribosome", "none", "unknown"]
classed = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1
)


@given(classed)
def test_report_agrees_with_scikit_learn(rows):
    truth, predicted = zip(*rows, strict=True)
    matrix = confusion_matrix(truth, predicted, NAMES)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(
        matrix, sklearn_confusion(truth, predicted, labels=NAMES)
    )
    report = class_report(matrix, NAMES)
    expected = precision_recall_fscore_support(
        truth, predicted, labels=NAMES, zero_division=0.0
    )
    for i, name in enumerate(NAMES):
        scores = report.classes[name]
        np.testing.assert_allclose(
            [scores.precision, scores.recall, scores.f1], [e[i] for e in expected[:3]]
        )
        assert scores.support == expected[3][i]
    assert report.macro_f1 == pytest.approx(expected[2][:2].mean())
    assert report.accuracy == pytest.approx(
        np.mean([t == p for t, p in rows])  # the share of right ones
    )


def test_report_as_json_has_exactly_the_agreed_keys():
    report = class_report([[3, 1], [0, 2]], ["a", "none"]).as_dict()
    assert json.loads(json.dumps(report)) == {
        "accuracy": pytest.approx(5 / 6),
        "macro_f1": pytest.approx(6 / 7),
        "classes": {
            "a": {"precision": 1.0, "recall": 0.75, "f1": 6 / 7, "support": 4},
            "none": {"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2},
        },
        "confusion": {"labels": ["a", "none"], "matrix": [[3, 1], [0, 2]]},
    }


def test_nothing_counted_is_zero_and_not_nan():
    report = class_report(np.zeros((2, 2)), ["a", "b"])
    assert (report.accuracy, report.macro_f1) == (0.0, 0.0)
    assert class_report([[4]], ["none"]).macro_f1 == 0.0


def test_names_outside_the_labels_are_an_error():
    with pytest.raises(DataError, match="'virus' is not one of a, b"):
        confusion_matrix(["a"], ["virus"], ["a", "b"])
    with pytest.raises(DataError, match="2 true and 1 predicted"):
        confusion_matrix(["a", "b"], ["a"], ["a", "b"])


@pytest.mark.parametrize("labels", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_a_matrix_that_does_not_fit_its_labels_is_an_error(labels):
    with pytest.raises(DataError, match="confusion matrix of shape"):
        class_report(np.eye(2), labels)


def test_calibration_error_of_a_hand_made_case():
    # Two in the bin of 0.9, one of them right; two in that of 0.6, both right.
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    expected = 0.5 * abs(0.5 - 0.9) + 0.5 * abs(1.0 - 0.6)
    assert calibration_error(probabilities, [0, 1, 1, 1]) == pytest.approx(expected)


def test_calibration_error_is_small_for_honest_probabilities():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=20_000)
    truth = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert calibration_error(probabilities, truth) < 0.02
    bold = probabilities**4
    bold /= bold.sum(axis=1, keepdims=True)
    assert calibration_error(bold, truth) > 0.15


@given(st.integers(1, 40), st.integers(2, 5), st.integers(1, 30), st.integers(0, 99))
def test_calibration_error_is_the_mean_gap_over_bins(n, k, bins, seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(k), size=n)
    truth = rng.integers(k, size=n)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    expected = 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    error = calibration_error(probabilities, truth, bins)
    assert error == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [(np.zeros((0, 3)), []), ([0.5, 0.5], [0]), ([[0.5, 0.5]], [0, 1])],
)
def test_calibration_error_of_nothing_is_an_error(probabilities, truth):
    with pytest.raises(DataError, match="true classes"):
        calibration_error(probabilities, truth)
