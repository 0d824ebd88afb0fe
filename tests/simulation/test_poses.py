from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_ectkd.simulation.orientations import (
    random_rotations,
    relion_angles,
    rotations_of,
)
from napari_ectkd.simulation.poses import Sampler

BOX = 17
NO_SHIFT = np.zeros((1, 3))


def euler_angles2matrix(rot, tilt, psi):
    """RELION's closed form (src/euler.cpp), written out."""
    a, b, g = np.radians([rot, tilt, psi])
    ca, cb, cg, sa, sb, sg = *np.cos([a, b, g]), *np.sin([a, b, g])
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def test_angles_give_back_the_rotation_by_relions_own_formula():
    rotations = random_rotations(50, np.random.default_rng(0))
    for angles, rotation in zip(relion_angles(rotations), rotations, strict=True):
        np.testing.assert_allclose(euler_angles2matrix(*angles), rotation, atol=1e-9)


def test_rotations_come_back_from_their_angles_and_unknown_ones_are_not_turned():
    rotations = random_rotations(50, np.random.default_rng(1))
    angles = relion_angles(rotations)
    np.testing.assert_allclose(rotations_of(angles), rotations, atol=1e-12)
    for one, rotation in zip(angles, rotations_of(angles), strict=True):
        np.testing.assert_allclose(euler_angles2matrix(*one), rotation, atol=1e-9)
    angles[3, 1] = np.nan
    np.testing.assert_array_equal(rotations_of(angles)[3], np.eye(3))
    np.testing.assert_allclose(rotations_of(angles)[4], rotations[4], atol=1e-12)


def test_no_turn_and_no_shift_is_the_density(lopsided):
    sampled = Sampler(lopsided).sample(np.eye(3)[None], NO_SHIFT, BOX)[0].numpy()
    np.testing.assert_allclose(sampled[2:15, 2:15, 2:15], lopsided.voxels, atol=1e-5)


@pytest.mark.parametrize(
    ("axis", "plane"), [("z", (1, 2)), ("y", (2, 0)), ("x", (0, 1))]
)
def test_quarter_turns_are_rot90(lopsided, axis, plane):
    # About z, x goes to y: from array axis 2 to array axis 1, so k = -1 in (y, x).
    rotation = Rotation.from_euler(axis, 90, degrees=True).as_matrix()
    sampled = Sampler(lopsided).sample(rotation[None], NO_SHIFT, 13)[0].numpy()
    expected = np.rot90(lopsided.voxels, -1, plane)
    np.testing.assert_allclose(sampled, expected, atol=1e-5)


def test_a_point_goes_where_the_matrix_takes_it(lopsided):
    rotations = random_rotations(8, np.random.default_rng(1))
    shifts = np.random.default_rng(2).uniform(-2, 2, (8, 3))
    sampled = Sampler(lopsided).sample(rotations, shifts, 25).numpy()
    for volume, rotation, shift in zip(sampled, rotations, shifts, strict=True):
        before = np.array(ndimage.center_of_mass(lopsided.voxels)) - 6
        expected = (rotation @ before[::-1])[::-1] + shift + 12
        np.testing.assert_allclose(ndimage.center_of_mass(volume), expected, atol=0.03)
        assert volume.sum() == pytest.approx(lopsided.voxels.sum(), rel=0.01)


def test_turns_keep_handedness(lopsided):
    """No turn brings a density closer to its mirror image than turning can."""
    rotation = random_rotations(1, np.random.default_rng(3))
    sampled = Sampler(lopsided).sample(rotation, NO_SHIFT, 25)[0].numpy()

    def hand(volume):
        # The triple product of three weighted moments is odd under mirroring only.
        z, y, x = (
            np.mgrid[: len(volume), : len(volume), : len(volume)] - len(volume) // 2
        )
        r = np.stack([x, y, z]).reshape(3, -1).astype(float)
        length, mass = np.linalg.norm(r, axis=0), volume.ravel()
        return np.linalg.det(
            np.stack([(mass * length**p * r).sum(axis=1) for p in (0, 1, 3)])
        )

    before = hand(lopsided.voxels)
    assert hand(sampled) == pytest.approx(before, rel=0.15)
    assert hand(sampled[::-1]) == pytest.approx(-before, rel=0.15)


def test_rotations_are_uniform():
    rotations = random_rotations(20_000, np.random.default_rng(4))
    # Uniform on SO(3): every image of an axis is uniform on the sphere, and the turning
    # angle has the mean pi / 2 + 2 / pi.
    np.testing.assert_allclose(rotations.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose((rotations**2).mean(axis=0), 1 / 3, atol=0.01)
    angle = Rotation.from_matrix(rotations).magnitude().mean()
    assert angle == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.02)


def test_adding_cuts_at_the_border(lopsided):
    sampler = Sampler(lopsided)
    volumes = torch.zeros(2, 20, 20, 20)
    positions = np.array([[10, 10, 10], [0, 10.3, 19], [-40, 0, 0]])
    sampler.add_to(volumes, np.array([0, 1, 1]), np.stack([np.eye(3)] * 3), positions)
    np.testing.assert_allclose(
        volumes[0, 4:17, 4:17, 4:17].numpy(), lopsided.voxels, atol=1e-5
    )
    shift = np.array([[0, 0.3, 0]])
    cube = sampler.sample(np.eye(3)[None], shift, 15)[0].numpy()
    expected = np.zeros((20, 20, 20))
    expected[0:8, 3:18, 12:20] = cube[7:, :, :8]
    np.testing.assert_allclose(volumes[1].numpy(), expected, atol=1e-6)
