"""Wedge masks and turned densities, against acryo."""

from __future__ import annotations

import numpy as np
import pytest
from acryo import Molecules, TomogramSimulator
from acryo.tilt import single_axis

from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.orientations import random_rotations
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.projection_imaging import ProjectionImaging
from napari_ectkd.simulation.tilt import wedge_mask

RANGES = [(-60, 60), (-40, 60), (-70, 20)]


def acryo_mask(tilt_range, n):
    mask = single_axis(tilt_range, axis="y").create_mask(shape=(n, n, n))
    return mask[..., : n // 2 + 1].astype(bool)


@pytest.mark.parametrize("tilt_range", RANGES)
def test_wedge_masks_agree(tilt_range):
    ours = wedge_mask((33, 33, 33), tilt_range)
    assert np.array_equal(ours, acryo_mask(tilt_range, 33))
    # In an even size −1/2 is +1/2 too; we keep what both signs see.
    differs = wedge_mask((32, 32, 32), tilt_range) != acryo_mask(tilt_range, 32)
    differs[16], differs[:, :, 16] = False, False
    assert not differs.any()


@pytest.mark.parametrize("tilt_range", RANGES)
def test_a_tilt_series_fills_the_same_wedge(tilt_range):
    config = ImagingConfig(
        noise="projections", tilt_range=tilt_range, ctf="none", dose=0, mtf=1
    )
    transfer = ProjectionImaging(config, 10.0)._box_transfer(49).numpy()
    k = np.fft.fftfreq(49)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:25] ** 2)
    shell = np.broadcast_to((radius > 0.1) & (radius < 0.35), transfer.shape)
    seen = acryo_mask(tilt_range, 49)
    # A tilt that ends a range is half in it, half beyond, and a crop blurs the border.
    assert (seen == (transfer > 0.5))[shell].mean() > 0.96
    assert transfer[seen & shell].mean() == pytest.approx(1, abs=0.05)
    assert np.abs(transfer[~seen & shell]).mean() < 0.1


def test_turned_densities_agree(lopsided):
    rotations = random_rotations(6, np.random.default_rng(0))
    ours = Sampler(lopsided).sample(rotations, np.zeros((6, 3)), 25).numpy()
    # acryo turns coordinates zyx, ours are xyz.
    turned = rotations[:, ::-1, ::-1]
    for rotation, volume in zip(turned, ours, strict=True):
        molecules = Molecules.from_matrix(np.full((1, 3), 12.0), rotation[None])
        simulator = TomogramSimulator(order=3)
        simulator.add_molecules(molecules, lopsided.voxels)
        theirs = simulator.simulate((25, 25, 25))
        # Both interpolate, theirs on the voxels, ours on a grid of half a voxel.
        assert np.linalg.norm(volume - theirs) < 0.05 * np.linalg.norm(theirs)
