import numpy as np
import pytest

from napari_ectkd.dataset.normalize import (
    normalize_each,
    stack_statistics,
    tomogram_statistics,
)
from napari_ectkd.errors import DataError, FormatError


def clipped_normal(mean=5.0, std=2.0):
    """Mean and deviation of a normal distribution clipped at its 1st percentile."""
    from scipy import integrate, stats

    edge = stats.norm.ppf(0.99)
    inner, _ = integrate.quad(lambda x: x**2 * stats.norm.pdf(x), -edge, edge)
    return mean, std * np.sqrt(inner + 2 * 0.01 * edge**2)


def test_statistics_are_those_of_the_gray_values(make_tomogram, noise):
    found = tomogram_statistics(make_tomogram(noise(60, 70, 80)), 10.0)
    assert (found.mean, found.std) == pytest.approx(clipped_normal(), rel=0.01)


def test_gold_does_not_count(make_tomogram, noise):
    voxels = noise(60, 60, 60)
    before = tomogram_statistics(make_tomogram(voxels), 10.0)
    for corner in ((10, 12, 14), (30, 34, 20), (44, 40, 44)):
        z, y, x = (slice(c, c + 5) for c in corner)
        voxels[z, y, x] = 4000.0
    after = tomogram_statistics(make_tomogram(voxels), 10.0)
    assert after.mean == pytest.approx(before.mean, abs=0.1)
    assert after.std == pytest.approx(before.std, rel=0.05)
    assert voxels.std() > 50 * after.std  # the check can fail


def test_padding_does_not_count(make_tomogram, noise):
    inner = noise(120, 60, 60)
    before = tomogram_statistics(make_tomogram(inner), 10.0)
    for value in (0.0, 5.0):
        padded = np.full((200, 60, 60), value, np.float32)
        padded[40:160] = inner
        after = tomogram_statistics(make_tomogram(padded), 10.0)
        assert after.mean == pytest.approx(before.mean, abs=0.1)
        assert after.std == pytest.approx(before.std, rel=0.05)


def test_a_dark_tomogram_has_the_statistics_of_its_bright_copy(make_tomogram, noise):
    voxels = noise(40, 40, 40)
    bright = tomogram_statistics(make_tomogram(voxels), 10.0)
    dark = tomogram_statistics(make_tomogram(-voxels, is_inverted=True), 10.0)
    assert dark.mean == pytest.approx(bright.mean, rel=1e-6)
    assert dark.std == pytest.approx(bright.std, rel=1e-6)


def test_at_larger_voxels_noise_is_smaller(make_tomogram, noise):
    tomogram = make_tomogram(noise(80, 80, 80))
    fine, coarse = (tomogram_statistics(tomogram, size) for size in (10.0, 20.0))
    assert coarse.mean == pytest.approx(fine.mean, abs=0.1)
    assert coarse.std < 0.6 * fine.std


def test_a_thin_tomogram_has_statistics(make_tomogram, noise):
    found = tomogram_statistics(make_tomogram(noise(10, 64, 64)), 20.0)
    assert found.mean == pytest.approx(5, abs=0.2)


def test_a_single_gray_value_is_an_error(make_tomogram):
    with pytest.raises(DataError, match="single gray value"):
        tomogram_statistics(make_tomogram(np.full((40, 40, 40), 3, np.int8)), 10.0)
    with pytest.raises(DataError, match="single gray value"):
        stack_statistics([np.zeros((8, 8, 8))] * 2)


def test_nan_voxels_are_an_error(make_tomogram, noise):
    voxels = noise(40, 40, 40)
    voxels[0] = np.nan
    with pytest.raises(FormatError, match="NaN"):
        tomogram_statistics(make_tomogram(voxels), 10.0)
    with pytest.raises(DataError, match="NaN"):
        stack_statistics([np.full((8, 8, 8), np.nan)])


def test_statistics_of_a_set_are_over_all_of_it(noise):
    volumes = [noise(12, 12, 12, seed=s) for s in range(40)]
    found = stack_statistics(volumes)
    assert (found.mean, found.std) == pytest.approx(clipped_normal(), rel=0.01)


def test_each_by_itself(noise):
    volumes = noise(3, 10, 10, 10) * np.array([1, 10, 0.01]).reshape(3, 1, 1, 1)
    scaled = normalize_each(volumes.astype(np.float32))
    np.testing.assert_allclose(scaled.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(1, 2, 3)), 1, rtol=1e-4)
    assert not normalize_each(np.full((1, 8, 8, 8), 7, np.float32)).any()
