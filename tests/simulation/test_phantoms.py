from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from napari_ectkd.simulation.noise import check_fit
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler


@pytest.mark.parametrize("voxel_size", [4.0, 10.0, 13.6, 20.0])
def test_phantoms_are_centered_at_any_voxel_size(voxel_size):
    for density in phantoms(voxel_size):
        n = density.voxels.shape[0]
        center = np.array(ndimage.center_of_mass(density.voxels)) * voxel_size
        np.testing.assert_allclose(center, n // 2 * voxel_size, atol=2)
        assert density.voxels.max() == pytest.approx(1, abs=0.05)
        assert density.voxels.min() == 0
        assert not density.voxels[0].any()
        assert 60 < density.radius < 160


def test_volumes_by_closed_form():
    volume = {d.name: float(d.voxels.sum()) * 64 for d in phantoms(4.0)}
    assert volume["ring"] == pytest.approx(2 * np.pi**2 * 85 * 30**2, rel=0.02)
    assert volume["disc"] == pytest.approx(np.pi * 75**2 * 45, rel=0.02)
    assert volume["shell"] == pytest.approx(4 / 3 * np.pi * (95**3 - 65**3), rel=0.02)
    tube = np.pi * (60**2 - 22**2) * 170
    assert volume["barrel"] == pytest.approx(tube, rel=0.02)


def test_voxel_size_changes_the_grid_only():
    coarse = {d.name: d.voxels.sum() * 1000 for d in phantoms(10.0)}
    fine = {d.name: d.voxels.sum() * 64 for d in phantoms(4.0)}
    for name, volume in fine.items():
        assert coarse[name] == pytest.approx(volume, rel=0.04), name


def test_phantoms_differ_in_shape():
    """Their spectra, averaged over directions, are blind to poses and yet differ."""
    profiles = {}
    for density in phantoms(10.0):
        spectrum = np.abs(np.fft.fftn(density.voxels)) ** 2
        k = np.fft.fftfreq(density.voxels.shape[0])
        radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
        shell = np.minimum((radius * 33).astype(int), 16)
        power = np.bincount(shell.ravel(), spectrum.ravel()) / np.bincount(
            shell.ravel()
        )
        profiles[density.name] = np.log(power[1:12])
    assert len(profiles) >= 6
    for one, two in combinations(profiles, 2):
        apart = np.sqrt(np.mean((profiles[one] - profiles[two]) ** 2))
        assert apart > 0.2, (one, two)


def test_the_helix_alone_is_chiral():
    for density in phantoms(10.0):
        mirrored = density.voxels[:, :, ::-1]
        best = max(
            np.corrcoef(turned.ravel(), mirrored.ravel())[0, 1]
            for turned in _turns_about_z(density)
        )
        # Six of the shapes have a mirror plane; the helix has none.
        assert (best < 0.9) == (density.name == "helix"), (density.name, best)


def test_all_fit_the_default_box():
    assert list(check_fit(phantoms(10.0), 32)) == []


def _turns_about_z(density):
    angles = np.radians(np.arange(0, 360, 10))
    c, s, o, i = np.cos(angles), np.sin(angles), 0 * angles, 1 + 0 * angles
    about_z = np.stack([c, -s, o, s, c, o, o, o, i], axis=-1).reshape(-1, 3, 3)
    flip = np.diag([1.0, -1.0, -1.0])
    turns = np.concatenate([about_z, about_z @ flip])
    n = density.voxels.shape[0]
    return Sampler(density).sample(turns, np.zeros((len(turns), 3)), n).numpy()
