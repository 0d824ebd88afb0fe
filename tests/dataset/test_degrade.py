import numpy as np
import pytest
import torch

from napari_ectkd.dataset.degrade import (
    Neighbor,
    cut_out,
    filter_defocus,
    noise_spectrum,
    spectral_noise,
)
from napari_ectkd.simulation.tilt import wedge_mask


def wedged(n, size, tilt_range, scale=3.0):
    """White noise of another variance, without the wedge, by numpy."""
    mask = wedge_mask((size,) * 3, tilt_range)
    white = scale * np.random.default_rng(0).normal(size=(n, *(size,) * 3))
    axes = (1, 2, 3)
    seen = np.fft.irfftn(
        np.fft.rfftn(white, axes=axes) * mask, s=(size,) * 3, axes=axes
    )
    return torch.from_numpy(seen).float()[:, None], mask


@pytest.mark.parametrize("size", [14, 15])
@pytest.mark.parametrize("tilt_range", [(-60, 60), (-40, 50)])
def test_noise_has_the_data_s_missing_wedge_and_variance_1(size, tilt_range):
    data, mask = wedged(40, size, tilt_range)
    noise = spectral_noise(noise_spectrum(data), torch.arange(60))[:, 0].numpy()
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert abs(noise.mean()) < 1e-6
    power = (np.abs(np.fft.rfftn(noise, axes=(1, 2, 3))) ** 2).mean(axis=0)
    assert power[~mask].sum() < 1e-6 * power.sum()
    # White where the data is white: the same power on each frequency that is there.
    power[0, 0, 0] = np.nan
    there = power[mask]
    assert np.nanstd(there) < 0.4 * np.nanmean(there)


def test_noise_has_the_data_s_color():
    size = 16
    k = np.abs(np.fft.fftfreq(size, 0.5))
    half = np.fft.rfftfreq(size, 0.5)
    gain = np.exp(-2 * (k[:, None, None] + k[None, :, None] + half[None, None, :]))
    white = np.random.default_rng(1).normal(size=(200, *(size,) * 3))
    axes = (1, 2, 3)
    colored = np.fft.irfftn(
        np.fft.rfftn(white, axes=axes) * gain, s=(size,) * 3, axes=axes
    )
    spectrum = noise_spectrum(torch.from_numpy(colored)[:, None]).numpy()
    ratio = (spectrum / gain).ravel()[1:]
    assert ratio.std() < 0.08 * ratio.mean()


def test_the_same_seed_gives_the_same_noise_in_any_company():
    spectrum = noise_spectrum(torch.randn(8, 1, 9, 9, 9))
    both = spectral_noise(spectrum, torch.tensor([7, 8]))
    torch.testing.assert_close(spectral_noise(spectrum, torch.tensor([8])), both[1:])
    assert not torch.allclose(both[0], both[1], atol=0.1)


@pytest.mark.parametrize("wave", [(0, 0, 0), (0, 0, 3), (2, -1, 4), (8, 0, 0)])
def test_the_defocus_filter_weakens_a_wave_by_the_closed_form(wave):
    size, depth, phase = 16, 0.7, 2.9
    index = np.indices((size,) * 3)
    angle = 2 * np.pi / size * np.tensordot(wave, index, axes=1)
    volume = np.cos(angle).astype(np.float32)
    filtered = filter_defocus(
        torch.from_numpy(volume)[None, None], torch.tensor([[depth, phase]])
    )
    nyquist_share = np.linalg.norm(wave) / (size / 2)
    expected = 1 - depth * np.sin(phase * nyquist_share**2) ** 2
    np.testing.assert_allclose(filtered[0, 0], expected * volume, atol=1e-5)


def test_the_defocus_filter_fills_no_wedge():
    data, mask = wedged(4, 15, (-60, 60))
    filtered = filter_defocus(data, torch.rand(4, 2) * torch.tensor([1, 6.28]))
    power = np.abs(np.fft.rfftn(filtered[:, 0].numpy(), axes=(1, 2, 3))) ** 2
    assert (power[:, ~mask].sum() / power.sum()) < 1e-10
    # It takes power away and never adds any.
    before = np.abs(np.fft.rfftn(data[:, 0].numpy(), axes=(1, 2, 3))) ** 2
    assert (power <= before * (1 + 1e-4) + 1e-3).all()


def test_neighbors_leave_the_particle_alone():
    drawn = Neighbor.draw(3000, 0.3, torch.Generator().manual_seed(0)).numpy()
    center, radius = drawn[:, :3], drawn[:, 3]
    has_one = radius > 0
    assert has_one.mean() == pytest.approx(0.3, abs=0.03)
    distance = np.linalg.norm(center[has_one], axis=1)
    assert (distance - radius[has_one] >= Neighbor.free - 1e-6).all()
    assert (distance <= 0.5 + 1e-6).all()
    assert radius.max() <= Neighbor.radius[1]
    # In all directions alike.
    unit = center[has_one] / distance[:, None]
    np.testing.assert_allclose(unit.mean(axis=0), 0, atol=0.06)


def test_a_cut_out_is_a_ball_of_noise_like_the_volume():
    size = 24
    random = np.random.default_rng(0)
    volume = torch.from_numpy(5 + 2 * random.normal(size=(1, 1, *(size,) * 3)))
    noise = torch.from_numpy(random.normal(size=(1, 1, *(size,) * 3)))
    center, radius = np.array([0.3, 0, -0.2]), 0.2
    neighbors = torch.tensor([[*center, radius]])
    cut = cut_out(volume, neighbors, noise)[0, 0].numpy()
    offset = (np.indices((size,) * 3) - size // 2) / size
    distance = np.linalg.norm(offset - center[:, None, None, None], axis=0)
    changed = cut != volume[0, 0].numpy()
    # The voxels are there, but for some on the very edge of the ball.
    assert changed[distance < radius - 1e-6].all()
    assert not changed[distance > radius + 1e-6].any()
    assert cut[changed].mean() == pytest.approx(5, abs=0.5)
    assert cut[changed].std() == pytest.approx(2, abs=0.4)
    none = cut_out(volume, torch.tensor([[0.0, 0, 0, 0]]), noise)
    assert torch.equal(none, volume)
