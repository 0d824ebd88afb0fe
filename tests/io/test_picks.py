import numpy as np
import pandas as pd
import pytest

from napari_ectkd.errors import DataError
from napari_ectkd.io.picks import Picks, join_picks


def test_one_value_serves_all_picks():
    picks = Picks.create(np.zeros((2, 3)), "t", label="a")
    assert picks.tomogram.tolist() == ["t", "t"]
    assert picks.label.tolist() == ["a", "a"]
    assert picks.prediction.tolist() == ["", ""]
    assert picks.pick_id.tolist() == [1, 2]
    assert np.isnan(picks.confidence).all()
    assert picks.angles.shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": [[0, 0, np.nan]]}, "NaN or infinite"),
        ({"positions": np.zeros((2, 3)), "pick_id": [4, 4]}, "same id"),
        ({"positions": np.zeros((2, 3)), "label": ["a"]}, "1 values of label for 2"),
        ({"positions": np.zeros((2, 3)), "confidence": [1, 2, 3]}, "3 values of conf"),
        (
            {"positions": np.zeros((1, 3)), "foreign": pd.DataFrame({"a": [1, 2]})},
            "2 values of foreign for 1",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(arguments, message):
    with pytest.raises(DataError, match=message):
        Picks.create(**arguments)


def test_the_class_is_the_label_or_else_the_prediction():
    picks = Picks.create(
        np.zeros((3, 3)), label=["a", "", ""], prediction=["b", "c", ""]
    )
    assert picks.class_name.tolist() == ["a", "c", ""]
    assert picks.is_labeled.tolist() == [True, False, False]


def test_a_prediction_leaves_the_label_alone():
    picks = Picks.create(np.zeros((3, 3)), label=["a", "", ""])
    table = pd.DataFrame({"a": [0.1, np.nan, 0.7], "b": [0.9, np.nan, 0.3]})
    predicted = picks.with_predictions(table)
    assert predicted.label.tolist() == ["a", "", ""]
    assert predicted.prediction.tolist() == ["b", "", "a"]
    np.testing.assert_array_equal(predicted.confidence, [0.9, np.nan, 0.7])
    assert predicted.with_labels("c").prediction.tolist() == ["b", "", "a"]


@pytest.mark.parametrize(
    "index", [slice(1, None), np.array([False, True, True]), [2, 1]]
)
def test_some_of_the_picks_keep_all_that_is_known(index):
    picks = Picks.create(
        np.arange(9).reshape(3, 3),
        ["s", "t", "u"],
        label=["a", "b", "c"],
        pick_id=[5, 6, 7],
        foreign=pd.DataFrame({"score": [1.0, 2.0, 3.0]}),
    )
    some = picks[index]
    expected = np.arange(3)[index]
    assert len(some) == 2
    np.testing.assert_array_equal(some.positions, picks.positions[expected])
    np.testing.assert_array_equal(some.pick_id, picks.pick_id[expected])
    assert some.foreign["score"].tolist() == (expected + 1).tolist()
    assert picks.in_tomogram("t").label.tolist() == ["b"]


def test_joined_picks_have_ids_of_their_own():
    one = Picks.create([[1, 2, 3]], "s", foreign=pd.DataFrame({"score": [1.0]}))
    two = Picks.create([[4, 5, 6]], "t", pick_id=[9])
    joined = join_picks([one, two])
    assert joined.pick_id.tolist() == [1, 9]
    assert joined.tomogram.tolist() == ["s", "t"]
    np.testing.assert_array_equal(joined.foreign["score"].astype(float), [1.0, np.nan])
    assert join_picks([one, one]).pick_id.tolist() == [1, 2]
    assert len(join_picks([])) == 0
