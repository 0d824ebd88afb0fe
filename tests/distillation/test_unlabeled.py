import numpy as np
import pytest

from napari_ectkd.dataset.split import Split
from napari_ectkd.dataset.subtomograms import NO_TARGET, LabeledSubtomograms
from napari_ectkd.distillation.unlabeled import add_unlabeled
from napari_ectkd.errors import DataError
from napari_ectkd.training.batches import Material


def subtomograms(label, tomogram, positions, box=8):
    n = len(label)
    return LabeledSubtomograms(
        volumes=[np.full((box,) * 3, i, dtype=np.float32) for i in range(n)],
        label=np.array(label, dtype=object),
        scale=np.tile([0.0, 1.0], (n, 1)),
        mode="data",
        box=box,
        voxel_size=10.0,
        tilt_range=None,
        is_inverted=False,
        tomogram=np.array(tomogram, dtype=object),
        positions=np.array(positions, dtype=float),
    )


@pytest.fixture
def material():
    data = subtomograms(
        ["a", "b", "a"], ["s", "s", "t"], [[0, 0, 0], [500, 500, 500], [0, 0, 0]]
    )
    split = Split(np.array([0]), np.array([1, 2]), "by hand")
    return Material(data, split, data.targets(["a", "b"]), ["a", "b"])


def test_they_join_the_training_part_without_a_target(material):
    more = subtomograms(["", ""], ["", ""], np.full((2, 3), np.nan))
    joined = add_unlabeled(material, more)
    assert joined.split.training.tolist() == [0, 3, 4]
    assert joined.split.validation.tolist() == [1, 2]
    assert joined.targets.tolist() == [0, 1, 0, NO_TARGET, NO_TARGET]
    np.testing.assert_array_equal(joined.data.read(np.array([4]))[0], more.volumes[1])


def test_those_that_overlap_validation_picks_are_left_out(material):
    more = subtomograms(
        [""] * 5,
        ["s", "s", "s", "t", "u"],
        [
            [500, 500, 579],  # one voxel of overlap with the pick at 500
            [500, 500, 580],
            [0, 0, 0],  # a training pick's place
            [79, -79, 79],
            [0, 0, 0],  # another tomogram
        ],
    )
    joined = add_unlabeled(material, more)
    assert joined.split.training.tolist() == [0, 4, 5, 7]


def test_another_box_is_an_error(material):
    more = subtomograms([""], [""], np.full((1, 3), np.nan), box=10)
    with pytest.raises(DataError, match="cannot be one data set"):
        add_unlabeled(material, more)
