"""Codes of class names against the words that they stand for."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.overlay import Overlay, is_visible, shown_class
from napari_ectkd.io.picks import UNKNOWN, Picks

NAMES = st.sampled_from(["", "unknown", "none", "ring", "shell", "a b"])
ROWS = st.lists(
    st.tuples(NAMES, NAMES, st.one_of(st.just(np.nan), st.floats(0, 1))), max_size=30
)


def made_of(rows):
    label, prediction, confidence = zip(*rows, strict=True) if rows else ((), (), ())
    return Picks.create(
        np.zeros((len(rows), 3)),
        label=np.array(label, dtype=object),
        prediction=np.array(prediction, dtype=object),
        confidence=confidence,
    )


@given(ROWS)
def test_codes_give_the_words_back(rows):
    picks = made_of(rows)
    codes = class_codes(picks)
    assert codes.label.words.tolist() == picks.label.tolist()
    assert codes.prediction.words.tolist() == picks.prediction.tolist()
    assert codes.label.counts() == Counter(picks.label)
    assert codes.is_labeled.tolist() == picks.is_labeled.tolist()
    assert class_codes(picks) is codes


@given(ROWS, st.floats(0, 1), st.sets(NAMES))
def test_what_is_shown_follows_from_each_pick_alone(rows, least, hidden):
    picks = made_of(rows)
    overlay = Overlay(min_confidence=least)
    shown = shown_class(picks, overlay)
    expected = [
        label or (UNKNOWN if prediction and confidence < least else prediction)
        for label, prediction, confidence in rows
    ]
    assert shown.words.tolist() == expected
    tomogram = type("Named", (), {"name": "", "voxel_size": 1.0})()
    visible = is_visible(picks, shown, frozenset(hidden), overlay, tomogram)
    assert visible.tolist() == [name not in hidden for name in expected]
