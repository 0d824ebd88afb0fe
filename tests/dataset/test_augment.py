import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation
from scipy.stats import kstest

from napari_ectkd.dataset.augment import (
    ABOUT_TILT_AXIS,
    IDENTITY,
    Augmentation,
    random_rotations,
    rotate,
    turn,
    wedge_rotations,
)
from napari_ectkd.dataset.config import AugmentConfig
from napari_ectkd.dataset.degrade import noise_spectrum
from napari_ectkd.simulation.tilt import wedge_mask

RANGES = {4: (-60, 60), 2: (-60, 20), 1: (-60, 60)}
"""Tilt ranges by the number of rotations that they leave (1: switched off)."""
ROTATIONS = wedge_rotations((-60, 60))
PLANES = {(-1, 1, -1): (0, 2), (1, -1, -1): (1, 2), (-1, -1, 1): (0, 1)}


def volumes(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, size, size, size, generator=generator)


def augment(batch, allowed, shift, generator, **settings):
    """Vary a batch with so many rotations, and shifts."""
    config = AugmentConfig(shift=shift, rotations=len(allowed) > 1, **settings)
    return Augmentation(config, RANGES[len(allowed)])(batch, generator)


@pytest.mark.parametrize("size", [10, 11])
@pytest.mark.parametrize("signs", PLANES)
def test_rotate_is_numpy_rot90_twice_about_the_center(signs, size):
    volume = volumes(1, size)[0, 0]
    mine = rotate(volume[None, None], signs)[0, 0].numpy()
    # rot90 turns about the middle of an odd array: with an even one, about that of its
    # voxels 1 to n, whose middle one is n//2.
    inner = slice(1 - size % 2, None)
    odd = volume.numpy()[inner, inner, inner]
    turned = np.rot90(odd, 2, PLANES[signs])
    np.testing.assert_array_equal(mine[inner, inner, inner], turned)
    assert mine[(size // 2,) * 3] == volume[(size // 2,) * 3]


@pytest.mark.parametrize("signs", ROTATIONS)
@pytest.mark.parametrize("size", [8, 9])
def test_rotate_turns_points_about_the_center(signs, size):
    point = np.array([2, -1, 3])
    volume = torch.zeros(1, 1, size, size, size)
    volume[(0, 0, *(size // 2 + point))] = 1
    turned = rotate(volume, signs)
    assert turned[(0, 0, *(size // 2 + point * signs))] == 1


def test_no_rotation_mirrors():
    for signs in ROTATIONS:
        assert np.linalg.det(np.diag(signs)) == pytest.approx(1)
    assert len(set(ROTATIONS)) == 4


@pytest.mark.parametrize(
    ("tilt_range", "allowed"),
    [
        ((-60, 60), ROTATIONS),
        ((-60, 58), ROTATIONS),
        ((-60, 40), (IDENTITY, ABOUT_TILT_AXIS)),
        ((-40, 60), (IDENTITY, ABOUT_TILT_AXIS)),
        (None, (IDENTITY, ABOUT_TILT_AXIS)),
    ],
)
def test_which_rotations_a_tilt_range_allows(tilt_range, allowed):
    assert wedge_rotations(tilt_range) == allowed


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("tilt_range", [(-60, 60), (-60, 35), (-20, 70)])
def test_allowed_rotations_keep_the_wedge_and_only_these(tilt_range, size):
    mask = wedge_mask((size,) * 3, tilt_range)
    noise = np.random.default_rng(0).normal(size=(size,) * 3)
    seen = np.fft.irfftn(np.fft.rfftn(noise) * mask, s=(size,) * 3, axes=(0, 1, 2))
    volume = torch.from_numpy(seen)[None, None]

    def leaked(signs):
        power = np.abs(np.fft.rfftn(rotate(volume, signs)[0, 0].numpy())) ** 2
        return power[~mask].sum() / power.sum()

    allowed = wedge_rotations(tilt_range)
    assert all(leaked(signs) < 1e-12 for signs in allowed)
    assert all(leaked(signs) > 0.05 for signs in set(ROTATIONS) - set(allowed))


def test_the_same_seed_gives_the_same_batch():
    first, second, third = (
        augment(volumes(6, 9), ROTATIONS, 2, torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@given(
    st.integers(8, 12),
    st.integers(0, 3),
    st.integers(0, 2**32),
    st.sampled_from([ROTATIONS, ROTATIONS[:2], ROTATIONS[:1]]),
)
def test_each_volume_is_rotated_and_shifted_within_bounds(size, shift, seed, allowed):
    batch = volumes(4, size)
    varied = augment(batch, allowed, shift, torch.Generator().manual_seed(seed))
    assert varied.shape == batch.shape
    for before, after in zip(batch, varied, strict=True):
        possible = []
        for signs in allowed:
            turned = rotate(before[None], signs)[0]
            # The brightest voxel says by how much it was shifted.
            tops = [
                np.array(np.unravel_index(int(v.argmax()), v.shape))[1:]
                for v in (turned, after)
            ]
            moved = (tops[1] - tops[0] + size // 2) % size - size // 2
            rolled = turned.roll(tuple(int(m) for m in moved), (1, 2, 3))
            if torch.equal(rolled, after):
                possible.append(np.abs(moved).max())
        assert possible
        assert min(possible) <= shift


def test_all_rotations_and_shifts_occur():
    point = torch.zeros(1, 1, 13, 13, 13)
    point[0, 0, 7, 8, 10] = 1  # (1, 2, 4) from the center
    batch = point.expand(2500, -1, -1, -1, -1)
    varied = augment(batch, ROTATIONS, 1, torch.Generator().manual_seed(0))
    found = {tuple(i.tolist()) for i in varied.nonzero()[:, 2:]}
    expected = {
        tuple(6 + np.array(signs) * (1, 2, 4) + shift)
        for signs in ROTATIONS
        for shift in np.array(list(np.ndindex(3, 3, 3))) - 1
    }
    assert found == {tuple(int(v) for v in e) for e in expected}


def test_mirrors_and_free_rotations_are_off_unless_asked_for():
    draws = Augmentation(AugmentConfig(), (-60, 60)).draw(
        500, torch.Generator().manual_seed(0)
    )
    assert {tuple(s.tolist()) for s in draws.signs} == set(ROTATIONS)
    assert draws.turns is None
    mirrored = Augmentation(AugmentConfig(mirror=True), (-60, 60)).draw(
        500, torch.Generator().manual_seed(0)
    )
    hands = {int(np.prod(s.tolist())) for s in mirrored.signs}
    assert hands == {1, -1}
    assert len({tuple(s.tolist()) for s in mirrored.signs}) == 8


@pytest.mark.parametrize("size", [16, 17])
def test_turn_is_scipys_affine_transform(size):
    """The independent answer: scipy, linear, away from the edge."""
    volume = volumes(1, size)
    matrix = Rotation.from_euler("zyx", [20, -50, 110], degrees=True).as_matrix()
    center = np.full(3, size // 2)
    expected = ndimage.affine_transform(
        volume[0, 0].numpy(), matrix.T, center - matrix.T @ center, order=1
    )
    mine = turn(volume, torch.from_numpy(matrix)[None].float())[0, 0].numpy()
    z, y, x = np.indices((size,) * 3) - size // 2
    inside = z**2 + y**2 + x**2 < (size // 2 - 1) ** 2
    np.testing.assert_allclose(mine[inside], expected[inside], atol=2e-5)


def test_random_rotations_are_rotations_and_uniform():
    matrices = random_rotations(4000, torch.Generator().manual_seed(1)).numpy()
    unit = np.einsum("bij,bkj->bik", matrices, matrices)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    # Of a uniform rotation each entry has mean 0 and variance 1/3 ...
    np.testing.assert_allclose(matrices.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(matrices.var(axis=0), 1 / 3, atol=0.03)
    # ... and the angle has density (1 − cos θ) / π.
    angle = np.arccos(np.clip((np.trace(matrices, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert kstest(angle, lambda a: (a - np.sin(a)) / np.pi).pvalue > 0.01


ALL_ON = {
    "noise": 0.5,
    "contrast": 0.4,
    "defocus": 0.8,
    "cutout": 0.5,
    "mirror": True,
    "free_rotations": True,
}


def test_a_part_of_a_batch_is_varied_as_in_the_whole():
    batch = volumes(6, 12)
    made = Augmentation(AugmentConfig(**ALL_ON), (-60, 60), noise_spectrum(batch))
    draws = made.draw(6, torch.Generator().manual_seed(5))
    whole = made.apply(batch, draws)
    parts = [made.apply(batch[p], draws[p]) for p in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)
    again = made(batch, torch.Generator().manual_seed(5))
    assert torch.equal(again, whole)


@pytest.mark.parametrize("name", ["noise", "contrast", "defocus", "cutout"])
def test_each_switch_changes_the_batch_and_off_changes_nothing(name):
    batch = volumes(4, 12)
    still = {"rotations": False, "shift": 0}
    spectrum = noise_spectrum(batch)
    off = Augmentation(AugmentConfig(**still), None, spectrum)
    assert torch.equal(off(batch, torch.Generator().manual_seed(0)), batch)
    config = AugmentConfig(**still, **{name: 1.0})
    varied = Augmentation(config, None, spectrum)(
        batch, torch.Generator().manual_seed(0)
    )
    assert varied.shape == batch.shape
    assert not torch.allclose(varied, batch, atol=1e-3)


def test_contrast_is_a_factor_within_bounds():
    batch = volumes(200, 8)
    config = AugmentConfig(rotations=False, shift=0, contrast=0.5)
    varied = Augmentation(config, None)(batch, torch.Generator().manual_seed(0))
    factors = (varied / batch).flatten(1)
    assert (factors.std(dim=1) < 1e-4).all()
    factor = factors.median(dim=1).values
    assert factor.min() >= 1 / 1.5
    assert factor.max() <= 1.5
    assert abs(float(factor.log().mean())) < 0.06  # as often fainter as stronger


def test_noise_without_the_spectrum_is_refused():
    with pytest.raises(ValueError, match="spectrum"):
        Augmentation(AugmentConfig(noise=0.1), (-60, 60))
