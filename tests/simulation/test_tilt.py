from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_ectkd.simulation.tilt import apply_wedge, wedge_mask, wedge_share

SHAPES = [(16, 16, 16), (15, 15, 15), (12, 9, 20)]
RANGES = [(-60, 60), (-40, 60), (-90, 90), (10, 50)]


def _whole(mask, shape):
    """The full mask, by numpy's own Hermitian symmetry of a real volume's transform."""
    noise = np.random.default_rng(0).standard_normal(shape)
    filtered = np.fft.irfftn(np.fft.rfftn(noise) * mask, s=shape, axes=(0, 1, 2))
    return np.abs(np.fft.fftn(filtered)) > 1e-9 * np.sqrt(noise.size)


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetric_range_is_a_wedge(shape):
    kz = np.fft.fftfreq(shape[0])[:, None, None]
    kx = np.fft.rfftfreq(shape[2])
    expected = np.abs(kz) <= np.tan(np.radians(60)) * np.abs(kx) + 1e-9
    expected = np.broadcast_to(expected, (shape[0], shape[1], len(kx))).copy()
    expected[0, 0, 0] = True
    assert np.array_equal(wedge_mask(shape, (-60, 60)), expected)


def test_sign_of_the_tilt():
    # A tilt of +45° fills kz = kx, one of -45° kz = -kx.
    mask = wedge_mask((16, 16, 16), (40, 50))
    assert mask[3, 0, 3]
    assert not mask[-3, 0, 3]
    mirrored = wedge_mask((16, 16, 16), (-50, -40))
    assert mirrored[-3, 0, 3]
    assert not mirrored[3, 0, 3]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tilt_range", RANGES)
def test_mask_fits_real_volumes(shape, tilt_range):
    mask = wedge_mask(shape, tilt_range)
    whole = _whole(mask, shape)
    # Half of the full mask is the mask: opposite components agree, Nyquist too.
    assert np.array_equal(whole[..., : shape[2] // 2 + 1], mask)
    assert whole.mean() == pytest.approx(wedge_share(shape, tilt_range))


def test_full_range_sees_everything():
    assert wedge_mask((16, 16, 16), (-90, 90)).all()


def test_seen_share_of_a_cube():
    # Two triangles of base 2 tan(30°) and height 1 are missing from a square of edge 2.
    share = wedge_share((96, 2, 96), (-60, 60))
    assert share == pytest.approx(1 - np.tan(np.radians(30)) / 2, abs=0.01)


def test_apply_wedge_empties_the_wedge_and_nothing_else():
    volume = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 16, 16, 16)))
    spectrum = np.fft.fftn(apply_wedge(volume, (-60, 60)).numpy(), axes=(1, 2, 3))
    before = np.fft.fftn(volume.numpy(), axes=(1, 2, 3))
    k = np.fft.fftfreq(16)
    seen = np.abs(k[:, None, None]) <= np.tan(np.radians(60)) * np.abs(k) + 1e-9
    seen = np.broadcast_to(seen, (16, 16, 16)).copy()
    seen[0, 0, 0] = True
    assert np.abs(spectrum[:, ~seen]).max() < 1e-9
    np.testing.assert_allclose(spectrum[:, seen], before[:, seen], atol=1e-9)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_half_turns_keep_a_symmetric_wedge(axes):
    volume = np.random.default_rng(2).standard_normal((15, 15, 15))

    def turned(v):
        return np.ascontiguousarray(np.rot90(v, 2, axes))

    first = apply_wedge(torch.from_numpy(turned(volume)), (-60, 60)).numpy()
    last = turned(apply_wedge(torch.from_numpy(volume), (-60, 60)).numpy())
    np.testing.assert_allclose(first, last, atol=1e-12)
