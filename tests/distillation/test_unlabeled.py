import numpy as np
import pytest
import torch

from napari_ectkd.dataset.split import Split
from napari_ectkd.dataset.subtomograms import NO_TARGET, LabeledSubtomograms
from napari_ectkd.distillation.unlabeled import add_unlabeled, classed_by_teachers
from napari_ectkd.errors import DataError
from napari_ectkd.training.batches import Batches, Material
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.workers import Workers


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


def long_tail():
    """96 unlabeled of none, 3 of a, 1 of b and six labels; opinions of two teachers."""
    classes = ["a", "b", "none"]
    names = ["a", "b", "none"] * 2 + [""] * 100
    n = len(names)
    data = subtomograms(names, [""] * n, np.full((n, 3), np.nan), box=2)
    truth = np.array([0, 1, 2] * 2 + [2] * 96 + [0] * 3 + [1])
    data_targets = np.where(np.arange(n) < 6, truth, NO_TARGET)
    split = Split(np.arange(1, n), np.array([0]), "by hand")
    logits = 4.0 * torch.nn.functional.one_hot(torch.from_numpy(truth), 3)
    said = torch.stack([logits, 2 * logits])
    said[:, 1] = torch.tensor([9.0, 0, 0])  # wrong of a labeled one
    said[:, 50] = torch.tensor([0.0, 0.5, 1.0])  # unsure of an unlabeled one
    return Material(data, split, data_targets, classes), said, truth


def test_unlabeled_ones_are_balanced_by_what_the_teachers_take_them_for():
    material, said, truth = long_tail()
    classed = classed_by_teachers(material, said, [1.0, 1.0], 1.0)
    assert classed.groups.tolist() == truth.tolist()  # a label counts more
    assert classed.targets.tolist() == material.targets.tolist()
    assert classed.split.training.tolist() == material.split.training.tolist()
    generator = torch.Generator().manual_seed(0)
    shown = {}
    for balance in (0.0, 0.5, 1.0):
        config = TrainConfig(balance=balance, batch_size=5, shift=0, rotations=False)
        batches = Batches(classed, config, torch.device("cpu"), Workers())
        epoch = list(batches.epoch(0, generator))
        seen = np.concatenate([batch.index.numpy() for batch in epoch])
        assert len(seen) == 105  # no longer and no shorter
        shown[balance] = np.bincount(truth[seen], minlength=3)
    assert shown[0.0].tolist() == [4, 3, 98]
    assert shown[1.0].tolist() == [35, 35, 35]
    # In proportion to the roots of 4, 3 and 98.
    np.testing.assert_allclose(shown[0.5], [15.4, 13.3, 76.3], atol=1)


def test_of_each_class_those_that_the_teachers_are_unsure_of_are_left_out():
    material, said, _ = long_tail()
    kept = classed_by_teachers(material, said, [1.0, 1.0], 0.98).split.training
    assert set(material.split.training) - set(kept) == {50}
    kept = classed_by_teachers(material, said, [1.0, 1.0], 0.5).split.training
    # Half of each class, rounded up, and all labels.
    unlabeled = kept[kept >= 6]
    assert kept[kept < 6].tolist() == [1, 2, 3, 4, 5]
    assert [np.sum(unlabeled < 102), np.sum(unlabeled == 105)] == [48, 1]
    assert len(unlabeled) == 48 + 2 + 1
    assert 50 not in unlabeled


def test_teachers_count_by_their_own_temperature():
    material, said, _ = long_tail()
    said[0, 51], said[1, 51] = torch.tensor([0, 0, 9.0]), torch.tensor([9.0, 0, 0])
    classed = classed_by_teachers(material, said, [1.0, 50.0], 1.0)
    assert classed.groups[51] == 2
    classed = classed_by_teachers(material, said, [50.0, 1.0], 1.0)
    assert classed.groups[51] == 0
