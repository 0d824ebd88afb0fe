"""How far classes are balanced if nobody says."""

import numpy as np
import pytest

from napari_ectkd.dataset.split import Split
from napari_ectkd.training.batches import Material


@pytest.mark.parametrize(
    ("counts", "classes", "balance"),
    [
        ([100, 10], ["a", "b"], 0.5),
        ([100, 11], ["a", "b"], 0.0),
        ([100, 0, 50], ["a", "b", "c"], 0.0),  # what is not there has no tail
        ([10, 9, 1000], ["a", "b", "none"], 0.0),  # nothing is not a class of particles
        ([10, 1, 5], ["a", "b", "none"], 0.5),
    ],
)
def test_a_long_tail_is_seen(counts, classes, balance):
    targets = np.repeat(np.arange(len(counts)), counts)
    every = np.arange(len(targets))
    material = Material(None, Split(every, every[:0], ""), targets, classes)
    assert material.default_balance == balance


def test_unlabeled_ones_do_not_count():
    targets = np.array([0] * 20 + [1] * 4 + [-1] * 1000)
    every = np.arange(len(targets))
    material = Material(None, Split(every, every[:0], ""), targets, ["a", "b"])
    assert material.default_balance == 0.0
