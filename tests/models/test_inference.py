import numpy as np
import pytest
import torch

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.models.inference import infer_logits


class Moments(torch.nn.Module):
    """Logits that are weighted sums of the voxels, dropout while it trains."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.randn(8**3, 3, generator=torch.Generator().manual_seed(0))
        )
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, volumes):
        return self.dropout(volumes).flatten(1) @ self.weight


def drain(stream):
    events = []
    while True:
        try:
            events.append(next(stream))
        except StopIteration as end:
            return end.value, events


def infer(index, volumes, *, batch_size=4, cancel=None, views=((1, 1, 1),)):
    model = Moments().train()
    logits, events = drain(
        infer_logits(
            model,
            lambda i: volumes[i],
            np.asarray(index),
            device=torch.device("cpu"),
            dtype=None,
            batch_size=batch_size,
            cancel=cancel or Cancel(),
            views=views,
        )
    )
    return logits, events, model


@pytest.fixture
def volumes():
    return np.random.default_rng(0).normal(size=(11, 8, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_logits_come_in_the_order_of_the_index(volumes, batch_size):
    index = [7, 0, 3, 3, 10, 9]
    logits, events, model = infer(index, volumes, batch_size=batch_size)
    weight = model.weight.detach().numpy()
    np.testing.assert_allclose(
        logits.numpy(), volumes[index].reshape(6, -1) @ weight, rtol=1e-4, atol=1e-4
    )
    assert not model.training
    assert not logits.requires_grad
    assert not logits.is_inference()
    assert (events[-1].done, events[-1].total) == (6, 6)


def test_views_are_averaged(volumes):
    views = wedge_rotations((-60, 60))
    logits, _, model = infer([2], volumes, views=views)
    looks = []
    for signs in views:
        # About the center 4 of 8: voxel i comes from 8 - i, and 0 from itself.
        z, y, x = (np.arange(8) if s > 0 else -np.arange(8) % 8 for s in signs)
        looks.append(volumes[2][np.ix_(z, y, x)].ravel())
    expected = np.mean(looks, axis=0) @ model.weight.detach().numpy()
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_no_picks_give_no_logits(volumes):
    logits, _, _ = infer(np.zeros(0, int), volumes)
    assert len(logits) == 0


def test_cancel_is_looked_at_before_each_batch(volumes):
    cancel, seen = Cancel(), []

    def read(index):
        seen.append(len(index))
        cancel.request()
        return volumes[index]

    with pytest.raises(CancelledError):
        drain(
            infer_logits(
                Moments(),
                read,
                np.arange(11),
                device=torch.device("cpu"),
                dtype=None,
                batch_size=4,
                cancel=cancel,
            )
        )
    assert seen == [4]
