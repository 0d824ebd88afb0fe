from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_ectkd.simulation.projections import Shears, sirt_like

ANGLES = np.array([-60.0, -33, 0, 12, 45])
CPU = torch.device("cpu")


def project(volume, angles):
    """Images `(i, y, u)`, u counted from the middle of x."""
    n_z, n_y, n_x = volume.shape
    shears = Shears(angles, n_z, n_x, CPU)
    spectrum = torch.fft.rfft(torch.from_numpy(volume), dim=1)
    block = torch.fft.fft(spectrum, n=shears.n_u, dim=2).permute(2, 0, 1)
    images = torch.fft.ifft(shears.project(block.contiguous()), dim=0)
    images = torch.fft.irfft(images, n=n_y, dim=2).permute(1, 2, 0).numpy()
    u = (np.arange(shears.n_u) + shears.n_u // 4) % shears.n_u - shears.n_u // 4
    order = np.argsort(u)
    return images[:, :, order], u[order] - n_x // 2


def blob(shape, center, sigma):
    grids = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    squares = sum((g - c) ** 2 for g, c in zip(grids, center, strict=True))
    return np.exp(-squares / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("center", [(0, 0, 0), (6, -3, 10), (-7, 2, -12)])
def test_projection_of_a_gaussian_is_known(center):
    sigma, (z, y, x) = 2.0, center
    images, u = project(blob((40, 24, 64), center, sigma), ANGLES)
    ys = np.arange(24) - 12
    for image, angle in zip(images, np.radians(ANGLES), strict=True):
        # On the detector a Gaussian of the same width, at x' = x cos θ + z sin θ; each
        # plane adds what a beam of length 1 / cos θ meets in it.
        along = u * np.cos(angle) - (x * np.cos(angle) + z * np.sin(angle))
        height = np.sqrt(2 * np.pi) * sigma * np.cos(angle)
        expected = height * np.exp(
            -(along**2 + (ys[:, None] - y) ** 2) / (2 * sigma**2)
        )
        np.testing.assert_allclose(image, expected, atol=2e-3 * height)


def test_central_slice():
    """The transform of a projection is the slice of the volume's transform."""
    volume = np.random.default_rng(0).standard_normal((12, 10, 16)).astype(np.float32)
    images, u = project(volume, ANGLES)
    z, y, x = (np.arange(n) - n // 2 for n in volume.shape)
    ys = np.arange(10) - 5
    # At a frequency of the image's own, what is left and right of it does not matter.
    for j, ky in ((0, 0.1), (5, 0.0), (8, -0.3), (-7, 0.4)):
        kx = j / len(u)
        for image, angle in zip(images, np.radians(ANGLES), strict=True):
            kz = kx * np.tan(angle)
            waves = [
                np.exp(-2j * np.pi * k * c) for k, c in ((kz, z), (ky, y), (kx, x))
            ]
            slice_ = np.einsum("zyx,z,y,x->", volume, *waves)
            of_image = np.exp(-2j * np.pi * (kx * u + ky * ys[:, None]))
            assert (image * of_image).sum() == pytest.approx(slice_, abs=2e-3)


def test_spreading_reverses_moving():
    """Back-projection is the adjoint of projection."""
    random = torch.Generator().manual_seed(0)
    shears = Shears(ANGLES, 8, 12, CPU)

    def draw(*shape):
        return torch.randn(shape, generator=random, dtype=torch.complex64)

    slab, images = draw(shears.n_u, 8, 3), draw(shears.n_u, len(ANGLES), 3)
    first = (shears.project(slab).conj() * images).sum()
    last = (slab.conj() * shears.spread(images)).sum()
    assert complex(first) == pytest.approx(complex(last), rel=1e-4)


def test_sirt_like_filter_is_what_iterations_find():
    """Landweber's iterations on one frequency, of which each explains c / k."""
    k, alpha = 0.1, 1 / 512
    found = 0.0
    for _ in range(10):
        found += (1 - found) * alpha / k
    assert float(sirt_like(torch.tensor([k]), 10)) == pytest.approx(found, rel=1e-5)
    few, many = (sirt_like(torch.linspace(0, 0.5, 20), n) for n in (5, 500))
    assert (few <= many).all()
    assert float(few[0]) == 1
    assert (many > 0.85).all()
