import numpy as np
import pytest

from napari_ectkd.gui.display import DisplayedVolume, DisplaySettings
from napari_ectkd.io.tomogram import open_tomogram


class Watched:
    """An array that counts the voxels that are read from it."""

    def __init__(self, voxels):
        self.voxels, self.shape, self.n_read = voxels, voxels.shape, 0

    def __getitem__(self, key):
        part = self.voxels[key]
        self.n_read += part.size
        return part


@pytest.fixture
def tomogram(tomogram_file):
    return open_tomogram(tomogram_file(), is_inverted=False)


def test_slices_are_those_of_the_file(tomogram):
    volume = DisplayedVolume(tomogram)
    np.testing.assert_array_equal(volume[7], tomogram.voxels[7])
    np.testing.assert_array_equal(volume[:, 3, 2:9], tomogram.voxels[:, 3, 2:9])
    np.testing.assert_array_equal(volume[..., -1], tomogram.voxels[..., -1])
    np.testing.assert_array_equal(np.asarray(volume), tomogram.voxels)
    assert (volume.shape, volume.ndim, len(volume)) == ((20, 40, 48), 3, 20)


def test_protein_is_bright_unless_it_is_to_be_dark(tomogram):
    dark = tomogram.with_contrast(is_inverted=True)
    np.testing.assert_array_equal(DisplayedVolume(dark)[4], -tomogram.voxels[4])
    shown = DisplayedVolume(dark, DisplaySettings(is_negative=True))
    np.testing.assert_array_equal(shown[4], tomogram.voxels[4])


def test_a_slab_is_a_mean_of_planes(tomogram):
    volume = DisplayedVolume(tomogram, DisplaySettings(slab=40))
    expected = tomogram.voxels[8:13].mean(axis=0)
    np.testing.assert_allclose(volume[10], expected, rtol=1e-6)
    np.testing.assert_allclose(volume[0], tomogram.voxels[:3].mean(axis=0), rtol=1e-6)


def test_low_pass_removes_fine_detail_and_keeps_the_mean(tomogram):
    plain = DisplayedVolume(tomogram)[10]
    smooth = DisplayedVolume(tomogram, DisplaySettings(low_pass=80))[10]
    fine = np.abs(np.fft.rfft2(plain))[15:25, 12:].mean()
    assert np.abs(np.fft.rfft2(smooth))[15:25, 12:].mean() < 0.05 * fine
    assert smooth.mean() == pytest.approx(plain.mean(), abs=0.05)


def test_a_slice_reads_only_its_planes(tomogram):
    from dataclasses import replace

    watched = Watched(np.asarray(tomogram.voxels))
    volume = DisplayedVolume(replace(tomogram, voxels=watched), DisplaySettings(30, 20))
    volume[10]
    assert watched.n_read == 3 * 40 * 48
