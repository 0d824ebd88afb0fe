from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.projection_imaging import ProjectionImaging

PERFECT = {"ctf": "none", "dose": 0, "mtf": 1, "structural_noise": 0, "thickness": 0}
VOXEL = 10.0


def imaging(**settings):
    return ProjectionImaging(ImagingConfig(noise="projections", **settings), VOXEL)


@pytest.mark.parametrize(
    "settings",
    [PERFECT, {}, {"ctf": "phase-flipped"}, {"dual_axis": True}],
    ids=["perfect", "plain", "flipped", "dual"],
)
def test_a_box_is_imaged_as_in_a_tomogram(settings):
    volume = torch.zeros(1, 48, 64, 80)
    volume[0, 23:26, 30:33, 38:43] = 1
    volume[0, 27, 34, 36] = 2
    maker = imaging(**settings)
    inside = (slice(None), slice(None), slice(8, 56), slice(16, 64))
    whole = maker.signal(volume)[inside]
    box = maker.signal(volume[inside].contiguous())
    middle = (slice(None), *[slice(12, 36)] * 3)
    difference = (whole - box)[middle].std() / box[middle].std()
    assert difference < 0.03


@pytest.mark.parametrize("shape", [(24, 24, 24), (25, 25, 25), (24, 32, 40)])
def test_noise_has_mean_0_and_variance_1(shape):
    noise = imaging().noise(shape, torch.Generator().manual_seed(0), 8)
    assert noise.shape == (8, *shape)
    assert noise.mean().abs() < 0.02
    assert noise.var() == pytest.approx(1, abs=0.03)


def test_noise_follows_from_its_generator():
    maker = imaging()
    first, same, other = (
        maker.noise((16, 16, 16), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_dense_tilts_reconstruct_what_they_see():
    transfer = imaging(**PERFECT)._box_transfer(48)
    k = np.fft.fftfreq(48)
    angle = np.degrees(np.arctan2(np.abs(k[:, None, None]), np.fft.rfftfreq(48)))
    angle = np.broadcast_to(angle, transfer.shape)
    radius = np.hypot(k[:, None, None], np.fft.rfftfreq(48))
    # Within Crowther's limit, and away from the edge of the range.
    dense = np.broadcast_to((radius > 0.1) & (radius < 0.35), transfer.shape)
    assert transfer[dense & (angle < 52)].mean() == pytest.approx(1, abs=0.01)
    assert transfer[dense & (angle > 70)].square().mean() < 0.003
