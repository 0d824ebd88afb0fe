import numpy as np
import pandas as pd

from napari_ectkd.gui.pick_changes import join_new, with_class_replaced
from napari_ectkd.io.picks import Picks


def predicted(positions, names, **options):
    table = pd.DataFrame(np.eye(2)[names], columns=["ring", "shell"])
    return Picks.create(positions, "tomo", **options).with_predictions(table)


def test_what_is_there_already_is_not_added_again():
    old = Picks.create([[0, 0, 0], [0, 0, 100]], "tomo", label=["ring", ""])
    new = Picks.create(
        [[0, 0, 30], [0, 0, 140], [0, 0, 200]], "tomo", label=["shell", "shell", "a"]
    )
    joined, n = join_new(old, new, distance=40)
    assert n == 1
    assert joined.positions[:, 2].tolist() == [0, 100, 200]
    assert joined.label.tolist() == ["ring", "shell", "a"]
    assert len(set(joined.pick_id)) == 3


def test_joining_takes_predictions_and_leaves_those_of_others():
    old = predicted([[0, 0, 0], [0, 0, 100]], [0, 0], label=["none", ""])
    new = predicted([[0, 0, 0.5]], [1])
    joined, n = join_new(old, new, distance=1)
    assert n == 0
    assert joined.prediction.tolist() == ["shell", "ring"]
    assert joined.label.tolist() == ["none", ""]
    expected = [[0, 1], [1, 0]]
    np.testing.assert_array_equal(joined.probabilities[["ring", "shell"]], expected)


def test_joining_without_predictions_takes_none_away():
    old = predicted([[0, 0, 0]], [1])
    joined, _ = join_new(old, Picks.create([[0, 0, 0]], "tomo"), distance=1)
    assert joined.prediction.tolist() == ["shell"]
    assert joined.confidence.tolist() == [1]


def test_nothing_joined_to_nothing():
    assert join_new(Picks.empty(), Picks.empty(), 10)[1] == 0
    some = Picks.create([[1, 2, 3]], "tomo")
    assert len(join_new(Picks.empty(), some, 10)[0]) == 1
    assert len(join_new(some, Picks.empty(), 10)[0]) == 1


def test_a_class_is_replaced_wherever_it_is_named():
    picks = predicted([[0, 0, 0], [9, 9, 9]], [0, 1], label=["shell", ""])
    renamed = with_class_replaced(picks, "shell", "torus")
    assert renamed.label.tolist() == ["torus", ""]
    assert renamed.prediction.tolist() == ["ring", "torus"]
    assert list(renamed.probabilities.columns) == ["ring", "torus"]
    removed = with_class_replaced(picks, "shell", "")
    assert removed.label.tolist() == ["", ""]
    assert removed.prediction.tolist() == ["ring", ""]
    assert np.isnan(removed.confidence[1])
