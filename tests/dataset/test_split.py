import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.dataset.split import split_dataset


def split(labels, positions=None, tomogram=None, box=10.0, fraction=0.2, seed=0):
    n = len(labels)
    positions = np.full((n, 3), np.nan) if positions is None else positions
    tomogram = [""] * n if tomogram is None else tomogram
    return split_dataset(
        np.asarray(labels, dtype=np.int64),
        np.array(tomogram, dtype=object),
        np.asarray(positions, dtype=np.float64),
        box,
        fraction,
        seed,
    )


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=5),
    st.floats(0.05, 0.5),
    st.integers(0, 100),
)
def test_folders_are_split_by_class(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    found = split(labels, fraction=fraction, seed=seed)
    together = np.concatenate([found.training, found.validation])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(labels)))
    for label, count in enumerate(counts):
        n_kept = (labels[found.validation] == label).sum()
        assert n_kept == min(round(fraction * count), count - 1)


def test_another_seed_is_another_choice():
    labels = np.zeros(50)
    assert set(split(labels).validation) == set(split(labels).validation)
    assert set(split(labels).validation) != set(split(labels, seed=1).validation)


@given(st.integers(20, 150), st.floats(5, 200), st.integers(0, 1000))
def test_in_one_tomogram_no_box_of_validation_meets_one_of_training(n, box, seed):
    random = np.random.default_rng(seed)
    positions = random.uniform(0, [300, 1000, 1000], (n, 3))
    labels = random.integers(0, 3, n)
    found = split(labels, positions, ["t"] * n, box=box)
    assert not set(found.training) & set(found.validation)
    assert len(found.validation) > 0
    apart = np.abs(
        positions[found.training][:, None] - positions[found.validation][None]
    ).max(axis=2)
    # Two boxes overlap if their centers are nearer than a box along every axis.
    assert (apart >= box).all()


def test_a_slab_leaves_each_class_in_training_where_it_can():
    random = np.random.default_rng(0)
    for seed in range(10):
        positions = np.random.default_rng(seed).uniform(0, 2000, (60, 3))
        labels = random.permutation(np.repeat([0, 1, 2], [40, 17, 3]))
        found = split(labels, positions, ["t"] * 60, box=100.0)
        assert set(labels[found.training]) == {0, 1, 2}
        assert 0.05 < len(found.validation) / 60 < 0.4


def test_a_rare_class_in_a_corner_stays_in_training():
    grid = np.stack(np.meshgrid(*[np.arange(5) * 100.0] * 3), -1).reshape(-1, 3)
    labels = (grid.sum(axis=1) == 0).astype(int)  # one pick, in a corner
    found = split(labels, grid, ["t"] * len(grid), box=50.0)
    assert set(labels[found.training]) == {0, 1}


@given(st.integers(2, 16), st.integers(0, 100))
def test_no_tomogram_is_on_both_sides(n_tomograms, seed):
    random = np.random.default_rng(seed)
    tomogram = random.integers(0, n_tomograms, 120).astype(str).astype(object)
    labels = random.integers(0, 2, 120)
    positions = random.uniform(0, 500, (120, 3))
    found = split(labels, positions, tomogram)
    if len(set(tomogram)) > 1:
        assert not set(tomogram[found.training]) & set(tomogram[found.validation])
        assert len(found.training) + len(found.validation) == 120
        assert len(found.validation) > 0
        assert set(labels[found.training]) == {0, 1}


def test_the_tomogram_with_the_only_label_of_a_class_is_trained_on():
    tomogram = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    labels = [0, 1] * 5 + [0, 1] * 4 + [0, 2] + [0, 1] * 5
    positions = np.random.default_rng(0).uniform(0, 900, (30, 3))
    found = split(labels, positions, tomogram, fraction=0.3)
    assert "b" not in {tomogram[i] for i in found.validation}


def test_without_a_share_there_is_no_validation():
    positions = np.random.default_rng(0).uniform(0, 900, (30, 3))
    for kind in (
        split([0, 1] * 15, fraction=0),
        split([0, 1] * 15, positions, ["t"] * 30, fraction=0),
    ):
        assert len(kind.training) == 30
        assert len(kind.validation) == 0
        assert kind.how == "no validation"


def test_folders_and_picks_together_are_split_each_in_its_way():
    random = np.random.default_rng(0)
    positions = np.concatenate(
        [np.full((40, 3), np.nan), random.uniform(0, 2000, (60, 3))]
    )
    labels = random.integers(0, 2, 100)
    found = split(labels, positions, [""] * 40 + ["t"] * 60, box=50.0)
    assert (found.validation < 40).sum() == pytest.approx(8, abs=1)
    assert (found.validation >= 40).sum() == 12
    assert "particle" in found.how
    assert "slab" in found.how
