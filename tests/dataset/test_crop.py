import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.dataset.crop import (
    crop_subtomograms,
    is_inside,
    is_same_voxel_size,
    raw_edge,
    resample_centered,
)
from napari_ectkd.errors import DataError, FormatError


def center_of_mass(volume):
    """In voxels, by the definition."""
    axes = np.indices(volume.shape)
    return np.array([(a * volume).sum() / volume.sum() for a in axes])


def blob(edge, center, sigma):
    z, y, x = np.indices((edge,) * 3) - np.reshape(center, (3, 1, 1, 1))
    return np.exp(-(z**2 + y**2 + x**2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("box", [8, 9])
def test_a_crop_at_a_voxel_center_is_a_slice(make_tomogram, noise, box):
    voxels = noise(20, 22, 24)
    center = np.array([7, 12, 10])
    [crop] = crop_subtomograms(make_tomogram(voxels, 7.5), center[None] * 7.5, box, 7.5)
    z, y, x = (slice(c - box // 2, c - box // 2 + box) for c in center)
    np.testing.assert_array_equal(crop, voxels[z, y, x])
    assert crop[box // 2, box // 2, box // 2] == voxels[7, 12, 10]


@given(st.lists(st.floats(-0.49, 0.49), min_size=3, max_size=3))
def test_the_rest_of_a_position_is_left_over_not_interpolated(offset):
    from pathlib import Path

    from napari_ectkd.io.tomogram import Tomogram

    voxels = np.arange(16**3, dtype=np.float32).reshape(16, 16, 16)
    tomogram = Tomogram("t", Path("t.mrc"), voxels, 10.0, False)
    position = (8 + np.array(offset)) * 10.0
    [crop] = crop_subtomograms(tomogram, position[None], 8, 10.0)
    np.testing.assert_array_equal(crop, voxels[4:12, 4:12, 4:12])


def test_protein_is_bright_in_a_crop_of_a_dark_tomogram(make_tomogram, noise):
    voxels = noise(12, 12, 12)
    position = np.full((1, 3), 60.0)
    dark = crop_subtomograms(
        make_tomogram(-voxels, is_inverted=True), position, 8, 10.0
    )
    bright = crop_subtomograms(make_tomogram(voxels), position, 8, 10.0)
    np.testing.assert_array_equal(dark, bright)


@pytest.mark.parametrize("box", [8, 9])
def test_the_box_is_inside_up_to_the_last_voxel(make_tomogram, box):
    tomogram = make_tomogram(np.zeros((12, 14, 16), np.float32), 2.0)
    first = np.array([box // 2] * 3)
    last = np.array([12, 14, 16]) - box + box // 2
    fitting = np.array([first, last])
    assert is_inside(tomogram, fitting * 2.0, box, 2.0).all()
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        outside = np.array([first - step, last + step])
        assert not is_inside(tomogram, outside * 2.0, box, 2.0).any()
    # What is cropped at the very edge is a whole box.
    assert crop_subtomograms(tomogram, fitting * 2.0, box, 2.0).shape == (2, *3 * [box])


@pytest.mark.parametrize(("box", "voxel_size"), [(13, 10.0), (12, 12.0)])
def test_a_box_larger_than_the_tomogram_is_an_error(make_tomogram, box, voxel_size):
    tomogram = make_tomogram(np.zeros((12, 40, 40), np.float32))
    with pytest.raises(DataError, match="larger than tomogram t, 12 × 40 × 40"):
        is_inside(tomogram, np.full((1, 3), 60.0), box, voxel_size)


def test_nan_voxels_in_a_crop_are_an_error_that_says_where(make_tomogram):
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[9, 8, 7] = np.nan
    with pytest.raises(FormatError, match="z 9, y 8, x 7"):
        crop_subtomograms(make_tomogram(voxels), np.full((1, 3), 100.0), 8, 10.0)


@pytest.mark.parametrize("ratio", [0.5, 0.77, 1.0, 1.3, 2.0, 2.5])
@pytest.mark.parametrize("box", [16, 17])
def test_resampling_keeps_a_blob_in_the_center(ratio, box):
    edge = raw_edge(box, ratio)
    sigma = 2.0 * ratio  # two new voxels
    volume = blob(edge, [edge // 2] * 3, sigma)
    new = resample_centered(volume, box, ratio)
    assert new.shape == (box,) * 3
    # Over the symmetric part around the center only, what is cut off does no harm.
    low = box // 2 - 6
    part = new[(slice(low, low + 13),) * 3]
    np.testing.assert_allclose(center_of_mass(part), 6, atol=0.02)
    assert np.unravel_index(new.argmax(), new.shape) == (box // 2,) * 3


@pytest.mark.parametrize("ratio", [0.5, 1.5, 2.0])
def test_a_resampled_blob_has_its_width_in_the_new_voxels(ratio):
    box, sigma = 24, 3.0
    edge = raw_edge(box, ratio)
    new = resample_centered(blob(edge, [edge // 2] * 3, sigma * ratio), box, ratio)
    blurred = np.hypot(sigma, (ratio - 1) / 2 / ratio if ratio > 1 else 0)
    expected = blob(box, [box // 2] * 3, blurred) * (sigma / blurred) ** 3
    np.testing.assert_allclose(new, expected, atol=0.03)


def test_a_crop_at_another_voxel_size_keeps_its_center(make_tomogram):
    voxels = blob(60, [30, 28, 33], 4.0)
    position = np.array([[30, 28, 33]]) * 5.0
    [crop] = crop_subtomograms(make_tomogram(voxels, 5.0), position, 17, 10.0)
    np.testing.assert_allclose(center_of_mass(crop), 8, atol=0.02)


def test_anti_aliasing_takes_noise_above_the_new_nyquist_away():
    # White noise, every second voxel taken, keeps its variance; an ideal filter leaves
    # what is below the new Nyquist frequency along each axis, an eighth of it.
    volume = np.random.default_rng(0).normal(size=(56, 56, 56)).astype(np.float32)
    assert raw_edge(24, 2.0) == 56
    new = resample_centered(volume, 24, 2.0)
    assert 0.125 < new.var() < 0.3
    # And a wave that would fold back is weakened (by exp(-σ²ω²/2), were it not for the
    # spline, which raises it again).
    wave = np.cos(np.pi * 0.9 * np.arange(56))[:, None, None]
    folded = resample_centered(
        np.broadcast_to(wave, (56, 56, 56)).astype(np.float32), 24, 2.0
    )
    assert folded.std() < 0.6 * wave.std()


def test_one_percent_is_the_same_voxel_size():
    assert is_same_voxel_size(10.0, 10.09)
    assert not is_same_voxel_size(10.0, 10.2)
    assert raw_edge(32, 1.005) == 32


@given(st.integers(8, 64), st.floats(0.3, 4.0))
def test_what_is_read_holds_every_new_voxel(box, ratio):
    edge = raw_edge(box, ratio)
    first = edge // 2 - ratio * (box // 2)
    last = first + ratio * (box - 1)
    assert first >= -ratio * 0.01 * box
    assert last <= edge - 1 + ratio * 0.01 * box
