"""What the data set's tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.events import Cancel
from napari_ectkd.io.tomogram import Tomogram


@pytest.fixture
def make_tomogram():
    """A tomogram of an array in memory."""

    def make(voxels, voxel_size=10.0, *, is_inverted=False, tilt_range=None):
        return Tomogram(
            "t", Path("t.mrc"), voxels, voxel_size, is_inverted, tilt_range=tilt_range
        )

    return make


@pytest.fixture
def load():
    """Drain the opening of a data set; return it and the events."""

    def run(**settings):
        events = []
        stream = load_dataset(DataConfig(**settings), cancel=Cancel())
        while True:
            try:
                events.append(next(stream))
            except StopIteration as end:
                return end.value, events

    return run


@pytest.fixture
def noise():
    """White noise with mean 5 and deviation 2, the same each time."""

    def draw(*shape, seed=0):
        values = np.random.default_rng(seed).normal(5, 2, shape)
        return values.astype(np.float32)

    return draw
