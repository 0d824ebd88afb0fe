"""What the simulation's tests share."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ectkd.events import Cancel
from napari_ectkd.simulation import noise
from napari_ectkd.simulation.config import SubtomogramSimulation, TomogramSimulation
from napari_ectkd.simulation.density import Density
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.simulation.tomogram import simulate_tomogram


@pytest.fixture
def lopsided() -> Density:
    """A smooth density without any symmetry, on a cube of 13, center 6."""
    z, y, x = np.mgrid[:13, :13, :13] - 6.0
    voxels = np.zeros((13, 13, 13))
    for weight, where in ((1.0, (2, 0, 0)), (0.7, (0, 2, 1)), (0.5, (-2, -1, 2))):
        squares = sum((c - w) ** 2 for c, w in zip((z, y, x), where, strict=True))
        voxels += weight * np.exp(-squares / 3)
    voxels[z**2 + y**2 + x**2 > 36] = 0
    return Density("lopsided", voxels.astype(np.float32), 10.0)


@pytest.fixture
def simulate(monkeypatch):
    """Drain a simulation; return the result of its last event and all events."""
    monkeypatch.setattr(noise, "_N_ORIENTATIONS", 16)  # SNR is not so exact, but soon

    def run(config):
        work = {
            SubtomogramSimulation: simulate_subtomograms,
            TomogramSimulation: simulate_tomogram,
        }[type(config)]
        events = list(work(config, cancel=Cancel()))
        assert events[-1].kind == "finished"
        return events[-1].result, events

    return run
