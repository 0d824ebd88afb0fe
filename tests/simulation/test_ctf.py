"""The microscope's formulas, against closed forms that torch-ctf had no part in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import constants

from napari_ectkd.simulation.ctf import Optics
from napari_ectkd.simulation.detector import modulation
from napari_ectkd.simulation.dose import noise_of_tilts, signal_left


def wavelength(kilovolt):
    """De Broglie's, relativistic, in Å."""
    energy = kilovolt * 1e3 * constants.e
    rest = constants.m_e * constants.c**2
    momentum = np.sqrt(energy**2 + 2 * energy * rest) / constants.c
    return constants.h / momentum * 1e10


def zeros(kilovolt, cs_mm, amplitude, defocus, n):
    """First n zeros in 1/Å, where π λ Δ k² − π/2 Cs λ³ k⁴ + arcsin A = n π."""
    lam, cs = wavelength(kilovolt), cs_mm * 1e7
    a, b = -np.pi / 2 * cs * lam**3, np.pi * lam * defocus
    c = np.arcsin(amplitude) - np.pi * np.arange(1, n + 1)
    return np.sqrt((-b + np.sqrt(b**2 - 4 * a * c)) / (2 * a))


@pytest.mark.parametrize("kilovolt", [120, 200, 300])
def test_wavelength(kilovolt):
    optics = Optics(kilovolt, 2.7, 0.07, 3e4)
    assert optics.wavelength == pytest.approx(wavelength(kilovolt), rel=1e-6)
    assert wavelength(300) == pytest.approx(0.019687, abs=1e-6)  # the textbooks' value


@pytest.mark.parametrize("defocus", [1.5e4, 3e4, 6e4])
@pytest.mark.parametrize(("kilovolt", "cs"), [(300, 2.7), (200, 2.0)])
def test_zeros(kilovolt, cs, defocus):
    optics = Optics(kilovolt, cs, 0.1, defocus)
    k = torch.from_numpy(zeros(kilovolt, cs, 0.1, defocus, 6))
    assert optics.transfer(k**2, defocus).abs().max() < 1e-3
    between = torch.cat([k[:1] / 2, (k[1:] + k[:-1]) / 2])
    signs = optics.transfer(between**2, defocus).sign()
    assert signs.tolist() == [1, -1, 1, -1, 1, -1]


def test_amplitude_contrast_is_what_zero_frequency_shows():
    optics = Optics(300, 2.7, 0.07, 3e4)
    assert float(optics.transfer(torch.zeros(1), 3e4)) == pytest.approx(0.07, rel=1e-4)


def test_more_defocus_moves_zeros_inwards():
    optics = Optics(300, 2.7, 0.07, 3e4)
    k2 = torch.linspace(0, 0.01, 1000, dtype=torch.float64)
    defoci = torch.tensor([[2e4], [4e4]], dtype=torch.float64)
    first = (optics.transfer(k2, defoci) < 0).int().argmax(dim=1)
    assert first[0] == pytest.approx(2 * int(first[1]), rel=0.02)


def test_critical_exposure():
    # At 20 Å it is 0.245 · 20^1.665 + 2.81 = 38.8 electrons per Å² (300 kV).
    k = torch.tensor([1 / 20], dtype=torch.float64)
    critical = 0.245 * 20**1.665 + 2.81
    left = float(signal_left(k, torch.tensor(critical), 300))
    assert left == pytest.approx(np.exp(-0.5))
    # 200 kV does a fifth less: what Grant and Grigorieff's program takes too.
    at_200 = float(signal_left(k, torch.tensor(0.8 * critical), 200))
    assert at_200 == pytest.approx(np.exp(-0.5), rel=0.01)


def test_fine_detail_fades_first():
    k = torch.linspace(0, 0.3, 50, dtype=torch.float64)
    left = signal_left(k, torch.tensor(60.0), 300)
    assert (left.diff() < 0).all()
    assert left[0] == pytest.approx(1, abs=1e-6)
    assert torch.equal(signal_left(k, torch.tensor(0.0), 300), torch.ones_like(k))


def test_tilted_ice_is_noisier():
    variances = noise_of_tilts(np.array([0.0, 60, -60]), 3100, 300)
    # At 60° the way is twice as long: one mean free path more.
    np.testing.assert_allclose(variances, [1, np.e, np.e])
    assert (noise_of_tilts(np.array([0.0, 60]), 0, 300) == 1).all()


def test_detector():
    f = torch.tensor([0.0, 0.25, 0.5])
    np.testing.assert_allclose(
        modulation(f, 0.4).numpy(), [1, 0.4**0.25, 0.4], rtol=1e-6
    )
    assert torch.equal(modulation(f, 1.0), torch.ones(3))
