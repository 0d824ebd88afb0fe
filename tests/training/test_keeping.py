"""What a run keeps: checked with a model of one number, without training."""

import pytest
import torch

from napari_ectkd.errors import FormatError
from napari_ectkd.models.checkpoint import load_checkpoint, read_info
from napari_ectkd.runs import Run
from napari_ectkd.training.keeping import Keeper
from napari_ectkd.training.resume import load_state, save_state


@pytest.fixture
def learning(learn):
    """A run, what goes into its checkpoints, and the three things that learn."""
    stream, run = learn(epochs=1)
    list(stream)
    model, info = load_checkpoint(run.path)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    return info, model, optimizer, schedule


@pytest.fixture
def keeper(learning, tmp_path):
    run = Run(tmp_path / "kept")
    run.create({})
    return Keeper(run, *learning, patience=2, is_writing=True), run


def pass_epochs(keeper, losses):
    for number, loss in enumerate(losses, start=keeper.standing.epoch + 1):
        keeper.standing.epoch = number
        keeper.keep({} if loss is None else {"val_loss": loss}, is_last=False)


def test_the_lowest_validation_loss_is_the_best(keeper):
    keeper, run = keeper
    pass_epochs(keeper, [3.0, 1.0, 2.0])
    assert read_info(run.best_path).epoch == keeper.standing.best_epoch == 2
    assert keeper.is_patient()
    pass_epochs(keeper, [1.5])
    assert not keeper.is_patient()
    assert read_info(run.last_path).epoch == 4


def test_a_loss_that_is_no_number_hides_no_later_best(keeper):
    keeper, run = keeper
    pass_epochs(keeper, [float("nan"), 1.0])
    assert read_info(run.best_path).epoch == 2


def test_without_validation_the_last_counts_and_nobody_is_impatient(keeper):
    keeper, run = keeper
    pass_epochs(keeper, [None] * 5)
    assert keeper.is_patient()
    assert not run.best_path.exists()
    keeper.standing.epoch = 6
    keeper.keep({}, is_last=True)
    assert read_info(run.best_path).epoch == 6


def test_a_state_of_another_version_is_said_to_be_one(keeper, learning):
    keeper, run = keeper
    pass_epochs(keeper, [1.0])
    facts = load_state(run.resume_path, *learning[1:])
    save_state(run.resume_path, *learning[1:], facts | {"moon": "full"})
    with pytest.raises(FormatError, match="another version of napari-ectkd wrote it"):
        keeper.load()
