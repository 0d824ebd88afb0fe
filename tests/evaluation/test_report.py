import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.report import evaluate_picks
from napari_ectkd.io.picks import Picks

FAR = 1000.0


def in_a_row(*names, **columns):
    """Picks 1000 Å apart, so that those with the same index match."""
    positions = np.arange(len(names))[:, None] * [0.0, 0.0, FAR]
    return Picks.create(positions, "t", **{"label": list(names), **columns})


def test_a_hand_made_case():
    truth = in_a_row("a", "a", "b", "b", "b")
    found = Picks.create(
        [[0, 0, 9], [0, 0, FAR], [0, 0, 2 * FAR], [0, 0, 3 * FAR], [0, FAR, 0]],
        "t",
        prediction=["a", "b", "b", "none", "c"],
    )
    report = evaluate_picks(found, truth, 10)
    assert report.confusion.labels == ["a", "b", "c", "none"]
    assert report.confusion.matrix == [
        [1, 1, 0, 0],
        [0, 1, 0, 2],  # one called none, one not found
        [0, 0, 0, 0],
        [0, 0, 1, 0],  # a class that the truth doesn't know, where nothing is
    ]
    assert report.accuracy == pytest.approx(2 / 6)
    assert report.classes["b"].recall == pytest.approx(1 / 3)
    assert report.classes["a"].f1 == pytest.approx(2 / 3)
    assert report.classes["c"].precision == 0
    assert report.macro_f1 == pytest.approx((2 / 3 + 0.4 + 0) / 3)


def test_a_prediction_counts_before_a_label_in_found_and_never_in_the_truth():
    truth = in_a_row("a", "a", prediction=["b", "b"])
    found = in_a_row("b", "b", prediction=["a", ""])
    report = evaluate_picks(found, truth, 10)
    assert report.confusion.labels == ["a", "b", "none"]
    assert report.confusion.matrix[0] == [1, 1, 0]


@pytest.mark.parametrize("name", ["none", "unknown", ""])
def test_no_detection_is_a_miss(name):
    truth = in_a_row("a", "a")
    report = evaluate_picks(in_a_row("a", name), truth, 10)
    assert report.confusion.labels == ["a", "none"]
    assert report.confusion.matrix == [[1, 1], [0, 0]]


def test_no_detection_does_not_take_a_particle_from_one():
    truth = in_a_row("a")
    found = Picks.create([[0, 0, 1], [0, 0, 8]], "t", prediction=["none", "a"])
    assert evaluate_picks(found, truth, 10).accuracy == 1


def test_a_particle_found_twice_is_one_false_alarm():
    found = Picks.create([[0, 0, 1], [0, 0, 8]], "t", prediction="a")
    report = evaluate_picks(found, in_a_row("a"), 10)
    assert report.confusion.matrix == [[1, 0], [1, 0]]
    assert report.classes["a"].precision == 0.5


def test_true_none_is_no_particle_and_unlabeled_truth_does_not_count():
    truth = in_a_row("a", "none", "", "unknown", "")
    report = evaluate_picks(in_a_row("a", "a", "a", "b", "none"), truth, 10)
    assert report.confusion.labels == ["a", "none"]
    assert report.confusion.matrix == [[1, 0], [1, 0]]


def test_no_picks_are_all_misses():
    report = evaluate_picks(Picks.empty(), in_a_row("a", "b"), 10)
    assert (report.accuracy, report.macro_f1) == (0.0, 0.0)
    assert report.confusion.matrix == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_detections_in_a_tomogram_without_truth_are_false_alarms():
    found = Picks.create(np.zeros((2, 3)), ["t", "other"], prediction=["none", "a"])
    report = evaluate_picks(found, in_a_row("a"), 10)
    assert report.confusion.matrix == [[0, 1], [1, 0]]


@pytest.mark.parametrize("labels", [(), ("", ""), ("none",)])
def test_a_truth_without_particles_is_an_error(labels):
    with pytest.raises(DataError, match="no labeled particle"):
        evaluate_picks(in_a_row("a"), in_a_row(*labels), 10)


def test_picks_that_nobody_classified_are_an_error():
    with pytest.raises(DataError, match="classify the picks first"):
        evaluate_picks(in_a_row("", ""), in_a_row("a"), 10)


def test_other_tomograms_are_an_error_even_if_nothing_was_detected():
    found = Picks.create(np.zeros((1, 3)), "other", prediction="none")
    with pytest.raises(DataError, match="'other' against 't'"):
        evaluate_picks(found, in_a_row("a"), 10)


names = st.sampled_from(["a", "b", "none", "unknown"])
points = st.tuples(st.integers(0, 20), names)


@given(st.lists(points), st.lists(points))
def test_every_particle_and_detection_is_counted_once(ours, theirs):
    found, truth = (
        Picks.create(
            [[0, 0, x] for x, _ in rows] or np.zeros((0, 3)),
            "t",
            label=[name for _, name in rows],
        )
        for rows in (ours, theirs)
    )
    if not np.isin(truth.label, ["a", "b"]).any():
        with pytest.raises(DataError):
            evaluate_picks(found, truth, 2.5)
        return
    truth = truth[truth.label != "unknown"]
    report = evaluate_picks(found, truth, 2.5)
    matrix = np.array(report.confusion.matrix)
    for i, name in enumerate(report.confusion.labels[:-1]):
        assert matrix[i].sum() == (truth.label == name).sum()
        assert matrix[:, i].sum() == (found.label == name).sum()
    assert matrix[-1, -1] == 0


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=20))
def test_the_truth_itself_is_perfect(labels):
    truth = in_a_row(*labels)
    report = evaluate_picks(truth, truth, 1)
    assert (report.accuracy, report.macro_f1) == (1.0, 1.0)
