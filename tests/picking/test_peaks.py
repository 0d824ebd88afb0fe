import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import maximum_filter

from napari_ectkd.picking.peaks import (
    centered,
    local_maxima,
    refined,
    strongest_apart,
)

volumes = arrays(
    np.float32,
    st.tuples(*[st.integers(1, 6)] * 3),
    elements=st.integers(-5, 5).map(float),
)


@given(volumes)
def test_local_maxima_agree_with_scipy(volume):
    expected = np.argwhere(volume == maximum_filter(volume, size=3, mode="nearest"))
    np.testing.assert_array_equal(local_maxima(torch.from_numpy(volume)), expected)


def test_the_top_of_a_parabola_is_found_between_samples():
    top = np.array([4.3, 2.9, 5.25])
    grid = np.stack(np.indices((9, 7, 10)), axis=-1)
    volume = torch.from_numpy(-((grid - top) ** 2).sum(-1).astype(np.float32))
    peaks = local_maxima(volume)
    assert peaks.tolist() == [[4, 3, 5]]
    np.testing.assert_allclose(refined(volume, peaks)[0], top, atol=1e-4)


def test_a_peak_on_a_face_stays_on_it():
    volume = torch.zeros(5, 5, 5)
    volume[0, 2, 4] = 1
    assert refined(volume, volume.nonzero()).tolist() == [[0, 2, 4]]


def test_parts_of_one_ring_meet_at_its_center():
    grid = np.stack(np.indices((24, 24, 24)), axis=-1) - [12, 11.5, 12.2]
    rim = np.hypot(np.hypot(grid[..., 1], grid[..., 2]) - 6, grid[..., 0])
    volume = torch.from_numpy(np.exp(-((rim / 2) ** 2)).astype(np.float32))
    rim_points = torch.tensor([[12.0, 11.5, 18.2], [12.0, 5.5, 12.2], [12, 15.7, 16.4]])
    moved = centered(volume, rim_points, 13).numpy()
    np.testing.assert_allclose(moved, [[12, 11.5, 12.2]] * 3, atol=0.5)


def test_no_position_moves_farther_than_the_radius():
    rng = np.random.default_rng(0)
    volume = torch.from_numpy(rng.normal(size=(16, 16, 16)).astype(np.float32))
    start = torch.from_numpy(rng.uniform(0, 15, (50, 3)).astype(np.float32))
    moved = centered(volume, start, 4)
    assert (moved - start).norm(dim=1).max() <= 4 + 1e-4
    assert moved.min() >= 0
    assert moved.max() <= 15


def test_where_nothing_is_bright_nothing_moves():
    start = torch.tensor([[3.0, 2.5, 1.0]])
    assert centered(-torch.ones(6, 6, 6), start, 3).tolist() == start.tolist()


@given(
    st.integers(0, 40).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, (n, 3), elements=st.integers(0, 9).map(float)),
            arrays(np.float64, n, elements=st.integers(0, 5).map(float)),
        )
    ),
    st.floats(0.5, 5),
)
def test_the_strongest_stay_and_are_apart(peaks, distance):
    positions, scores = peaks
    kept = strongest_apart(positions, scores, distance)
    assert (np.diff(scores[kept]) <= 0).all()
    between = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    near = between[np.ix_(kept, kept)] <= distance
    assert near.sum() == len(kept)
    for gone in set(range(len(scores))) - set(kept):
        rivals = kept[between[gone, kept] <= distance]
        assert scores[rivals].max() >= scores[gone]


@pytest.mark.parametrize("n", [0, 1])
def test_few_peaks_stay(n):
    assert strongest_apart(np.zeros((n, 3)), np.ones(n), 5.0).tolist() == list(range(n))
