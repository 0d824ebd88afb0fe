"""The center of a particle from the evidence around a peak."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.prediction.centers import centers, presence, spacing
from napari_ectkd.prediction.grid import Grid
from napari_ectkd.prediction.peaks import find_candidates, margin

CLASSES = ["a", "none", "b"]
SHAPE = (9, 10, 11)


def paraboloid(center, bends, shape=SHAPE):
    """Return a volume whose top is at a center, and as wide as is asked."""
    at = np.indices(shape) - np.array(center)[:, None, None, None]
    return torch.from_numpy(3 - np.einsum("a,azyx->zyx", np.array(bends), at**2))


@given(
    center=st.tuples(*(st.floats(0.0, n - 1.0) for n in SHAPE)),
    bends=st.tuples(*[st.floats(0.05, 3)] * 3),
    step=st.sampled_from([1, 2]),
)
def test_the_top_of_a_paraboloid_is_found_also_at_the_faces(center, bends, step):
    evidence = paraboloid(center, bends)
    peak = torch.tensor(np.round(center).astype(int))[None]
    found = centers(evidence, peak, step)
    np.testing.assert_allclose(found.numpy(), [center], atol=1e-4)


def test_noise_beside_the_peak_moves_the_center_less_than_a_parabola():
    """The top of a wide hill with noise on it, which three values cannot say."""
    random = torch.Generator().manual_seed(0)
    off, off_by_three = [], []
    for _ in range(50):
        center = 6 + torch.rand(3, generator=random).double().numpy() - 0.5
        noise = torch.randn((13, 13, 13), generator=random, dtype=torch.float64)
        evidence = paraboloid(center, [0.3] * 3, (13, 13, 13)) + 0.3 * noise
        found = centers(evidence, torch.tensor([[6, 6, 6]]), 1)[0]
        off.append(np.linalg.norm(found.numpy() - center))
        tops = []
        for axis in range(3):
            low, at, high = evidence.movedim(axis, 0)[5:8, 6, 6].tolist()
            tops.append(6 + 0.5 * (low - high) / (low - 2 * at + high))
        off_by_three.append(np.linalg.norm(np.array(tops) - center))
    assert np.median(off) < 0.5 * np.median(off_by_three)


def test_where_there_is_no_top_the_peak_stays():
    valley = -paraboloid((4, 5, 5), (1, 1, 1))
    found = centers(valley, torch.tensor([[4, 5, 5]]), 1)
    np.testing.assert_array_equal(found, [[4, 5, 5]])
    # Too few positions along two axes for a parabola.
    flat = paraboloid((0.2, 0.4, 5.25), (1, 1, 1), (1, 2, 11))
    found = centers(flat, torch.tensor([[0, 0, 5]]), 1)
    np.testing.assert_allclose(found, [[0, 0, 5.25]], atol=1e-4)


def test_a_center_stays_near_its_peak_and_in_the_grid():
    slope = paraboloid((40, 5, 5), (0.01, 1, 1))  # the top is far away
    found = centers(slope, torch.tensor([[4, 5, 5], [8, 5, 5]]), 1)
    np.testing.assert_allclose(found, [[5.5, 5, 5], [8, 5, 5]], atol=1e-4)


def test_presence_is_the_log_odds_of_any_particle():
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)).double()
    none = torch.softmax(logits / 1.7, dim=0)[1]
    expected = torch.log((1 - none) / none)
    torch.testing.assert_close(presence(logits, CLASSES, 1.7), expected)


@pytest.mark.parametrize(
    ("box", "stride", "expected"),
    [
        (32, 4, 1),
        (40, 4, 1),
        (24, 4, 1),
        (64, 4, 2),
        (32, 1, 4),
        (32, 2, 2),
        (32, 16, 1),
    ],
)
def test_what_takes_part_is_an_eighth_of_the_box_apart(box, stride, expected):
    assert spacing(Grid((9, 9, 9), box, stride)) == expected


@pytest.mark.parametrize("classes", [CLASSES, ["a", "b", "c"]])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_candidates_do_not_depend_on_how_the_grid_is_cut(classes, stride):
    grid = Grid((14, 15, 16), 16, stride)
    logits = torch.randn(3, *grid.shape, generator=torch.Generator().manual_seed(2))
    whole = tuple((0, n) for n in grid.shape)

    def candidates(core):
        wider = grid.widened(core, margin(grid))
        part = logits[(slice(None), *(slice(*span) for span in wider))]
        return find_candidates(part, grid, wider, core, classes, least_confidence=0.4)

    expected = candidates(whole)
    assert len(expected) > 20
    parts = [candidates(((0, 7), (0, 15), span)) for span in ((0, 5), (5, 16))] + [
        candidates(((7, 14), (0, 15), (0, 16)))
    ]
    found = np.concatenate([part.positions for part in parts])
    order, wanted = np.lexsort(found.T), np.lexsort(expected.positions.T)
    np.testing.assert_allclose(found[order], expected.positions[wanted], atol=1e-9)
