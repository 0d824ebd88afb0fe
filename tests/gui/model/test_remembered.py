"""What is remembered of picks is never that of others, nor of other arguments."""

import gc
import weakref

import numpy as np

from napari_ectkd.gui.overlay import Overlay, is_visible, shown_class
from napari_ectkd.gui.remembered import MOST, remembered
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.tomogram import open_tomogram


def test_the_same_question_is_answered_once():
    asked = []

    @remembered
    def question(picks, *arguments):
        asked.append(arguments)
        return len(picks), arguments

    picks, others = Picks.create(np.zeros((2, 3))), Picks.create(np.zeros((3, 3)))
    first = object()
    assert question(picks, first) == (2, (first,))
    assert question(picks, first) == (2, (first,))
    assert len(asked) == 1
    assert question(others, first) == (3, (first,))
    assert question(picks, object()) != question(picks, first)
    assert len(asked) == 4  # the last answer is kept, not all
    assert question(picks) == (2, ())


def test_nothing_is_kept_of_picks_that_are_gone():
    picks = Picks.create(np.zeros((2, 3)), prediction="a", confidence=[0.5, 0.9])
    answer = weakref.ref(shown_class(picks, Overlay()))
    assert answer() is not None
    del picks
    gc.collect()
    assert answer() is None


def test_not_the_answers_of_all_picks_are_kept():
    asked = []

    @remembered
    def question(picks):
        asked.append(picks)

    many = [Picks.create(np.zeros((n, 3))) for n in range(MOST + 1)]
    for picks in many:
        question(picks)
    question(many[-1])
    assert len(asked) == len(many)
    question(many[0])  # the oldest had to go
    assert len(asked) == len(many) + 1


def test_another_overlay_or_other_hidden_classes_count_at_once(tomogram_file):
    tomogram = open_tomogram(tomogram_file(), is_inverted=False)
    picks = Picks.create(
        np.full((2, 3), 50.0),
        tomogram.name,
        prediction=["a", "b"],
        confidence=[0.5, 0.9],
    )
    for least, words in ((0.0, ["a", "b"]), (0.6, ["unknown", "b"])):
        overlay = Overlay(min_confidence=least)
        shown = shown_class(picks, overlay)
        assert shown.words.tolist() == words
        for hidden in ({"b"}, {"a", "b"}, set()):
            visible = is_visible(picks, shown, frozenset(hidden), overlay, tomogram)
            assert visible.tolist() == [word not in hidden for word in words]
